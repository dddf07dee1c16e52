"""rocinante.v1.Flow without Watch: the flow table, by batches or by objects.

An encoded batch is checked strictly, record by record, and goes into the log as it came; objects are encoded here,
once, into one batch. A record given as an object without an update time gets this node's, so that it wins over what
was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from time import monotonic

from rocinante import convert, limits
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowError, check_key, check_records, unpack_record, validate_batch
from rocinante.flows.batch import HEADER, HEADER_BYTES, BatchKind, Buffer
from rocinante.flows.key import KEY_V4_BYTES
from rocinante.flows.packing import columns_of, is_packed, least
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.ports import ReadPoint
from rocinante.services.call import Call, Calls, Handlers
from rocinante.services.leading import leading_end, leading_field
from rocinante.state.command import Kind
from rocinante.state.deletion import EVERY_ORIGIN, Deletion
from rocinante.state.machine import FlowEntry

SERVICE = "rocinante.v1.Flow"
INLINE_BYTES_MAX = 32 * limits.KIB
"""A batch up to this size is checked on the event loop (about 0.3 ms); a larger one on a worker thread, …"""
INLINE_RECORDS_MAX = 2_048
"""… unless it is of a fixed kind and has no more records than this: numpy checks them together (0.2 ms; 0.5 ms where it
is packed and gets its deadlines here), and two hand-overs between threads cost more. Or …"""
INLINE_PACKED_RECORDS_MAX = 32_768
"""… it is packed, states its deadlines, and has no more than this: its columns are checked as they are (0.7 ms)."""
INLINE_FLOWS_MAX = 64
"""So many flows are looked up and turned into messages on the event loop; more on a worker thread."""


class FlowService:
    def __init__(self, calls: Calls, now_ms: Callable[[], int] | None = None) -> None:
        self._calls = calls
        self._node = calls.node
        self._state = calls.node.state
        self._now_ms = now_ms or calls.node.now_ms

    def handlers(self) -> Handlers:
        unary = self._calls.unary
        return {
            f"/{SERVICE}/Put": unary(f"/{SERVICE}/Put", pb.PutFlowsRequest, self.put_flows, leading_end),
            f"/{SERVICE}/Get": unary(f"/{SERVICE}/Get", pb.GetFlowsRequest, self.get_flows),
            f"/{SERVICE}/List": unary(f"/{SERVICE}/List", pb.ListFlowsRequest, self.list_flows),
            f"/{SERVICE}/Delete": unary(f"/{SERVICE}/Delete", pb.DeleteFlowsRequest, self.delete_flows),
            f"/{SERVICE}/WaitApplied": unary(f"/{SERVICE}/WaitApplied", pb.WaitAppliedRequest, self.wait_applied),
        }

    async def put_flows(self, call: Call, request: pb.PutFlowsRequest) -> pb.PutFlowsResponse:
        # What follows the leading batch is in `request`; a second one there would count, as protobuf has it.
        start, end = leading_field(call.raw)
        given = request.batch or memoryview(call.raw)[start:end]
        quick = len(call.raw) <= INLINE_BYTES_MAX or _is_quick(given)
        batch = self._batch(given, request) if quick else await self._calls.offload(self._batch, given, request)
        origin = origin_field(request.origin or self._calls.leader.status().datacenter)
        outcome = await call.propose(Kind.FLOW_PUT, b"".join((origin, batch)))
        return pb.PutFlowsResponse(index=outcome.index, records=_count(outcome.result), leader=self._leader())

    async def get_flows(self, call: Call, request: pb.GetFlowsRequest) -> bytes:
        if request.packed_keys:
            return await self._look_up(call, request)
        keys = [*_keys_of(request.tuples), *_checked_keys(request.keys)]
        _check_count(len(keys))
        point = await call.read(linearizable=linearizable(request.consistency))
        if len(keys) <= INLINE_FLOWS_MAX:
            return self._found(keys, point)
        return await self._calls.offload(self._found, keys, point)

    async def _look_up(self, call: Call, request: pb.GetFlowsRequest) -> bytes:
        """Packed keys, answered in packed form."""
        if request.keys or request.tuples:
            raise InvalidArgument("packed_keys", "give either packed_keys or tuples and keys, not both")
        point = await call.read(linearizable=linearizable(request.consistency))
        if len(request.packed_keys) <= limits.FLOW_LOOKUP_INLINE_KEYS * KEY_V4_BYTES:
            return self._found_packed(request.packed_keys, point)
        return await self._calls.offload(self._found_packed, request.packed_keys, point)

    def _found_packed(self, packed_keys: bytes, point: ReadPoint) -> bytes:
        found, origins, batch, variable = self._state.flows_lookup(packed_keys, self._now_ms())
        packed = pb.PackedFlows(found=found, origins=origins, batch=batch, variable=variable)
        return pb.GetFlowsResponse(
            packed=packed, index=point.index, age_ms=max(0, point.age_ms), leader=self._leader()
        ).SerializeToString()

    async def wait_applied(self, call: Call, request: pb.WaitAppliedRequest) -> pb.WaitAppliedResponse:
        timeout_s = call.timeout_s()
        if request.timeout_ms:
            timeout_s = min(timeout_s, request.timeout_ms / 1000)
        point = await self._calls.bridge.wait(self._calls.node.wait_applied(request.index, timeout_s=timeout_s))
        return pb.WaitAppliedResponse(index=point.index)

    async def list_flows(self, call: Call, request: pb.ListFlowsRequest) -> bytes:
        if request.limit > limits.FLOW_LIST_RECORDS_MAX:
            raise InvalidArgument("limit", f"{request.limit} is more than {limits.FLOW_LIST_RECORDS_MAX}")
        flow_filter = convert.filter_from_message(request.filter)
        limit = request.limit or limits.FLOW_LIST_RECORDS_DEFAULT
        point = await call.read(linearizable=linearizable(request.consistency))
        leader = self._leader()

        def page() -> bytes:
            found = self._state.flows_list(flow_filter, limit, request.cursor, self._now_ms())
            return pb.ListFlowsResponse(
                flows=[flow_message(entry) for entry in found.flows],
                cursor=found.cursor,
                index=max(found.index, point.index),
                age_ms=max(0, point.age_ms),
                leader=leader,
            ).SerializeToString()

        # A filter may look at many records for few that it finds.
        return await self._calls.offload(page)

    async def delete_flows(self, call: Call, request: pb.DeleteFlowsRequest) -> pb.DeleteFlowsResponse:
        origin = request.origin or self._calls.leader.status().datacenter
        if origin == EVERY_ORIGIN:
            origin = ""
        if request.HasField("filter") or request.all or request.cursor:
            return await self._delete_where(call, request, origin)
        keys = [*_keys_of(request.tuples), *_checked_keys(request.keys)]
        _check_count(len(keys))
        parts = [origin_field(origin), len(keys).to_bytes(4)]
        parts.extend(bytes((len(key),)) + key for key in keys)
        outcome = await call.propose(Kind.FLOW_DELETE, b"".join(parts))
        return pb.DeleteFlowsResponse(index=outcome.index, deleted=_count(outcome.result), leader=self._leader())

    async def _delete_where(self, call: Call, request: pb.DeleteFlowsRequest, origin: str) -> pb.DeleteFlowsResponse:
        """As many steps as fit the time, one command after the other, each applied before the next."""
        if request.tuples or request.keys:
            raise InvalidArgument("filter", "give either a filter or tuples and keys, not both")
        if request.filter.origin:
            raise InvalidArgument("filter.origin", "name it in the request's own field origin")
        asked = replace(convert.filter_from_message(request.filter), origin=origin)
        if replace(asked, origin="").is_empty and not (request.all or request.origin):
            raise InvalidArgument("filter", "has no condition: that would be all flows; say so with `all`")
        origin_field(origin)
        point = await call.read(linearizable=True)
        deletion = Deletion(self._state, asked, request.cursor)
        until_s = monotonic() + min(limits.FLOW_DELETE_CALL_S, call.timeout_s() / 2)
        while not deletion.complete:
            body = await self._calls.offload(deletion.step)
            if body is not None:
                outcome = await call.propose_again(Kind.FLOW_DELETE_WHERE, body)
                deletion.took(outcome.index, outcome.result)
            if monotonic() > until_s:
                break
        return pb.DeleteFlowsResponse(
            index=max(point.index, deletion.index),
            deleted=deletion.deleted,
            leader=self._leader(),
            cursor=deletion.cursor,
            looked_at=deletion.looked_at,
            places=self._state.flows_rows(origin),
        )

    def _batch(self, batch: Buffer, request: pb.PutFlowsRequest) -> Buffer:
        if batch and request.flows:
            raise InvalidArgument("flows", "give either a batch or flows, not both")
        if not batch:
            records = convert.records_from_messages(request.flows)
            now_ms = self._now_ms()
            for record in records:
                record.updated_ms = record.updated_ms or now_ms
            return self._node.prepare_flows(convert.encode_put(records))
        check_batch(batch)
        return self._node.prepare_flows(batch)

    def _found(self, keys: list[bytes], point: ReadPoint) -> bytes:
        entries = self._state.flows_get(keys, self._now_ms())
        results = [
            pb.GetFlowsResponse.Found(found=entry is not None, flow=flow_message(entry) if entry else None)
            for entry in entries
        ]
        return pb.GetFlowsResponse(
            results=results, index=point.index, age_ms=max(0, point.age_ms), leader=self._leader()
        ).SerializeToString()

    def _leader(self) -> int:
        return self._calls.leader.status().leader


def linearizable(consistency: pb.Consistency) -> bool:
    """Raises InvalidArgument for a number that is none of ours: whoever sent it wanted something that this node
    does not know."""
    if consistency not in (pb.LINEARIZABLE, pb.STALE):
        raise InvalidArgument("consistency", f"{consistency} is neither LINEARIZABLE (0) nor STALE (1)")
    return consistency == pb.LINEARIZABLE


def check_batch(batch: Buffer) -> None:
    """Strictly: header, sizes, and every record; of a packed batch what it stands for. Raises InvalidArgument that
    names the record and the field."""
    try:
        bounds = {"records_max": limits.FLOW_BATCH_RECORDS_MAX, "bytes_max": limits.FLOW_BATCH_BYTES_MAX}
        columns = columns_of(batch, **bounds)
        if columns is not None and not columns.has_suspects():
            return
        fixed = batch if columns is None else columns.batch()
        check_records(
            fixed,
            validate_batch(fixed, **bounds),
            backend_name_bytes_max=limits.FLOW_BACKEND_NAME_BYTES_MAX,
            application_data_bytes_max=limits.FLOW_APPLICATION_DATA_BYTES_MAX,
        )
    except FlowError as error:
        raise convert.invalid(error, "batch" if error.index >= 0 else "") from None


def _is_quick(batch: Buffer) -> bool:
    """Whether checking this takes little, by what its header says; with more records than it says it is refused."""
    if len(batch) < HEADER_BYTES:
        return False
    _magic, _version, kind, _reserved, count = HEADER.unpack_from(batch)
    if kind == BatchKind.VARIABLE or count > INLINE_PACKED_RECORDS_MAX:
        return False
    return bool(count <= INLINE_RECORDS_MAX or (is_packed(batch) and _states_deadlines(batch)))


def _states_deadlines(batch: Buffer) -> bool:
    try:
        return least(batch, "deadline_ms") > 0
    except FlowError:
        return True  # it is refused


def flow_message(entry: FlowEntry) -> pb.FlowRecord:
    return convert.record_to_message(unpack_record(entry.key, entry.value), entry.origin)


def origin_field(origin: str) -> bytes:
    """`u8 length | origin`, as a command's body has it (state/command.py). Raises InvalidArgument."""
    encoded = origin.encode()
    if len(encoded) > limits.FLOW_ORIGIN_BYTES_MAX:
        raise InvalidArgument("origin", f"{len(encoded)} bytes; at most {limits.FLOW_ORIGIN_BYTES_MAX}")
    return bytes((len(encoded),)) + encoded


def _keys_of(tuples: Iterable[pb.Tuple]) -> list[bytes]:
    keys: list[bytes] = []
    for index, message in enumerate(tuples):
        try:
            keys.append(convert.tuple_from_message(message).key())
        except FlowError as error:
            raise convert.invalid(error.at(index), "tuples") from None
    return keys


def _checked_keys(keys: Sequence[bytes]) -> Sequence[bytes]:
    for index, key in enumerate(keys):
        try:
            check_key(key)
        except FlowError as error:
            raise InvalidArgument(f"keys[{index}]", error.problem) from None
    return keys


def _check_count(count: int) -> None:
    if not 1 <= count <= limits.FLOW_GET_KEYS_MAX:
        raise InvalidArgument("tuples", f"{count} tuples and keys; expected 1 to {limits.FLOW_GET_KEYS_MAX}")


def _count(result: object) -> int:
    if not isinstance(result, int):
        raise TypeError(f"a flow command answered {result!r}")
    return result
