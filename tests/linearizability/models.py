"""What a single copy of an object would do: a register with compare-and-swap, and an appendable string."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

from tests.linearizability.checker import Model


class Call(NamedTuple):
    """`verb`: get, put, delete, append, or cas (`expected` → `value`)."""

    verb: str
    value: Hashable = None
    expected: Hashable = None


def _register(state: Hashable, call: Call, output: Hashable, known: bool) -> tuple[bool, Hashable]:
    """`output`: of a get the value (None: there is none), of a cas whether it was done, of the others nothing."""
    if call.verb == "get":
        return not known or output == state, state
    if call.verb == "put":
        return True, call.value
    if call.verb == "delete":
        return True, None
    if call.verb == "cas":
        matches = state == call.expected
        return not known or matches == output, call.value if matches else state
    raise ValueError(f"{call.verb} is not a call of a register")


def _string(state: Hashable, call: Call, output: Hashable, known: bool) -> tuple[bool, Hashable]:
    if call.verb == "append":
        return True, str(state) + str(call.value)
    if call.verb == "get":
        return not known or output == state, state
    if call.verb == "put":
        return True, call.value
    raise ValueError(f"{call.verb} is not a call of a string")


REGISTER: Final[Model[Call, Hashable]] = Model(None, _register)
STRING: Final[Model[Call, Hashable]] = Model("", _string)
