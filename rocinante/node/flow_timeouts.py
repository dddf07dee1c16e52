"""The time-outs of flows, from the options of the cluster YAML to what stamps batches."""

from __future__ import annotations

from dataclasses import asdict

from rocinante.config import FlowOptions
from rocinante.flows.timeouts import Timeouts


def flow_timeouts(options: FlowOptions) -> Timeouts | None:
    """None: they are off."""
    if options.timeouts is None:
        return None
    return Timeouts(asdict(options.timeouts), {zone: asdict(timeouts) for zone, timeouts in options.zones})
