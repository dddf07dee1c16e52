"""`GET /v1/snapshot`: the whole state as a file, the one that `rocinante snapshot save` writes.

Its length is announced, so that a client sees when the end is missing (curl: exit status 18), and its digest is in
its header: `rocinante snapshot verify` checks it. A download takes the place of an event stream, not of a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from rocinante.rest.context import RestContext
from rocinante.rest.http import Reply, Request
from rocinante.snapshot_file import HEADER_BYTES, SavedSnapshot, encode_header

CONTENT_TYPE: Final = "application/octet-stream"


def get_snapshot(context: RestContext, request: Request) -> Reply:
    """Take a snapshot now, and send it."""
    request.query.finish()
    if request.method == "HEAD":
        return Reply(b"", content_type=CONTENT_TYPE)
    give_back = context.take_stream(lambda: None)
    try:
        info, chunks = context.node.save()
    except BaseException:
        give_back()
        raise
    status = context.node.status()
    header = encode_header(
        SavedSnapshot(
            status.cluster,
            status.datacenter,
            info.index,
            info.term,
            info.size_bytes,
            info.digest.hex(),
            status.lineage,
            time.time_ns() // 1_000_000,
        )
    )
    headers = {
        "Content-Length": str(HEADER_BYTES + info.size_bytes),
        "Content-Disposition": f'attachment; filename="{status.cluster}-{info.index}.snap"',
    }
    return Reply(Download(header, chunks, give_back), content_type=CONTENT_TYPE, headers=headers, index=info.index)


class Download:
    """The file in chunks, for one reader; `close` gives its place back."""

    def __init__(self, header: bytes, chunks: Iterator[bytes], give_back: Callable[[], None]) -> None:
        self._header, self._content, self._give_back = header, chunks, give_back
        self._chunks: Generator[bytes, None, None] = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def _run(self) -> Generator[bytes, None, None]:
        yield self._header
        yield from self._content

    def close(self) -> None:
        self._chunks.close()
        close = getattr(self._content, "close", None)
        if close is not None:
            close()
        self._give_back()
