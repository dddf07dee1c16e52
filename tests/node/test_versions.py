"""Nodes of two versions in one cluster, and data of a newer format. The other version is this one, renumbered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rocinante.errors import EXIT_DATA
from rocinante.version import DATA_FORMAT, PROTOCOL_VERSION, __version__
from tests.node.tools import FAST, Writers, wait_log
from tests.support.cluster import Cluster
from tests.support.tools import ROOT

NEXT = "99.0.0"


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the software lies as it will be one version on: another version, the next protocol and data format."""
    place = tmp_path_factory.mktemp("next")
    shutil.copytree(ROOT / "rocinante", place / "rocinante", ignore=shutil.ignore_patterns("__pycache__"))
    path = place / "rocinante" / "version.py"
    text = path.read_text()
    for old, new in (
        (f'__version__: Final = "{__version__}"', f'__version__: Final = "{NEXT}"'),
        (f"PROTOCOL_VERSION: Final = {PROTOCOL_VERSION}\n", f"PROTOCOL_VERSION: Final = {PROTOCOL_VERSION + 1}\n"),
        (f"DATA_FORMAT: Final = {DATA_FORMAT}\n", f"DATA_FORMAT: Final = {DATA_FORMAT + 1}\n"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return place


def use(cluster: Cluster, number: int, place: Path | None) -> None:
    """Which software a node runs from its next start on: that which lies at `place`, or this one."""
    # PYTHONSAFEPATH: not what lies in the directory in which the tests run.
    cluster.nodes[number].environment = {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"} if place else {}


def test_a_cluster_rolls_to_the_next_version_and_back_under_writes(tmp_path: Path, next_version: Path) -> None:
    with Cluster(tmp_path, nodes=3, timers=FAST) as cluster:
        cluster.start()
        cluster.wait_leader()
        with Writers(cluster, 3, prefix="roll") as writers:
            for place, version, protocol in (
                (next_version, NEXT, PROTOCOL_VERSION + 1),
                (None, __version__, PROTOCOL_VERSION),
            ):
                for number in (1, 2, 3):
                    assert cluster.stop(number) == 0
                    use(cluster, number, place)
                    cluster.start(number)
                    writers.wait_more(10)
                    cluster.wait_applied()
                    status = cluster.status(number)
                    assert (status["version"], status["protocol_version"]) == (version, protocol)
        writers.check()
        assert not [node.name for node in cluster.nodes.values() if b"protocol_version" in node.log.read_bytes()]


def test_data_of_the_next_version_is_refused_and_kept(tmp_path: Path, next_version: Path) -> None:
    with Cluster(tmp_path, nodes=1, timers=FAST) as cluster:
        use(cluster, 1, next_version)
        cluster.start()
        cluster.wait_leader()
        cluster.put(1, "key", "value")
        assert cluster.stop(1) == 0
        identity = cluster.nodes[1].data / "identity.json"
        assert json.loads(identity.read_text())["format"] == DATA_FORMAT + 1

        use(cluster, 1, None)
        cluster.nodes[1].expected_to_run = False
        cluster.start(1, wait=False)
        assert cluster.wait_exit(1) == EXIT_DATA
        wait_log(cluster, 1, f"is of data format {DATA_FORMAT + 1}, this software knows {DATA_FORMAT}")

        use(cluster, 1, next_version)
        cluster.start()
        assert cluster.get(1, "key") == "value"
