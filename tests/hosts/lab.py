"""Datacenters of hosts, for tests: `with Lab("name", LAYOUT) as lab: lab.machine("dc1a").run("hostname")`.

    10.81.1.0/24  a bridge for the first datacenter's hosts (10.81.1.11, 10.81.1.12, ...)
    10.81.2.0/24  ... the second one's; joined by a router, which has 10.81.x.1
    10.81.0.2     the operator: `lab.ssh` and whatever `lab.prefix` runs are there

Contract: the host's own network is not touched, so any number of labs can have the same addresses. `up` gives all or
raises and leaves nothing; `remove` needs the name alone, works after a crash of whoever made the lab, and raises
LabError when something stays. Needs root and systemd-nspawn (Debian: systemd-container), iproute2, openssh-client.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.hosts import cgroups
from tests.hosts.machine import Machine
from tests.hosts.names import NETNS, OPERATOR, STATE, LabError, checked_name, run, scope, state_of
from tests.hosts.tree import tree

NETWORK: Final = "10.81"
FIRST_HOST: Final = 11
ROUTER: Final = "router"
END_TIMEOUT_S: Final = 20.0
TWO_DATACENTERS: Final = {"dc1": ["dc1a", "dc1b", "dc1c"], "dc2": ["dc2a", "dc2b", "dc2c"]}


@dataclass(frozen=True, slots=True)
class Lab:
    """See the module. `layout`: the names of the hosts of each datacenter."""

    name: str
    layout: dict[str, list[str]]

    @property
    def directory(self) -> Path:
        return state_of(self.name)

    @property
    def machines(self) -> dict[str, Machine]:
        return {
            host: Machine(self.name, host, f"{NETWORK}.{number}.{FIRST_HOST + position}")
            for number, hosts in enumerate(self.layout.values(), 1)
            for position, host in enumerate(hosts)
        }

    def machine(self, name: str) -> Machine:
        return self.machines[name]

    def datacenter(self, host: str) -> str:
        return next(name for name, hosts in self.layout.items() if host in hosts)

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that runs where the operator is."""
        return ["nsenter", f"--net={NETNS / scope(self.name, OPERATOR)}", "--"]

    @property
    def ssh(self) -> Path:
        """A program that is `ssh` to the hosts of this lab: in its network, with its key and what it knows of them."""
        return self.directory / "ssh"

    def up(self) -> None:
        """Make and boot it all; returns when every host has booted."""
        _check_names(self)
        base = tree()
        self.directory.mkdir(parents=True)
        try:
            (self.directory / "layout.json").write_text(json.dumps(self.layout))
            self._network()
            files = self._keys()
            for machine in self.machines.values():
                machine.prepare(base, files)
                machine.start()
            for machine in self.machines.values():
                machine.wait()
        except BaseException:
            remove(self.name)
            raise

    def _network(self) -> None:
        self._namespace(ROUTER)
        run(*_inside(self.name, ROUTER), "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._segment(OPERATOR, 0, {OPERATOR: f"{NETWORK}.0.2"})
        machines = self.machines
        for number, (datacenter, hosts) in enumerate(self.layout.items(), 1):
            self._segment(datacenter, number, {host: machines[host].address for host in hosts})

    def _segment(self, name: str, number: int, hosts: dict[str, str]) -> None:
        """A bridge in the router's namespace, and these hosts on it."""
        bridge, gateway = f"br-{name}"[:15], f"{NETWORK}.{number}.1"
        self._ip(ROUTER, "link", "add", bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self._ip(ROUTER, "address", "add", f"{gateway}/24", "dev", bridge)
        self._ip(ROUTER, "link", "set", bridge, "up")
        for host, address in hosts.items():
            self._namespace(host)
            port = f"p-{host}"[:15]
            self._ip(
                ROUTER, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", scope(self.name, host)
            )  # fmt: skip
            self._ip(ROUTER, "link", "set", port, "master", bridge, "up")
            self._ip(host, "address", "add", f"{address}/24", "dev", "eth0")
            self._ip(host, "link", "set", "eth0", "up")
            self._ip(host, "route", "add", "default", "via", gateway)

    def _namespace(self, part: str) -> None:
        run("ip", "netns", "add", scope(self.name, part))
        self._ip(part, "link", "set", "lo", "up")

    def _ip(self, part: str, *arguments: str) -> None:
        run("ip", "-netns", scope(self.name, part), *arguments)

    def _keys(self) -> dict[str, str]:
        """Keys of the operator and of the hosts (one for all of them), and the program that uses them."""
        for name in ("key", "lab_host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.directory / name)
        known = (self.directory / "lab_host_key.pub").read_text().split()[:2]
        machines = self.machines.values()
        lines = "".join(f"{machine.address} {' '.join(known)}\n" for machine in machines)
        (self.directory / "known_hosts").write_text(lines)
        options = (
            f"-i {self.directory}/key -o UserKnownHostsFile={self.directory}/known_hosts -o StrictHostKeyChecking=yes "
            "-o IdentitiesOnly=yes -o LogLevel=ERROR"
        )
        for program in ("ssh", "scp", "sftp"):
            path = self.directory / program
            path.write_text(f'#!/bin/sh\nexec {" ".join(self.prefix)} {program} -F /dev/null {options} "$@"\n')
            path.chmod(0o755)
        hosts = "127.0.0.1 localhost\n" + "".join(f"{machine.address} {machine.name}\n" for machine in machines)
        return {
            "etc/ssh/authorized_keys": (self.directory / "key.pub").read_text(),
            "etc/ssh/lab_host_key": (self.directory / "lab_host_key").read_text(),
            "etc/hosts": hosts,
        }

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        remove(self.name)


def find(name: str) -> Lab:
    """The lab of that name that is up. Raises LabError."""
    try:
        return Lab(name, json.loads((state_of(checked_name(name)) / "layout.json").read_text()))
    except OSError:
        raise LabError(f"there is no lab {name!r}") from None


def remove(name: str) -> None:
    """All that a lab of this name left on this host; nothing is fine too. Raises LabError when something stays."""
    prefix = scope(checked_name(name))
    cgroups.remove(prefix)
    _end_processes(prefix)
    for path in _namespaces(prefix):
        run("ip", "netns", "delete", path.name)
    if state_of(name).exists():
        shutil.rmtree(state_of(name))
    if left := leftovers(name):
        raise LabError(f"of lab {name} this is left: {', '.join(left)}")


def leftovers(name: str) -> list[str]:
    """What there is of a lab on this host, in words: namespaces, mounts, cgroups, files."""
    prefix = scope(checked_name(name))
    found = [f"namespace {path.name}" for path in _namespaces(prefix)]
    found += [f"process {pid}" for path in _namespaces(prefix) for pid in _pids(path.name)]
    found += [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if _of(name, line)]
    found += [f"cgroup {path}" for path in cgroups.named(prefix)]
    return found + ([f"directory {state_of(name)}"] if state_of(name).exists() else [])


def labs() -> list[str]:
    """The names of all that is up, or left."""
    names = {path.name for path in STATE.iterdir()} if STATE.is_dir() else set()
    return sorted(names | {path.name.split("-")[1] for path in _namespaces(scope("")[:-1])})


def _of(name: str, line: str) -> bool:
    return line.split()[1].startswith(f"{state_of(name)}/")


def _namespaces(prefix: str) -> list[Path]:
    return sorted(path for path in NETNS.iterdir() if path.name.startswith(prefix)) if NETNS.is_dir() else []


def _pids(namespace: str) -> list[int]:
    return [int(word) for word in run("ip", "netns", "pids", namespace).split()]


def _end_processes(prefix: str) -> None:
    """What still runs in its namespaces: connections that ssh keeps, clients of a test."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while pids := [pid for path in _namespaces(prefix) for pid in _pids(path.name)]:
        if time.monotonic() > deadline:
            raise LabError(f"processes do not end: {pids}")
        for pid in pids:
            if pid == os.getpid():
                raise LabError("this process is itself in the lab's network")
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)  # the kernel tells nobody when they are gone


def _check_names(lab: Lab) -> None:
    checked_name(lab.name)
    names = [name for datacenter, hosts in lab.layout.items() for name in (datacenter, *hosts)]
    for name in names:
        checked_name(name)
    if len(set(names)) != len(names) or {ROUTER, OPERATOR} & set(names):
        raise LabError(f"names must be different, and none of {ROUTER}, {OPERATOR}: {', '.join(names)}")
    if leftovers(lab.name):
        raise LabError(f"there is a lab {lab.name!r} already, or something of it: remove it first")


def _inside(lab: str, part: str) -> list[str]:
    return ["ip", "netns", "exec", scope(lab, part)]
