"""Who may become a voter: a node that runs. One that does not would only make the quorum larger."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocinante.client import Client
from rocinante.errors import FailedPrecondition
from tests.node.test_membership import change, identity, members
from tests.node.tools import FAST
from tests.support.cluster import ADDRESS, Cluster


def test_a_learner_that_never_ran_is_not_made_a_voter(tmp_path: Path) -> None:
    with Cluster(tmp_path, nodes=1, timers=FAST) as cluster:
        cluster.start()
        node = cluster.add()
        expected = {"node1": "voter", "node2": "learner"}
        change(cluster, lambda c: c.cluster.add(ADDRESS, node.grpc, name="node2", rest=node.rest), expected, [1])
        with Client(cluster.endpoint(1)) as client:
            (learner,) = (member for member in client.cluster.members().members if member.learner)
            with pytest.raises(FailedPrecondition, match="node2 has not been heard from"):
                client.cluster.promote(learner.id)
        assert members(cluster, 1) == expected
        cluster.put(1, "promotion/goes on", "v")
        node.config = cluster.directory / "with-node2.yaml"
        cluster.write_config(node.config)
        node.arguments = ["--join"]
        cluster.start(2)
        node2 = identity(cluster, 2)
        change(cluster, lambda c: c.cluster.promote(node2), {"node1": "voter", "node2": "voter"}, [1, 2])
        cluster.put(2, "promotion/both", "v")
        assert cluster.get(1, "promotion/both") == "v"
