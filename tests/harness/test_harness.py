"""The tests' own tools do what the tests rely on: leaks are found, missing tools are not hidden, dead nodes are
named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support import ports, tools
from tests.support.cluster import Cluster, ClusterFailure

ROOT = Path(__file__).resolve().parents[2]


def run_pytest(directory: Path, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another pytest, with our conftest, on one file of its own."""
    (directory / "test_it.py").write_text(test)
    clean = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q", "-rs", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, f"--rootdir={directory}", f"--basetemp={directory / 'tmp'}", "test_it.py"],
        cwd=directory,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


ORPHAN = """
import subprocess, sys
def test_orphan(tmp_path):
    # The shell ends at once: its child's parent is then nobody of ours.
    out = subprocess.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True)
    open("pid", "w").write(out.stdout)
"""


def test_a_process_that_a_test_leaves_behind_is_an_error_and_ended(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ORPHAN)
    pid = int((tmp_path / "pid").read_text())
    assert done.returncode == 1
    assert f"process {pid}" in done.stdout
    assert "1 passed, 1 error" in done.stdout
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_clean_run_is_no_error(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "def test_nothing(): pass")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.root
def test_a_mount_that_a_test_leaves_behind_is_an_error(tmp_path: Path) -> None:
    test = (
        "import subprocess\n"
        "def test_mount(tmp_path):\n"
        "    subprocess.run(['mount', '-t', 'tmpfs', 'none', str(tmp_path)], check=True)\n"
    )
    done = run_pytest(tmp_path, test)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (point := line.split()[4]).startswith(str(tmp_path)):
            subprocess.run(["umount", point], check=True)
    assert done.returncode == 1
    assert "mount " in done.stdout


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_missing_tool_skips_here_and_fails_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    test = "from tests.support.tools import requires\n@requires('etcdctl')\ndef test_it(): pass\n"
    done = run_pytest(tmp_path, test, PATH=str(tmp_path), CI=ci)
    assert outcome in done.stdout
    assert "apt-get install etcd-client" in done.stdout


def test_an_unknown_tool_is_a_mistake() -> None:
    with pytest.raises(LookupError):
        tools.requires("no-such-tool")


def test_two_runs_get_different_ports() -> None:
    mine = set(ports.free_ports(20))
    code = "from tests.support import ports; print(*ports.free_ports(20))"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(mine) == 20
    assert len({*mine, *map(int, other.split())}) == 40


def test_a_node_that_does_not_start_is_named_with_its_log(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, noSuchOption=1) as cluster, pytest.raises(ClusterFailure) as caught:
        cluster.start()
    assert "node1 ended with 2" in str(caught.value)
    assert "noSuchOption" in str(caught.value)


def test_a_cluster_in_all_its_states(tmp_path: Path) -> None:
    """Kill, pause, resume, stop and restart; nothing acknowledged is lost, and all nodes end up equal."""
    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.start()
        first = cluster.wait_leader()
        cluster.put(first, "one", "1")
        cluster.kill(first)
        second = cluster.wait_leader(other_than=first)
        cluster.put(second, "two", "2")
        cluster.start(first)
        cluster.wait_equal_digests()
        cluster.pause(second)
        third = cluster.wait_leader(other_than=second)
        cluster.put(third, "three", "3")
        cluster.resume(second)
        assert cluster.stop(third) == 0
        cluster.start(third)
        cluster.wait_leader()
        cluster.wait_applied()
        cluster.wait_equal_digests()
        assert [cluster.get(1, key) for key in ("one", "two", "three")] == ["1", "2", "3"]
        assert sorted(cluster.running()) == [1, 2, 3]
        pids = [cluster.pid(number) for number in cluster.running()]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
