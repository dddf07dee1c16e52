"""Disks that go wrong: slow, full, failing in a write, a sync or a read, bits that flip; data that is lost.

A failed write ends the process at once. Damage is found by a start, always, and the operator wipes the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocinante.errors import DataDirectoryError

from .storm import Acts, Storm

if TYPE_CHECKING:
    from .host import Host


class DiskFaults:
    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._simulation = storm.simulation
        self._world = storm.world

    def acts(self) -> Acts:
        return {
            "slow disk": self._slow_disk,
            "full disk": self._full_disk,
            "failed sync": lambda: self._failed_write("sync"),
            "failed write": lambda: self._failed_write("write"),
            "no space in a write": self._no_space,
            "unreadable disk": self._unreadable,
            "bit rot": lambda: self._bit_rot(of_snapshot=False),
            "bit rot in a snapshot": lambda: self._bit_rot(of_snapshot=True),
            "wipe": self._wipe,
        }

    def _slow_disk(self) -> None:
        host = self._storm.host()
        if host is not None:
            host.slow = self._world.random.choice((10.0, 100.0, 1000.0))
            self._storm.after(0.1, 5.0, lambda: setattr(host, "slow", 1.0))

    def _full_disk(self) -> None:
        """The alarm before it is full: writes are refused, reads go on."""
        host = self._storm.host()
        if host is not None:
            storage = host.storage
            storage.full = True
            self._storm.after(0.5, 5.0, lambda: setattr(storage, "full", False))

    def _failed_write(self, kind: str) -> None:
        host = self._storm.host()
        if host is None:
            return
        files = host.storage.files
        files.fail_next = kind

        def repaired() -> None:
            files.fail_next = ""
            host.restart()

        self._storm.after(1.0, 4.0, repaired)

    def _no_space(self) -> None:
        """Full without a warning; a start fails too, until there is room."""
        self._until_repaired("no_space", crash=False)

    def _unreadable(self) -> None:
        self._until_repaired("unreadable", crash=True)

    def _until_repaired(self, what: str, *, crash: bool) -> None:
        host = self._storm.host()
        if host is None:
            return
        files = host.storage.files
        setattr(files, what, True)
        if crash:
            host.crash()
        self._storm.after(0.2, 1.0, host.restart)

        def repaired() -> None:
            setattr(files, what, False)
            host.restart()

        self._storm.after(1.0, 4.0, repaired)

    def _wipe(self) -> None:
        host = self._storm.host()
        if host is None or not self._simulation.may_lose(host):
            return
        host.crash()
        self._empty(host)

    def _empty(self, host: Host) -> None:
        host.wipe()
        host.storage.catching_up = True  # for `may_lose`, until it starts and marks it itself
        self._storm.after(0.05, 3.0, host.restart)

    def _bit_rot(self, *, of_snapshot: bool) -> None:
        host = self._storm.host()
        if host is None or not self._simulation.may_lose(host):
            return
        host.crash()
        host.storage.heal()
        where, snapshot_index = host.storage.flip_a_bit(of_snapshot=of_snapshot)
        try:
            host.start()
        except DataDirectoryError as error:
            self._world.note(f"{where} was found: {error}")
            self._simulation.oracle.reached("damage found at a start")
            self._empty(host)
        else:
            if host.node.driver.core.log.snapshot.index >= snapshot_index:
                self._simulation.oracle.fail(f"{host.name} starts with {where} flipped")
