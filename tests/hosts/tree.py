"""The file system that every host starts from: Debian with systemd, sshd and what Ansible needs, made once.

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
from typing import Final

from tests.hosts.names import CACHE, USER, LabError, run

SUITE: Final = "bookworm"
MIRROR: Final = "http://deb.debian.org/debian"
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
systemctl enable ssh.service
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/share/doc/* /usr/share/locale/*
"""
MAKE_TIMEOUT_S: Final = 900.0
KEPT_MAX: Final = 2


def digest() -> str:
    """The name of the tree that this recipe makes."""
    recipe = repr((SUITE, PACKAGES, sorted(FILES.items()), SCRIPT))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def cached() -> Path | None:
    """The tree, when it is there already."""
    path = CACHE / f"{SUITE}-{digest()}"
    return path if path.is_dir() else None


def tree() -> Path:
    """The tree; made now when it is not there. Raises LabError."""
    if os.getuid():
        raise LabError("hosts are made by root only")
    CACHE.mkdir(parents=True, exist_ok=True)
    with _lock():
        path = cached()
        if path is None:
            path = _make(CACHE / f"{SUITE}-{digest()}")
        os.utime(path)
        _remove_old(path)
    return path


@contextmanager
def _lock() -> Iterator[None]:
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(path: Path) -> Path:
    if shutil.which("debootstrap") is None and not Path("/usr/sbin/debootstrap").exists():
        raise LabError("debootstrap is missing: apt-get install debootstrap")
    scratch = Path(tempfile.mkdtemp(prefix="making-", dir=CACHE))
    try:
        run(
            "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, scratch, MIRROR,
            timeout_s=MAKE_TIMEOUT_S,
        )  # fmt: skip
        for name, content in FILES.items():
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        run("chroot", scratch, "/bin/sh", stdin=SCRIPT)
        scratch.chmod(0o755)
        return scratch.rename(path)
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def _remove_old(current: Path) -> None:
    """Trees of older recipes, and what a `_make` left that was killed. A tree that a lab has mounted stays usable to
    it: its files live on until it is unmounted only where they are open, so the one before is kept too."""
    for path in CACHE.glob("making-*"):
        shutil.rmtree(path)
    trees = sorted((path for path in CACHE.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in trees[:-KEPT_MAX]:
        if path != current:
            shutil.rmtree(path)
