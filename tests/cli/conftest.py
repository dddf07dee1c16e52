from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rocinante.cli.main import run
from tests.client.serving import Cluster, serving

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "rocinante.cli.main")


@dataclass
class Ran:
    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


Run = Callable[..., Ran]


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in this process; what a failure prints is checked to be single lines without a stack."""
    monkeypatch.delenv("ROCINANTE_CLUSTER", raising=False)

    def call(*arguments: str) -> Ran:
        capfdbinary.readouterr()
        status = run(arguments)
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return Ran(status, out, err.decode())

    return call


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with serving() as cluster:
        yield cluster


@pytest.fixture
def on(cli: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """As `cli`, with the cluster in the environment."""
    monkeypatch.setenv("ROCINANTE_CLUSTER", cluster.endpoints[0])
    return cli


@pytest.fixture
def spawn(cluster: Cluster) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command as a process of its own; what still runs at the end is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "ROCINANTE_CLUSTER": cluster.endpoints[0], **more.pop("env", {})}
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **more,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
