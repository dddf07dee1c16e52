"""A filter's bytes in a command: read back as they were written, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante.flows import FlowError, FlowFilter
from rocinante.flows.filter_codec import decode_filter, encode_filter

FILTERS = st.builds(
    FlowFilter.parse,
    address=st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "0.0.0.0/0"]), unique=True),
    port=st.lists(st.integers(0, 65_535), max_size=5),
    protocol=st.lists(st.integers(0, 255), max_size=5),
    tcp_state=st.lists(st.integers(0, 9), max_size=5),
    backend=st.sampled_from(["", "10.0.0.1", "10.0.0.1:80", "[::1]:0", "web-1", "ü" * 100]),
    zone=st.none() | st.integers(0, 65_535),
)


def sorted_networks(asked: FlowFilter) -> set[object]:
    return set(asked.networks)


@given(FILTERS)
def test_what_is_written_is_read(asked: FlowFilter) -> None:
    found = decode_filter(encode_filter(asked))
    assert sorted_networks(found) == sorted_networks(asked)
    assert encode_filter(found) == encode_filter(asked)
    for name in ("ports", "protocols", "states", "backend", "zone"):
        assert getattr(found, name) == getattr(asked, name)


@given(FILTERS, st.data())
def test_what_is_cut_off_or_longer_is_refused(asked: FlowFilter, data: st.DataObject) -> None:
    whole = encode_filter(asked)
    with pytest.raises(FlowError):
        decode_filter(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FlowError, match="follow its end"):
        decode_filter(whole + b"\0")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_filter_or_an_error_that_names_it(data: bytes) -> None:
    field = "filter"
    try:
        asked = decode_filter(b"\1" + data)
    except FlowError as error:
        field = error.field
    else:
        assert decode_filter(encode_filter(asked)).ports == asked.ports
    assert field == "filter"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\2" + encode_filter(FlowFilter())[1:], "version 2"),
        (bytes((1, 0, 0, 0, 1, 1)), "257 choices"),
        (bytes((1, 0, 0, 0, 0, 0, 0, 1, 10)) + bytes(5), "TCP state 10"),
        (bytes((1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5)) + bytes(20), "4 or 16 bytes"),
        (bytes((1, 0, 0, 0)) + bytes(8) + bytes((4, 0)), "backend"),
    ],
)
def test_what_this_version_does_not_know_is_told(data: bytes, problem: str) -> None:
    with pytest.raises(FlowError, match=problem):
        decode_filter(data)
