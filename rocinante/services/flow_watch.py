"""rocinante.v1.Flow/Watch: the flow table's changes in log order, from an index on, or after the table itself.

With `snapshot` the node's watch is opened before the table is read, at the index that SNAPSHOT and SNAPSHOT_DONE
name: what follows are all changes after it, in order. The table is read in pages while writes go on, so a page may
be newer than that index; the changes that follow bring everything to the same end.

Backpressure as in `watch.py`: while the client does not read, the node's bounded queue fills; when it overflows the
stream ends with FELL_BEHIND.
"""

from __future__ import annotations

from rocinante import convert, limits
from rocinante.errors import OutOfRange
from rocinante.pb.v1 import flow_pb2 as pb
from rocinante.ports import Watch
from rocinante.services.call import Call, Calls, Handlers
from rocinante.services.flow import INLINE_BYTES_MAX
from rocinante.services.flow_events import EncodedEvent, FlowView, responses
from rocinante.services.wake import Wake
from rocinante.state.events import AppliedEvents

PATH = "/rocinante.v1.Flow/Watch"
State = pb.WatchFlowsResponse


class FlowWatchService:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._state = calls.node.state

    def handlers(self) -> Handlers:
        return {PATH: self._calls.stream(PATH, pb.WatchFlowsRequest, self.watch)}

    async def watch(self, call: Call, request: pb.WatchFlowsRequest) -> None:
        """Until the client goes away, or falls behind."""
        view = FlowView(convert.filter_from_message(request.filter), request.batches)
        index = self._state.position.index if request.snapshot else request.from_index
        if index > self._state.position.index:
            # The reader has it from a node that is further than this one: wait until this one has what is committed.
            # What is ahead of that as well is of another cluster's log.
            await call.read(linearizable=True)
        try:
            source = self._calls.node.watch(index)
        except OutOfRange:
            await call.write(State(state=State.FELL_BEHIND, index=index))
            return
        try:
            if request.snapshot:
                await self._send_table(call, view, index)
            await self._follow(call, view, source, index)
        finally:
            source.close()

    async def _send_table(self, call: Call, view: FlowView, index: int) -> None:
        cursor = b""
        while True:
            events, cursor = await self._calls.offload(self._page, view, cursor, index)
            for _, response in responses([(index, events)], index, State.SNAPSHOT):
                await call.write_bytes(response)
            if not cursor:
                break
        await call.write(State(state=State.SNAPSHOT_DONE, index=index))

    def _page(self, view: FlowView, cursor: bytes, index: int) -> tuple[list[EncodedEvent], bytes]:
        """A part of the table, and the cursor behind it. As batches it has the records of all origins, as the writes
        after it will; as objects the newest of each flow."""
        now_ms = self._calls.node.now_ms()
        if view.batches:
            origin, batches, cursor = self._state.flows_batches(view.flow_filter, cursor, now_ms)
            return [EncodedEvent.of_batch(index, origin, batch) for batch in batches], cursor
        page = self._state.flows_list(view.flow_filter, limits.FLOW_WATCH_RECORDS_MAX, cursor, now_ms)
        return view.table(page.flows, index), page.cursor

    async def _follow(self, call: Call, view: FlowView, source: Watch, index: int) -> None:
        wake = Wake()
        source.on_events(wake)
        told = index
        while True:
            try:
                applied = self._take(source)
            except OutOfRange:
                await call.write(State(state=State.FELL_BEHIND, index=told))
                return
            if not applied:
                await wake.wait(None)
                continue
            large = not view.whole and sum(entry.size_bytes for entry in applied) > INLINE_BYTES_MAX
            made = await self._calls.offload(_events, view, applied) if large else _events(view, applied)
            for index, response in responses(made, told):
                await call.write_bytes(response)
                told = index
            last = applied[-1].index
            if last - told > limits.FLOW_WATCH_SILENT_ENTRIES_MAX:
                await call.write(State(index=last))
                told = last

    @staticmethod
    def _take(source: Watch) -> list[AppliedEvents]:
        taken: list[AppliedEvents] = []
        size = 0
        while len(taken) < limits.WATCH_DRAIN_ENTRIES_MAX and size < limits.FLOW_WATCH_RESPONSE_BYTES_MAX:
            events = source.get(0.0)
            if events is None:
                break
            taken.append(events)
            size += events.size_bytes
        return taken


def _events(view: FlowView, applied: list[AppliedEvents]) -> list[tuple[int, list[EncodedEvent]]]:
    return [(entry.index, view.events(entry)) for entry in applied if entry.flows]
