"""One target under atheris, in a process of its own:
`python -m tests.fuzz.coverage_run MODULE TARGET -libFuzzer-options DIRECTORY…`.

atheris rewrites modules while they are imported, so that it sees which branches an input takes. That takes its time, so
only the module of `targets/` that has the target is imported, and what that needs. libFuzzer ends the process itself:
77 after an exception, whose input it saves.
"""

from __future__ import annotations

import importlib
import logging
import sys

import atheris

from tests.fuzz.targets import Target


def main() -> None:
    module, name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["rocinante", "dpkt"], enable_loader_override=False):
        targets: list[Target] = importlib.import_module(module).TARGETS
    logging.disable(logging.CRITICAL)
    one = next(target.one for target in targets if target.name == name)

    def test_one_input(data: bytes) -> None:
        one(bytes(data))

    atheris.Setup([sys.argv[0], *options], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
