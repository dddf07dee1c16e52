"""The parts that the faults of the disk are made of, and what one node says when its disk fails: without a network."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from rocinante.errors import EXIT_STORAGE, EXIT_TEMPORARY
from tests.faults.disk import MIB, Disk, sweep, unusable
from tests.faults.preload import Act, FaultyDisk, Operation
from tests.node.tools import FAST, log_since, log_size
from tests.support.cluster import Cluster
from tests.support.tools import requires

pytestmark = requires("gcc", "/usr/include/dlfcn.h")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Disk]:
    if reason := unusable():
        pytest.skip(reason)
    with Disk.ext4(tmp_path / "disk", 64 * MIB) as disk:
        yield disk


def run_on(disk: FaultyDisk, script: str) -> tuple[int, list[str]]:
    """What a Python process with this disk ends with and prints; its directory is `sys.argv[1]`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\nroot = sys.argv[1]\n{script}", str(disk.root)],
        env={**os.environ, **disk.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()[-1:]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyDisk]:
    (tmp_path / "data").mkdir()
    disk = FaultyDisk(tmp_path / "data", tmp_path / "control")
    yield disk
    disk.close()


WRITES = """
fd = os.open(root + "/a", os.O_RDWR | os.O_CREAT)
for turn in range(4):
    try:
        print(turn, os.write(fd, b"12345678"))
        os.fdatasync(fd)
    except OSError as error:
        print(turn, error.strerror)
"""


def test_without_a_rule_nothing_happens(disk: FaultyDisk) -> None:
    assert run_on(disk, WRITES) == (0, ["0 8", "1 8", "2 8", "3 8"])
    assert list(disk.unsynced()) == []


def test_a_rule_lets_some_pass_and_hits_so_many(disk: FaultyDisk) -> None:
    rule = disk.fail(Operation.WRITE, errno.ENOSPC, match="a", skip=1, times=2)
    assert run_on(disk, WRITES) == (0, ["0 8", "1 No space left on device", "2 No space left on device", "3 8"])
    assert rule.hits == 2


def test_a_partial_write_then_a_failure(disk: FaultyDisk) -> None:
    disk.fail(Operation.WRITE, errno.EIO, skip=1, partial=True)
    _, said = run_on(disk, WRITES)
    assert said == ["0 8", "1 4", "2 Input/output error", "3 Input/output error"]


def test_other_files_and_calls_are_left_alone(disk: FaultyDisk, tmp_path: Path) -> None:
    disk.fail(Operation.WRITE | Operation.SYNC, errno.EIO, match="b")
    disk.fail(Operation.RENAME, errno.EIO)
    assert run_on(disk, WRITES)[1] == ["0 8", "1 8", "2 8", "3 8"]
    other = f"open({str(tmp_path / 'other')!r}, 'w').write('x'); print('written')"
    assert run_on(disk, other) == (0, ["written"])


@pytest.mark.parametrize(
    ("act", "left"), [(Act.KILL_BEFORE, 16), (Act.KILL_PARTIAL, 20), (Act.KILL_AFTER, 24)], ids=lambda value: str(value)
)
def test_death_at_a_write(disk: FaultyDisk, act: Act, left: int) -> None:
    disk.die(act, Operation.WRITE, skip=2)
    status, _ = run_on(disk, WRITES)
    assert status == -9
    assert (disk.root / "a").stat().st_size == left


def test_a_power_cut_takes_what_was_not_synced(disk: FaultyDisk) -> None:
    script = WRITES + "os.write(fd, b'unsynced')\nopen(root + '/new', 'w').write('never synced')\nos._exit(0)"
    assert run_on(disk, script)[0] == 0
    assert disk.power_cut(random.Random(1), keep=0.0)[0].startswith("a: 32 of 40 bytes are left, 32 were synced")
    assert (disk.root / "a").stat().st_size == 32
    assert not (disk.root / "new").exists() or (disk.root / "new").stat().st_size == 0


def test_an_inode_that_is_used_again_is_a_new_file(disk: FaultyDisk) -> None:
    script = (
        WRITES + "os.close(fd)\nfor turn in range(20):\n os.unlink(root + '/a')\n open(root + '/a', 'w').write('x')"
    )
    run_on(disk, script)
    assert [(path.name, synced, size) for path, synced, size in disk.unsynced()] == [("a", 0, 1)]


@pytest.mark.root
def test_power_goes_on_a_real_file_system(ext4: Disk) -> None:
    with (ext4.path / "a").open("wb", buffering=0) as file:
        file.write(b"synced")
        os.fdatasync(file.fileno())
        file.write(b", and what was not")
        ext4.cut_power()
        with pytest.raises(OSError, match="Input/output error"):
            os.fsync(file.fileno())
    ext4.restore_power()
    assert (ext4.path / "a").read_bytes() == b"synced"


