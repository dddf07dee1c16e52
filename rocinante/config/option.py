"""What says of a dataclass field that it is an option of the cluster YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

META: Final = "rocinante.option"
"""Where in a field's metadata its `Option` is."""


@dataclass(frozen=True, slots=True)
class Option:
    """What `load.py` and the documentation need to know of one option."""

    key: str
    """camelCase, as in the YAML."""
    minimum: int | None = None
    maximum: int | None = None
    unit: str = ""


def option(key: str, *, minimum: int | None = None, maximum: int | None = None, unit: str = "") -> dict[str, Option]:
    """The metadata of a dataclass field that is an option; the field's default is what an absent key means."""
    return {META: Option(key, minimum, maximum, unit)}
