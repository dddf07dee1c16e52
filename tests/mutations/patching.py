"""A bug, put into the product as it is imported: its text is changed, its files are not.

Contract: `install` is called in a fresh process, before anything of the product is imported. A patch whose text is not
in the file exactly once does not apply, which is an error and never a result: the bug must be written anew. So is a
file that was not imported in the end (`check_reached`): then the bug was never there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import rocinante

ROOT = Path(rocinante.__file__).parent


class Patch(NamedTuple):
    file: str
    """Under rocinante/."""
    old: str
    new: str


class DoesNotApply(Exception):
    """The product has changed: the patch no longer says which bug it makes."""


def patched(patches: Sequence[Patch]) -> dict[Path, str]:
    """The text of each file that is changed. Raises DoesNotApply."""
    texts: dict[Path, str] = {}
    for patch in patches:
        path = ROOT / patch.file
        if not path.exists():
            raise DoesNotApply(f"{patch.file}: there is no such file")
        text = texts.get(path) or path.read_text()
        if (times := text.count(patch.old)) != 1:
            raise DoesNotApply(f"{patch.file}: expected this text once, found it {times} times:\n{patch.old}")
        if patch.new == patch.old:
            raise DoesNotApply(f"{patch.file}: changes nothing:\n{patch.old}")
        texts[path] = text.replace(patch.old, patch.new)
    for path, text in texts.items():
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            raise DoesNotApply(f"{path.name}: is no Python any more: {error}") from error
    return texts


class Patcher(MetaPathFinder):
    """Finds the changed modules before anybody else does."""

    def __init__(self, texts: dict[Path, str]) -> None:
        self._texts = texts
        self.loaded: set[Path] = set()

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if not fullname.startswith("rocinante."):
            return None
        spec: ModuleSpec | None = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or (text := self._texts.get(Path(spec.origin))) is None:
            return None
        self.loaded.add(Path(spec.origin))
        spec.loader = _Loader(fullname, spec.origin, text)
        return spec

    def check_reached(self) -> None:
        """Raises DoesNotApply for a file that nobody imported."""
        if missing := self._texts.keys() - self.loaded:
            raise DoesNotApply(f"never imported: {', '.join(sorted(path.name for path in missing))}")


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        """Of the changed text, past every cache of compiled files."""
        return compile(self._text, self.path, "exec", dont_inherit=True)


def install(patches: Sequence[Patch]) -> Patcher:
    """From now on, imports give the changed modules. Raises DoesNotApply."""
    texts = patched(patches)
    for module in list(sys.modules.values()):
        if (file := getattr(module, "__file__", None)) and Path(file) in texts:
            raise DoesNotApply(f"{module.__name__} is imported already")
    patcher = Patcher(texts)
    sys.meta_path.insert(0, patcher)
    return patcher
