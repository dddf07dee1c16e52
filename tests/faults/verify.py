"""What must hold after a round. Each question answers with what is wrong, in words; nothing, when nothing is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from tests.faults.cluster import NetworkCluster
from tests.faults.history import Asked, flows_that_are_wrong, not_linearizable, revisions_that_go_back, unexplained
from tests.faults.registry import Fault, Scene
from tests.support.cluster import ClusterFailure

WHOLE_S: Final = 60.0
"""Until a cluster whose fault is healed is whole again. Only a failure waits so long."""
EQUAL_S: Final = 60.0
RSS_MIB_MAX: Final = 400.0
"""A node of these rounds has some thousands of keys and flows; Python and gRPC take 75 MiB."""
_BAD_LINE: Final = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL)\b|^Traceback|^\w*Error: |FATAL", re.MULTILINE)
SHOWN_MAX: Final = 3


def wait_whole(cluster: NetworkCluster, timeout_s: float = WHOLE_S) -> None:
    """Until every node runs, is ready, knows the one leader, and is connected with all others. Raises
    ClusterFailure."""

    def whole() -> bool:
        found = cluster.statuses()
        if set(found) != set(cluster.nodes):
            return False
        leaders = {str(status["leader"]) for status in found.values()}
        roles = [status["role"] for status in found.values()]
        return (
            len(leaders) == 1 and roles.count("leader") == 1 and "not_ready" not in roles and _connected(cluster, found)
        )

    cluster.wait_until(whole, "all members are back, ready, connected, and agree on one leader", timeout_s)


def _connected(cluster: NetworkCluster, found: dict[int, dict[str, object]]) -> bool:
    for status in found.values():
        peers = status["peers"]
        assert isinstance(peers, list)
        if len(peers) != len(cluster.nodes) - 1 or not all(peer["connected"] for peer in peers):
            return False
    return True


def check_history(history: list[Asked]) -> list[str]:
    """What the clients were told."""
    checks: tuple[Callable[[list[Asked]], list[str]], ...] = (
        not_linearizable,
        revisions_that_go_back,
        flows_that_are_wrong,
        unexplained,
    )
    problems = [problem for check in checks for problem in check(history)]
    if not any(one.how == "ok" for one in history):
        problems.append("nothing was acknowledged at all")
    return problems


def check_cluster(cluster: NetworkCluster) -> list[str]:
    """The processes and what they hold, once the load has ended."""
    problems = [f"node{number} died and was not killed" for number in cluster.died()]
    try:
        cluster.wait_equal_digests(EQUAL_S)
    except ClusterFailure as failure:
        problems.append(str(failure).splitlines()[0])
    for number in cluster.running():
        rss_mib = cluster.rss_mib(number)
        if rss_mib > RSS_MIB_MAX:
            problems.append(f"node{number} uses {rss_mib:.0f} MiB of memory, {RSS_MIB_MAX:.0f} at most are expected")
    return problems


def check_logs(fault: Fault, scene: Scene) -> list[str]:
    """What an operator reads: what must be there is, and nothing terrible that the fault does not explain."""
    logs = {number: scene.cluster.logged(number) for number in scene.cluster.nodes}
    problems = [line for expect in fault.expects for line in expect.missing(logs, scene.faulted)]
    problems += [line for expect in fault.forbids for line in expect.present(logs, scene.faulted)]
    for number, text in logs.items():
        bad = [line for line in text.splitlines() if _BAD_LINE.search(line) and not _tolerated(line, fault.tolerates)]
        problems += [f"node{number} logged: {line[:300]}" for line in bad[:SHOWN_MAX]]
    return problems


def check_scene(scene: Scene) -> list[str]:
    """The fault was one."""
    return ["the fault never struck"] if scene.hits == 0 else []


def _tolerated(line: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, line) for pattern in patterns)
