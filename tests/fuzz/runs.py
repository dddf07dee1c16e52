"""How much is tried: the same few examples in every `make test`, more and new ones in `make fuzz`.

`@examples(200)` on a test is its number in the short form. ROCINANTE_FUZZ_FACTOR=50 asks for fifty times as many, not
derandomized, and failures are kept below .hypothesis for the next run. Tests name their settings themselves: a
profile that is loaded holds for the whole run, other suites' tests too.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

FACTOR: Final = int(os.environ.get("ROCINANTE_FUZZ_FACTOR", "0"))
"""0: the short form."""
_QUIET: Final = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
    HealthCheck.function_scoped_fixture,
]
_SHORT: Final = settings(
    settings.get_profile("default"),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_QUIET,
    print_blob=True,
)
_LONG: Final = settings(
    settings.get_profile("default"), deadline=None, suppress_health_check=_QUIET, print_blob=True, derandomize=False
)


def examples(count: int, *, steps: int = 50) -> settings:
    """The settings of one test; `steps` is the length of a stateful run."""
    if FACTOR:
        return settings(_LONG, max_examples=count * FACTOR, stateful_step_count=2 * steps)
    return settings(_SHORT, max_examples=count, stateful_step_count=steps)
