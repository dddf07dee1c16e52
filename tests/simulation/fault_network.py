"""Links that go wrong: cut, in one direction or around one node; clogged; a network that gets worse for a while."""

from __future__ import annotations

from .storm import Acts, Storm


class NetworkFaults:
    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._network = storm.simulation.network
        self._random = storm.world.random

    def acts(self) -> Acts:
        return {
            "isolate": self._isolate,
            "split": self._split,
            "one way": self._one_way,
            "bridge": self._bridge,
            "clog": self._clog,
            "bad network": self._bad_network,
        }

    def _cut(self, links: set[tuple[int, int]]) -> None:
        network = self._network
        network.cut |= links
        self._storm.after(0.1, 6.0, lambda: network.cut.difference_update(links))

    def _isolate(self) -> None:
        host = self._storm.host()
        if host is not None:
            others = self._storm.ids()
            self._cut({(host.id, other) for other in others} | {(other, host.id) for other in others})

    def _split(self) -> None:
        ids = self._storm.ids()
        group = set(self._random.sample(ids, self._random.randint(0, len(ids))))
        self._cut({(a, b) for a in ids for b in ids if (a in group) != (b in group)})

    def _one_way(self) -> None:
        """A few links, or all that lead to one node, or from it."""
        ids = self._storm.ids()
        kind = self._random.randrange(3)
        if kind == 0:
            self._cut({(self._random.choice(ids), self._random.choice(ids)) for _ in range(2)})
        elif host := self._storm.host():
            self._cut({(host.id, other) if kind == 1 else (other, host.id) for other in ids})

    def _bridge(self) -> None:
        """Two halves that only one node sees both of (openraft #2080)."""
        ids = self._storm.ids()
        self._random.shuffle(ids)
        bridge, rest = ids[0], ids[1:]
        left = set(rest[: len(rest) // 2])
        self._cut({(a, b) for a in rest for b in rest if (a in left) != (b in left) and bridge not in (a, b)})

    def _clog(self) -> None:
        ids, network = self._storm.ids(), self._network
        until = self._storm.world.now + self._storm.lasting(0.1, 4.0)
        for _ in range(self._random.randint(1, 3)):
            network.clogged[self._random.choice(ids), self._random.choice(ids)] = until

    def _bad_network(self) -> None:
        """Loss, duplicates, reordering and delay, more than this run has anyway."""
        network, before = self._network, self._network.rates
        network.rates = before._replace(
            loss=self._random.choice((before.loss, 0.3)),
            double=self._random.choice((before.double, 0.3)),
            delay_max=self._random.choice((before.delay_max, 0.15)),
            in_order=self._random.random() < 0.5,
        )

        def better() -> None:
            if network.rates.loss:  # else it was healed meanwhile
                network.rates = before

        self._storm.after(0.2, 4.0, better)