@pytest.mark.root
def test_power_comes_back_while_another_mount_namespace_has_the_dead_disk(ext4: Disk) -> None:
    """As containers that are started meanwhile do."""
    command = ["unshare", "--mount", "sh", "-c", "echo there; read done"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"there\n"
        for times in (1, 2):
            (ext4.path / "a").write_bytes(b"%d" % times)
            os.sync()
            ext4.cut_power()
            ext4.restore_power()
            assert (ext4.path / "a").read_bytes() == b"%d" % times
        other.stdin.close()


@pytest.mark.root
def test_a_disk_is_filled_to_the_last_block_or_but_for_some(ext4: Disk) -> None:
    ext4.fill(10 * MIB)
    assert 9 * MIB < ext4.free_bytes() < 11 * MIB
    ext4.fill()
    with pytest.raises(OSError, match="No space left"):
        (ext4.path / "more").write_bytes(bytes(5_000))
    ext4.free()
    assert ext4.free_bytes() > 20 * MIB


@pytest.mark.root
def test_disks_of_a_run_that_is_gone_are_removed(tmp_path: Path) -> None:
    if reason := unusable():
        pytest.skip(reason)
    script = "from pathlib import Path; from tests.faults.disk import Disk; import os, sys; path = Path(sys.argv[1])\n"
    script += "Disk.ext4(path / 'one', 16 << 20); Disk.tmpfs(path / 'two', 1 << 20); os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert (tmp_path / "one").is_mount()
    said = sweep()
    assert sorted(line for line in said if str(tmp_path) in line) == [
        f"unmounted {tmp_path}/one",
        f"unmounted {tmp_path}/two",
    ]
    assert not (tmp_path / "one").is_mount()


# --- one node


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, FaultyDisk]]:
    place = tmp_path_factory.mktemp("single")
    with Cluster(place, nodes=1, timers=FAST, storage={"compactEntries": 100, "keepEntries": 10}) as cluster:
        node = cluster.nodes[1]
        disk = FaultyDisk(node.data, place / "node1.control")
        node.environment.update(disk.environment())
        cluster.start()
        cluster.wait_leader()
        for turn in range(250):
            cluster.put(1, f"single/{turn}", "v")
        yield cluster, disk
        disk.close()


@pytest.fixture
def single(home: tuple[Cluster, FaultyDisk]) -> tuple[Cluster, FaultyDisk]:
    """One node that runs on a sound disk."""
    cluster, disk = home
    disk.clear()
    if not cluster.nodes[1].running:
        cluster.start()
    cluster.wait_leader()
    return home


def refused(cluster: Cluster) -> tuple[int, str]:
    """Start the node, which cannot: its exit status and the line that it says."""
    offset = log_size(cluster, 1)
    cluster.start(wait=False)
    status = cluster.wait_exit(1)
    said = [line for line in log_since(cluster, 1, offset).splitlines() if not line.startswith("20")]
    assert len(said) == 1, said
    return status, said[0]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=os.strerror)
@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.SYNC], ids=["write", "sync"])
def test_a_single_node_never_acknowledges_what_did_not_reach_its_disk(
    single: tuple[Cluster, FaultyDisk], operation: Operation, error: int
) -> None:
    cluster, disk = single
    rule = disk.fail(operation, error, match="log/")
    with pytest.raises(grpc.RpcError):
        cluster.put(1, "single/lost", "v")
    assert cluster.wait_exit(1) == EXIT_STORAGE
    assert rule.hits >= 1
    said = cluster.nodes[1].tail(1)
    assert "FATAL" in said
    assert os.strerror(error) in said
    assert ("before there is room" if error == errno.ENOSPC else "before the disk is repaired") in said
    disk.clear()
    disk.power_cut(random.Random(error), keep=0.0)
    cluster.start()
    cluster.wait_leader()
    assert cluster.get(1, "single/249") == "v"
    assert cluster.get(1, "single/lost") is None


@pytest.mark.parametrize("files", ["log/0", ".ldb", "log/CURRENT", "mark", ".snap", "identity.json"])
def test_a_sector_that_cannot_be_read_at_a_start_is_status_74_and_names_the_file(
    single: tuple[Cluster, FaultyDisk], files: str
) -> None:
    """Tables are mapped: without a word a bad sector in one would be SIGBUS."""
    cluster, disk = single
    cluster.stop(1)
    disk.fail(Operation.READ, errno.EIO, match=files)
    status, said = refused(cluster)
    assert status == EXIT_STORAGE
    assert "the disk of" in said
    assert "Input/output error" in said
    assert "replace it" in said
    assert files in said or files == ".snap"


def test_a_disk_without_room_at_a_start_is_worth_another_try(single: tuple[Cluster, FaultyDisk]) -> None:
    """The data is whole: nobody may be told to wipe it."""
    cluster, disk = single
    cluster.stop(1)
    disk.fail(Operation.WRITE, errno.ENOSPC, match="log/")
    status, said = refused(cluster)
    assert status == EXIT_TEMPORARY
    assert "No space left on device; make room and start again" in said
    assert "empty the directory" not in said
    disk.clear()
    cluster.start()
    assert cluster.get(1, "single/7") == "v"


@pytest.mark.parametrize(
    ("operation", "files", "error", "expected"),
    [
        (Operation.WRITE, "snapshots", errno.ENOSPC, EXIT_TEMPORARY),
        (Operation.SYNC, "snapshots", errno.EIO, EXIT_STORAGE),
        (Operation.WRITE, "log/", errno.ENOSPC, EXIT_TEMPORARY),
        (Operation.SYNC, "log/", errno.EIO, EXIT_STORAGE),
        (Operation.WRITE, "CATCHING-UP", errno.ENOSPC, EXIT_TEMPORARY),
        (Operation.SYNC, "CATCHING-UP", errno.EIO, EXIT_STORAGE),
        (Operation.RENAME, "identity.json", errno.EIO, EXIT_STORAGE),
    ],
)
def test_a_first_start_on_a_disk_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, operation: Operation, files: str, error: int, expected: int
) -> None:
    with Cluster(tmp_path, nodes=1, timers=FAST) as cluster:
        node = cluster.nodes[1]
        disk = FaultyDisk(node.data, tmp_path / "node1.control")
        node.environment.update(disk.environment())
        node.log.touch()
        rule = disk.fail(operation, error, match=files)
        status, said = refused(cluster)
        assert rule.hits
        assert (status, os.strerror(error) in said) == (expected, True), said
        assert str(node.data) in said
        assert ("make room and start again" in said) == (error == errno.ENOSPC)
        assert not node.data.exists()
        disk.close()
