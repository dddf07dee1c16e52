"""Each bug of `bugs.py` is put in, and seen by who saw it when `table.md` was recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutations import killers, patching
from tests.mutations.bug import is_test
from tests.mutations.bugs import BUGS
from tests.mutations.jobs import Job, Sight, run_jobs
from tests.mutations.patching import DoesNotApply, Patch, install, patched
from tests.mutations.record import Row, read, write
from tests.raft.playing import FILES

BUGS_MIN = 40
SEEDS_MAX = 40
"""Where a recorded seed sees its bug no more (the simulator has changed): the first so many are tried."""

AGAIN = "record them again: make mutations"


def test_every_patch_applies() -> None:
    """Each to the product of today, once: else it would not be the bug that its name says."""
    for bug in BUGS.values():
        assert patched(bug.patches), bug.name


def test_every_bug_is_recorded_and_was_seen() -> None:
    rows = read()
    assert list(rows) == list(BUGS), f"other bugs than those in the table; {AGAIN}"
    for name, row in rows.items():
        assert (row.source, row.script) == (BUGS[name].source, BUGS[name].script), f"{name}: {AGAIN}"
        assert row.script or row.seed, f"{name}: nobody sees it"
        assert not row.script or row.script in FILES or is_test(BUGS[name])
    assert len(rows) >= BUGS_MIN


@pytest.mark.timeout(600)
def test_every_bug_is_seen_and_without_it_all_is_green() -> None:
    rows = read()
    jobs = [_recorded(rows[name]) for name in BUGS]
    seeds = sorted({seed for job in jobs for seed in job.seeds})
    sights = dict(zip([*BUGS, ""], run_jobs([*jobs, Job("", seeds=seeds)]), strict=True))
    green = sights.pop("")
    assert not green.error, green.error
    assert not green.seen, f"seed {green.seed} fails without any bug: {green.what}"
    broken = {name: sight.error for name, sight in sights.items() if sight.error}
    assert not broken, broken
    unseen = [name for name, sight in sights.items() if not sight.seen]
    by_script = [name for name in unseen if rows[name].script]
    assert not by_script, f"the script that claims the point no longer sees these: {by_script}"
    _look_on(unseen)


def _recorded(row: Row) -> Job:
    """The quickest proof: the script where there is one, else the seed."""
    return Job(row.bug, (row.script,)) if row.script else Job(row.bug, seeds=(row.seed,))


def _look_on(names: list[str]) -> None:
    sights: list[Sight] = list(run_jobs([Job(name, seeds=range(1, SEEDS_MAX + 1)) for name in names]))
    lost = [name for name, sight in zip(names, sights, strict=True) if not sight.seen]
    assert not lost, f"the simulator no longer sees these within {SEEDS_MAX} seeds: {lost}; {AGAIN}"
    if names:
        warnings.warn(f"other seeds than the recorded ones see {names}; {AGAIN}", stacklevel=2)


# --- the tool itself


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (Patch("raft/quorum.py", "no such text", ""), "found it 0 times"),
        (Patch("raft/quorum.py", "return", ""), "expected this text once"),
        (Patch("raft/nothing.py", "a", "b"), "no such file"),
        (Patch("raft/quorum.py", "needed = size // 2 + 1", "needed = size // 2 + 1"), "changes nothing"),
        (Patch("raft/quorum.py", "needed = size // 2 + 1", "needed = ("), "no Python any more"),
    ],
)
def test_a_patch_that_does_not_apply_is_an_error(patch: Patch, why: str) -> None:
    with pytest.raises(DoesNotApply, match=why):
        patched([patch])


def test_what_is_imported_already_cannot_be_changed() -> None:
    with pytest.raises(DoesNotApply, match=r"rocinante\.raft\.quorum is imported already"):
        install([Patch("raft/quorum.py", "needed = size // 2 + 1", "needed = 1")])


def test_what_is_never_imported_was_never_there() -> None:
    text = patched([Patch("raft/quorum.py", "needed = size // 2 + 1", "needed = 1")])
    with pytest.raises(DoesNotApply, match=r"never imported: quorum\.py"):
        patching.Patcher(text).check_reached()


def test_a_worker_that_does_not_end_well_is_no_sight() -> None:
    [sight] = run_jobs([Job("a bug that there is not")])
    assert not sight.seen
    assert "KeyError" in sight.error


def test_a_name_that_is_not_there_is_a_broken_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(_path: Path) -> str:
        try:
            return nonsense  # type: ignore[name-defined,no-any-return]
        except NameError as error:
            raise AssertionError("what the harness makes of it") from error

    monkeypatch.setattr(killers, "play", play)
    with pytest.raises(killers.BrokenPatch, match="nonsense"):
        killers.seen_by_script("tables/vote")


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (lambda path: path.read_text(), ""),
        (lambda path: path.read_text().replace("=> won", "=> lost", 1), "- vote ()"),
    ],
)
def test_another_outcome_is_a_sight(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Path], str], seen: str) -> None:
    monkeypatch.setattr(killers, "play", outcome)
    assert killers.seen_by_script("tables/vote").startswith(seen)
    assert bool(killers.seen_by_script("tables/vote")) is bool(seen)


def test_what_does_not_end_is_a_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(_path: Path) -> str:
        while True:
            pass

    monkeypatch.setattr(killers, "play", play)
    monkeypatch.setattr(killers, "SCRIPT_S_MAX", 1)
    assert killers.seen_by_script("tables/vote") == "no end after 1 s"


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        Row("a bug", "somebody #1", "tables/vote", 3, 0, ""),
        Row("another", "paper, 5.2", "", 0, 17, "two leaders in term 3"),
    ]
    path = tmp_path / "table.md"
    write(rows, seeds_max=20, tree="abc", path=path)
    assert list(read(path).values()) == rows
    assert "median 17" in path.read_text()
    path.write_text("| a | b |\n")
    with pytest.raises(ValueError, match="columns"):
        read(path)
