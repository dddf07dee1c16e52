"""One cluster of three nodes that many scenarios share, for processes take seconds to start. Each gets it whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.node.tools import FAST, log_since, log_size, settle
from tests.support.cluster import Cluster


@pytest.fixture(scope="package")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("trio"), timers=FAST) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def cluster(trio: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The shared cluster, all of it running, ready and connected. What the nodes logged is shown with a failure."""
    settle(trio)
    offsets = {number: log_size(trio, number) for number in trio.nodes}
    yield trio
    if failed := getattr(request.node, "failed_report", None):
        for number, offset in offsets.items():
            text = log_since(trio, number, offset)
            failed.sections.append((f"log of node{number}", "\n".join(text.splitlines()[-60:])))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        item.failed_report = report  # type: ignore[attr-defined]
