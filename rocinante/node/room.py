"""How much room is left: on the disk, for keys, for flows. An alarm comes before anything is refused.

What is refused is what would need more room; deletes, compactions, expiry and reads go on, so that there is a way out.
"""

from __future__ import annotations

import logging
from typing import Final

from rocinante import limits
from rocinante.config import ClusterConfig
from rocinante.errors import ResourceExhausted
from rocinante.flows import BatchKind, FlowError, unpacked_bytes
from rocinante.flows.batch import HEADER
from rocinante.state.command import Kind
from rocinante.state.machine import StateMachine
from rocinante.state.rows import OUTSIDE_BYTES_BESIDE, ROW_BYTES_BESIDE
from rocinante.storage import Engine

logger = logging.getLogger(__name__)

_KEYS: Final = frozenset({Kind.KV_PUT, Kind.KV_TXN})


class Room:
    """See the module. `look` runs about once a second; the rest reads what it found."""

    def __init__(self, config: ClusterConfig, engine: Engine, state: StateMachine) -> None:
        self.config = config
        self._engine = engine
        self._state = state
        self.disk_refusal = ""
        """Not empty: why no write at all is taken."""
        self._refusals: dict[Kind, str] = {}
        self.alarms: tuple[str, ...] = ()
        self.refused = 0

    def adopt(self, config: ClusterConfig) -> None:
        """New bounds (SIGHUP)."""
        self.config = config

    def check(self, kind: Kind, body: bytes) -> None:
        """Raises ResourceExhausted when this command is refused now."""
        refusal = self.disk_refusal or self._refusals.get(kind, "")
        if not refusal and kind is Kind.FLOW_PUT:
            refusal = self._check_flows(body)
        if refusal:
            self.refused += 1
            raise ResourceExhausted(refusal)

    def _check_flows(self, body: bytes) -> str:
        """Why a batch has no room, or "". Near the bounds it is looked up how many of its flows are new: updates go on
        in a full table. What is under way at the same time is not seen, so a bound may be passed by that much."""
        at = 1 + body[0] if body else 0
        if len(body) < at + HEADER.size:
            return ""  # not a batch: the state machine says what is wrong
        *_, kind, _, count = HEADER.unpack_from(body, at)
        options, state = self.config.flows, self._state
        records, size = state.flows_count(), state.flows_bytes()
        variable = kind == BatchKind.VARIABLE
        beside = ROW_BYTES_BESIDE + OUTSIDE_BYTES_BESIDE * variable
        more_bytes = at + unpacked_bytes(memoryview(body)[at:]) + count * beside
        if records + count <= options.max_records and size + more_bytes <= options.max_bytes:
            return ""
        try:
            origin = body[1:at].decode()
            fresh = state.flows_new(origin, body[at:])
        except (FlowError, UnicodeDecodeError):
            return ""
        if fresh and records + fresh > options.max_records:
            return _full_flows(f"{records} of {options.max_records} records (flows.max)")
        grown = more_bytes if variable else more_bytes * fresh // max(1, count)
        if grown and size + grown > options.max_bytes:
            return _full_flows(f"{size} of {options.max_bytes} bytes (flows.maxBytes)")
        return ""

    def look(self) -> None:
        alarms: list[str] = []
        refusals: dict[Kind, str] = {}
        disk = self._disk()
        if disk:
            alarms.append(disk)
        sizes = self._state.sizes()
        flows, key_bytes = self.config.flows, self.config.limits.key_bytes
        quotas = (
            ("keys", sizes["kv_bytes"], key_bytes, "bytes", "limits.keyBytes"),
            ("flows", sizes["flows"], flows.max_records, "records", "flows.max"),
            ("flows", sizes["flow_bytes"], flows.max_bytes, "bytes", "flows.maxBytes"),
        )
        for what, used, most, unit, option in quotas:
            share = f"{used} of {most} {unit} ({option})"
            if used >= most:
                alarms.append(f"no room for more {what}: {share}; more are refused")
            elif used >= most * limits.QUOTA_ALARM_RATIO:
                alarms.append(f"little room for more {what}: {share}")
            if used >= most and what == "keys":  # etcd's clients know this text
                text = f"etcdserver: mvcc: database space exceeded: {share}"
                refusals.update(dict.fromkeys(_KEYS, text))
        self._say(tuple(alarms))
        self.disk_refusal, self._refusals = disk, refusals

    def _disk(self) -> str:
        free, reserve = self._engine.disk_free_bytes(), self.config.storage.disk_reserve_bytes
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


def _full_flows(share: str) -> str:
    return (
        f"the flow table is full: {share}; updates of its flows are taken, new ones are not: delete flows, let them "
        "end sooner (flows.timeouts), or raise the bound"
    )
