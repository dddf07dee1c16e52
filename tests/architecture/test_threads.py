"""The table of threads in ARCHITECTURE.md has the names that the code gives its threads."""

from __future__ import annotations

import ast
import re

from tests.architecture.source import ROOT, Source, sources

DOCUMENT = ROOT / "ARCHITECTURE.md"


def names_in_code(source: Source) -> set[str]:
    """The name of every thread that is made, and of every named task; what is put in at run time is shown as `<…>`."""
    found = set()
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        function = ast.unparse(node.func)
        name = given.get("thread_name") or given.get("thread_name_prefix")
        if function in {"Thread", "threading.Thread"}:
            name = given.get("name")
            assert name is not None, f"{source.relative}:{node.lineno}: a thread without a name"
        elif function.endswith(".create_task"):
            name = given.get("name")
        if name is not None and not isinstance(name, ast.Attribute):  # an attribute: whoever sets it gives the name
            found.add(_pattern(name))
    return found


def _pattern(name: ast.expr) -> str:
    if isinstance(name, ast.Constant):
        return str(name.value)
    assert isinstance(name, ast.JoinedStr), f"the name of a thread is a text or an f-string, not {ast.unparse(name)}"
    parts = [str(part.value) if isinstance(part, ast.Constant) else "<>" for part in name.values]
    return "".join(parts)


def names_in_document() -> set[str]:
    """First column of the table below a heading with "Threads": `driver`, `append-<peer>`, …"""
    text = DOCUMENT.read_text()
    match = re.search(r"^#+ [^\n]*Threads[^\n]*\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    assert match, "ARCHITECTURE.md has no section about threads"
    cells = [line.split("|")[1] for line in match[1].splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_table_of_threads_is_true() -> None:
    documented = {re.sub(r"<[^>]*>", "<>", name) for name in names_in_document()}
    in_code = {name for source in sources() for name in names_in_code(source)}
    expanded = set()
    for name in in_code:  # f"{kind}-{peer.name}": append-… and heartbeat-… by their kind
        if name == "<>-<>":
            expanded |= {each for each in documented if each in {"append-<>", "heartbeat-<>"}}
        else:
            expanded.add(name)
    assert documented == expanded
