"""One host: a tree of its own over the cached one, systemd as process 1, a network namespace that is there before and
stays until after.

The tree is an overlay that only the host's own mount namespace knows, so it is gone with its last process. What the
host wrote is in the lab's state directory. A host that reboots itself keeps its process on our side, its address and
its files; one that powers off can be started again.
"""

from __future__ import annotations

import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.hosts import cgroups
from tests.hosts.names import NETNS, LabError, checked_name, run, scope, state_of

BOOT_TIMEOUT_S: Final = 90.0
_LAUNCH: Final = """\
set -e
for directory in {cgroups}; do echo $$ >$directory/cgroup.procs; done
mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {root}
# 133: it wants to boot again, which with --keep-unit is for whoever runs it.
while :; do
    systemd-nspawn --quiet --directory={root} --hostname={name} --network-namespace-path={netns} \
        --register=no --keep-unit --resolv-conf=off --timezone=off --link-journal=no --console=pipe --boot && exit
    status=$?
    [ $status = 133 ] || exit $status
done
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """See the module. Its network namespace is somebody else's."""

    lab: str
    name: str
    address: str

    @property
    def directory(self) -> Path:
        return state_of(self.lab) / "hosts" / self.name

    @property
    def netns(self) -> Path:
        return NETNS / scope(self.lab, self.name)

    def prepare(self, tree: Path, files: dict[str, str]) -> None:
        """Its disk, with these files (path and content; a mode of 0600 for what is a key)."""
        checked_name(self.name)
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)
        (self.directory / "tree").write_text(str(tree))
        files = {**files, "etc/hostname": f"{self.name}\n", "etc/machine-id": f"{uuid.uuid4().hex}\n"}
        for path, content in files.items():
            target = self.directory / "upper" / path
            # An overlay takes a directory's owner and mode from the upper one.
            for parent in reversed(target.relative_to(self.directory / "upper").parents[:-1]):
                made = self.directory / "upper" / parent
                made.mkdir(exist_ok=True)
                made.chmod((tree / parent).stat().st_mode & 0o7777 if (tree / parent).is_dir() else 0o755)
            target.write_text(content)
            target.chmod(0o600 if path.endswith("key") else 0o644)

    def start(self) -> None:
        """Switch it on; `wait` waits for it."""
        cgroup = scope(self.lab, self.name)
        cgroups.remove(cgroup + ".")
        script = _LAUNCH.format(
            cgroups=" ".join(str(path) for path in cgroups.make(cgroup + ".")),
            lower=(self.directory / "tree").read_text(),
            upper=self.directory / "upper",
            work=self.directory / "work",
            root=self.directory / "root",
            name=self.name,
            netns=self.netns,
        )
        with (self.directory / "console").open("ab") as console:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, cwd="/",
            )  # fmt: skip
        (self.directory / "pid").write_text(str(process.pid))

    def leader(self) -> int | None:
        """Its process 1, as we see it."""
        try:
            pid = int((self.directory / "pid").read_text())
            children = [grandchild for child in _children(pid) for grandchild in _children(child)]
        except (OSError, ValueError):
            return None
        for child in children:
            try:
                # The last number is the pid in the innermost namespace.
                status = Path(f"/proc/{child}/status").read_text()
                line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if (
                    line.split()[-1] == "1"
                    and len(line.split()) > 2
                    and "systemd" in Path(f"/proc/{child}/comm").read_text()
                ):
                    return child
            except (OSError, StopIteration):
                continue
        return None

    def wait(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until it has booted. Raises LabError, with the end of its console, when it does not."""
        deadline = time.monotonic() + timeout_s
        state = "no process 1"
        while time.monotonic() < deadline:
            if self.leader() is not None:
                try:
                    if (state := self.system_state()) in {"running", "degraded"}:
                        return
                except LabError as error:
                    state = str(error)
            time.sleep(0.2)
        tail = "\n".join((self.directory / "console").read_text(errors="replace").splitlines()[-20:])
        raise LabError(f"{self.name} does not boot ({state}):\n{tail}")

    def system_state(self) -> str:
        """systemd's own word: running, degraded, starting, ..."""
        return self.run("/bin/sh", "-c", "systemctl is-system-running || true").strip()

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """A command on the host, as root; its output. Raises LabError with what it said."""
        leader = self.leader()
        if leader is None:
            raise LabError(f"{self.name} is off")
        return run("nsenter", "--all", f"--target={leader}", "--", *command, stdin=stdin, timeout_s=timeout_s)

    def stop(self) -> None:
        """Pull its plug: nothing in it hears of that. Its disk stays."""
        cgroups.remove(scope(self.lab, self.name) + ".")

    def __str__(self) -> str:
        return f"{self.name} {self.address}"


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
