"""Every target, by name."""

from __future__ import annotations

from typing import Final

from tests.fuzz.targets import Target, agents, config, flows, peers, rest, storage, texts

TARGETS: Final[dict[str, Target]] = {
    target.name: target for module in (peers, storage, flows, config, rest, agents, texts) for target in module.TARGETS
}
