"""A campaign that is stopped goes on where it was, and its report has all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.campaign import Total
from tests.simulation.record import Block, Record, RecordError, missing
from tests.simulation.report import markdown, seeds_of, sum_of

ROOT = Path(__file__).parents[2]


def block(first: int, last: int, events: int = 0) -> Block:
    total = Total(seeds=last - first + 1, hash=first, events=events)
    total.counts.update({"fault: crash": 2, "elections won": 1})
    return Block(first, last, "abc", total)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    assert record.blocks() == []
    written = [block(1, 20, events=5), block(21, 40, events=7)]
    written[1].total.failures[33] = "why\nand how"
    for item in written:
        record.append(item)
    assert record.blocks() == written
    total = sum_of(record.blocks())
    assert (total.seeds, total.events, total.hash, total.failures) == (40, 12, 22, {33: "why\nand how"})
    assert total.counts == {"fault: crash": 4, "elections won": 2}


def test_an_unfinished_line_is_cut_off(tmp_path: Path) -> None:
    record = Record(tmp_path / "record")
    record.append(block(1, 20))
    whole = record.path.read_bytes()
    record.path.write_bytes(whole + whole[: len(whole) // 2])
    assert record.blocks() == [block(1, 20)]
    record.repair()
    assert record.path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{}", b"no json", b'{"first": 1}'])
def test_what_is_no_record_is_told_with_its_line(tmp_path: Path, line: bytes) -> None:
    record = Record(tmp_path / "record")
    record.append(block(1, 20))
    with record.path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(RecordError, match=r"^line 2: "):
        record.blocks()


@pytest.mark.parametrize(
    ("seeds", "done", "expected"),
    [
        (range(1, 6), [], ["1-2", "3-4", "5-5"]),
        (range(1, 6), [(1, 5)], []),
        (range(1, 10), [(3, 4), (7, 7)], ["1-2", "5-6", "8-9"]),
    ],
)
def test_what_is_missing(seeds: range, done: list[tuple[int, int]], expected: list[str]) -> None:
    blocks = missing(seeds, [block(*span) for span in done], 2)
    assert [f"{part[0]}-{part[-1]}" for part in blocks] == expected


def test_the_report_has_the_seeds_and_what_was_not_reached() -> None:
    blocks = [block(21, 40), block(1, 20)]
    assert seeds_of(blocks) == "1-40"
    text = markdown(blocks)
    assert "Seeds 1-40, run by `abc`." in text
    assert "| crash | 4 |" in text
    assert "| pause | 0 |" in text
    assert "Not reached: " in text


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for seeds in ("2", "3"):
        command = [sys.executable, "-m", "tests.simulation", "--seeds", seeds, "--processes", "1"]
        done = subprocess.run([*command, "--record", str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "3/3" in done.stdout or seeds == "2"
    assert [(item.first, item.last) for item in Record(path).blocks()] == [(1, 2), (3, 3)]
    shown = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--report", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "seeds 1-3" in shown.stdout
