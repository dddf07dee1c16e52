"""Reads `flows`: the bounds, the time-outs, and those of zones."""

from __future__ import annotations

import dataclasses
from typing import Any

from rocinante import limits
from rocinante.config.flow_model import FlowOptions, FlowTimeouts
from rocinante.config.option import META, Option
from rocinante.config.values import Section

_OFF = "off"


def flow_options(section: Section) -> FlowOptions:
    """What is absent or wrong (and reported) has its default."""
    declared = _declared(FlowOptions)
    section.only(option.key for option in declared.values())
    bounds = {
        name: _integer(section, option, getattr(FlowOptions(), name))
        for name, option in declared.items()
        if option.minimum is not None
    }
    timeouts = _timeouts(section)
    return FlowOptions(timeouts=timeouts, zones=_zones(section, timeouts), **bounds)


def _timeouts(section: Section) -> FlowTimeouts | None:
    word = section.word("timeouts")
    if word == _OFF:
        return None
    if word is not None:
        section.complain("timeouts", f"expected {_OFF} or a mapping of seconds, got {word!r}")
        return FlowTimeouts()
    found = section.section("timeouts")
    return FlowTimeouts() if found is None else _seconds(found, FlowTimeouts())


def _zones(section: Section, timeouts: FlowTimeouts | None) -> tuple[tuple[int, FlowTimeouts], ...]:
    zones = section.section("zones")
    if zones is None:
        return ()
    keys = zones.keys()
    if timeouts is None:
        section.complain("zones", f"zones have time-outs of their own, but timeouts is {_OFF}")
    if len(keys) > limits.FLOW_ZONES_MAX:
        section.complain("zones", f"expected at most {limits.FLOW_ZONES_MAX} zones, got {len(keys)}")
        return ()
    found = {}
    for key in keys:
        if not (key.isascii() and key.isdigit()) or int(key[:6]) > 0xFFFF:
            zones.complain(key, "expected the number of a zone from 0 to 65535")
        elif int(key) in found:
            zones.complain(key, f"zone {int(key)} is given twice")
        elif (zone := zones.section(key)) is not None:
            found[int(key)] = _seconds(zone, timeouts or FlowTimeouts())
    return tuple(found.items())


def _seconds(section: Section, default: FlowTimeouts) -> FlowTimeouts:
    declared = _declared(FlowTimeouts)
    section.only(option.key for option in declared.values())
    return FlowTimeouts(
        **{name: _integer(section, option, getattr(default, name)) for name, option in declared.items()}
    )


def _integer(section: Section, option: Option, default: int) -> Any:
    assert option.minimum is not None
    assert option.maximum is not None
    return section.integer(option.key, default, option.minimum, option.maximum, option.unit)


def _declared(model: type) -> dict[str, Option]:
    return {field.name: field.metadata[META] for field in dataclasses.fields(model)}
