"""Wrong cluster files by way of the command: exit status 2, every line names the file, never a stack; and bounded time
for files that were made to take long."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from rocinante.cli.main import run
from rocinante.limits import CONFIG_FILE_BYTES_MAX
from tests.fuzz.runs import examples
from tests.fuzz.strategies import hostile
from tests.fuzz.targets.config import BOMB, SECONDS_MAX, SHORT, one_config, seeds

ROOM = CONFIG_FILE_BYTES_MAX - 100
BOMBS: dict[str, bytes] = {
    "lists in lists": b"[" * ROOM,
    "lists in lists, a line each": b"[\n" * (ROOM // 2),
    "mappings in mappings": b"{a: " * (ROOM // 4),
    "mappings in mappings by indentation": b"".join(b" " * n + b"a:\n" for n in range(700)),
    "aliases of aliases": BOMB,
    "an alias of itself": b"artifact: &a\n  cluster: *a\n",
    "many anchors": b"".join(b"k%d: &a%d x\n" % (n, n) for n in range(12_000)),
    "one key, many times": b"artifact: 1\n" * (ROOM // 12),
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(20_000)),
    "one long word": b"artifact: " + b"x" * ROOM,
    "one long number": b"artifact: {cluster: {timers: {tickMs: " + b"9" * ROOM + b"}}}",
    "a long quotation that does not end": b'artifact: "' + b"\\x41" * (ROOM // 4),
    "explicit keys": b"? " * (ROOM // 2),
    "dashes": b"- " * (ROOM // 2),
    "tags": b"artifact: " + b"!!python/name:os.system " * (ROOM // 24),
    "comments": b"#\n" * (ROOM // 2),
    "NUL": bytes(ROOM),
    "no UTF-8": b"\xff\xfe" * (ROOM // 2),
    "controllers": SHORT + b"      - {address: 1.2.3.4, port: 1, rest: 2}\n" * 5000,
    "too large": b"#" * (CONFIG_FILE_BYTES_MAX + 1),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_file_made_to_take_long_takes_a_bounded_time(content: bytes) -> None:
    began = time.process_time()
    one_config(content)
    assert time.process_time() - began < SECONDS_MAX


def test_the_command_says_it_in_lines_and_ends_with_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cluster.yaml"

    @settings(examples(40))
    @given(content=hostile(seeds()))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        status = run(["config", "check", str(path)])
        out, err = capfd.readouterr()
        assert status in (0, 2)
        assert "Traceback" not in out + err
        if status == 2:
            assert err.startswith("rocinante: "), err
            assert str(path) in err
        assert run(["config", "check", str(path), "-o", "json"]) == status
        out, _ = capfd.readouterr()
        assert json.loads(out)["valid"] == (status == 0)

    check()


@pytest.mark.parametrize("content", [seeds()[3], seeds()[7], b"\0", b"artifact: {cluster: {name: 5}}"])
def test_a_node_does_not_start_from_a_wrong_file(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    assert run(["node", "--config", str(path)]) == 2
    out, err = capfd.readouterr()
    assert str(path) in err
    assert "Traceback" not in out + err
    assert [each.name for each in tmp_path.iterdir()] == ["cluster.yaml"]
