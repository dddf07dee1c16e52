"""What is fuzzed byte by byte: one `Target` a decoder, the same for Hypothesis (`make test`) and atheris (`make fuzz`).

`one(data)` takes any bytes. It returns when they were decoded, or refused with the documented error; whatever else it
raises is a finding. A target also checks what the decoder promises of bytes that it takes (a round trip, most of all).
`seeds()` are valid inputs, made from valid data, that mutation starts from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).resolve().parents[1] / "corpus"
"""Below it a directory a target: inputs that once failed, and a few that reach far. Replayed by every `make test`."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    one: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    bytes_max: int = 4096
    examples: int = 200
    """Of Hypothesis, in `make test`."""


def kept(target: Target) -> list[Path]:
    """The target's files below `CORPUS`, in a fixed order."""
    return sorted(path for path in (CORPUS / target.name).glob("*") if path.is_file())
