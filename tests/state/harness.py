"""A state machine, driven as a node drives it: one entry a command."""

from __future__ import annotations

from itertools import count

from rocinante.errors import RocinanteError
from rocinante.pb.etcd import rpc_pb2
from rocinante.state import command
from rocinante.state.command import Kind
from rocinante.state.events import AppliedEvents
from rocinante.state.machine import Applied, Result, StateMachine


class Driver:
    """Numbers the entries. `events` are those of the last one."""

    def __init__(self, machine: StateMachine | None = None) -> None:
        self.machine = machine if machine is not None else StateMachine()
        self._indexes = count(self.machine.position.index + 1)
        self.events: AppliedEvents | None = None
        self.log: list[bytes] = []

    def entry(self, *commands: bytes) -> Applied:
        data = command.pack(commands)
        self.log.append(data)
        applied = self.machine.apply(next(self._indexes), 1, data)
        self.events = applied.events
        return applied

    def changed(self) -> bool:
        """Whether the last entry changed something that watchers see."""
        return self.events is not None

    def outcome(
        self, kind: int, body: bytes = b"", session: int = 0, seq: int = 0, ack: int = 0
    ) -> Result | RocinanteError:
        applied = self.entry(command.encode(Kind(kind), session, seq, ack, body))
        assert len(applied.outcomes) == 1
        return applied.outcomes[0].result

    def do(self, kind: int, body: bytes = b"", session: int = 0, seq: int = 0, ack: int = 0) -> Result:
        """The result; an error is raised."""
        outcome = self.outcome(kind, body, session, seq, ack)
        if isinstance(outcome, RocinanteError):
            raise outcome
        return outcome

    def put(self, key: bytes, value: bytes = b"", **more: bool | int) -> rpc_pb2.PutResponse:
        request = rpc_pb2.PutRequest(key=key, value=value, **more)  # type: ignore[arg-type]
        result = self.do(Kind.KV_PUT, request.SerializeToString())
        assert isinstance(result, rpc_pb2.PutResponse)
        return result

    def delete(self, key: bytes, range_end: bytes = b"", prev_kv: bool = False) -> rpc_pb2.DeleteRangeResponse:
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        result = self.do(Kind.KV_DELETE, request.SerializeToString())
        assert isinstance(result, rpc_pb2.DeleteRangeResponse)
        return result

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        result = self.do(Kind.KV_TXN, request.SerializeToString())
        assert isinstance(result, rpc_pb2.TxnResponse)
        return result

    def compact(self, revision: int) -> rpc_pb2.CompactionResponse:
        result = self.do(Kind.KV_COMPACT, rpc_pb2.CompactionRequest(revision=revision).SerializeToString())
        assert isinstance(result, rpc_pb2.CompactionResponse)
        return result

    def get(self, key: bytes, revision: int = 0) -> bytes | None:
        found = self.machine.kv_range(rpc_pb2.RangeRequest(key=key, revision=revision)).kvs
        return found[0].value if found else None

    def clock(self, now_ms: int) -> None:
        assert self.do(Kind.CLOCK, now_ms.to_bytes(8)) is None


def digest(machine: StateMachine) -> bytes:
    with machine.freeze() as frozen:
        return frozen.digest()


def content(machine: StateMachine, chunk_bytes: int = 1 << 20) -> list[bytes]:
    with machine.freeze() as frozen:
        return list(frozen.chunks(chunk_bytes))


def copy(machine: StateMachine) -> StateMachine:
    """Another machine, from a snapshot of this one."""
    made = StateMachine()
    made.restore(content(machine))
    return made
