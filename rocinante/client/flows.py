"""`client.flows`: the flow table. The unit is the batch; a batch is one log entry, sent and kept as it was encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from rocinante.client.connection import Connection
from rocinante.client.flow_lookup import FlowsFound, pack_keys
from rocinante.client.flow_messages import FlowSelection, entry_from_pb, key_of, selection_to_pb
from rocinante.client.flow_watch import FlowWatch
from rocinante.client.stubs import flow
from rocinante.client.types import DeleteFlowsResult, FlowEntry, FlowPage, PutFlowsResult
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowColumns, FlowError, FlowRecord, FlowTuple, encode_batch, validate_batch
from rocinante.limits import (
    CLIENT_LIST_PAGE_RECORDS,
    FLOW_BATCH_BYTES_MAX,
    FLOW_BATCH_RECORDS_MAX,
    FLOW_DELETE_KEYS_MAX,
    FLOW_LIST_RECORDS_MAX,
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
            validate_batch(flows, records_max=FLOW_BATCH_RECORDS_MAX, bytes_max=FLOW_BATCH_BYTES_MAX)
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
