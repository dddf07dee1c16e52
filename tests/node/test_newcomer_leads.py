"""A voter that was away while another was added follows that one all the same (dissertation, section 4.1)."""

from __future__ import annotations

from pathlib import Path

from tests.node.test_membership import change, identity
from tests.node.tools import lead, others
from tests.support.cluster import ADDRESS, Cluster


def test_who_missed_the_addition_of_the_leader_is_led_by_it(tmp_path: Path) -> None:
    # No election by chance, on a busy machine: it would be another way to be led again.
    with Cluster(tmp_path, timers={"electionMs": 3000}) as cluster:
        cluster.start()
        away = others(cluster, cluster.wait_leader())[0]
        cluster.kill(away)
        node = cluster.add()
        node.config = tmp_path / "with-node4.yaml"
        cluster.write_config(node.config)
        node.arguments = ["--join"]
        cluster.start(4)
        here = others(cluster, away)
        expected = {f"node{number}": "voter" for number in (1, 2, 3)}
        change(
            cluster,
            lambda client: client.cluster.add(ADDRESS, node.grpc, name="node4", rest=node.rest),
            expected | {"node4": "learner"},
            here,
        )
        change(
            cluster, lambda client: client.cluster.promote(identity(cluster, 4)), expected | {"node4": "voter"}, here
        )
        lead(cluster, 4)
        cluster.put(4, "while/away", "v")
        cluster.start(away)
        cluster.wait_until(
            lambda: cluster.status(away)["leader"] == cluster.status(4)["id"], "it follows one that it did not know"
        )
        cluster.wait_equal_digests()
        assert cluster.leader() == 4, "and needed no other leader for it"
        assert cluster.get(away, "while/away") == "v"
