"""How the nodes are: a thread a node (`status-node1`, …) asks GET /v1/status again and again, so that one that
hangs delays no other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from rocinante.limits import DEV_STATUS_INTERVAL_S, DEV_STATUS_TIMEOUT_S

_JOIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a node said last, in numbers for the table."""

    role: str
    term: int
    commit: int
    applied: int
    entries_per_s: float
    flows: int
    keys: int
    leader: str
    """Its name; "" when not known."""
    reason: str
    """Why it is not ready, else ""."""


class StatusPoller:
    """One node's status, kept fresh until `close`."""

    def __init__(self, name: str, url: str) -> None:
        self._url = f"{url}v1/status"
        self._stop = threading.Event()
        self._latest: Health | None = None
        self._life = 0
        self._before: tuple[float, int] | None = None
        self._thread = threading.Thread(target=self._run, name=f"status-{name}", daemon=True)
        self._thread.start()

    @property
    def latest(self) -> Health | None:
        """None: the node does not answer."""
        return self._latest

    def forget(self) -> None:
        """The node is gone: what it said, or is just saying, is no longer true."""
        self._life += 1
        self._latest = None

    def close(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        with httpx.Client(timeout=DEV_STATUS_TIMEOUT_S, trust_env=False) as client:
            while not self._stop.is_set():
                life, answer = self._life, self._ask(client)
                if life == self._life:
                    self._latest = answer
                self._stop.wait(DEV_STATUS_INTERVAL_S)

    def _ask(self, client: httpx.Client) -> Health | None:
        try:
            answer = client.get(self._url)
            answer.raise_for_status()
            return self._health(answer.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            # Not there, not ready to answer, or something else listens on its port.
            self._before = None
            return None

    def _health(self, status: dict[str, Any]) -> Health:
        now, applied = time.monotonic(), int(status["applied"])
        rate = 0.0
        if self._before is not None and applied >= self._before[1]:
            rate = (applied - self._before[1]) / max(now - self._before[0], 1e-3)
        self._before = (now, applied)
        return Health(
            role=str(status["role"]),
            term=int(status["term"]),
            commit=int(status["commit"]),
            applied=applied,
            entries_per_s=rate,
            flows=int(status["flows"]),
            keys=int(status["keys"]),
            leader=str(status.get("leader_name") or ""),
            reason=str(status.get("not_ready_reason") or ""),
        )
