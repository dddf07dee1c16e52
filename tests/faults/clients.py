"""The clients of the load: each carries out one call at a time and says what it knows of it.

Three kinds, for what users do. `Plain` knows one node and speaks etcd's gRPC without a session, so that a node that
was cut off is really asked, and a write is made once. `Following` is the Python client: all nodes, a session, retries.
`OverRest` is the same over HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from rocinante.client import Client
from rocinante.client.rest import RestClient
from rocinante.client.transport import classify
from rocinante.client.txn import Txn, put, value, version
from rocinante.errors import Code, OutcomeUnknown, ResourceExhausted, RocinanteError, Unavailable
from rocinante.flows import FlowRecord, FlowTuple, TcpState
from rocinante.pb.etcd import rpc_pb2
from tests.faults.history import FLOW_READ, FLOW_WRITE, Asked
from tests.support.rpc import Rpc

TIMEOUT_S: Final = 1.0
TRY_TIMEOUT_S: Final = 0.4
FLOWS_OF_A_CLIENT: Final = 20
_EXPECTED_CODES: Final = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)

_R = TypeVar("_R", bound=Message)


class Asking(Protocol):
    """A client of keys. `do` fills in the outcome of a call."""

    name: str
    verbs: tuple[str, ...]

    def do(self, one: Asked) -> None: ...

    def close(self) -> None: ...


class _Unanswered(Exception):
    """A plain call failed; whether it may have been carried out."""

    def __init__(self, unknown: bool, error: RocinanteError) -> None:
        super().__init__(error.message)
        self.unknown = unknown
        self.error = error


def _finish(one: Asked, carry_out: Callable[[], tuple[object, int]]) -> None:
    """Times, outcome and reason of a call."""
    one.called = time.monotonic()
    try:
        one.output, one.revision = carry_out()
        one.how = "ok"
    except _Unanswered as failed:
        one.how, one.why = "unknown" if failed.unknown else "refused", str(failed)
        if failed.error.code not in (*_EXPECTED_CODES, Code.DEADLINE_EXCEEDED):
            one.how = "error"
    except OutcomeUnknown as error:
        one.how, one.why = "unknown", error.message
    except (Unavailable, ResourceExhausted) as error:
        one.how, one.why = "refused", error.message
    except RocinanteError as error:
        one.how, one.why = "error", f"{error.code}: {error.message}"
    one.returned = time.monotonic()


def _cas(txn: Txn, one: Asked) -> Txn:
    same = version(one.key) == 0 if one.expected is None else value(one.key) == one.expected
    return txn.when(same).then(put(one.key, one.value or ""))


class Plain:
    """One node, no session, no retry."""

    verbs: tuple[str, ...] = ("get", "put", "delete", "cas")

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self._endpoint = endpoint
        self._rpc = Rpc()

    def do(self, one: Asked) -> None:
        _finish(one, lambda: getattr(self, f"_{one.verb}")(one))

    def _call(self, method: str, request: Message, response: type[_R]) -> _R:
        try:
            return self._rpc.call(self._endpoint, f"/etcdserverpb.KV/{method}", request, response, TIMEOUT_S)
        except grpc.RpcError as error:
            failed = classify(error, method)
            raise _Unanswered(failed.unknown, failed.error) from None

    def _get(self, one: Asked) -> tuple[object, int]:
        answer = self._call("Range", rpc_pb2.RangeRequest(key=one.key.encode()), rpc_pb2.RangeResponse)
        return answer.kvs[0].value.decode() if answer.kvs else None, answer.header.revision

    def _put(self, one: Asked) -> tuple[object, int]:
        request = rpc_pb2.PutRequest(key=one.key.encode(), value=(one.value or "").encode())
        return None, self._call("Put", request, rpc_pb2.PutResponse).header.revision

    def _delete(self, one: Asked) -> tuple[object, int]:
        request = rpc_pb2.DeleteRangeRequest(key=one.key.encode())
        return None, self._call("DeleteRange", request, rpc_pb2.DeleteRangeResponse).header.revision

    def _cas(self, one: Asked) -> tuple[object, int]:
        answer = self._call("Txn", _cas(Txn(), one).request(), rpc_pb2.TxnResponse)
        return bool(answer.succeeded), answer.header.revision

    def close(self) -> None:
        self._rpc.close()


class Following:
    """The Python client."""

    verbs: tuple[str, ...] = ("get", "put", "delete", "cas")

    def __init__(self, name: str, endpoints: list[str]) -> None:
        self.name = name
        self.client = Client(endpoints, timeout_s=TIMEOUT_S, try_timeout_s=TRY_TIMEOUT_S)

    def do(self, one: Asked) -> None:
        _finish(one, lambda: getattr(self, f"_{one.verb}")(one))

    def _get(self, one: Asked) -> tuple[object, int]:
        answer = self.client.kv.range(one.key)
        return answer.items[0].value.decode() if answer.items else None, answer.revision

    def _put(self, one: Asked) -> tuple[object, int]:
        return None, self.client.kv.put(one.key, one.value or "").revision

    def _delete(self, one: Asked) -> tuple[object, int]:
        return None, self.client.kv.delete(one.key).revision

    def _cas(self, one: Asked) -> tuple[object, int]:
        answer = _cas(self.client.kv.txn(), one).commit()
        return answer.succeeded, answer.revision

    def close(self) -> None:
        self.client.close()


class OverRest:
    """The Python client over HTTP, which has no transactions."""

    verbs: tuple[str, ...] = ("get", "put", "delete")

    def __init__(self, name: str, urls: list[str]) -> None:
        self.name = name
        self._client = RestClient(urls, timeout_s=TIMEOUT_S, try_timeout_s=TRY_TIMEOUT_S)

    def do(self, one: Asked) -> None:
        _finish(one, lambda: getattr(self, f"_{one.verb}")(one))

    def _get(self, one: Asked) -> tuple[object, int]:
        found = self._client.kv.get(one.key)
        return found.value.decode() if found is not None else None, 0

    def _put(self, one: Asked) -> tuple[object, int]:
        return None, self._client.kv.put(one.key, one.value or "").revision

    def _delete(self, one: Asked) -> tuple[object, int]:
        return None, self._client.kv.delete(one.key).revision

    def close(self) -> None:
        self._client.close()


class FlowWriter:
    """The Python client with a batch of flows of its own, written again and again with a counter that grows."""

    def __init__(self, number: int, endpoints: list[str]) -> None:
        self.name = f"flows-{number}"
        self._number = number
        self._client = Client(endpoints, timeout_s=TIMEOUT_S, try_timeout_s=TRY_TIMEOUT_S)

    def do(self, one: Asked, zone: int) -> None:
        """`flow-put` writes the counter `one.value`, `flow-get` reads the counters of all records."""
        records = self._records(zone, int(one.value or 0))
        if one.verb == FLOW_WRITE:
            _finish(one, lambda: (self._client.flows.put(records).records, 0))
        elif one.verb == FLOW_READ:
            _finish(one, lambda: (self._read(records), 0))

    def _read(self, records: list[FlowRecord]) -> Any:
        found = self._client.flows.get([record.original for record in records])
        return [0 if entry is None else _counter(entry.record) for entry in found]

    def _records(self, zone: int, counter: int) -> list[FlowRecord]:
        return [
            FlowRecord(
                FlowTuple(zone, 6, bytes([192, 0, 2, self._number]), 1024 + port, bytes([198, 51, 100, 7]), 443),
                tcp_state=TcpState.ESTABLISHED,
                packets_original=counter,
                bytes_original=counter * 100,
                packets_reply=counter,
                bytes_reply=counter * 1000,
            )
            for port in range(FLOWS_OF_A_CLIENT)
        ]

    def close(self) -> None:
        self._client.close()


def _counter(record: FlowRecord) -> int:
    """The counter that all four of a record's counters tell; -1 when they do not agree."""
    counter = record.packets_original
    same = (record.bytes_original, record.packets_reply, record.bytes_reply) == (counter * 100, counter, counter * 1000)
    return counter if same else -1
