"""Which options of the YAML change at run time (SIGHUP), which need a restart, and the change itself.

`plan` compares the configuration that runs with the one that was read, option by option, and says by key what changes
and what would need a restart; `adopt` does what can be done. What needs a restart is told again at every reload until
the restart comes, since what runs is compared, not what was read before.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Final

from rocinante.config import ClusterConfig
from rocinante.config.option import META, Option
from rocinante.node.node import Node
from rocinante.node.opening import core_options
from rocinante.raft.options import RaftOptions
from rocinante.rest import RestServer

NEEDS_RESTART: Final = frozenset(
    {
        "name",
        "datacenter",
        "controllers",
        "cleanupOnFailure",  # it is about a first start
        "timers.tickMs",
        "storage.engine",
        "storage.dataDir",
        "rest.threads",
    }
)
_OF_THE_CLUSTER: Final = {"name": "name", "datacenter": "datacenter", "cleanup_on_failure": "cleanupOnFailure"}
_SHOWN_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reload does. Each line says the key, and where that is short, from what to what."""

    running: ClusterConfig
    """What runs when it is done."""
    core: RaftOptions
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def plan(running: ClusterConfig, wanted: ClusterConfig) -> Plan:
    """Compare. Changes nothing."""
    result = running
    differences: dict[str, str] = {}
    for field in fields(ClusterConfig):
        old, new = getattr(running, field.name), getattr(wanted, field.name)
        key = _OF_THE_CLUSTER.get(field.name, field.name)
        if field.name in _OF_THE_CLUSTER or not is_dataclass(old):
            adopted, found = _value(key, old, new)
        else:
            adopted, found = _section(key, old, new)
        differences |= found
        result = replace(result, **{field.name: adopted})
    core, refused = _core(running, result)
    if refused:
        result = replace(result, timers=running.timers, rotation=running.rotation)
    late = {
        key for key in differences if key in NEEDS_RESTART or (refused and key.startswith(("timers.", "rotation.")))
    }
    return Plan(
        result,
        core,
        tuple(text for key, text in differences.items() if key not in late),
        tuple(text for key, text in differences.items() if key in late),
    )


def _core(running: ClusterConfig, wanted: ClusterConfig) -> tuple[RaftOptions, bool]:
    """The core's options; of what runs (and True) where the new times cannot be told in ticks of the length that stays
    what it is."""
    try:
        return core_options(wanted), False
    except ValueError:
        return core_options(running), True


def _section(name: str, old: Any, new: Any) -> tuple[Any, dict[str, str]]:
    """The options of one section: what of it runs afterwards, and how it differs, by key."""
    result = old
    differences: dict[str, str] = {}
    for field in fields(old):
        described = field.metadata[META]
        assert isinstance(described, Option)
        adopted, found = _value(f"{name}.{described.key}", getattr(old, field.name), getattr(new, field.name))
        result = replace(result, **{field.name: adopted})
        differences |= found
    return result, differences


def _value(key: str, old: Any, new: Any) -> tuple[Any, dict[str, str]]:
    if old == new:
        return old, {}
    change = f"{old} -> {new}"
    text = f"{key} ({change})" if len(change) <= _SHOWN_CHARACTERS_MAX else key
    return (old if key in NEEDS_RESTART else new), {key: text}


def adopt(node: Node, rest: RestServer, planned: Plan) -> None:
    """Do it, for what comes from now on."""
    config = planned.running
    logging.getLogger().setLevel(config.log.level.upper())
    node.config = config
    node.request_timeout_s = config.timers.request_timeout_ms / 1000
    node.keep_entries = config.storage.keep_entries
    node.keep_revisions = config.storage.keep_revisions
    node.adopt_flows(config)
    node.ingress.set_limits(config.limits.ingress_proposals, config.limits.ingress_bytes)
    node.snapshotter.set_limits(config.storage.compact_entries, config.storage.compact_bytes)
    node.ingress.put_act(lambda: node.driver.core.adopt_options(planned.core))
    rest.allow_hosts(config.rest.allowed_hosts)
