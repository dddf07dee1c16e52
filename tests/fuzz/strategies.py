"""Hypothesis strategies of hostile input: mutated bytes, and any protobuf message from its descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

EDGES: Final = [0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62,
                2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
"""Where lengths, counts and signs change their meaning."""
CHUNKS: Final = [edge.to_bytes(size, order) for edge in EDGES for size in (1, 2, 4, 8) for order in ("big", "little")
                 if edge < 1 << 8 * size]  # fmt: skip
TEXTS: Final = ["", "a", "\0", "é", "\U0001f600", "x" * 300, "../..", "%00", "1e999", "-1", "2" * 30]


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], *, bytes_max: int = 4096) -> bytes:
    """A seed with a few changes: bytes set, bits turned, pieces cut, doubled, inserted, or taken from another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([0, 1, 1, 1, 2, 4, 8, 30])))
        match draw(st.integers(0, 5)):
            case 0:
                data[at:end] = draw(st.sampled_from(CHUNKS))
            case 1:
                data[at:end] = draw(st.binary(max_size=8))
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end]
            case 4:
                other = draw(st.sampled_from(seeds))
                cut = draw(st.integers(0, len(other)))
                data[at:] = other[cut:]
            case _ if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data[:bytes_max])


def hostile(seeds: Sequence[bytes], *, bytes_max: int = 4096) -> st.SearchStrategy[bytes]:
    """Mostly mutated seeds, now and then noise."""
    return mutated(seeds, bytes_max=bytes_max) | mutated(seeds, bytes_max=bytes_max) | st.binary(max_size=64)


def _integers(least: int, most: int) -> st.SearchStrategy[int]:
    near = [edge for edge in [*EDGES, *(-edge for edge in EDGES)] if least <= edge <= most]
    return st.sampled_from(near) | st.integers(least, most)


_SCALARS: Final[dict[int, st.SearchStrategy[Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: _integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: _integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: _integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: _integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 2, 3, 99]),  # an enum of proto3 is open: any number is one
}
_TEXT: Final = st.sampled_from(TEXTS) | st.text(max_size=8)
_BYTES: Final = st.sampled_from([b"", b"\0", b"a", b"b", b"\xff" * 40, bytes(1025)]) | st.binary(max_size=12)

Known = dict[str, st.SearchStrategy[Any]]
"""By the field's full name (`rocinante.v1.Hello.sender`): what it is drawn from, so that some get past the gate."""


def messages(kind: type[M], known: Known | None = None, *, depth: int = 3) -> st.SearchStrategy[M]:
    """Any message of this kind: fields absent or present, numbers at their edges, lists of a few. Fields that are
    named in `known` come from there, two times of three."""
    return st.builds(kind.FromString, _encoded(kind.DESCRIPTOR, known or {}, depth))


def _encoded(descriptor: Any, known: Known, depth: int) -> st.SearchStrategy[bytes]:
    return _message(descriptor, known, depth).map(lambda made: made.SerializeToString())


@st.composite
def _message(draw: st.DrawFn, descriptor: Descriptor, known: Known, depth: int) -> Message:
    from google.protobuf.message_factory import GetMessageClass

    made = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and depth <= 0:
            continue
        count = draw(st.sampled_from([0, 1, 1, 2, 5])) if field.is_repeated else 1
        for _ in range(count):
            value = draw(_value(field, known, depth))
            if field.message_type is not None:
                place = getattr(made, field.name).add() if field.is_repeated else getattr(made, field.name)
                place.CopyFrom(value)
                if not field.is_repeated:
                    place.SetInParent()
            elif field.is_repeated:
                getattr(made, field.name).append(value)
            else:
                setattr(made, field.name, value)
    return made


def _value(field: FieldDescriptor, known: Known, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _message(field.message_type, known, depth - 1)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        plain: st.SearchStrategy[Any] = _TEXT if field.type == FieldDescriptor.TYPE_STRING else _BYTES
    else:
        plain = _SCALARS[field.cpp_type]
    special = known.get(field.full_name)
    return plain if special is None else special | special | plain
