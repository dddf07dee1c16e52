"""YAML nodes turned into values, with a complaint (line, key, what was expected) for everything that does not fit."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from rocinante import limits
from rocinante.config.option import META, Option
from rocinante.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HOST: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_SHOWN_CHARACTERS_MAX: Final = 60


class Problems:
    """What is wrong with one file so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[tuple[int, str]] = []
        self.warnings: list[str] = []

    def add(self, line: int, path: str, text: str) -> None:
        self.found.append((line, self._format(line, path, text)))

    def warn(self, line: int, path: str, text: str) -> None:
        self.warnings.append(self._format(line, path, text))

    def _format(self, line: int, path: str, text: str) -> str:
        where = f"{self.file}:{line}: " if line else f"{self.file}: "
        return f"{where}{path}: {text}" if path else f"{where}{text}"

    def stop_if_any(self) -> None:
        """Raise ConfigError with all of them, in the order of the lines."""
        if not self.found:
            return
        lines = [text for _, text in sorted(self.found, key=lambda found: found[0])]
        beyond = len(lines) - limits.CONFIG_PROBLEMS_MAX
        if beyond > 0:
            lines[limits.CONFIG_PROBLEMS_MAX :] = [f"{self.file}: and {beyond} more mistakes"]
        raise ConfigError(lines)


def shown(text: str) -> str:
    """A value as a message quotes it: on one line, not endless."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "…")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`, or nothing where nothing is close."""
    by_lower = {name.lower(): name for name in known}
    plain = word.replace("_", "").replace("-", "").lower()
    close = difflib.get_close_matches(plain, by_lower, 1, 0.7) or difflib.get_close_matches(
        word.lower(), by_lower, 1, 0.7
    )
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


