"""The load as the harness sees it: a process that is told when a round begins and when it ends (load.py)."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.faults.cluster import NetworkCluster

END_S: Final = 180.0
"""For every answer of the load: at the end of a round it reads all keys, with retries."""


class LoadProcess:
    """Runs in the clients' namespace, as this process does. Its standard error goes to `log`."""

    def __init__(self, cluster: NetworkCluster, log: Path) -> None:
        self._cluster = cluster
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.faults.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def begin(self, round_: int, seed: str) -> None:
        """All clients ask from here on. They know the nodes that the cluster has now."""
        nodes = [[node.endpoint, node.url] for node in self._cluster.nodes.values()]
        self._order({"do": "begin", "round": round_, "nodes": nodes, "seed": seed})

    def end(self, file: Path) -> int:
        """Stop asking; the history is in `file`. The number of calls."""
        return int(self._order({"do": "end", "file": str(file)})["calls"])

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answered, _, _ = select.select([process.stdout], [], [], END_S)
        line = process.stdout.readline() if answered else ""
        if not answered:
            process.kill()
        if not line:
            raise RuntimeError(f"the load ended with {process.wait(END_S)}: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        if error is not None:
            self._process.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
