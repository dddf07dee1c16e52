"""Imports point down only, and the pure parts stay pure (DESIGN's house, as a table)."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, Import, Source, sources, sources_of_tests

COMMON = {"limits", "errors", "version", "identity", "pb", "tokens"}
"""Everybody may import these, but the parts of `SELF_CONTAINED`."""

ALLOWED: dict[str, set[str]] = {
    # from: its own package, COMMON, and
    "": set(),
    "raft": set(),
    "flows": set(),
    "pb": set(),
    "errors": set(),
    "limits": set(),
    "version": set(),
    "identity": set(),
    "tokens": set(),
    "state": {"flows"},
    "storage": {"raft"},
    "peers": {"raft", "ports"},
    "config": set(),
    "ports": {"state"},
    "convert": {"flows"},
    "snapshot_file": set(),
    "flow_json": {"flows"},
    "services": {"ports", "state", "flows", "convert"},
    "rest": {"ports", "state", "flows", "convert", "flow_json", "snapshot_file"},
    "node": {"peers", "services", "rest", "storage", "state", "flows", "raft", "config", "ports"},
    "client": {"flows", "convert", "flow_json"},
    "federation": {"client", "flows", "convert"},
    "agents": {"client", "flows", "convert"},
    "bench": {"client", "flows", "dev"},
    "dev": {"config", "client", "agents"},
    "cli": {
        "node",
        "config",
        "client",
        "agents",
        "federation",
        "bench",
        "dev",
        "flows",
        "convert",
        "flow_json",
        "snapshot_file",
    },
}

EXCEPTIONS: dict[tuple[str, str], str] = {
    # (module or package that imports, module that it imports from): why
    ("rocinante.cli.snapshot", "rocinante.state"): "the type of what it shows the counts of",
    ("rocinante.peers", "rocinante.storage.base"): "the interface of a snapshot file, which peers carry; no engine",
}

SELF_CONTAINED = {"raft", "flows"}
"""They import nothing of ours but themselves, not even COMMON."""

PURE = {"raft", "flows", "state"}
NOT_PURE = {
    "asyncio", "concurrent", "datetime", "glob", "grpc", "io", "logging", "multiprocessing", "os", "pathlib", "plyvel",
    "queue", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "uuid",
}  # fmt: skip
"""Clocks, threads, sockets, files, and randomness that is not injected."""
PURE_EXCEPTIONS: dict[tuple[str, str], str] = {
    ("rocinante.state.machine", "threading"): "the lock that lets readers in between two entries; it decides nothing",
    ("rocinante.state.row_index", "secrets"): "a hash that nobody outside can know; nothing replicated depends on it",
}


def imported_parts(source: Source) -> list[tuple[Import, str]]:
    """(import, room of ours that it reaches into)."""
    found = []
    for each in source.imports:
        parts = each.full.split(".")
        if parts[0] == "rocinante":
            found.append((each, parts[1] if len(parts) > 1 else ""))
    return found


def exception_for(source: Source, each: Import) -> tuple[str, str] | None:
    for importer, imported in EXCEPTIONS:
        if f"{source.module}.".startswith(f"{importer}.") and f"{each.full}.".startswith(f"{imported}."):
            return importer, imported
    return None


def violations(source: Source) -> list[str]:
    own = source.package
    allowed = ALLOWED.get(own)
    if allowed is None:
        return [f"{source.relative}: '{own}' has no line in ALLOWED"]
    reachable = {own, *allowed} | (set() if own in SELF_CONTAINED else COMMON)
    return [
        f"{source.relative}:{each.line}: {own} may not import {part} ({each.full})"
        for each, part in imported_parts(source)
        if part not in reachable
        and not (source.path.name == "__init__.py" and own == "" and part in COMMON)
        and not _is_root_name(each, part)
        and exception_for(source, each) is None
    ]


def _is_root_name(each: Import, part: str) -> bool:
    """`from rocinante import limits` is seen as rocinante.limits; `from rocinante import __version__` is the root's
    own."""
    return each.module == "rocinante" and part.startswith("__")


def test_imports_point_down_only() -> None:
    found = [line for source in sources() for line in violations(source)]
    assert not found, "\n".join(found)


def test_every_exception_is_used() -> None:
    """An exception that is no longer needed is taken out."""
    used = {exception_for(source, each) for source in sources() for each, _ in imported_parts(source)}
    assert not set(EXCEPTIONS) - used


def test_the_pure_parts_know_no_clock_thread_socket_or_file() -> None:
    found = [
        f"{source.relative}:{each.line}: {each.full}"
        for source in sources()
        if source.package in PURE
        for each in source.imports
        if each.module.split(".")[0] in NOT_PURE
        and not each.typing_only
        and (source.module, each.module.split(".")[0]) not in PURE_EXCEPTIONS
    ]
    assert not found, "\n".join(found)


def test_the_pure_parts_are_given_their_randomness() -> None:
    """`random.Random` as a type is fine; the module's functions share a global generator, and Random() seeds itself."""
    found = [
        f"{source.relative}:{each.line}: {each.full}"
        for source in sources()
        if source.package in PURE
        for each in source.imports
        if each.module == "random" and each.name != "Random"
    ]
    found += [
        f"{source.relative}: Random() without a seed"
        for source in sources()
        if source.package in PURE and "Random()" in source.text
    ]
    assert not found, "\n".join(found)


