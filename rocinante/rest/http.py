"""Requests and replies as the handlers see them: parsed strictly, typed, and independent of the framework.

A parameter that is malformed, given twice or not known is an `InvalidArgument` that names it: a misspelt filter must
not answer with everything. Replies carry bytes or an iterator of bytes; `app.py` adds the headers that every answer
has.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from string import hexdigits
from typing import Any, Final
from urllib.parse import parse_qsl

from rocinante import limits
from rocinante.errors import InvalidArgument
from rocinante.identity import parse_id
from rocinante.ports import SessionRef

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
BYTES_TYPE: Final = "application/octet-stream"
U64_MAX: Final = 2**64 - 1
QUERY_PARAMETERS_MAX: Final = 64

Json = Any
"""What `json.loads` gives: checked field by field where it is used."""


class Query:
    """The parameters of a URL. Every getter takes its parameter out; `finish` refuses what is left."""

    def __init__(self, text: str) -> None:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_PARAMETERS_MAX)
        except UnicodeDecodeError:
            raise InvalidArgument("query", "is not UTF-8") from None
        except ValueError:
            raise InvalidArgument("query", f"has more than {QUERY_PARAMETERS_MAX} parameters") from None
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def many(self, name: str) -> list[str]:
        """All values of a parameter that may be repeated or hold several, separated by commas."""
        values = self._values.pop(name, [])
        return [part.strip() for value in values for part in value.split(",") if part.strip()]

    def text(self, name: str, default: str = "") -> str:
        values = self._values.pop(name, None)
        if values is None:
            return default
        if len(values) > 1:
            raise InvalidArgument(name, "is given more than once")
        return values[0]

    def optional(self, name: str) -> str | None:
        return self.text(name) if name in self._values else None

    def integer(self, name: str, default: int, *, least: int = 0, most: int = U64_MAX) -> int:
        text = self.optional(name)
        return default if text is None else parse_integer(name, text, least=least, most=most)

    def flag(self, name: str) -> bool:
        """`?name`, `?name=true` and `?name=1` are true."""
        text = self.text(name, "false").lower()
        if text in {"", "true", "1", "yes"}:
            return True
        if text in {"false", "0", "no"}:
            return False
        raise InvalidArgument(name, f"is true or false, not {text!r}")

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        text = self.text(name, default)
        if text not in choices:
            raise InvalidArgument(name, f"is one of {', '.join(choices)}, not {text!r}")
        return text

    def finish(self) -> None:
        if self._values:
            raise InvalidArgument(next(iter(self._values)), "is not a parameter of this request")


@dataclass(slots=True)
class Request:
    """One request. `raw_path` is the percent-decoded path as bytes: keys are bytes, not text."""

    method: str
    raw_path: bytes
    query: Query
    headers: Mapping[str, str]
    """By lower-case name."""
    read_body: Any
    """Gives the whole body, which the server has read and bounded already."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """What the path's pattern caught."""
    is_connected: Any = lambda: True

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def instruction(self, name: str) -> str:
        """A header that changes what the request does; "" where it is absent. Empty, it is refused: a client whose
        variable had no value would write without its condition, or twice."""
        value = self.header(name)
        if not value and name in self.headers:
            raise InvalidArgument(name, "is given and empty")
        return value

    def content_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

    def body(self) -> bytes:
        content: bytes = self.read_body()
        return content

    def json(self) -> Json:
        """The body as JSON. Only `application/json` is taken: a foreign page can send any other type without asking
        (CSRF).
        """
        if self.content_type() != JSON_TYPE:
            raise InvalidArgument("content-type", f"must be {JSON_TYPE}, not {self.content_type() or 'absent'!r}")
        try:
            return json.loads(self.body(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument("body", f"is not JSON: {str(error) or 'nested too deeply'}") from None

    def json_object(self, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Json]:
        """A JSON object with no other fields than these, each of the type given. An absent field is absent."""
        value = self.json()
        if not isinstance(value, dict):
            raise InvalidArgument("body", "must be a JSON object")
        for name, content in value.items():
            if name not in fields:
                raise InvalidArgument(
                    str(name), f"is not a field of this request; there is {', '.join(fields) or 'none'}"
                )
            wanted = fields[name]
            if not isinstance(content, wanted) or (isinstance(content, bool) and wanted is int):
                names = wanted if isinstance(wanted, tuple) else (wanted,)
                raise InvalidArgument(name, f"must be {' or '.join(JSON_NAMES[kind] for kind in names)}")
        return value

    def timeout_s(self) -> float:
        """How long the caller wants to wait for consensus."""
        text = self.instruction("rocinante-timeout-ms")
        if not text:
            return limits.REQUEST_TIMEOUT_S
        most = int(limits.REQUEST_TIMEOUT_S_MAX * 1000)
        return parse_integer("Rocinante-Timeout-Ms", text, least=1, most=most) / 1000

    def session(self) -> SessionRef | None:
        """The client session of a write that its caller may send again (`POST /v1/sessions`), from three headers."""
        session, seq, ack = (self.instruction(f"rocinante-{name}") for name in ("session", "seq", "ack"))
        if not session:
            if seq or ack:
                raise InvalidArgument("Rocinante-Session", "is missing beside Rocinante-Seq or Rocinante-Ack")
            return None
        number = parse_session(session, "Rocinante-Session")
        if not seq:
            raise InvalidArgument("Rocinante-Seq", "is missing beside Rocinante-Session")
        seq_number = parse_integer("Rocinante-Seq", seq, least=1, most=U64_MAX)
        return SessionRef(number, seq_number, parse_integer("Rocinante-Ack", ack or "0", least=0, most=seq_number))


def parse_session(text: str, field: str) -> int:
    """The number of a client session. Raises InvalidArgument."""
    number = parse_id(text) if 1 <= len(text) <= 16 and all(char in hexdigits for char in text) else 0
    if not number:
        raise InvalidArgument(field, "must be 1 to 16 hex digits and not 0")
    return number


JSON_NAMES: Final[dict[type, str]] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_integer(name: str, text: str, *, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise InvalidArgument(name, f"must be a whole number, not {text[:40]!r}")
    number = int(text)
    if not least <= number <= most:
        raise InvalidArgument(name, f"must be between {least} and {most}, not {number}")
    return number


@dataclass(slots=True)
class Reply:
    body: bytes | Iterable[bytes] = b""
    status: int = 200
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    index: int = 0
    """The log index that the answer stands for; 0: none."""


def json_reply(value: Json, status: int = 200, *, index: int = 0, headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return Reply(body, status, JSON_TYPE, headers or {}, index)


def text_reply(text: str, status: int = 200) -> Reply:
    return Reply(text.encode(), status, TEXT_TYPE)


def bytes_to_json(name: str, content: bytes) -> dict[str, str]:
    """Text where it is UTF-8, else base64; `<name>_encoding` says which."""
    try:
        return {name: content.decode(), f"{name}_encoding": "utf-8"}
    except UnicodeDecodeError:
        return {name: base64.b64encode(content).decode(), f"{name}_encoding": "base64"}


def encode_cursor(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decode_cursor(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise InvalidArgument("cursor", "is not one that an earlier answer gave") from None
