"""What the state machine costs here: `python -m tests.benchmarks.state [--keys N] [--flows N] [--json]`.

CPU time of one thread, the least of several rounds, in microseconds an item: no disk, no network, no other thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import count

from rocinante import limits
from rocinante.flows import FlowFilter, FlowRecord, FlowTuple, check_records, decode_batch, encode_batch, validate_batch
from rocinante.pb.etcd import rpc_pb2
from rocinante.state import StateMachine, command
from rocinante.state.command import Kind
from rocinante.state.flows import encode_put

SESSION = 1
ROUNDS = 5


def least_us(items: int, work: Callable[[], object]) -> float:
    """CPU time of the fastest round, in microseconds an item."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - started)
    return min(times) / items / 1000


def put_entries(keys: int, commands: int) -> list[bytes]:
    """Entries of so many puts each, in a client session that acknowledges."""
    seqs = count(1)
    puts = [
        command.encode(
            Kind.KV_PUT,
            SESSION,
            seq,
            max(0, seq - 100),
            rpc_pb2.PutRequest(key=b"key/%08d" % (number % (keys // 2)), value=bytes(100)).SerializeToString(),
        )
        for number, seq in zip(range(keys), seqs, strict=False)
    ]
    return [command.pack(puts[at : at + commands]) for at in range(0, len(puts), commands)]


def apply_all(entries: Sequence[bytes]) -> StateMachine:
    machine = StateMachine()
    machine.apply(1, 1, command.pack([command.encode(Kind.SESSION_OPEN, SESSION, 0, 0, b"")]))
    for index, data in enumerate(entries, 2):
        machine.apply(index, 1, data)
    return machine


def keys(number: int) -> dict[str, float]:
    alone, together = put_entries(number, 1), put_entries(number, 100)
    figures = {
        "put, an entry each": least_us(number, lambda: apply_all(alone)),
        "put, 100 an entry": least_us(number, lambda: apply_all(together)),
    }
    machine = apply_all(together)
    gets = [rpc_pb2.RangeRequest(key=b"key/%08d" % at) for at in range(number // 2)]
    figures["get"] = least_us(len(gets), lambda: [machine.kv_range(get) for get in gets])
    page = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", limit=number // 2)
    figures["range, a key"] = least_us(number // 2, lambda: machine.kv_range(page))
    return figures


def flows(number: int) -> dict[str, float]:
    records = [
        FlowRecord(FlowTuple(0, 6, at.to_bytes(4), 1024, b"\xc0\0\2\1", 443), updated_ms=1) for at in range(number)
    ]
    figures = {"flow, encode": least_us(number, lambda: encode_batch(records))}
    batches = encode_batch(records)

    def check() -> None:
        for batch in batches:
            info = validate_batch(
                batch, records_max=limits.FLOW_BATCH_RECORDS_MAX, bytes_max=limits.FLOW_BATCH_BYTES_MAX
            )
            check_records(batch, info, backend_name_bytes_max=255, application_data_bytes_max=1024)

    figures["flow, check"] = least_us(number, check)
    figures["flow, decode"] = least_us(number, lambda: [decode_batch(batch) for batch in batches])
    entries = [command.pack([command.encode(Kind.FLOW_PUT, 0, 0, 0, encode_put("dc1", batch))]) for batch in batches]
    figures["flow, put, new"] = least_us(number, lambda: apply_all(entries))
    machine = apply_all(entries)
    indexes = count(1_000)

    def again() -> None:
        for data in entries:
            machine.apply(next(indexes), 1, data)

    figures["flow, put, known"] = least_us(number, again)
    keys_ = [record.key for record in records]
    figures["flow, get"] = least_us(number, lambda: machine.flows_get(keys_, 0))
    nothing = FlowFilter.parse(port=[1], address=["10.0.0.0/8"])
    looked_at = min(number, limits.FLOW_SCAN_RECORDS_MAX)
    figures["flow, list, a record looked at"] = least_us(looked_at, lambda: machine.flows_list(nothing, 1, b"", 0))
    with machine.freeze() as frozen:
        again()
        figures["flow, put, while frozen"] = least_us(number, again)
        figures["flow, snapshot"] = least_us(number, lambda: sum(map(len, frozen.chunks())))
        chunks = list(frozen.chunks())
    figures["flow, restore"] = least_us(number, lambda: StateMachine().restore(chunks))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--flows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = keys(options.keys) | flows(options.flows)
    if options.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        print(f"{name:34} {value:8.2f} µs")


if __name__ == "__main__":
    main()
