"""docs/flow-format.md says what the code does: its vectors are encoded and decoded, its tables compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rocinante import limits
from rocinante.flows import (
    Backend,
    FlowFlag,
    FlowRecord,
    FlowTuple,
    TcpState,
    decode_batch,
    encode_batch,
    packed,
    unpacked,
)
from rocinante.flows.key import parse_endpoint
from rocinante.flows.value import NARROW_BYTES, WIDE_BYTES
from tests.flows import independent

DOCUMENT = (Path(__file__).parents[2] / "docs" / "flow-format.md").read_text()
VECTORS = re.findall(r"### (.+?)\n+```json\n(.+?)```\n+```hex\n(.+?)```", DOCUMENT, flags=re.S)
NUMBERS = ("deadline_ms", "updated_ms", "mark", "packets_original", "bytes_original", "packets_reply", "bytes_reply")


def record(written: dict[str, Any]) -> FlowRecord:
    def tuple_of(text: str, zone: int) -> FlowTuple:
        protocol, source, _, destination = text.split()
        return FlowTuple.from_text(protocol, source, destination, zone)

    flags = FlowFlag(0)
    for name in written.pop("flags", []):
        flags |= FlowFlag[name]
    zone = written.pop("zone", 0)
    made = FlowRecord(
        original=tuple_of(written.pop("original"), zone),
        tcp_state=TcpState[written.pop("tcp_state", "NONE")],
        flags=flags,
        **{name: written.pop(name, 0) for name in NUMBERS},
    )
    if "reply" in written:
        made.reply = tuple_of(written.pop("reply"), zone)
    if "backend" in written:
        made.backend = Backend(*parse_endpoint(written.pop("backend"), "backend"))
    made.backend_name = written.pop("backend_name", "")
    made.application_data = bytes.fromhex(written.pop("application_data", ""))
    assert not written, f"the vector has unknown fields: {written}"
    return made


def test_there_is_a_vector_of_every_kind() -> None:
    assert {bytes.fromhex(batch)[5] for _, _, batch in VECTORS} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("text", "batch"), [pytest.param(*rest, id=name) for name, *rest in VECTORS])
def test_vector(text: str, batch: str) -> None:
    flows = [record(written) for written in json.loads(text)]
    given = bytes.fromhex(batch)
    fixed = bytes(unpacked(given))
    assert encode_batch(flows) == [fixed]
    assert decode_batch(fixed) == flows
    if given != fixed:
        assert packed(fixed) == given
        assert independent.packed(fixed) == given


def test_the_tables_name_every_flag_and_state() -> None:
    rows = re.findall(r"^\| \d+ \((0x[0-9a-f]+)\) \| (\w+) \|", DOCUMENT, flags=re.M)
    flags = {name: int(bit, 16) for bit, name in rows}
    assert flags == {flag.name: flag.value for flag in FlowFlag}
    (states,) = re.findall(r"u8 tcp_state \| (.+?) \|", DOCUMENT)
    assert states == ", ".join(f"{int(state)} {state.name}" for state in TcpState)


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"({NARROW_BYTES} bytes, behind an IPv4 key only)" in DOCUMENT
    assert f"in the *wide* one ({WIDE_BYTES} bytes)" in DOCUMENT
    assert f"{limits.FLOW_BATCH_RECORDS_MAX:,} records and {limits.FLOW_BATCH_BYTES_MAX >> 20} MiB a batch" in DOCUMENT
    assert f"{limits.FLOW_BACKEND_NAME_BYTES_MAX} bytes of backend name" in DOCUMENT
    assert f"{limits.FLOW_APPLICATION_DATA_BYTES_MAX:,} of application data" in DOCUMENT
