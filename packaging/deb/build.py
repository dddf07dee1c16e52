"""`make package`: dist/rocinante_VERSION_ARCH.deb, the same bytes from the same commit.

One package for the Pythons of all supported distributions (`PYTHONS`). It carries its libraries under /opt/rocinante,
laid out as a virtual environment whose interpreter is the distribution's:

    bin/python3 -> /usr/bin/python3, beside pyvenv.cfg    so python3 takes its libraries from here and nowhere else
    lib/pythonX.Y/site-packages                            what is compiled for that Python, and a path file to …
    lib/python3                                            … what all share: pure Python, and Rocinante itself

Nothing in it depends on the machine it was built on: the wheels are those of requirements.lock, by their hashes, for
glibc 2.28; times are the commit's (SOURCE_DATE_EPOCH), owners are root, bytecode is made when the package is installed.
With --version the package is of that version, `rocinante version` too: for tests of upgrades.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
PYTHONS: Final = ("3.11", "3.12")
"""Of Debian 12 and Ubuntu 24.04. The dependency on python3 follows from it."""
MACHINES: Final = {"x86_64": "amd64"}
"""plyvel has wheels for no other; a package for them would have to be compiled on each distribution."""
PLATFORM: Final = "manylinux_2_28"
SOURCES: Final = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py", "requirements.lock")
SOURCE_TREES: Final = ("rocinante", "www", "proto", "docs", "packaging", "systemd")
BUILD_ONLY: Final = ("setuptools", "wheel", "packaging")
"""In requirements.lock to build with, not to run with."""
SDISTS: Final = ("sdnotify",)
"""There is no wheel of it: it is built, of pure Python, with the setuptools of .venv."""
COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/rocinante",
    "zsh": "usr/share/zsh/vendor-completions/_rocinante",
    "fish": "usr/share/fish/vendor_completions.d/rocinante.fish",
}
PREFIX: Final = Path("opt/rocinante")
SHARED: Final = PREFIX / "lib" / "python3"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the directory for the package")
    parser.add_argument("--version", help="make it this version, instead of the source's")
    options = parser.parse_args()
    machine = os.uname().machine
    if machine not in MACHINES:
        print(f"there is no package for {machine}: {', '.join(MACHINES)} only; use the wheel", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="rocinante-deb-") as directory:
        package = Build(Path(directory), machine, options.version).run(options.out.resolve())
    print(f"{package} ({package.stat().st_size / 1e6:.0f} MB)")
    return 0


class Build:
    """One build, in a directory of its own."""

    def __init__(self, work: Path, machine: str, version: str | None) -> None:
        self.machine = machine
        self.source = work / "source"
        self.tree = work / "tree"
        self.work = work
        self.epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
        copy_sources(self.source)
        self.version = self._set_version(version)

    def _set_version(self, wanted: str | None) -> str:
        path = self.source / "rocinante" / "version.py"
        text = path.read_text()
        found = text.partition('__version__: Final = "')[2].partition('"')[0]
        if wanted:
            path.write_text(text.replace(f'"{found}"', f'"{wanted}"', 1))
        return wanted or found

    @property
    def debian_version(self) -> str:
        """In which a hyphen would begin a revision; ~ sorts before."""
        return self.version.replace("-", "~")

    def run(self, out: Path) -> Path:
        for version in PYTHONS:
            self._install_libraries(version)
        self._share()
        self._install_own()
        self._environment()
        self._install_files()
        self._install_manual()
        self._control()
        self._normalise()
        out.mkdir(parents=True, exist_ok=True)
        package = out / f"rocinante_{self.version}_{MACHINES[self.machine]}.deb"
        # zstd: xz takes a minute for a tenth less. One thread: the number of them would show in the bytes.
        self._call(
            "dpkg-deb",
            "--root-owner-group",
            "-Zzstd",
            "-z6",
            "--threads-max=1",
            "--build",
            str(self.tree),
            str(package),
        )
        return package

    def _call(self, *command: str) -> None:
        environment = {
            **os.environ, "SOURCE_DATE_EPOCH": str(self.epoch), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C.UTF-8", "PYTHONPATH": str(self.source), "NO_COLOR": "1", "COLUMNS": "80", "TZ": "UTC",
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=self.source, env=environment, capture_output=True, text=True, check=False, umask=0o022
        )
        if done.returncode:
            raise SystemExit(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}")

    def _packages(self, version: str) -> Path:
        return self.tree / PREFIX / "lib" / f"python{version}" / "site-packages"

    def _install_libraries(self, version: str) -> None:
        """What requirements.lock says, for that Python, whatever Python this is."""
        uv = subprocess.run([ROOT / "packaging" / "uv.sh"], capture_output=True, text=True, check=True).stdout.strip()
        target = self._packages(version)
        command = [
            uv, "pip", "install", "--quiet", "--python", sys.executable, "--python-version", version,
            "--python-platform", f"{self.machine}-{PLATFORM}", "--target", str(target), "--link-mode", "copy",
            "--require-hashes", "--no-deps", "--only-binary", ":all:",
        ]  # fmt: skip
        for name in SDISTS:
            command += ["--no-binary", name, "--no-build-isolation-package", name]
        self._call(*command, "--requirement", str(without(self.source / "requirements.lock", BUILD_ONLY)))
        for name in ("bin", ".lock"):
            remove(target / name)
        for tests in [path for path in target.rglob("tests") if path.is_dir()]:
            shutil.rmtree(tests)  # of the libraries: 8 MB

    def _share(self) -> None:
        """Pure Python that is the same for all Pythons is there once; then lists that would be wrong go."""
        shared = self.tree / SHARED
        shared.mkdir(parents=True)
        places = [self._packages(version) for version in PYTHONS]
        for info in sorted(places[0].glob("*.dist-info")):
            everywhere = all((place / info.name).is_dir() for place in places)
            if everywhere and "Root-Is-Purelib: true" in (info / "WHEEL").read_text():
                names = top_level(info)
                for place in places:
                    for name in names:
                        if place is places[0] and not (shared / name).exists():
                            (place / name).rename(shared / name)
                        else:
                            remove(place / name)
        for place in places:
            (place / "rocinante.pth").write_text(f"/{SHARED}\n")
        for info in (self.tree / PREFIX).rglob("*.dist-info"):
            for name in ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json", "uv_cache.json", "uv_build.json"):
                remove(info / name)

    def _install_own(self) -> None:
        wheels = self.work / "wheel"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index", "--no-deps"]
        self._call(*pip, "--no-build-isolation", "--wheel-dir", str(wheels), str(self.source))
        (wheel,) = wheels.glob("*.whl")
        shutil.unpack_archive(wheel, self.tree / SHARED, "zip")
        (info,) = (self.tree / SHARED).glob("rocinante-*.dist-info")
        remove(info / "RECORD")

    def _environment(self) -> None:
        """The interpreter, and the command."""
        prefix = self.tree / PREFIX
        (prefix / "bin").mkdir()
        (prefix / "bin" / "python3").symlink_to("/usr/bin/python3")
        (prefix / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        command = self._put("usr/bin/rocinante", mode=0o755)
        # -I: neither the directory nor the user's environment nor their packages have a say in what is run.
        command.write_text(f"#!/{PREFIX}/bin/python3 -I\nfrom rocinante.cli.main import main\n\nmain()\n")

    def _put(self, place: str, content: Path | None = None, mode: int = 0o644) -> Path:
        path = self.tree / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.read_bytes() if content else b"")
        path.chmod(mode)
        return path

    def _install_files(self) -> None:
        systemd, share = self.source / "systemd", "usr/share/doc/rocinante"
        for unit in [*systemd.glob("*.service"), *systemd.glob("*.target")]:
            self._put(f"lib/systemd/system/{unit.name}", unit)
        self._put("usr/lib/sysusers.d/rocinante.conf", systemd / "rocinante.sysusers")
        self._put("usr/lib/tmpfiles.d/rocinante.conf", systemd / "rocinante.tmpfiles")
        for name in ("rocinante", "rocinante-sniffer"):
            self._put(f"etc/default/{name}", systemd / f"{name}.default")
        for path in sorted((self.source / "docs").glob("*.md")):
            self._put(f"{share}/{path.name}", path)
        self._put(f"{share}/examples/rocinante.yaml", self.source / "packaging" / "rocinante.example.yaml")
        self._put(f"{share}/copyright", HERE / "copyright")
        for name, text in (("CHANGELOG.md", (ROOT / "CHANGELOG.md").read_bytes()), ("changelog", self._changelog())):
            self._put(f"{share}/{name}.gz").write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
        self._put("usr/share/lintian/overrides/rocinante", HERE / "lintian-overrides")
        page = self.tree / "usr/share/rocinante/www"
        page.parent.mkdir(parents=True)
        page.symlink_to(f"/{SHARED}/rocinante/www")

    def _changelog(self) -> bytes:
        """In Debian's form, which its tools read: this version, and where the changes are told."""
        control = (HERE / "control").read_text()
        maintainer = control.partition("Maintainer: ")[2].partition("\n")[0]
        lines = (
            f"rocinante ({self.debian_version}) unstable; urgency=medium",
            "  * See /usr/share/doc/rocinante/CHANGELOG.md.gz.",
            f" -- {maintainer}  {formatdate(self.epoch)}",
        )
        return "\n\n".join(lines).encode() + b"\n"

    def _install_manual(self) -> None:
        """Manual pages and completions, from the help of the command that is in the package."""
        made = self.work / "manual"
        self._call(sys.executable, "-P", str(self.source / "packaging" / "deb" / "manual.py"), str(made))
        for path in sorted((made / "man").iterdir()):
            self._put(f"usr/share/man/man1/{path.name}.gz").write_bytes(
                gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
            )
        for shell, place in COMPLETIONS.items():
            self._put(place, made / shell)

    def _control(self) -> None:
        control = self.tree / "DEBIAN"
        control.mkdir()
        for name in ("preinst", "postinst", "prerm", "postrm"):
            if (HERE / name).exists():
                self._put(f"DEBIAN/{name}", HERE / name, mode=0o755)
        self._put("DEBIAN/triggers", HERE / "triggers")
        etc = sorted(f"/{path.relative_to(self.tree)}" for path in (self.tree / "etc").rglob("*") if path.is_file())
        self._put("DEBIAN/conffiles").write_text("".join(f"{path}\n" for path in etc))
        size = sum(path.lstat().st_size for path in content(self.tree) if not path.is_symlink())
        fields = {
            "VERSION": self.debian_version,
            "ARCHITECTURE": MACHINES[self.machine],
            "SIZE": str(size // 1024),
            "PYTHON": f"python3 (>= {PYTHONS[0]}), python3 (<< {following(PYTHONS[-1])})",
        }
        text = (HERE / "control").read_text()
        for name, value in fields.items():
            text = text.replace(f"@{name}@", value)
        self._put("DEBIAN/control").write_text(text)
        sums = (
            f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(self.tree)}\n"
            for path in content(self.tree)
            if not path.is_symlink() and path.relative_to(self.tree).parts[0] != "etc"
        )
        self._put("DEBIAN/md5sums").write_text("".join(sums))

    def _normalise(self) -> None:
        """Modes and times; dpkg-deb sorts, and clamps to SOURCE_DATE_EPOCH only what is later."""
        for path in [self.tree, *self.tree.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or (path.parent.name in ("DEBIAN", "bin") and path.stat().st_mode & 0o100)
                path.chmod(0o755 if executable else 0o644)
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"make package needs the git repository: {done.stderr.strip()}")
    return done.stdout.strip()


