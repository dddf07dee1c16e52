"""schemathesis against the OpenAPI document that the node itself serves: a node that leads, one that knows no leader,
one whose gRPC is switched off.

All of its checks are on (schemathesis.toml says what counts as a finding), with valid and invalid data, examples,
coverage of every boundary, and sequences of operations; no answer of 5xx but an honest 503 (rest_checks.py). Left out
are the event stream, which does not end, and what stops the node or switches gRPC, which have tests of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.runs import FACTOR
from tests.node.tools import FAST, rest
from tests.support.cluster import Cluster

HERE: Final = Path(__file__).parent
COMMAND: Final = Path(sys.executable).with_name("schemathesis")
LEFT_OUT: Final = ["/v1/events", "/v1/admin/stop", "/v1/admin/grpc"]
SECONDS_MAX: Final = 900.0 if not FACTOR else 7200.0
pytestmark = pytest.mark.timeout(SECONDS_MAX + 60)
EXAMPLES: Final = 2
"""Of each operation beside the boundaries, which are the most."""


def check_document(url: str, directory: Path, *options: str, examples: int = EXAMPLES, least: int = 50) -> str:
    """Run it; what it printed. The test fails with that when there is a finding, or it tried no more than `least`."""
    long = ["--seed", str(os.getpid()), "--generation-database", "none"]
    seeding = long if FACTOR else ["--generation-deterministic"]
    command = [
        str(COMMAND), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json", "--checks", "all",
        "--max-examples", str(examples * max(FACTOR, 1)), *seeding, "--no-color", "--continue-on-failure",
        "--request-timeout", "60", "--suppress-health-check", "all", "--no-shrink",
        *(part for path in LEFT_OUT for part in ("--exclude-path", path)), *options,
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.fuzz.rest_checks", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated, done.stdout[-3000:]
    assert int(generated[1]) > least, "it tried next to nothing"
    return done.stdout


def check_log(cluster: Cluster) -> None:
    log = cluster.nodes[1].log.read_text(errors="replace")
    assert not re.findall(r"^.*(?:Traceback|failed| ERROR ).*$", log, re.M)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not COMMAND.exists() and shutil.which("schemathesis") is None:
        pytest.fail("schemathesis is not installed: make setup-dev")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("openapi"), nodes=1, timers=FAST, storage={"engine": "memory"}) as cluster:
        cluster.start()
        cluster.wait_leader()
        yield cluster


def test_a_node_that_leads(node: Cluster, tmp_path: Path) -> None:
    # A voter that is added and not there costs a cluster of one its majority: that is not tried with what is valid.
    check_document(node.url(1), tmp_path, "--exclude-operation-id", "addMember")
    adding = ["--include-operation-id", "addMember", "--mode", "negative", "--phases", "fuzzing"]
    check_document(node.url(1), tmp_path, *adding, examples=30, least=10)
    check_log(node)
    assert node.put(1, "fuzz/alive", "yes")


def test_a_node_whose_grpc_is_switched_off(node: Cluster, tmp_path: Path) -> None:
    rest(node, 1, "POST", "/v1/admin/grpc", {"enabled": False})
    node.wait_until(lambda: node.status(1)["role"] == "not_ready", "the node is not ready")
    check_document(node.url(1), tmp_path, "--phases", "examples,fuzzing", examples=5)
    assert node.status(1)["role"] == "not_ready"
    rest(node, 1, "POST", "/v1/admin/grpc", {"enabled": True})
    node.wait_leader()
    check_log(node)


def test_a_node_that_knows_no_leader(tmp_path: Path) -> None:
    """One of three, alone. It waits no longer for consensus than each request says."""
    with Cluster(tmp_path / "trio", nodes=3, timers=FAST, storage={"engine": "memory"}) as cluster:
        cluster.start(1)
        hurry = ["--phases", "examples,fuzzing", "--header", "Rocinante-Timeout-Ms: 20"]
        check_document(cluster.url(1), tmp_path, *hurry, examples=5)
        assert cluster.status(1)["leader"] is None
        check_log(cluster)
