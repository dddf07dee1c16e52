"""`GET /v1/snapshot` gives the file that `rocinante snapshot` verifies and restores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rocinante import limits
from rocinante.errors import StorageError
from rocinante.ports import SnapshotInfo
from rocinante.snapshot_file import HEADER_BYTES, read_content, read_header
from rocinante.state.machine import StateMachine
from tests.rest.conftest import NO_TLS, Rest


def test_what_is_downloaded_is_a_saved_snapshot(rest: Rest, tmp_path: Path) -> None:
    rest.json("PUT", "/v1/kv/k", content=b"1")
    answer = rest.http.get("/v1/snapshot")
    assert answer.status_code == 200
    file = tmp_path / "a.snap"
    file.write_bytes(answer.content)
    saved = read_header(file)
    assert (saved.cluster, saved.datacenter, saved.lineage) == ("test", "dc1", "")
    assert saved.bytes == int(answer.headers["content-length"]) - HEADER_BYTES
    assert saved.index == int(answer.headers["rocinante-index"])
    assert abs(saved.taken_ms - time.time() * 1000) < 60_000
    state = StateMachine()
    assert state.restore(read_content(file, saved)) == (saved.index, saved.term)
    assert state.keys_count() == 1
    assert answer.headers["content-disposition"] == f'attachment; filename="test-{saved.index}.snap"'


def test_a_download_that_breaks_off_is_seen(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rest.node.save

    def broken() -> tuple[SnapshotInfo, Iterator[bytes]]:
        info, chunks = whole()

        def some() -> Iterator[bytes]:
            yield next(chunks)[:10]
            raise StorageError("the disk fails")

        return info, some()

    monkeypatch.setattr(rest.node, "save", broken)
    with pytest.raises(httpx.RemoteProtocolError, match=r"closed connection without sending complete"):
        rest.http.get("/v1/snapshot")
    monkeypatch.undo()
    assert rest.http.get("/v1/snapshot").status_code == 200


def test_head_takes_no_snapshot(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest.node, "save", lambda: pytest.fail("a snapshot was taken"))
    assert rest.http.head("/v1/snapshot").status_code == 200


def test_downloads_are_bounded_and_give_their_place_back(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rest.node.save

    def large() -> tuple[SnapshotInfo, Iterator[bytes]]:
        info, _ = whole()
        size = 64 * limits.MIB
        return info._replace(size_bytes=size), iter([bytes(limits.MIB)] * 64)

    monkeypatch.setattr(rest.node, "save", large)
    with httpx.Client(base_url=rest.http.base_url, timeout=30, verify=NO_TLS) as http:
        held = [http.send(http.build_request("GET", "/v1/snapshot"), stream=True) for _ in range(16)]
        assert "event streams are open on this node" in rest.error("GET", "/v1/snapshot", 429)
        assert rest.http.get("/livez").status_code == 200
        for answer in held:
            answer.close()
    monkeypatch.undo()
    deadline = time.monotonic() + 30
    while rest.http.get("/v1/snapshot").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
