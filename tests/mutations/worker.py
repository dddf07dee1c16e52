"""`python -m tests.mutations.worker` with a job on its standard input: one process, one bug, its killers.

The job is a JSON object: `bug` (a name; "" for the product as it is), `scripts` (names), `seeds` (numbers) and `all`
(scripts that see it do not end the job; the first seed that does always ends it). A line of JSON comes out for each
that saw it, and for the end: {"end": true}, or {"error": "..."} where the bug could not be put in.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.mutations.bugs import BUGS
from tests.mutations.patching import DoesNotApply, install


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _run(job: dict[str, Any]) -> None:
    patcher = install(BUGS[job["bug"]].patches) if job["bug"] else None
    from tests.mutations import killers  # it imports the product: after the bug is in

    try:
        killed = False
        for name in job["scripts"]:
            if what := killers.seen_by_script(name):
                _say(script=name, what=what)
                killed = True
                if not job["all"]:
                    break
        if not killed or job["all"]:
            for seed in job["seeds"]:
                if what := killers.seen_by_seed(seed):
                    _say(seed=seed, what=what)
                    break
    except killers.BrokenPatch as error:
        raise DoesNotApply(f"the patched product is broken: {error}") from error
    if patcher is not None:
        patcher.check_reached()


def main() -> int:
    try:
        _run(json.load(sys.stdin))
    except DoesNotApply as error:
        _say(error=str(error))
        return 1
    _say(end=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
