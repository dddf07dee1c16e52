"""What can be wrong with the network between the nodes: packets that are dropped, lost at random, or late.

Everything happens on the bridge, so that one place knows it and no node can tell it from a real network. Clients reach
every node always: the interesting client is the one that talks to the leader that was cut off. Only IP is touched: ARP
goes on, as on a switch whose ports are up.

Contract: a `Link` is a direction, (from, to). Cuts and losses add up until `heal`. `heal` says how many packets were
hit: a fault that hit none was none.

TCP between the nodes makes duplicates of packets invisible to them, so there is no such fault here: duplicated and
reordered *messages* are the simulator's.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Set
from itertools import permutations
from typing import Final

from tests.faults.namespaces import BRIDGE, Lab, node_address, run
from tests.faults.relay import DELAY_IN, DELAY_OUT, JITTER

Link = tuple[int, int]

START_S: Final = 20.0
_COUNTER: Final = re.compile(r"counter packets (\d+)")


def between(one: Iterable[int], other: Iterable[int]) -> set[Link]:
    """All links between two groups of nodes, both ways."""
    first, second = list(one), list(other)
    return {(a, b) for a in first for b in second if a != b} | {(b, a) for a in first for b in second if a != b}


def among(nodes: Iterable[int]) -> set[Link]:
    """All links among these nodes."""
    return set(permutations(nodes, 2))


def from_to(sources: Iterable[int], targets: Iterable[int]) -> set[Link]:
    """One way only."""
    goals = list(targets)
    return {(a, b) for a in sources for b in goals if a != b}


class Network:
    """See the module."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._cut: set[Link] = set()
        self._loss: dict[Link, int] = {}
        self._relay: subprocess.Popen[str] | None = None
        self._longest_delay_s = 0.0

    def cut(self, links: Set[Link]) -> None:
        """Nothing gets through on these links."""
        self._cut |= links
        self._apply()

    def lose(self, links: Set[Link], percent: int) -> None:
        """Of the packets on these links, this part is lost, each one by the toss of a coin."""
        if not 0 < percent < 100:
            raise ValueError(f"percent: {percent}, must be from 1 to 99")
        self._loss |= dict.fromkeys(links, percent)
        self._apply()

    def delay(self, nodes: Iterable[int], low_ms: int, high_ms: int, seed: str) -> None:
        """Every packet among these nodes is late; one way, by a time between the two bounds (relay.py)."""
        if self._relay is not None:
            raise RuntimeError("packets are delayed already")
        command = [*self._lab.bridge_prefix, "setpriv", "--pdeathsig", "KILL", "--", sys.executable]
        command += ["-m", "tests.faults.relay", str(low_ms), str(high_ms), seed]
        self._relay = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._longest_delay_s = high_ms * (1 + JITTER) / 1000
        assert self._relay.stdout is not None
        if self._relay.stdout.readline() != "ready\n":
            raise RuntimeError(f"the relay did not start: {self._relay.wait(START_S)}")
        self._ip("link", "set", DELAY_OUT, "master", BRIDGE, "up")
        self._ip("link", "set", DELAY_OUT, "type", "bridge_slave", "learning", "off", "flood", "off")
        self._ip("link", "set", DELAY_IN, "txqueuelen", "10000", "up")  # last: the relay needs somewhere to write to
        members = sorted(nodes)
        addresses = ", ".join(map(node_address, members))
        chains = "\n".join(
            f"chain n{number} {{\ntype filter hook ingress device n{number} priority 0\n"
            f"ip saddr {{ {addresses} }} ip daddr {{ {addresses} }} fwd to {DELAY_IN}\n}}"
            for number in members
        )
        self._nft(f"table netdev delay {{\n{chains}\n}}\n")

    def heal(self) -> int:
        """The network is whole again; how many packets were dropped, lost or delayed since it was not."""
        hit = sum(map(int, _COUNTER.findall(self._nft_list()))) if self._cut or self._loss else 0
        self._cut.clear()
        self._loss.clear()
        self._apply()
        return hit + self._stop_relay()

    def close(self) -> None:
        """End the relay, whatever the state of the network."""
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait(START_S)
            self._relay = None

    def _apply(self) -> None:
        rules = [f"{_match(link)} counter drop" for link in sorted(self._cut)]
        rules += [
            f"{_match(link)} numgen random mod 100 < {percent} counter drop"
            for link, percent in sorted(self._loss.items())
        ]
        lines = ["table bridge faults", "delete table bridge faults"]
        if rules:
            lines += [
                "table bridge faults {",
                "chain forward {",
                "type filter hook forward priority 0",
                *rules,
                "}",
                "}",
            ]
        self._nft("\n".join(lines) + "\n")

    def _stop_relay(self) -> int:
        if self._relay is None:
            return 0
        self._nft("delete table netdev delay\n")
        time.sleep(self._longest_delay_s)  # what it holds is still on its way: an event that nothing announces
        relay, self._relay = self._relay, None
        relay.send_signal(signal.SIGTERM)
        out, _ = relay.communicate(timeout=START_S)
        found = json.loads(out)
        return int(found["packets"])

    def _nft(self, script: str) -> None:
        run(*self._lab.bridge_prefix, "nft", "-f", "-", stdin=script)

    def _nft_list(self) -> str:
        return run(*self._lab.bridge_prefix, "nft", "list", "table", "bridge", "faults")

    def _ip(self, *arguments: str) -> None:
        run("ip", "-netns", self._lab.bridge_namespace, *arguments)


def _match(link: Link) -> str:
    return f"ip saddr {node_address(link[0])} ip daddr {node_address(link[1])}"
