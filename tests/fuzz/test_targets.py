"""Every decoder with valid bytes, with the inputs that once failed, and with mutations of both."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from tests.fuzz.runs import examples
from tests.fuzz.strategies import hostile
from tests.fuzz.targets import CORPUS, Target, kept
from tests.fuzz.targets.all import TARGETS


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A node that is fed garbage says so in its log, a thousand times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_valid_data_and_what_once_failed(target: Target) -> None:
    seeds = target.seeds()
    assert seeds
    assert max(map(len, seeds)) <= target.bytes_max, "atheris would cut it off"
    for data in (*seeds, *(path.read_bytes() for path in kept(target))):
        target.one(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_mutations_and_noise(target: Target) -> None:
    seeds = [*target.seeds(), *(path.read_bytes() for path in kept(target))]

    @settings(examples(target.examples))
    @given(data=hostile(seeds, bytes_max=target.bytes_max))
    def run(data: bytes) -> None:
        target.one(data)

    run()


def test_the_corpus_belongs_to_targets() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)


def test_a_target_that_fails_is_seen() -> None:
    """The check of the check: a decoder with a bug of its own, three bytes deep, is found by what tests the others."""

    def one(data: bytes) -> None:
        if data[:3] == b"RFB" and b"\xff" in data:
            raise IndexError

    target = Target("example", one, lambda: [b"RFB1 and more"])
    with pytest.raises(IndexError):
        test_mutations_and_noise(target)
