"""Which flows a request means: the query parameters of lists, deletions and event streams."""

from __future__ import annotations

from rocinante.errors import InvalidArgument
from rocinante.flows import FlowError, FlowFilter
from rocinante.rest.http import Query


def parse_filter(query: Query, *, with_origin: bool = True) -> FlowFilter:
    """Takes `address`, `port`, `protocol`, `state`, `backend`, `zone` (and `origin`). Raises InvalidArgument."""
    try:
        return FlowFilter.parse(
            address=query.many("address"),
            port=query.many("port"),
            protocol=query.many("protocol"),
            tcp_state=query.many("state"),
            backend=query.text("backend"),
            zone=query.optional("zone"),
            origin=query.text("origin") if with_origin else "",
        )
    except FlowError as error:
        raise InvalidArgument(error.field.replace("tcp_state", "state"), error.problem) from None
