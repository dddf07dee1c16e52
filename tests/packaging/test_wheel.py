"""The sdist has everything, and so has the wheel that is built from it: installed away from the sources it serves the
page, loads its configuration and runs its command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IN_SDIST = (
    *("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md", "ARCHITECTURE.md"),
    *("rocinante", "www", "proto", "docs", "systemd", "packaging"),
)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither build/ here nor a file that git ignores gets in."""
    source = tmp_path_factory.mktemp("source")
    for path in (ROOT / name for name in IN_SDIST):
        if path.is_dir():
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    out = tmp_path_factory.mktemp("sdist")
    script = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    call([sys.executable, "-c", script, str(out)], source)
    return next(out.glob("rocinante-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as `make wheel` does."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-deps"]
    call([*pip, "--no-build-isolation", "--wheel-dir", str(out), str(sdist)], out)
    return next(out.glob("rocinante-*.whl"))


def call(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; the libraries are those of this one, by a path file."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--no-index"]
    subprocess.run([*pip, "--no-deps", str(wheel)], capture_output=True, check=True)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


def run(place: Path, *command: str) -> str:
    """Run a program of that environment, away from the sources."""
    program, *arguments = command
    done = subprocess.run(
        [str(place / "bin" / program), *arguments], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_sdist_has_what_is_needed_to_build_and_to_run_it(sdist: Path) -> None:
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    for folder in ("rocinante", "www", "proto", "docs", "systemd", "packaging"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        missing = {name for name in files - names if "__pycache__" not in name}
        assert files
        assert not missing
    assert {"LICENSE", "README.md", "CHANGELOG.md", "ARCHITECTURE.md", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if name.endswith(".pyc")]


def test_the_wheel_has_the_page_the_types_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    page = {f"rocinante/www/{path.relative_to(ROOT / 'www')}" for path in (ROOT / "www").rglob("*") if path.is_file()}
    assert page
    assert page <= names
    assert {"rocinante/py.typed", "rocinante/pb/v1/flow_pb2.pyi", "rocinante/cli/main.py"} <= names
    assert any(name.endswith("/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "www/", "proto/"))]


def test_the_wheel_has_every_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "rocinante").rglob("*.py")}
    assert modules <= names


def test_an_installed_rocinante_finds_its_page(installed: Path) -> None:
    found = run(
        installed, "python", "-I", "-c", "from rocinante.rest.static import find_wwwroot; print(find_wwwroot(None))"
    )
    root = Path(found.strip())
    assert root.is_relative_to(installed.resolve())
    assert (root / "index.html").read_bytes() == (ROOT / "www" / "index.html").read_bytes()


def test_the_command_of_an_installed_rocinante_works(installed: Path) -> None:
    from rocinante.version import __version__

    assert __version__ in run(installed, "rocinante", "version")
    run(installed, "rocinante", "config", "check", str(ROOT / "packaging" / "rocinante.example.yaml"))
