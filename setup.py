"""What pyproject.toml cannot say: the page (www/) becomes part of the package, so that an installed Rocinante serves
it."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

WWW = Path(__file__).parent / "www"


class BuildWithPage(build_py):
    """Copies www/ to rocinante/www of what is built; a development install takes it from where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree(WWW, self._target, dirs_exist_ok=True)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        page = [str(self._target / path.relative_to(WWW)) for path in WWW.rglob("*") if path.is_file()]
        return [*super().get_outputs(include_bytecode), *page]

    @property
    def _target(self) -> Path:
        return Path(self.build_lib) / "rocinante" / "www"


setup(cmdclass={"build_py": BuildWithPage})
