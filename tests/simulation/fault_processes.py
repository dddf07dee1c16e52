"""Processes and clocks that go wrong: killed, paused, restarted, switched off; power that fails; clocks that jump."""

from __future__ import annotations

from typing import Final

from rocinante.errors import RocinanteError
from rocinante.node.driver import Driver

from .storm import Acts, Storm

JUMPS_S: Final = (-288.0, 288.0, -5.0, 5.0)
"""Jepsen's jumps of the wall clock, and small ones."""


class ProcessFaults:
    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self._world = storm.world

    def acts(self) -> Acts:
        return {
            "crash": self._crash,
            "kill": self._kill,
            "crash in a write": self._crash_in_write,
            "crash all": self._crash_all,
            "pause": self._pause,
            "not ready": self._not_ready,
            "graceful restart": self._graceful_restart,
            "clock jump": self._clock_jump,
        }

    def _crash(self, *, refuses: bool = False) -> None:
        host = self._storm.host()
        if host is not None:
            self._world.run_now(None, "crash", lambda: host.crash(refuses=refuses))
            self._storm.after(0.05, 4.0, host.restart)

    def _kill(self) -> None:
        self._crash(refuses=True)

    def _crash_in_write(self) -> None:
        """At the moment that matters: something was promised, or is about to be, and is not on the disk."""
        host = self._storm.host()
        if host is not None:
            host.crash_in_write = True

    def _crash_all(self) -> None:
        for host in self._storm.simulation.hosts:
            if host.up and not host.gone:
                host.crash()
                self._storm.after(0.05, 2.0, host.restart)

    def _pause(self) -> None:
        host = self._storm.host()
        if host is None or host.paused:
            return
        host.paused = True
        life = host.life

        def resume() -> None:
            if host.life == life and host.paused:
                self._world.resume(host)

        self._storm.after(0.05, 5.0, resume)

    def _clock_jump(self) -> None:
        host, random = self._storm.host(), self._world.random
        if host is None:
            return
        jump_ns = int(random.choice(JUMPS_S) * 1e9)
        host.wall_ns += jump_ns

        def back() -> None:
            host.wall_ns -= jump_ns

        if random.random() < 0.5:
            self._storm.after(0.5, 5.0, back)

    def _graceful_restart(self) -> None:
        """What the daemon does on SIGTERM: hand over, fall silent, finish what waits for the disk."""
        host = self._storm.host()
        if host is None or host.paused or host.node.stopping.is_set():
            return
        life = host.life
        host.node.stopping.set()

        def hand_over() -> None:
            if host.leads:
                try:
                    host.node.transfer_leader()
                except RocinanteError:
                    pass

        def leave() -> None:
            driver: Driver = host.node.driver
            driver.core.set_not_ready()
            driver.stop()
            host.node.transport.stop()
            host.node.hub.end()

        def end() -> None:
            if host.life == life and host.up:
                host.crash(refuses=True)
                self._storm.after(0.05, 1.0, host.restart)

        self._world.at(0.0, host, "hand over", hand_over)
        self._world.at(0.7, host, "leave", leave)
        self._world.at(self._world.random.uniform(1.0, 1.5), None, "end", end)

    def _not_ready(self) -> None:
        """The gRPC switch, off and on again."""
        host = self._storm.host()
        if host is None or not host.node.switch.enabled:
            return
        node = host.node

        def off() -> None:
            node.switch.enabled = False
            node.ingress.put_act(node.driver.core.set_not_ready)
            node.ingress.put_act(node.transport.pause)

        def on() -> None:
            node.switch.enabled = True
            if node.switch.gone:
                return
            node.ingress.put_act(node.transport.resume)
            if node.left_not_ready.is_set():
                node.ingress.put_act(node.driver.core.set_ready)

        self._world.at(0.0, host, "switch off", off)
        self._world.at(self._storm.lasting(0.1, 4.0), host, "switch on", on)
