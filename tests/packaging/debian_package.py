"""Builds the Debian package, for the tests that use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.tools import ROOT


def build(out: Path, *arguments: str) -> Path:
    command = [sys.executable, str(ROOT / "packaging" / "deb" / "build.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = out.glob("*.deb")
    return package
