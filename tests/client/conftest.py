from __future__ import annotations

from collections.abc import Iterator

import pytest

from rocinante.client import Client, RestClient
from tests.client.serving import PATIENCE_S, Cluster, serving


@pytest.fixture
def one() -> Iterator[Cluster]:
    with serving() as cluster:
        yield cluster


@pytest.fixture
def three() -> Iterator[Cluster]:
    with serving(3) as cluster:
        yield cluster


@pytest.fixture
def client(one: Cluster) -> Iterator[Client]:
    with Client(one.endpoints, timeout_s=PATIENCE_S) as client:
        yield client


@pytest.fixture
def rest_cluster() -> Iterator[Cluster]:
    with serving(2, rest=True) as cluster:
        yield cluster


@pytest.fixture
def rest(rest_cluster: Cluster) -> Iterator[RestClient]:
    with RestClient(rest_cluster.urls[0], timeout_s=PATIENCE_S) as client:
        yield client