def copy_sources(target: Path) -> None:
    """What git knows or would add, so that nothing gets in that happens to lie here."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES, *SOURCE_TREES)
    for name in sorted(filter(None, listed.split("\0"))):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def without(lock: Path, names: Iterable[str]) -> Path:
    """A lock file without these packages."""
    kept, keep = [], True
    for line in lock.read_text().splitlines(keepends=True):
        if line[0] not in " #\n":
            keep = line.partition("=")[0].strip() not in names
        if keep:
            kept.append(line)
    path = lock.with_name("requirements.package.lock")
    path.write_text("".join(kept))
    return path


def top_level(info: Path) -> list[str]:
    """The files and directories of site-packages that an installed distribution has for itself."""
    names = {line.partition("/")[0].partition(",")[0] for line in (info / "RECORD").read_text().splitlines()}
    return sorted(name for name in names if name not in ("..", "bin", "") and (info.parent / name).exists())


def following(version: str) -> str:
    major, minor = version.split(".")
    return f"{major}.{int(minor) + 1}"


def content(tree: Path) -> Iterator[Path]:
    """The files and links of the package, sorted."""
    for path in sorted(tree.rglob("*")):
        if (path.is_symlink() or path.is_file()) and path.relative_to(tree).parts[0] != "DEBIAN":
            yield path


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
