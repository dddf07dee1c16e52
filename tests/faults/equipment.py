"""The disks of a cluster whose disks can go wrong: the rig of the faults in kinds/disks, damage, power and snapshots.

Each node has its data on a small file system of its own (disk.py) and runs with the library that makes calls fail
(preload.py), which does nothing until a fault tells it to. So all these faults share clusters.

    disks = disks_of(scene)
    disks[leader].calls.fail(Operation.SYNC, errno.EIO)
    disks[leader].volume.fill()
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from weakref import WeakKeyDictionary

from rocinante.errors import RocinanteError
from tests.faults.cluster import NetworkCluster
from tests.faults.disk import MIB, Disk, sweep, unusable
from tests.faults.preload import FaultyDisk
from tests.faults.registry import Scene
from tests.support.cluster import NodeProcess, Status

DISK_BYTES: Final = 128 * MIB
RESERVE_BYTES: Final = 8 * MIB
OPTIONS: Final[Mapping[str, object]] = {
    "storage": {"compactEntries": 300, "keepEntries": 50, "diskReserveBytes": RESERVE_BYTES}
}
"""A snapshot every second or two, so that each fault meets some; a reserve that a disk of this size can have."""
REST_TIMEOUT_S: Final = 30.0
EXIT_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class NodeDisk:
    volume: Disk
    calls: FaultyDisk


_DISKS: Final[WeakKeyDictionary[NetworkCluster, dict[int, NodeDisk]]] = WeakKeyDictionary()


def disks_of(scene: Scene) -> dict[int, NodeDisk]:
    """By the node's number."""
    return _DISKS[scene.cluster]


@contextlib.contextmanager
def own_disks(cluster: NetworkCluster) -> Iterator[None]:
    """The rig: a disk for each node, for as long as its process may run."""
    sweep()
    with contextlib.ExitStack() as stack:
        _DISKS[cluster] = {number: _equip(node, stack) for number, node in cluster.nodes.items()}
        yield


def _equip(node: NodeProcess, stack: contextlib.ExitStack) -> NodeDisk:
    place = node.data.with_name(f"{node.name}-disk")
    # Where there are no loop devices: what needs a real file system is then played by the library.
    make = Disk.tmpfs if unusable() else Disk.ext4
    volume = stack.enter_context(make(place, DISK_BYTES))
    node.data = place / "data"
    calls = FaultyDisk(node.data, node.log.with_suffix(".control"))
    stack.callback(calls.close)
    node.environment.update(calls.environment())
    return NodeDisk(volume, calls)


# --- what several faults do


def cut_power(scene: Scene, *numbers: int) -> bool:
    """The power of these nodes goes, all at once. True: the file system's; False: the processes are killed, and what
    they had not synced is taken from them when it comes back."""
    disks = disks_of(scene)
    real = all(disks[number].volume.kind == "ext4" for number in numbers) and scene.random.random() < 0.5
    for number in numbers:
        scene.cluster.may_die(number)
    if real:
        for number in numbers:
            disks[number].volume.cut_power()
    scene.cluster.kill_at_once(numbers)
    return real


def restore_power(scene: Scene, *numbers: int, real: bool) -> None:
    """Their disks are as a power cut leaves them; the nodes are not started yet."""
    for number in numbers:
        disk = disks_of(scene)[number]
        if real:
            disk.volume.restore_power()
            disk.calls.all_is_synced()
            scene.note(f"node{number} lost its power")
        else:
            lost = disk.calls.power_cut(Random(scene.random.random()))
            scene.note(f"node{number} lost its power: {'; '.join(lost) or 'nothing was unsynced'}")


def ends_with(scene: Scene, number: int, status: int, because: str) -> None:
    """The node ends by itself, with this exit status."""
    got = scene.cluster.wait_exit(number, EXIT_S)
    if got != status:
        raise AssertionError(
            f"node{number} ended with {got}, not {status}: {because}\n{scene.cluster.nodes[number].tail(5)}"
        )


def lead(scene: Scene, number: int) -> None:
    """Leadership is handed to this node."""
    identity = scene.cluster.identity(number)

    def leads() -> bool:
        with contextlib.suppress(RocinanteError):  # there may be no leader now
            scene.cluster.client.cluster.transfer(identity)
        return scene.cluster.leader() == number

    scene.cluster.wait_until(leads, f"node{number} leads")


def forget(scene: Scene, number: int) -> None:
    """A node that was removed and has ended is no part of the cluster any more; a later one may have its number."""
    if scene.cluster.nodes[number].running:
        raise AssertionError(f"node{number} still runs")
    scene.cluster.wipe(number)
    del scene.cluster.nodes[number]


def refuses_to_start(scene: Scene, number: int) -> tuple[int, str]:
    """Start a node that cannot: its exit status and the line that it says beside its log."""
    log = scene.cluster.nodes[number].log
    offset = log.stat().st_size
    scene.cluster.start(number, wait=False)
    status = scene.cluster.wait_exit(number, EXIT_S)
    return status, spoken(log.read_bytes()[offset:].decode(errors="replace"))


def spoken(text: str) -> str:
    """The lines of a node's output that are no log lines (those begin with the time)."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("20"))


def ask(node: NodeProcess, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """One HTTP request to one node: status and JSON (text where it is none); 0 where nothing was answered."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Rocinante-Timeout-Ms": "2000"}
    if data is not None and data is not body:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(node.url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=REST_TIMEOUT_S) as response:
            status, content = response.status, response.read()
    except urllib.error.HTTPError as refusal:
        status, content = refusal.code, refusal.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode(errors="replace")


def alarms(status: Status | None) -> str:
    """All of a node's alarms; empty where it has none or does not answer."""
    if status is None:
        return ""
    rows = status["alarms"]
    assert isinstance(rows, list)
    return "; ".join(rows)