def test_every_third_party_import_is_declared() -> None:
    """What the package imports is in pyproject.toml's dependencies; what the tests import is there or in its groups
    dev and fuzz."""
    found = undeclared(sources(), declared())
    assert not found, f"not in pyproject.toml's dependencies: {found}"
    found = undeclared(sources_of_tests(), declared("build", "dev", "fuzz"))
    assert not found, f"not in pyproject.toml's dependency groups dev and fuzz: {found}"


def test_every_dependency_is_imported() -> None:
    modules = {each.module.split(".")[0] for source in sources() for each in source.imports}
    modules |= {"google"}  # the generated code's
    provided = {canonicalize_name(name) for top in modules for name in providers().get(top, [])}
    unused = {name for name in declared() - provided if is_installed(name)}
    assert not unused, "nobody imports these dependencies"


def declared(*groups: str) -> set[str]:
    """The distributions that pyproject.toml names: the software's, its extras', and those groups'."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*document["project"]["dependencies"]]
    lines += [line for extra in document["project"]["optional-dependencies"].values() for line in extra]
    lines += [line for group in groups for line in document["dependency-groups"][group]]
    return {canonicalize_name(Requirement(line).name) for line in lines}


@cache
def providers() -> Mapping[str, list[str]]:
    """Which distributions provide a top-level module."""
    return packages_distributions()


def undeclared(files: list[Source], names: set[str]) -> list[str]:
    found = []
    for source in files:
        for each in source.imports:
            top = each.module.split(".")[0]
            if top in sys.stdlib_module_names or top in {"rocinante", "tests"}:
                continue
            provided = {canonicalize_name(name) for name in providers().get(top, [])}
            # A package for one processor only is not installed on another, but is declared under its own name.
            if not provided & names and canonicalize_name(top) not in names:
                found.append(f"{source.relative}:{each.line}: {top}")
    return found


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from rocinante.node.driver import Driver", "raft may not import node"),
        ("from rocinante import limits", "raft may not import limits"),
        ("import rocinante.flows.batch", "raft may not import flows"),
        ("def f():\n    from rocinante.state import machine", "raft may not import state"),
        ("from ..storage import base", "raft may not import storage"),
        ("from rocinante.raft.log import RaftLog", ""),
    ],
)
def test_the_check_sees_what_it_must(text: str, problem: str) -> None:
    """The check itself: a file of rocinante/raft with one line."""
    import ast

    source = Source(ROOT / "rocinante" / "raft" / "example.py", text, ast.parse(text))
    found = "\n".join(violations(source))
    assert (problem in found) if problem else not found
