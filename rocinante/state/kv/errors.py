"""etcd's errors, with its texts and codes (etcdserver/api/v3rpc/rpctypes/error.go), so that etcd's clients know
them."""

from __future__ import annotations

from rocinante import limits
from rocinante.errors import InvalidArgument, NotFound, OutOfRange, ResourceExhausted


def empty_key() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: key is not provided")


def key_not_found() -> InvalidArgument:
    """Also what etcd says of an operation that is none."""
    return InvalidArgument("", "etcdserver: key not found")


def value_provided() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: value is provided")


def lease_provided() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: lease is provided")


def lease_not_found() -> NotFound:
    return NotFound("etcdserver: requested lease not found")


def too_many_operations() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: too many operations in txn request")


def duplicate_key() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: duplicate key given in txn request")


def invalid_sort_option() -> InvalidArgument:
    return InvalidArgument("", "etcdserver: invalid sort option")


def compacted() -> OutOfRange:
    return OutOfRange("etcdserver: mvcc: required revision has been compacted")


def future_revision() -> OutOfRange:
    return OutOfRange("etcdserver: mvcc: required revision is a future revision")


def response_too_large() -> ResourceExhausted:
    return ResourceExhausted(
        f"the answer would have more than {limits.RANGE_RESPONSE_BYTES_MAX} bytes: page through it with limit"
    )
