"""Histories as other checkers write them: Jepsen's log of one register, and porcupine's key-value files."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path

from tests.linearizability.checker import Operation
from tests.linearizability.models import Call

_JEPSEN = re.compile(r"(?P<process>\d+)\t:(?P<type>\w+)\t:(?P<verb>\w+)\t(?P<value>.+)$")
_KV = re.compile(
    r':process (?P<process>\d+), :type :(?P<type>\w+), :f :(?P<verb>\w+), :key "(?P<key>.*?)", :value (?P<value>.*)\}$'
)

Register = Operation[Call, Hashable]


def _register_call(verb: str, value: str) -> Call:
    if verb == "read":
        return Call("get")
    if verb == "write":
        return Call("put", int(value))
    old, new = (int(number) for number in value.strip("[]").split())
    return Call("cas", new, old)


def _register_output(call: Call, kind: str, value: str) -> Hashable:
    if call.verb == "cas":
        return kind == "ok"
    return int(value) if call.verb == "get" and value != "nil" else None


def read_register(path: Path) -> list[Register]:
    """Jepsen's log (`:invoke`, `:ok`, `:fail`, `:info`). A failed cas saw another value; a failed read saw nothing."""
    open_calls: dict[str, tuple[int, Call]] = {}
    found: list[Register] = []
    for time, line in enumerate(path.read_text().splitlines()):
        match = _JEPSEN.search(line)
        if match is None:
            continue
        process, kind, verb, value = match.group("process", "type", "verb", "value")
        if kind == "invoke":
            open_calls[process] = (time, _register_call(verb, value))
            continue
        began, call = open_calls.pop(process)
        if kind == "info" or (kind == "fail" and value == ":timed-out" and call.verb != "get"):
            found.append(Operation(int(process), began, math.inf, call, None))
        elif kind == "ok" or call.verb == "cas":
            found.append(Operation(int(process), began, time, call, _register_output(call, kind, value)))
    found += [Operation(int(process), began, math.inf, call, None) for process, (began, call) in open_calls.items()]
    return found


def read_strings(path: Path) -> dict[str, list[Register]]:
    """Porcupine's put, append and get of many keys, by key."""
    open_calls: dict[str, tuple[int, str, Call]] = {}
    found: dict[str, list[Register]] = {}
    for time, line in enumerate(path.read_text().splitlines()):
        match = _KV.search(line)
        if match is None:
            raise ValueError(f"{path.name}:{time + 1}: not an event: {line}")
        process, kind, verb, key, value = match.group("process", "type", "verb", "key", "value")
        content = value.strip('"')
        if kind == "invoke":
            open_calls[process] = (time, key, Call(verb, None if verb == "get" else content))
            continue
        began, key, call = open_calls.pop(process)
        output = content if call.verb == "get" else None
        found.setdefault(key, []).append(Operation(int(process), began, time, call, output))
    for process, (began, key, call) in open_calls.items():
        found.setdefault(key, []).append(Operation(int(process), began, math.inf, call, None))
    return found
