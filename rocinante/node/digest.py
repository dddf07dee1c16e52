"""A hash of the whole state after one entry: frozen between two entries, computed on a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from rocinante.errors import RocinanteError
from rocinante.node.applied import point_at
from rocinante.node.apply import Act, Apply
from rocinante.node.requests import WaitingReads
from rocinante.ports import ReadPoint
from rocinante.state.machine import StateMachine


def digest_after(
    state: StateMachine, apply: Apply, waiting: WaitingReads, at_index: int, deadline: float
) -> Future[tuple[int, bytes, int]]:
    """(index, BLAKE2b-256, revision), once `at_index` is applied; `index` is at least that.

    Fails with RocinanteError.
    """
    result: Future[tuple[int, bytes, int]] = Future()

    def freeze() -> None:
        try:
            frozen = state.freeze()
        except RocinanteError as error:
            result.set_exception(error)
            return

        def compute() -> None:
            with frozen:
                result.set_result((frozen.index, frozen.digest(), frozen.revision))

        threading.Thread(target=compute, name="digest", daemon=True).start()

    def reached(point: Future[ReadPoint]) -> None:
        if error := point.exception():
            result.set_exception(error)
        else:
            apply.put(Act(freeze))

    point_at(waiting, lambda: apply.applied, at_index, deadline).add_done_callback(reached)
    return result
