"""The packages that scenarios install: the one that was built, a next version of it, and one whose node cannot start.

The last two are the first one, taken apart and put together again with another version number; the bad one with one
line more, where the node starts. All else works in it, as with a real mistake.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from tests.hosts.names import LabError, run

NEXT: Final = "99.0.0"
BAD: Final = "99.0.1"
BUILD_TIMEOUT_S: Final = 600.0
_MODULE: Final = Path("opt/rocinante/lib/python3/rocinante")
_VERSION_LINE: Final = "__version__: Final = "


def make(built: Path, directory: Path) -> None:
    """rocinante_now.deb, rocinante_next.deb and rocinante_bad.deb; what is newer than `built` already stays."""
    directory.mkdir(parents=True, exist_ok=True)
    made = {name: directory / f"rocinante_{name}.deb" for name in ("now", "next", "bad")}
    if all(path.exists() and path.stat().st_mtime >= built.stat().st_mtime for path in made.values()):
        return
    with tempfile.TemporaryDirectory(prefix="rocinante-packages-") as scratch:
        tree = Path(scratch, "tree")
        run("dpkg-deb", "--raw-extract", built, tree, timeout_s=BUILD_TIMEOUT_S)
        _set_version(tree, NEXT)
        _build(tree, made["next"])
        _set_version(tree, BAD)
        command = tree / _MODULE / "cli" / "node.py"
        text = command.read_text()
        place = text.index("    raise SystemExit(run(config")
        command.write_text(text[:place] + '    raise SystemExit("this package cannot start")\n' + text[place:])
        _build(tree, made["bad"])
    shutil.copy(built, made["now"])


def _set_version(tree: Path, version: str) -> None:
    control = tree / "DEBIAN" / "control"
    lines = [
        f"Version: {version}" if line.startswith("Version:") else line for line in control.read_text().splitlines()
    ]
    control.write_text("\n".join(lines) + "\n")
    module = tree / _MODULE / "version.py"
    lines = module.read_text().splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith(_VERSION_LINE)]
    if len(found) != 1:
        raise LabError(f"{module}: where is the version?")
    lines[found[0]] = f'{_VERSION_LINE}"{version}"'
    module.write_text("\n".join(lines) + "\n")
    (tree / "DEBIAN" / "md5sums").unlink(missing_ok=True)


def _build(tree: Path, path: Path) -> None:
    scratch = path.with_suffix(".part")
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, scratch, timeout_s=BUILD_TIMEOUT_S)
    scratch.rename(path)