def kind(node: yaml.Node) -> str:
    """What a person calls this node."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.tag == "tag:yaml.org,2002:null" or node.value == "":
        return "nothing"
    return shown(str(node.value))


class Section:
    """One mapping of the file. Its methods return a value, or the default after complaining."""

    def __init__(self, node: yaml.Node, path: str, problems: Problems) -> None:
        self.node = node
        self.path = path
        self.problems = problems
        self._values: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        self._sections: dict[str, Section | None] = {}
        if isinstance(node, yaml.MappingNode):
            self._read(node)
        elif not path:
            problems.add(self.line, "artifact", f"expected a mapping with the key artifact, got {kind(node)}")

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    def _read(self, node: yaml.MappingNode) -> None:
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.add(line, self.path, f"a key must be a word, got {kind(key_node)}")
                continue
            key = key_node.value
            if key in self._values:
                self.problems.add(line, self.path_of(key), f"given twice, first on line {self._lines[key]}")
                continue
            self._values[key] = value
            self._lines[key] = line

    def keys(self) -> tuple[str, ...]:
        """Those that are there, in order."""
        return tuple(self._values)

    def path_of(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def line_of(self, key: str) -> int:
        return self._lines.get(key, self.line)

    def complain(self, key: str, text: str) -> None:
        self.problems.add(self.line_of(key), self.path_of(key), text)

    def only(self, known: Iterable[str]) -> None:
        """Complain about every other key."""
        known = tuple(known)
        for key in self._values:
            if key not in known:
                hint = did_you_mean(key, known) or f", expected one of {', '.join(known)}"
                self.problems.add(self.line_of(key), self.path_of(shown(key)[1:-1]), f"unknown key{hint}")

    def is_mapping(self, expected: str) -> bool:
        if isinstance(self.node, yaml.MappingNode):
            return True
        self.problems.add(self.line, self.path, f"expected a mapping with {expected}, got {kind(self.node)}")
        return False

    def section(self, key: str, *, required: bool = False) -> Section | None:
        """The mapping under `key`; complains once, however often it is asked for."""
        if key not in self._sections:
            self._sections[key] = self._section(key, required)
        return self._sections[key]

    def _section(self, key: str, required: bool) -> Section | None:
        node = self._values.get(key)
        if node is None:
            if required and isinstance(self.node, yaml.MappingNode):
                self.complain(key, "missing, expected a mapping")
            return None
        if not isinstance(node, yaml.MappingNode):
            self.complain(key, f"expected a mapping, got {kind(node)}")
            return None
        return Section(node, self.path_of(key), self.problems)

    def items(self, key: str, *, minimum: int = 1, maximum: int) -> list[Section]:
        """The elements of a list; one that may be empty may also be absent."""
        node = self._values.get(key)
        expected = f"expected a list of {minimum} to {maximum}"
        if node is None:
            if minimum:
                self.complain(key, f"missing, {expected}")
            return []
        if not isinstance(node, yaml.SequenceNode) or not minimum <= len(node.value) <= maximum:
            size = f"a list of {len(node.value)}" if isinstance(node, yaml.SequenceNode) else kind(node)
            self.complain(key, f"{expected}, got {size}")
            return []
        return [Section(item, f"{self.path_of(key)}[{at}]", self.problems) for at, item in enumerate(node.value)]

    def word(self, key: str) -> str | None:
        """The text of a scalar that is there; None for anything else, without a complaint."""
        node = self._values.get(key)
        return str(node.value) if isinstance(node, yaml.ScalarNode) and node.value else None

    def text(self, key: str, expected: str) -> str | None:
        """The text as written; None where the key is absent, or after a complaint."""
        node = self._values.get(key)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or node.value == "" or node.tag == "tag:yaml.org,2002:null":
            self.complain(key, f"expected {expected}, got {kind(node)}")
            return None
        return str(node.value)

    def name(self, key: str, default: str | None = None) -> str | None:
        """A name that is safe as part of a path and as a label."""
        expected = f"a name of letters, digits, '.', '_' and '-', at most {limits.NAME_BYTES_MAX} of them"
        if key not in self._values:
            if default is None:
                self.complain(key, f"missing, expected {expected}")
            return default
        text = self.text(key, expected)
        if text is not None and not (_NAME.fullmatch(text) and len(text) <= limits.NAME_BYTES_MAX):
            self.complain(key, f"{shown(text)} is not {expected}")
            return None
        return text

    def address(self, key: str) -> str | None:
        """An IP address that a socket can be bound to and that means the same on every host, in its one spelling."""
        expected = "the IP address of one interface"
        if key not in self._values:
            self.complain(key, f"missing, expected {expected}")
            return None
        text = self.text(key, expected)
        if text is None:
            return None
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            self.complain(key, f"{shown(text)} is not an IP address (host names are not accepted)")
            return None
        scoped = isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None
        if ip.is_unspecified or ip.is_multicast or scoped or str(ip) == "255.255.255.255":
            self.complain(key, f"{ip} cannot be reached by the other nodes, expected {expected}")
            return None
        return str(ip)

    def integer(self, key: str, default: int | None, minimum: int, maximum: int, what: str) -> int | None:
        """`default` None: the key is required."""
        expected = f"expected {what} from {minimum} to {maximum}"
        node = self._values.get(key)
        if node is None:
            if default is None:
                self.complain(key, f"missing, {expected}")
            return default
        plain = isinstance(node, yaml.ScalarNode) and node.style is None and _INTEGER.fullmatch(node.value)
        if not plain:
            quoted = isinstance(node, yaml.ScalarNode) and node.style is not None and _INTEGER.fullmatch(node.value)
            self.complain(key, f"{expected}, got {kind(node)}{' (without the quotes)' if quoted else ''}")
            return default
        number = int(node.value)
        if not minimum <= number <= maximum:
            self.complain(key, f"{expected}, got {number}")
            return default
        return number

    def boolean(self, key: str, *, default: bool) -> bool:
        node = self._values.get(key)
        if node is None:
            return default
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            return str(node.value).lower() in ("true", "yes", "on")
        self.complain(key, f"expected true or false, got {kind(node)}")
        return default

    def path_value(self, key: str, expected: str) -> Path | None:
        text = self.text(key, expected)
        if text is None:
            return None
        if not text.startswith("/") or "\0" in text:
            self.complain(key, f"expected {expected}, got {shown(text)}")
            return None
        return Path(text)

    def choice_of(self, key: str, text: str, choices: type[StrEnum]) -> StrEnum | None:
        names = [choice.value for choice in choices]
        if text in names:
            return choices(text)
        hint = did_you_mean(text, names)
        self.complain(key, f"expected one of {', '.join(names)}, got {shown(text)}{hint}")
        return None

    def hosts(self, key: str) -> tuple[str, ...]:
        node = self._values.get(key)
        if node is None:
            return ()
        expected = f"a list of at most {limits.CONFIG_CONTROLLERS_MAX} host names"
        if not isinstance(node, yaml.SequenceNode) or len(node.value) > limits.CONFIG_CONTROLLERS_MAX:
            self.complain(key, f"expected {expected}, got {kind(node)}")
            return ()
        names = []
        for at, item in enumerate(node.value):
            if not isinstance(item, yaml.ScalarNode) or not _is_host(item.value):
                path = f"{self.path_of(key)}[{at}]"
                self.problems.add(
                    item.start_mark.line + 1, path, f"expected a host name or address without a port, got {kind(item)}"
                )
            else:
                names.append(item.value.lower())
        return tuple(names)

    def options(self, model: type) -> Any:
        """An instance of an option dataclass of `model.py` from this mapping."""
        fields = [(field, field.metadata[META]) for field in dataclasses.fields(model)]
        self.only([declared.key for _, declared in fields])
        return model(**{field.name: self._option(field.default, declared) for field, declared in fields})

    def _option(self, default: Any, declared: Option) -> Any:
        key = declared.key
        if isinstance(default, StrEnum):
            choices = type(default)
            text = self.text(key, f"one of {', '.join(choices)}")
            return default if text is None else self.choice_of(key, text, choices) or default
        if isinstance(default, Path):
            node = self._values.get(key)
            if default == Path() and isinstance(node, yaml.ScalarNode) and not node.value:
                return default  # an option that is off
            return self.path_value(key, "an absolute path") or default
        if isinstance(default, tuple):
            return self.hosts(key)
        assert declared.minimum is not None
        assert declared.maximum is not None
        return self.integer(key, default, declared.minimum, declared.maximum, declared.unit)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True
