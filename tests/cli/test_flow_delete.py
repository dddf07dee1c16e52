"""`rocinante flow del`, by name and by condition; the client behind it."""

from __future__ import annotations

import json

import pytest

from rocinante.client import Client, DeleteProgress, FlowSelection, RestClient
from rocinante.errors import InvalidArgument
from rocinante.flows import FlowRecord, FlowTuple
from tests.cli.conftest import Run
from tests.client.serving import Cluster, serving


def fill(cluster: Cluster, origin: str = "") -> None:
    flows = [
        FlowRecord(FlowTuple.from_text("tcp" if number % 2 else "udp", f"192.0.2.{number}:1000", "198.51.100.7:443"))
        for number in range(1, 41)
    ]
    with Client(cluster.endpoints[0]) as client:
        client.flows.put(flows, origin=origin)


@pytest.mark.parametrize(
    ("arguments", "deleted"),
    [
        (["--address", "192.0.2.0/29"], 7),
        (["--address", "192.0.2.1", "--address", "192.0.2.2"], 2),
        (["--protocol", "udp"], 20),
        (["--protocol", "udp", "--address", "192.0.2.0/29"], 3),
        (["--protocol", "udp", "--source", "192.0.2.2:1000", "--destination", "198.51.100.7:443"], 1),
        (["--zone", "0"], 40),
        (["--zone", "4"], 0),
        (["--state", "established"], 0),
        (["--origin", "dc2"], 40),
        (["--origin", "*", "--port", "443"], 80),
        (["--all"], 40),
    ],
)
def test_conditions(on: Run, cluster: Cluster, arguments: list[str], deleted: int) -> None:
    for origin in ("", "dc2"):
        fill(cluster, origin)
    assert on("flow", "del", *arguments).text == f"deleted {deleted}\n"
    assert json.loads(on("flow", "delete", *arguments, "-o", "json").out)["deleted"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--all"),
        (["--all", "00000406c0000201c6336407a11201bb"], "not both"),
        (["--source", "192.0.2.1:1", "--port", "3"], "not both"),
        (["--source", "192.0.2.1:1"], "a tuple needs all of"),
    ],
)
def test_what_is_not_clear_is_refused(on: Run, cluster: Cluster, arguments: list[str], text: str) -> None:
    fill(cluster)
    ran = on("flow", "del", *arguments)
    assert ran.status == 2
    assert text in ran.err
    assert on("flow", "del", "--all").text == "deleted 40\n"


def test_the_client_tells_its_progress_over_both_ways() -> None:
    told: list[DeleteProgress] = []
    with serving(rest=True) as cluster:
        fill(cluster)
        with Client(cluster.endpoints[0]) as client:
            done = client.flows.delete_where(FlowSelection(protocol=["udp"]), on_progress=told.append)
            assert (done.deleted, told) == (20, [DeleteProgress(20, 40, 40)])
            with pytest.raises(InvalidArgument, match="all"):
                client.flows.delete_where()
            with pytest.raises(InvalidArgument, match="origin"):
                client.flows.delete_where(FlowSelection(origin="dc1"))
        with RestClient(cluster.urls[0]) as rest:
            assert rest.flows.delete_where(FlowSelection(address=["192.0.2.0/29"])).deleted == 4
            assert rest.flows.delete_where(everything=True).deleted == 16
