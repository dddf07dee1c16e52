"""Waiting until this node's own state has a log index: nobody looks again and again, applying completes the wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from rocinante import limits
from rocinante.errors import ResourceExhausted
from rocinante.node.requests import Read, WaitingReads
from rocinante.ports import ReadPoint


def point_at(waiting: WaitingReads, applied: Callable[[], int], index: int, deadline: float) -> Future[ReadPoint]:
    """Done when `index` is applied here, with what is applied then; fails with Unavailable at `deadline`
    (time.monotonic()).

    Raises ResourceExhausted when APPLIED_WAITS_MAX wait already.
    """
    if len(waiting) >= limits.APPLIED_WAITS_MAX:
        raise ResourceExhausted(f"{limits.APPLIED_WAITS_MAX} requests wait for an index already; try again later")
    read = Read(deadline, Future())
    due = waiting.add(index, [read], applied())
    if not due and (now_applied := applied()) >= index:
        due = waiting.applied(now_applied)  # it came there between the look and the add
    for ready in due:
        if not ready.future.done():
            ready.future.set_result(ReadPoint(applied(), 0))
    return read.future
