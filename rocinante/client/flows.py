"""`client.flows`: the flow table. The unit is the batch; a batch is one log entry, sent and kept as it was encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from rocinante.client.connection import Connection
from rocinante.client.flow_lookup import FlowsFound, pack_keys
from rocinante.client.flow_messages import FlowSelection, entry_from_pb, key_of, selection_to_pb
from rocinante.client.flow_reports import BatchReport
from rocinante.client.flow_watch import FlowWatch
from rocinante.client.flow_writer import FlowWriter
from rocinante.client.stubs import flow
from rocinante.client.types import DeleteFlowsResult, DeleteProgress, FlowEntry, FlowPage, PutFlowsResult
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowColumns, FlowError, FlowRecord, FlowTuple, encode_batch, unpacked, validate_batch
from rocinante.limits import (
    CLIENT_LIST_PAGE_RECORDS,
    FLOW_BATCH_BYTES_MAX,
    FLOW_BATCH_RECORDS_MAX,
    FLOW_DELETE_KEYS_MAX,
    FLOW_LIST_RECORDS_MAX,
    WRITER_BATCH_BYTES,
    WRITER_BATCH_RECORDS,
    WRITER_BYTES_MAX,
    WRITER_IN_FLIGHT,
    WRITER_LINGER_S,
    WRITER_RECORDS_MAX,
)
from rocinante.pb.v1 import flow_pb2

__all__ = ["Flows", "encode_batches"]

Flow = FlowTuple | FlowRecord | bytes | str
"""How a flow is named: its tuple in either direction, a record of it, its packed key, or its id in hex."""


def encode_batches(flows: Iterable[FlowRecord] | bytes) -> list[bytes]:
    """Records as batches within the cluster's bounds; what is encoded already is checked and taken as it is. Raises
    InvalidArgument."""
    try:
        if isinstance(flows, bytes):
            bounds = {"records_max": FLOW_BATCH_RECORDS_MAX, "bytes_max": FLOW_BATCH_BYTES_MAX}
            validate_batch(unpacked(flows, **bounds), **bounds)
            return [flows]
        return encode_batch(flows, records_max=FLOW_BATCH_RECORDS_MAX, bytes_max=FLOW_BATCH_BYTES_MAX)
    except FlowError as error:
        where = f"flows[{error.index}].{error.field}" if error.index >= 0 else error.field
        raise InvalidArgument(where, error.problem) from None


class Flows:
    """The flows of one cluster. Reads are linearizable; `stale` reads are answered from the asked node's own table."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(
        self, flows: Iterable[FlowRecord] | bytes, *, origin: str = "", timeout_s: float | None = None
    ) -> PutFlowsResult:
        """Write records, or one batch that is encoded already (docs/flow-format.md). `origin`: "" is the cluster's own
        datacenter.

        Records of different kinds (IPv4, IPv6, with names or data) become several batches, each applied as a whole and
        once; when one fails, those before it are there. No records: nothing happens. Raises InvalidArgument naming the
        record, OutcomeUnknown, Unavailable, ResourceExhausted.
        """
        records = index = 0
        deadline = self._connection.caller.deadline(timeout_s)
        for batch in encode_batches(flows):
            request = flow_pb2.PutFlowsRequest(batch=batch, origin=origin)
            answer = self._connection.write(flow.PUT, request, max(0.001, deadline.remaining_s()))
            records, index = records + answer.records, answer.index
        return PutFlowsResult(records, index)

    def get(
        self, flows: Iterable[Flow], *, stale: bool = False, timeout_s: float | None = None
    ) -> tuple[FlowEntry | None, ...]:
        """Each flow, in the order asked, None where there is none. Of several origins the newest record counts."""
        keys = [key_of(one, f"flows[{number}]") for number, one in enumerate(flows)]
        request = flow_pb2.GetFlowsRequest(keys=keys, consistency=_consistency(stale))
        answer = self._connection.read(flow.GET, request, timeout_s)
        return tuple(entry_from_pb(result.flow) if result.found else None for result in answer.results)

    def get_many(
        self,
        flows: bytes | FlowColumns | Iterable[Flow],
        *,
        stale: bool = False,
        endpoint: str | None = None,
        timeout_s: float | None = None,
    ) -> FlowsFound:
        """Many flows of one address family at once, at most FLOW_LOOKUP_KEYS_MAX: packed keys one behind the other,
        columns of their tuples, or as for `get`. The answer is read as columns or as objects, when it is needed.

        `endpoint`: ask this node (HOST:PORT) and no other. Raises InvalidArgument, Unavailable.
        """
        packed = pack_keys(flows)
        if not packed:
            return FlowsFound(flow_pb2.PackedFlows(), 0, 0)
        request = flow_pb2.GetFlowsRequest(packed_keys=packed, consistency=_consistency(stale))
        if endpoint is None:
            answer = self._connection.read(flow.GET, request, timeout_s)
        else:
            answer = self._connection.ask(flow.GET, request, self._connection.only(endpoint), timeout_s)
        return FlowsFound(answer.packed, answer.index, answer.age_ms)

    def get_columns(
        self,
        flows: bytes | FlowColumns | Iterable[Flow],
        *,
        stale: bool = False,
        endpoint: str | None = None,
        timeout_s: float | None = None,
    ) -> tuple[NDArray[np.intp], FlowColumns | None]:
        """`get_many` as (numbers of the flows that were found, their columns in that order; None: none was found).
        Flows with a backend's name or application data are left out."""
        answer = self.get_many(flows, stale=stale, endpoint=endpoint, timeout_s=timeout_s)
        return answer.rows, answer.columns()

    def page(
        self,
        selection: FlowSelection | None = None,
        *,
        limit: int = CLIENT_LIST_PAGE_RECORDS,
        cursor: bytes = b"",
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> FlowPage:
        """Some flows, and the cursor for those that follow."""
        if not 1 <= limit <= FLOW_LIST_RECORDS_MAX:
            raise InvalidArgument("limit", f"is {limit}, must be from 1 to {FLOW_LIST_RECORDS_MAX}")
        request = flow_pb2.ListFlowsRequest(
            filter=selection_to_pb(selection), limit=limit, cursor=cursor, consistency=_consistency(stale)
        )
        answer = self._connection.read(flow.LIST, request, timeout_s)
        return FlowPage(tuple(map(entry_from_pb, answer.flows)), answer.cursor, answer.index, answer.age_ms)

    def list(
        self,
        selection: FlowSelection | None = None,
        *,
        page: int = CLIENT_LIST_PAGE_RECORDS,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[FlowEntry]:
        """All flows that are meant, asked for by pages. What is written meanwhile may or may not be seen. `timeout_s`
        bounds each page."""
        cursor = b""
        while True:
            found = self.page(selection, limit=page, cursor=cursor, stale=stale, timeout_s=timeout_s)
            yield from found.flows
            cursor = found.cursor
            if not cursor:
                return

    def writer(
        self,
        *,
        origin: str = "",
        batch_records: int = WRITER_BATCH_RECORDS,
        batch_bytes: int = WRITER_BATCH_BYTES,
        linger_s: float = WRITER_LINGER_S,
        in_flight: int = WRITER_IN_FLIGHT,
        records_max: int = WRITER_RECORDS_MAX,
        bytes_max: int = WRITER_BYTES_MAX,
        when_full: str = "block",
        timeout_s: float | None = None,
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> FlowWriter:
        """A writer for a stream of updates: collects, batches, keeps several batches on their way (see
        client/flow_writer.py). Close it before the client.

        `batch_records`, `batch_bytes`: when a batch is full. `linger_s`: how long it waits to become so while another
        one is on its way. `in_flight`: batches on their way at a time. `records_max`, `bytes_max`: what it holds at
        most; `when_full`: "block" or "raise". `timeout_s`: a batch with all its tries. `on_batch` is told of each
        batch, in the writer's thread: it must be short and not raise.
        """
        return FlowWriter(
            self._connection,
            origin=origin,
            batch_records=batch_records,
            batch_bytes=batch_bytes,
            linger_s=linger_s,
            in_flight=in_flight,
            records_max=records_max,
            bytes_max=bytes_max,
            when_full=when_full,
            timeout_s=timeout_s,
            on_batch=on_batch,
        )

    def delete(self, flows: Iterable[Flow], *, origin: str = "", timeout_s: float | None = None) -> DeleteFlowsResult:
        """Delete flows of an origin; those that are not there are not counted."""
        keys = [key_of(one, f"flows[{number}]") for number, one in enumerate(flows)]
        deleted = index = 0
        deadline = self._connection.caller.deadline(timeout_s)
        for at in range(0, len(keys), FLOW_DELETE_KEYS_MAX):
            request = flow_pb2.DeleteFlowsRequest(keys=keys[at : at + FLOW_DELETE_KEYS_MAX], origin=origin)
            answer = self._connection.write(flow.DELETE, request, max(0.001, deadline.remaining_s()))
            deleted, index = deleted + answer.deleted, answer.index
        return DeleteFlowsResult(deleted, index)

    def delete_where(
        self,
        selection: FlowSelection | None = None,
        *,
        origin: str = "",
        everything: bool = False,
        on_progress: Callable[[DeleteProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> DeleteFlowsResult:
        """Delete all flows of an origin ("": the cluster's own datacenter, "*": every one) that are meant.

        It is done in several calls, each bounded by `timeout_s`; `on_progress` is told after each. What is written
        meanwhile may or may not be deleted. Where a call has to be made again, what it deleted before is not counted
        again. Without any condition (and origin) it needs `everything`. Raises InvalidArgument, Unavailable.
        """
        if selection is not None and selection.origin:
            raise InvalidArgument("selection.origin", "is given by `origin`")
        asked = selection_to_pb(selection) or flow_pb2.FlowFilter()
        request = flow_pb2.DeleteFlowsRequest(filter=asked, origin=origin, all=everything)
        deleted = index = looked_at = 0
        while True:
            answer = self._connection.read(flow.DELETE, request, timeout_s)
            deleted, index = deleted + answer.deleted, max(index, answer.index)
            looked_at += answer.looked_at
            if on_progress is not None:
                on_progress(DeleteProgress(deleted, looked_at, answer.places))
            if not answer.cursor:
                return DeleteFlowsResult(deleted, index)
            request.cursor = answer.cursor

    def watch(
        self,
        selection: FlowSelection | None = None,
        *,
        from_index: int = 0,
        snapshot: bool = False,
        batches: bool = False,
    ) -> FlowWatch:
        """Changes after the log index `from_index` (0: from now on), as an iterator that goes on over the death of
        nodes.

        `snapshot`: first the table as it is. A watch with `snapshot` that falls behind gets the table again (an event
        RESET says so); one without ends with OutOfRange. `batches`: puts come as they were written, encoded. See
        client/flow_watch.py.
        """
        return FlowWatch(
            self._connection,
            selection_to_pb(selection),
            from_index=from_index,
            snapshot=snapshot,
            batches=batches,
        )


def _consistency(stale: bool) -> flow_pb2.Consistency:
    return flow_pb2.STALE if stale else flow_pb2.LINEARIZABLE
