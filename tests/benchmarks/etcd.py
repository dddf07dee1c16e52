"""A three-node etcd of Debian on the loopback interface, with etcd's own defaults: the yardstick of the benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rocinante.bench.began import Began
from tests.support.ports import HOST, free_port

START_S: Final = 30.0
STOP_S: Final = 10.0


@dataclass
class Member:
    name: str
    client: str
    """IP:PORT for clients."""
    peer: str
    data: Path
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


class Etcd(Began):
    """`with Etcd(directory) as etcd:` starts the members and waits until all agree on a leader; leaving kills them
    by pid."""

    name: Final = "etcd"

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        directory.mkdir(parents=True)
        self.members = [
            Member(
                name=f"etcd{number}",
                client=f"{HOST}:{free_port()}",
                peer=f"{HOST}:{free_port()}",
                data=directory / f"etcd{number}",
                log=directory / f"etcd{number}.log",
            )
            for number in range(1, nodes + 1)
        ]

    def begin(self) -> None:
        for member in self.members:
            self._start(member)
        deadline = time.monotonic() + START_S
        while self.leader() is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"etcd has no leader after {START_S:.0f} s: see {self.members[0].log}")
            time.sleep(0.05)

    def _start(self, member: Member) -> None:
        peers = ",".join(f"{each.name}=http://{each.peer}" for each in self.members)
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            "etcd",
            "--name",
            member.name,
            "--data-dir",
            str(member.data),
        ]
        command += [f"--listen-client-urls=http://{member.client}", f"--advertise-client-urls=http://{member.client}"]
        command += [f"--listen-peer-urls=http://{member.peer}", f"--initial-advertise-peer-urls=http://{member.peer}"]
        command += [f"--initial-cluster={peers}", "--initial-cluster-state=new", "--logger=zap", "--log-level=warn"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        if platform.machine() != "x86_64":
            clean["ETCD_UNSUPPORTED_ARCH"] = "arm64" if platform.machine() == "aarch64" else platform.machine()
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=clean
            )

    def close(self) -> None:
        """Kill what was started, and wait until it is gone."""
        started = [member.process for member in self.members if member.process is not None]
        for process in started:
            process.kill()
        for process in started:
            process.wait(STOP_S)

    # --- what a benchmark asks of a system

    def leader(self) -> str | None:
        """The leader's IP:PORT; None while the members do not agree on one."""
        found = {member.client: self._status(member) for member in self.members}
        leaders = {status[1] for status in found.values() if status is not None}
        if None in found.values() or len(leaders) != 1 or leaders == {"0"}:
            return None
        return next((client for client, status in found.items() if status and status[0] in leaders), None)

    def follower(self) -> str:
        """IP:PORT of the first member that does not lead."""
        leader = self.leader()
        return next(member.client for member in self.members if member.client != leader)

    def endpoints(self) -> list[str]:
        return [member.client for member in self.members]

    def pids(self) -> list[int]:
        return [member.process.pid for member in self.members if member.process is not None]

    @staticmethod
    def _status(member: Member) -> tuple[str, str] | None:
        """(own id, leader's id) by etcd's JSON gateway, api/v3 maintenance/status."""
        connection = http.client.HTTPConnection(member.client, timeout=2)
        try:
            connection.request("POST", "/v3/maintenance/status", body="{}")
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer["header"]["member_id"], answer.get("leader", "0")
