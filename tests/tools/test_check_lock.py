"""The lock check sees what is wrong with a lock."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from tests.tools.check_lock import check, problems_of, read_lock

GOOD = """\
alpha==1.2 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via rocinante (pyproject.toml)
beta==0.1 ; python_full_version < '3.12' \\
    --hash=sha256:cc
    # via alpha
"""


@pytest.mark.parametrize(
    ("lock", "wanted", "problem"),
    [
        (GOOD, ["alpha"], ""),
        (GOOD, ["alpha>=1", "beta"], ""),
        (GOOD, ["alpha", "gamma"], "gamma is not locked"),
        (GOOD, ["alpha>=2"], "alpha==1.2 is locked, pyproject.toml wants alpha>=2"),
        (GOOD, ["beta"], "alpha is locked for pyproject.toml, which does not name it"),
        (GOOD + "delta==1\n    # via alpha\n", ["alpha"], "delta==1 has no hash"),
        ("--index-url https://example.invalid/\n" + GOOD, ["alpha"], "unexpected line 1"),
        (GOOD + "epsilon @ file:///somewhere\n", ["alpha"], "unexpected line 8"),
    ],
)
def test_problems_are_seen(lock: str, wanted: list[str], problem: str) -> None:
    requirements = {requirement.name: requirement for requirement in map(Requirement, wanted)}
    found = "\n".join(problems_of(read_lock(lock), requirements))
    assert (problem in found) if problem else not found


def test_the_lock_files_fit() -> None:
    assert not check()
