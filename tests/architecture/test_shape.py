"""Files, functions and packages keep their shape: small, exported by name, broad excepts only where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, Source, sources, sources_of_tests

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
TEST_FILE_LINES_MAX = 800
TEST_FUNCTION_LINES_MAX = 120

BROAD_EXCEPTS: dict[str, str] = {
    # `except Exception` (or everything) that does not raise again: file and function, and why it may
    "rocinante/client/flow_writer.py: FlowWriter._run": "the top of the thread: logged, and told to all who wait",
    "rocinante/cli/main.py: run": "the top of the command: one line for the user, not a stack",
    "rocinante/node/apply.py: Apply._run": "the top of the thread: the node stops, replicas must not diverge silently",
    "rocinante/node/disk.py: Disk._run": "the top of the thread: the node stops",
    "rocinante/node/driver.py: Driver._or_die": "the top of every callback of the loop: the node stops",
    "rocinante/node/housekeeping.py: Housekeeping._run": "the top of the thread: logged, the next round may do better",
    "rocinante/node/snapshotter.py: Snapshotter._run": "the top of the thread: logged, and an alarm",
    "rocinante/peers/channel.py: Channel._run": "the top of the task: logged, dialled again",
    "rocinante/rest/app.py: RestApp._answer": "the top of a request: logged, answered with 500",
    "rocinante/rest/server.py: RestServer._loop": "the top of the thread: logged",
    "rocinante/services/call.py: Calls.unary.behavior": "the top of a request: logged, answered with INTERNAL",
    "rocinante/services/call.py: Calls._streaming.behavior": "the top of a request: logged, answered with INTERNAL",
    "rocinante/services/server.py: GrpcServer._serve": "the top of the thread: handed to whoever called start",
}


def functions(source: Source) -> list[tuple[str, int, int]]:
    """(name, first line, lines) of every function and method, its decorators not counted."""
    return [
        (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize(
    ("files", "lines_max"),
    [(sources, FILE_LINES_MAX), (sources_of_tests, TEST_FILE_LINES_MAX)],
    ids=["software", "tests"],
)
def test_files_are_short(files: object, lines_max: int) -> None:
    assert callable(files)
    long = {source.relative: lines for source in files() if (lines := len(source.text.splitlines())) > lines_max}
    assert not long, f"more than {lines_max} lines: {long}"


@pytest.mark.parametrize(
    ("files", "lines_max"),
    [(sources, FUNCTION_LINES_MAX), (sources_of_tests, TEST_FUNCTION_LINES_MAX)],
    ids=["software", "tests"],
)
def test_functions_are_short(files: object, lines_max: int) -> None:
    assert callable(files)
    long = [
        f"{source.relative}:{line}: {name} has {length} lines"
        for source in files()
        for name, line, length in functions(source)
        if length > lines_max
    ]
    assert not long, f"more than {lines_max} lines:\n" + "\n".join(long)


def test_every_module_says_what_it_is() -> None:
    """Its docstring is its contract."""
    silent = [source.relative for source in sources() if source.text.strip() and not ast.get_docstring(source.tree)]
    assert not silent


def test_every_package_exports_by_name() -> None:
    missing = [
        source.relative
        for source in sources()
        if source.path.name == "__init__.py" and "__all__" not in _assigned(source.tree)
    ]
    assert not missing, f"no __all__: {missing}"


def test_every_exported_name_is_there() -> None:
    wrong = []
    for source in sources():
        exported = _assigned(source.tree).get("__all__")
        if exported is None:
            continue
        names = ast.literal_eval(exported)
        there = _defined(source.tree)
        wrong += [f"{source.relative}: {name}" for name in names if name not in there and "__getattr__" not in there]
    assert not wrong, "\n".join(wrong)


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _defined(tree: ast.Module) -> set[str]:
    names = set(_assigned(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names | {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def broad_excepts(source: Source) -> list[tuple[str, int]]:
    """(file: function, line) of each handler of everything that does not end by raising again."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{inside}.{child.name}" if inside else child.name
            if isinstance(child, ast.ExceptHandler) and _is_broad(child) and not _raises_again(child):
                found.append((f"{source.relative}: {inside}", child.lineno))
            visit(child, name)

    visit(source.tree, "")
    return found


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(each) in {"Exception", "BaseException"} for each in types)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_everything_is_caught_only_where_a_thread_or_a_request_begins() -> None:
    found = {place: line for source in sources() for place, line in broad_excepts(source)}
    unlisted = [f"{place} (line {line})" for place, line in found.items() if place not in BROAD_EXCEPTS]
    assert not unlisted, "list it in BROAD_EXCEPTS with its reason, or catch what can happen:\n" + "\n".join(unlisted)
    gone = [place for place in BROAD_EXCEPTS if place not in found]
    assert not gone, f"listed, but no longer there: {gone}"


@pytest.mark.parametrize(
    ("text", "broad"),
    [
        ("def f():\n try: g()\n except Exception: pass", True),
        ("def f():\n try: g()\n except: pass", True),
        ("def f():\n try: g()\n except (ValueError, BaseException) as e: print(e)", True),
        ("def f():\n try: g()\n except BaseException:\n  close()\n  raise", False),
        ("def f():\n try: g()\n except ValueError: pass", False),
    ],
)
def test_the_check_of_excepts_sees_what_it_must(text: str, broad: bool) -> None:
    source = Source(PACKAGE / "example.py", text, ast.parse(text))
    assert bool(broad_excepts(source)) == broad


def test_the_repository_names_no_machine() -> None:
    """No path of somebody's home or scratch directory, and no place that packages come from, in any file."""
    from tests.architecture.source import repository_files

    words = ["/wo" + "rk/", "/ro" + "ot/", "/tmp" + "/team", "/ho" + "me/", "pypi" + ".org", "files.python" + "hosted"]
    found = []
    for path in repository_files():
        if path.suffix in {".png", ".pcap", ".pcapng", ".woff2", ".ico"}:
            continue
        text = path.read_text(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found, "\n".join(found)


def test_the_list_of_apt_packages_is_readable() -> None:
    from tests.support.tools import tools

    assert Path(ROOT, "packaging", "apt-test.txt").exists()
    assert {"etcd", "etcdctl", "h2load"} <= set(tools())
    assert all(tool.package and tool.name for tool in tools().values())
