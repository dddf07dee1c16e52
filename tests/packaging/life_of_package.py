"""The Debian package (`make systemd-test`): the same bytes from the same commit, and its life on a host without a
network: installed, upgraded, removed, purged. The host is this one's own file system under an overlay in memory."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from rocinante.version import __version__
from tests.packaging.debian_package import build

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
NEXT = "99.0.0"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def names(package: Path) -> list[str]:
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    return [line.split(maxsplit=5)[5].removeprefix(".") for line in listed.splitlines()]


def test_the_same_commit_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == package.read_bytes()


def test_what_is_in_it(names: list[str]) -> None:
    text = "\n".join(names)
    for wanted in (
        "/usr/bin/rocinante",
        "/lib/systemd/system/rocinante@.service",
        "/usr/share/man/man1/rocinante-node.1.gz",
        "/usr/share/doc/rocinante/CHANGELOG.md.gz",
        "/usr/share/bash-completion/completions/rocinante",
        "/opt/rocinante/bin/python3 -> /usr/bin/python3",
        "/opt/rocinante/lib/python3/rocinante/www/index.html",
    ):
        assert wanted in names, wanted
    for version in ("311", "312"):
        assert re.search(rf"^/opt/rocinante/lib/python3.../site-packages/.*cpython-{version}-x86_64.*\.so$", text, re.M)
    assert not re.search(r"\.pyc|__pycache__|\.venv|/tests/", text), "no bytecode, no tests of the libraries"


def test_lintian_finds_nothing_but_what_is_overridden_with_a_reason(package: Path) -> None:
    command = ["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


class Host:
    """This host's file system in a mount namespace of its own; what is written goes to memory and is gone with it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, script: str) -> str:
        """Run it as root of that host, with no network."""
        prepare = (
            f"set -e; mount -t tmpfs -o size=1g none {self.place}; cd {self.place}; mkdir upper work root; "
            "mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root; "
            "mount -t proc proc root/proc; mount -t tmpfs tmpfs root/run; mount -t tmpfs tmpfs root/tmp; "
            "mount --rbind /dev root/dev; cp '"
            f"{self.place.parent}/packages'/*.deb root/tmp; "
            "exec chroot root /bin/bash -euo pipefail"
        )
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", prepare],
            input=script, capture_output=True, text=True, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def host(package: Path, tmp_path: Path) -> Host:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "rocinante.deb").hardlink_to(package)
    # The upgrade: the same content under a higher number, which costs no second build.
    subprocess.run(["dpkg-deb", "--raw-extract", package, tmp_path / "next"], check=True)
    control = tmp_path / "next" / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {__version__}\n", f"Version: {NEXT}\n"))
    (tmp_path / "next" / "etc/default/rocinante").write_text("# another default\n")
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "--build", tmp_path / "next", tmp_path / "packages" / "next.deb"],
        check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "host").mkdir()
    return Host(tmp_path / "host")


LIFE = f"""
dpkg --install /tmp/rocinante.deb >/dev/null
rocinante version | grep -q '^rocinante {__version__} '
getent passwd rocinante | grep -q /usr/sbin/nologin
[ "$(stat -c '%U %a' /var/lib/rocinante)" = 'rocinante 750' ]
[ -n "$(find /opt/rocinante -path '*/rocinante/node/*.pyc' -print -quit)" ]
rocinante config check /usr/share/doc/rocinante/examples/rocinante.yaml >/dev/null
cd / && python3 -I -c 'import sys; assert not any("/opt/rocinante" in path for path in sys.path)'
/opt/rocinante/bin/python3 -I -c 'import grpc, numpy, plyvel; assert grpc.__file__.startswith("/opt/rocinante/")'
echo installed

mkdir -p /var/lib/rocinante/node1 /etc/systemd/system/multi-user.target.wants
echo data >/var/lib/rocinante/node1/log
echo mine >/etc/rocinante/rocinante.yaml
echo ROCINANTE_OPTIONS=--join >/etc/default/rocinante
ln -s /lib/systemd/system/rocinante@.service /etc/systemd/system/multi-user.target.wants/rocinante@node1.service
dpkg --install --force-confdef --force-confold /tmp/next.deb >/dev/null
[ "$(dpkg-query -W -f '${{Version}}' rocinante)" = {NEXT} ]
grep -q join /etc/default/rocinante
grep -q data /var/lib/rocinante/node1/log
grep -q mine /etc/rocinante/rocinante.yaml
[ -n "$(find /opt/rocinante -path '*/rocinante/node/*.pyc' -print -quit)" ]
echo upgraded

dpkg --remove rocinante >/dev/null
[ ! -e /opt/rocinante ] && [ ! -e /usr/bin/rocinante ] && [ -d /opt ]
grep -q data /var/lib/rocinante/node1/log
grep -q mine /etc/rocinante/rocinante.yaml
grep -q join /etc/default/rocinante
echo removed

dpkg --purge rocinante >/dev/null
for path in /var/lib/rocinante /etc/rocinante /etc/default/rocinante \
    /etc/systemd/system/multi-user.target.wants/rocinante@node1.service; do
    [ ! -e "$path" ] && [ ! -L "$path" ]
done
getent passwd rocinante >/dev/null
echo purged
"""


def test_the_life_of_the_package_on_a_host_without_a_network(host: Host) -> None:
    assert host.run(LIFE).split() == ["installed", "upgraded", "removed", "purged"]
