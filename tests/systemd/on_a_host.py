"""A node under systemd, from the package, on a host of tests/hosts: one life, in the order of this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocinante.errors import EXIT_DATA, EXIT_STORAGE
from tests.hosts.lab import Lab
from tests.hosts.load import in_words
from tests.hosts.machine import Machine
from tests.hosts.names import LabError
from tests.packaging.debian_package import build
from tests.support.tools import ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
UNIT = "rocinante@node1"
DATA = "/var/lib/rocinante/node1"
EVENT_S = 60.0
WRITES_BEFORE = 200
TRIES = 5
CONFIG = """
artifact:
  cluster:
    name: test
    {options}
    controllers:
      - {{address: 127.0.0.1, port: 25001, rest: 8001}}
"""


class Host:
    """The host, and what systemd says there of the unit."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def sh(self, script: str) -> str:
        return self.machine.run("/bin/sh", "-euc", script, timeout_s=300.0).strip()

    def show(self, key: str, unit: str = UNIT) -> str:
        return self.sh(f"systemctl show -P {key} {unit}")

    def configure(self, options: str = "") -> None:
        text = CONFIG.format(options=options)
        self.machine.run("tee", "/etc/rocinante/rocinante.yaml", stdin=text)

    def journal(self, *matches: str) -> list[dict[str, str]]:
        lines = self.sh(f"journalctl --sync; journalctl --no-pager -o json {' '.join(matches)}").splitlines()
        return [json.loads(line) for line in lines]

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + EVENT_S
        while not reached():
            assert time.monotonic() < end, f"{what} did not come: {self.sh(f'systemctl status -n20 {UNIT} || true')}"
            time.sleep(0.2)

    def wait_restart(self, pid: str) -> None:
        self.wait(
            lambda: self.show("ActiveState") == "active" and self.show("MainPID") not in ("0", pid), "another process"
        )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("systemd", {"dc1": ["dc1a"]}) as found:
        yield found


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """With the package, which is built for it; ROCINANTE_PACKAGE names one that was built already."""
    named = os.environ.get("ROCINANTE_PACKAGE")
    package = Path(named) if named else build(tmp_path_factory.mktemp("package"))
    found = Host(lab.machine("dc1a"))
    into = Path("/proc", str(found.machine.leader()), "root", "var/tmp/rocinante.deb")
    into.write_bytes(package.read_bytes())
    found.sh("dpkg --install /var/tmp/rocinante.deb; rm /var/tmp/rocinante.deb")
    found.configure()
    return found


def test_start_returns_when_the_node_is_ready_and_status_says_what_it_is(host: Host) -> None:
    host.sh(f"systemctl enable {UNIT}; systemctl start {UNIT}")
    assert "not ready" not in host.sh("curl -s 127.0.0.1:8001/v1/role || rocinante -c 127.0.0.1:25001 status")
    host.wait(lambda: host.show("StatusText").startswith("leader, term "), "the status line of a leader")
    assert ", leader node1, commit " in host.show("StatusText")


