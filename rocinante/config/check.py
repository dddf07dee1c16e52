"""What must hold between values: no two controllers alike, and timers that fit one another."""

from __future__ import annotations

from typing import Final

from rocinante.config.model import Rotation, RotationMode, Timers
from rocinante.config.values import Problems, Section
from rocinante.identity import endpoint

ELECTION_HEARTBEATS_MIN: Final = 5
"""Heartbeats that fit into an election timeout: fewer, and one lost packet or one slow disk write deposes a leader
(raft paper, section 5.6)."""


class Uniqueness:
    """Names and endpoints, gRPC and REST together, are each used once. Server ids follow from the endpoints."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._names: dict[str, str] = {}
        self._endpoints: dict[str, str] = {}

    def name(self, item: Section, name: str) -> None:
        other = self._names.setdefault(name, item.path)
        if other != item.path:
            item.complain("name", f"{name!r} is already the name of {other}, expected one of its own")

    def endpoint(self, item: Section, key: str, address: str, port: int) -> None:
        place = endpoint(address, port)
        mine = item.path_of(key)
        other = self._endpoints.setdefault(place, mine)
        if other != mine:
            item.complain(key, f"{place} is already used by {other}, expected a port of its own")


def relations(cluster: Section, timers: Timers, rotation: Rotation) -> None:
    """Complain about timers that cannot work together."""
    if (section := cluster.section("timers")) is not None:
        if timers.heartbeat_ms < timers.tick_ms:
            section.complain("heartbeatMs", f"{timers.heartbeat_ms} ms is less than a tick ({timers.tick_ms} ms)")
        least = ELECTION_HEARTBEATS_MIN * timers.heartbeat_ms
        if timers.election_ms < least:
            section.complain(
                "electionMs",
                f"{timers.election_ms} ms is too short, expected at least {ELECTION_HEARTBEATS_MIN} heartbeats "
                f"({least} ms)",
            )
    if (section := cluster.section("rotation")) is not None:
        if rotation.min_seconds > rotation.max_seconds:
            section.complain(
                "minSeconds", f"{rotation.min_seconds} s is more than maxSeconds ({rotation.max_seconds} s)"
            )
        # A rotation must be over before the next one begins: the longest election timeout is twice electionMs.
        if rotation.mode is not RotationMode.OFF and rotation.min_seconds * 1_000 < 2 * timers.election_ms:
            section.complain(
                "minSeconds",
                f"{rotation.min_seconds} s is shorter than an election, expected at least twice electionMs "
                f"({2 * timers.election_ms} ms)",
            )


def warn_wwwroots(problems: Problems, missing: dict[str, tuple[int, str]]) -> None:
    """One warning a directory, not one a controller."""
    for root, (line, path) in missing.items():
        problems.warn(line, path, f"{root} is not a directory on this host: the packaged page is served instead")


def warn_size(cluster: Section, voters: int) -> None:
    if voters % 2 == 0:
        cluster.problems.warn(
            cluster.line_of("controllers"),
            cluster.path_of("controllers"),
            f"{voters} controllers tolerate the failure of {voters // 2 - 1}, as {voters - 1} do: "
            "an odd number is better",
        )
