"""How much room is left: on the disk, for keys, for flows. An alarm comes before anything is refused.

What is refused is what would need more room; deletes, compactions, expiry and reads go on, so that there is a way out.
"""

from __future__ import annotations

import logging
from typing import Final

from rocinante import limits
from rocinante.config import ClusterConfig
from rocinante.errors import ResourceExhausted
from rocinante.state.command import Kind
from rocinante.state.machine import StateMachine
from rocinante.storage import Engine

logger = logging.getLogger(__name__)

_KEYS: Final = frozenset({Kind.KV_PUT, Kind.KV_TXN})
_FLOWS: Final = frozenset({Kind.FLOW_PUT})


class Room:
    """See the module. `look` runs about once a second; the rest reads what it found."""

    def __init__(self, config: ClusterConfig, engine: Engine, state: StateMachine) -> None:
        self._config = config
        self._engine = engine
        self._state = state
        self.disk_refusal = ""
        """Not empty: why no write at all is taken."""
        self._refusals: dict[Kind, str] = {}
        self.alarms: tuple[str, ...] = ()

    def adopt(self, config: ClusterConfig) -> None:
        """New bounds (SIGHUP)."""
        self._config = config

    def check(self, kind: Kind) -> None:
        """Raises ResourceExhausted when a command of this kind is refused now."""
        refusal = self.disk_refusal or self._refusals.get(kind, "")
        if refusal:
            raise ResourceExhausted(refusal)

    def look(self) -> None:
        alarms: list[str] = []
        refusals: dict[Kind, str] = {}
        disk = self._disk()
        if disk:
            alarms.append(disk)
        sizes = self._state.sizes()
        quotas = (
            ("keys", _KEYS, sizes["kv_bytes"], self._config.limits.key_bytes, "bytes", "keyBytes"),
            ("flows", _FLOWS, sizes["flows"], self._config.limits.flows, "records", "flows"),
        )
        for what, kinds, used, most, unit, option in quotas:
            share = f"{used} of {most} {unit} (limits.{option})"
            if used >= most:
                alarms.append(f"no room for more {what}: {share}; more are refused")
                refusals.update(dict.fromkeys(kinds, self._full(what, share)))
            elif used >= most * limits.QUOTA_ALARM_RATIO:
                alarms.append(f"little room for more {what}: {share}")
        self._say(tuple(alarms))
        self.disk_refusal, self._refusals = disk, refusals

    @staticmethod
    def _full(what: str, share: str) -> str:
        if what == "keys":  # etcd's clients know this text
            return f"etcdserver: mvcc: database space exceeded: {share}"
        return f"the flow table is full: {share}"

    def _disk(self) -> str:
        free, reserve = self._engine.disk_free_bytes(), self._config.storage.disk_reserve_bytes
        if free is None or free >= reserve:
            return ""
        left = f"{free >> 20} MiB left, {reserve >> 20} MiB are kept in reserve"
        return f"the disk is nearly full ({left}); writes are refused"

    def _say(self, alarms: tuple[str, ...]) -> None:
        """Each alarm is logged when it comes, not every second; the figures in it may change meanwhile."""
        before = {alarm.split(":")[0].split("(")[0] for alarm in self.alarms}
        for alarm in alarms:
            if alarm.split(":")[0].split("(")[0] not in before:
                logger.error("ALARM: %s", alarm)
        if self.alarms and not alarms:
            logger.warning("alarm over: there is room again")
        self.alarms = alarms