def test_the_process_has_no_privileges(host: Host) -> None:
    status = host.sh(f"cat /proc/{host.show('MainPID')}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert host.sh(f"stat -c '%U %a' {DATA}") == "rocinante 700"


def test_a_line_in_the_journal_has_fields(host: Host) -> None:
    line = host.journal("NODE=node1", "ROLE=leader")[-1]
    assert (line["CLUSTER"], line["DATACENTER"], line["LEADER"]) == ("test", "dc1", "node1")
    assert int(line["TERM"]) > 0
    assert line["_SYSTEMD_UNIT"] == f"{UNIT}.service"


def test_a_reload_adopts_what_it_can_and_fails_on_a_wrong_file(host: Host) -> None:
    pid = host.show("MainPID")
    host.configure("timers: {electionMs: 2000, tickMs: 10}")
    host.sh(f"systemctl reload {UNIT}")

    said = [line["MESSAGE"] for line in host.journal("NODE=node1")]
    assert any("configuration reloaded: timers.electionMs (1000 -> 2000)" in line for line in said), "it was waited for"
    assert any("these changes need a restart: timers.tickMs (20 -> 10)" in line for line in said)
    host.machine.run("tee", "/etc/rocinante/rocinante.yaml", stdin="artifact: [")
    with pytest.raises(LabError):
        host.sh(f"systemctl reload {UNIT}")
    assert (host.show("ActiveState"), host.show("MainPID")) == ("active", pid)
    host.configure()


def test_a_killed_node_is_started_again(host: Host) -> None:
    pid = host.show("MainPID")
    host.sh(f"kill -KILL {pid}")
    host.wait_restart(pid)


def test_a_node_that_stands_still_is_killed_and_started_again(host: Host) -> None:
    pid = host.show("MainPID")
    host.sh(f"kill -STOP {pid}")
    host.wait_restart(pid)
    assert any("watchdog" in line["MESSAGE"] for line in host.journal(f"-u {UNIT}", "_PID=1"))


def test_a_stop_is_clean(host: Host) -> None:
    host.sh(f"systemctl stop {UNIT}")
    assert (host.show("Result"), host.show("ExecMainStatus")) == ("success", "0")


def test_data_of_a_newer_format_is_not_tried_again(host: Host) -> None:
    identity = f"{DATA}/identity.json"
    host.sh(f'cp -p {identity} /tmp/identity; sed -i \'s/"format": [0-9]*/"format": 99/\' {identity}')
    check_not_restarted(host, EXIT_DATA)
    host.sh(f"cp -p /tmp/identity {identity}; systemctl reset-failed {UNIT}; systemctl start {UNIT}")


def test_a_failing_disk_is_not_tried_again(host: Host) -> None:
    """The file size limit makes the next write of the log fail, as a disk would."""
    host.sh(f"systemctl stop {UNIT}; systemctl reset-failed {UNIT} || true")
    host.sh(f"mkdir -p /run/systemd/system/{UNIT}.service.d")
    host.machine.run("tee", f"/run/systemd/system/{UNIT}.service.d/disk.conf", stdin="[Service]\nLimitFSIZE=1M\n")
    host.sh(f"systemctl daemon-reload; systemctl start {UNIT}")
    host.sh(
        "head -c 400000 /dev/urandom >/tmp/value; for i in 1 2 3 4 5 6; do "
        "rocinante --timeout 3 -c 127.0.0.1:25001 kv put key$i --file /tmp/value || break; done"
    )
    host.wait(lambda: host.show("ActiveState") == "failed", "the failure")
    assert (host.show("ExecMainStatus"), host.show("NRestarts")) == (str(EXIT_STORAGE), "0")
    host.sh(f"rm -r /run/systemd/system/{UNIT}.service.d; systemctl daemon-reload; systemctl reset-failed {UNIT}")


def check_not_restarted(host: Host, status: int) -> None:
    with pytest.raises(LabError):
        host.sh(f"systemctl start {UNIT}")
    assert host.show("ActiveState") == "failed", "it is not started again and again"
    assert (host.show("ExecMainStatus"), host.show("NRestarts")) == (str(status), "0")


def test_the_sniffer_runs_with_its_one_capability(host: Host) -> None:
    host.sh("systemctl start rocinante-sniffer@lo")
    pid = host.show("MainPID", "rocinante-sniffer@lo")
    assert "CapEff:\t0000000000002000" in host.sh(f"cat /proc/{pid}/status")
    host.sh("systemctl stop rocinante-sniffer@lo")


THREE = """
artifact:
  cluster:
    name: three
    controllers:
      - {name: a, address: 10.81.1.11, port: 25011, rest: 8011}
      - {name: b, address: 10.81.1.11, port: 25012, rest: 8012}
      - {name: c, address: 10.81.1.11, port: 25013, rest: 8013}
"""
NAMES = ("a", "b", "c")


def test_a_leader_that_is_stopped_hands_over_before_its_process_ends(
    host: Host, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under eight writers, of whom nobody loses anything. How long the longest gap was, and what did not end in time,
    is printed, not judged: the machine may be busy."""
    host.sh(f"systemctl stop {UNIT} || true")
    host.machine.run("tee", "/etc/rocinante/rocinante.yaml", stdin=THREE)
    host.sh(f"systemctl start {' '.join(f'rocinante@{name}' for name in NAMES)}")
    host.wait(lambda: leader_of(host) != "", "a leader")
    with load(lab, tmp_path) as report:
        before = commit_of(host)
        host.wait(lambda: commit_of(host) > before + WRITES_BEFORE, "what is written")
        leader = stop_the_leader(host)
        host.wait(lambda: leader_of(host) not in ("", leader), "another leader")
        after = commit_of(host)
        host.wait(lambda: commit_of(host) > after + WRITES_BEFORE, "what is written afterwards")
    said = [line["MESSAGE"] for line in host.journal(f"NODE={leader}")]
    assert any("handed leadership over to" in line for line in said), said
    assert any(line.endswith("stopped") for line in said), "it ended by itself"
    assert host.show("Result", f"rocinante@{leader}") == "success"
    seen = json.loads(report.read_text())
    with capsys.disabled():
        print(f"\nsystemctl stop of the leader: {in_words(seen | {'nodes': []})}")
    assert (seen["lost"], seen["twice"]) == (0, 0), seen["examples"]
    host.sh("systemctl stop 'rocinante@*'")


def stop_the_leader(host: Host) -> str:
    """Its name. On a busy machine another may lead by the time that systemd acts: then again."""
    for _ in range(TRIES):
        host.wait(lambda: leader_of(host) != "", "a leader")
        leader = leader_of(host)
        if not leader:
            continue
        host.sh(f"systemctl stop rocinante@{leader}")
        roles = [line["ROLE"] for line in host.journal(f"NODE={leader}") if line["MESSAGE"].endswith("stopping")]
        if roles[-1] == "leader":
            return leader
        host.sh(f"systemctl start rocinante@{leader}")
    raise AssertionError(f"{TRIES} times the leader was another before it was stopped")


def status_of(host: Host, name: str) -> dict[str, str]:
    """The words of the status line of a node that runs: role, term, leader, commit."""
    unit = f"rocinante@{name}"
    if host.show("ActiveState", unit) != "active":
        return {}
    role, *pairs = host.show("StatusText", unit).split(", ")
    return {"role": role, **dict(pair.split(" ", 1) for pair in pairs if " " in pair)}


def leader_of(host: Host) -> str:
    """The one that leads, when all that run agree; else nothing."""
    seen = [status for name in NAMES if (status := status_of(host, name))]
    leaders = {status.get("leader", "none") for status in seen}
    found = leaders.pop() if len(leaders) == 1 else "none"
    return found if found in NAMES and status_of(host, found).get("role") == "leader" else ""


def commit_of(host: Host) -> int:
    return max(int(status_of(host, name).get("commit", 0)) for name in NAMES)


@contextmanager
def load(lab: Lab, directory: Path) -> Iterator[Path]:
    """Eight writers where the operator is, as long as this is open; their report is there afterwards."""
    report, stop = directory / "report.json", directory / "stop"
    nodes = [",".join(f"10.81.1.11:{first + number}" for number in range(3)) for first in (25011, 8011)]
    command = [
        *lab.prefix, sys.executable, "-m", "tests.hosts.load", nodes[0], "--rest", nodes[1],
        "--report", str(report), "--stop-file", str(stop),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield report
        stop.touch()
        process.wait(EVENT_S)
    finally:
        process.kill()
        process.wait()
