"""The file system that every host starts from: Debian or Ubuntu with systemd, sshd and what Ansible needs, made once.

`ROCINANTE_LAB_SYSTEM` says which (SYSTEMS; the first, where it is not set).

Contract: a tree is named by the digest of its recipe, so a change of the recipe makes another one; it appears whole
(made aside, then renamed) and is never written to again. Making it takes a minute or two and Debian's packages; having
it takes nothing. `KEPT_MAX` of them stay, the ones used last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from tests.hosts.names import CACHE, USER, LabError, run


class System(NamedTuple):
    """What debootstrap is told."""

    suite: str
    mirror: str
    script: str = ""
    """Of debootstrap, where it may not know the suite."""
    keyring: str = ""
    """The package on the mirror that has the keys which sign it, where they are not debootstrap's own, …"""
    keyring_sha256: str = ""
    keyring_file: str = ""
    """… and their file in it."""


SYSTEMS: Final = {
    "debian": System("bookworm", "http://deb.debian.org/debian"),
    "ubuntu": System(
        "noble", "http://archive.ubuntu.com/ubuntu", "/usr/share/debootstrap/scripts/gutsy",
        "pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb",
        "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8",
        "usr/share/keyrings/ubuntu-archive-keyring.gpg",
    ),
}  # fmt: skip
VARIABLE: Final = "ROCINANTE_LAB_SYSTEM"
PACKAGES: Final = (
    "adduser",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
FILES: Final = {
    "etc/sudoers.d/admin": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    # Keys are where no home directory is needed; host keys are the lab's (lab.py).
    "etc/ssh/sshd_config.d/lab.conf": (
        "AuthorizedKeysFile /etc/ssh/authorized_keys\nHostKey /etc/ssh/lab_host_key\nPasswordAuthentication no\n"
        "UseDNS no\nMaxStartups 64\n"
    ),
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nSystemMaxUse=64M\n",
    "etc/apt/apt.conf.d/99lab": 'APT::Periodic::Enable "0";\n',
}
"""Written into the tree: path and content."""
SCRIPT: Final = f"""\
set -e
useradd --create-home --shell /bin/bash {USER}
chmod 0440 /etc/sudoers.d/admin
rm -f /etc/ssh/ssh_host_* /etc/machine-id /etc/resolv.conf
: >/etc/machine-id
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-timesyncd.service systemd-networkd.service systemd-resolved.service console-getty.service \
    getty.target systemd-udevd.service systemd-journald-audit.socket; do
    ln -sf /dev/null /etc/systemd/system/$unit
done
systemctl disable ssh.socket # Ubuntu's way to start it
systemctl enable ssh.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/share/doc/* /usr/share/locale/*
"""
MAKE_TIMEOUT_S: Final = 900.0
KEPT_MAX: Final = 2 * len(SYSTEMS)


def system() -> System:
    """The one that is asked for. Raises LabError."""
    name = os.environ.get(VARIABLE) or next(iter(SYSTEMS))
    if name not in SYSTEMS:
        raise LabError(f"{VARIABLE} is {name!r}; it can be {' or '.join(SYSTEMS)}")
    return SYSTEMS[name]


def place(made: System) -> Path:
    """Where the tree that this recipe makes is, or will be."""
    recipe = repr((made, PACKAGES, sorted(FILES.items()), SCRIPT))
    return CACHE / f"{made.suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def tree() -> Path:
    """The tree; made now when it is not there. Raises LabError."""
    if os.getuid():
        raise LabError("hosts are made by root only")
    made = system()
    CACHE.mkdir(parents=True, exist_ok=True)
    with _lock():
        path = place(made)
        if not path.is_dir():
            _make(made, path)
        os.utime(path)
        _remove_old(path)
    return path


@contextmanager
def _lock() -> Iterator[None]:
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(made: System, path: Path) -> None:
    if shutil.which("debootstrap") is None and not Path("/usr/sbin/debootstrap").exists():
        raise LabError("debootstrap is missing: apt-get install debootstrap")
    scratch = Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
    try:
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        where = [made.suite, str(scratch), made.mirror, *([made.script] if made.script else [])]
        with tempfile.TemporaryDirectory(prefix="rocinante-keys-") as keys:
            if made.keyring:
                options.append(f"--keyring={_keyring(made, Path(keys))}")
            run("debootstrap", *options, *where, timeout_s=MAKE_TIMEOUT_S)
        for name, content in FILES.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        run("chroot", scratch, "/bin/sh", stdin=SCRIPT)
        scratch.chmod(0o755)
        scratch.rename(path)
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def _keyring(made: System, directory: Path) -> Path:
    """The file with the keys that sign the mirror."""
    try:
        content = httpx.get(f"{made.mirror}/{made.keyring}", follow_redirects=True).raise_for_status().content
    except httpx.HTTPError as error:
        raise LabError(f"{made.mirror}/{made.keyring}: {error}") from None
    if hashlib.sha256(content).hexdigest() != made.keyring_sha256:
        raise LabError(f"{made.mirror}/{made.keyring} is another file than the one that is known here")
    package = directory / "keyring.deb"
    package.write_bytes(content)
    run("dpkg-deb", "--extract", package, directory)
    return directory / made.keyring_file


def _remove_old(current: Path) -> None:
    """Trees of older recipes, and what a `_make` left that was killed. A tree that a lab has mounted stays usable to
    it: its files live on until it is unmounted only where they are open, so the one before is kept too."""
    for path in CACHE.glob("making-*"):
        shutil.rmtree(path)
    trees = sorted((path for path in CACHE.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in trees[:-KEPT_MAX]:
        if path != current:
            shutil.rmtree(path)
