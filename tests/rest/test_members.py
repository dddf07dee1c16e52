"""Members by REST: what `rocinante members` does, for those who have curl."""

from __future__ import annotations

import pytest

from rocinante.identity import format_id, server_id
from tests.rest.conftest import Rest

NEW = {"address": "2001:DB8:0::14", "port": 35002, "name": "node2", "rest": 8002}
NEW_ID = format_id(server_id("2001:db8::14", 35002))


def members(rest: Rest) -> list[tuple[str, bool, bool]]:
    found = rest.json("GET", "/v1/members")["members"]
    return [(member["name"], member["learner"], member["leader"]) for member in found]


def test_a_node_is_added_as_a_learner_promoted_and_removed(rest: Rest) -> None:
    answer = rest.http.post("/v1/members", json=NEW)
    assert (answer.status_code, answer.json()["members"][1]["id"]) == (201, NEW_ID)
    assert answer.json()["members"][1]["endpoint"] == "[2001:db8::14]:35002"
    assert int(answer.headers["rocinante-index"]) == rest.node.status().commit
    assert members(rest) == [("node1", False, True), ("node2", True, False)]
    rest.json("POST", f"/v1/members/{NEW_ID}/promote", json={})
    assert members(rest) == [("node1", False, True), ("node2", False, False)]
    assert "id: node2 is a voter already" in rest.error("POST", "/v1/members/node2/promote", 409, json={})
    rest.json("DELETE", "/v1/members/[2001:db8::14]:35002")
    assert members(rest) == [("node1", False, True)]
    assert "the last member cannot be removed" in rest.error("DELETE", "/v1/members/node1", 409)


def test_a_voter_at_once_and_a_name_from_the_address(rest: Rest) -> None:
    rest.json("POST", "/v1/members", 201, json={"address": "127.0.0.1", "port": 35003, "voter": True})
    assert members(rest)[1] == ("127.0.0.1:35003", False, False)
    rest.json("DELETE", "/v1/members/127.0.0.1:35003")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"address": "node4.example"}, "address: 'node4.example' is not an IP address"),
        ({"address": None}, "address: is missing"),
        ({"port": None}, "port: is missing"),
        ({"port": 0}, "port: 0 is not a port (1 to 65535)"),
        ({"port": True}, "port: must be an integer"),
        ({"port": "35002"}, "port: must be an integer"),
        ({"rest": 65536}, "rest: 65536 is not a port"),
        ({"rest": -1}, "rest: -1 is not a port"),
        ({"name": "a" * 64}, "name: expected at most 63 printable bytes"),
        ({"name": "a\nb"}, "name: expected at most 63 printable bytes"),
        ({"voter": 1}, "voter: must be true or false"),
        ({"learner": True}, "learner: is not a field of this request; there is address, port, name, rest, voter"),
    ],
)
def test_a_wrong_description_adds_nobody(rest: Rest, change: dict[str, object], says: str) -> None:
    body = {name: value for name, value in (NEW | change).items() if value is not None}
    assert says in rest.error("POST", "/v1/members", 400, json=body)
    assert members(rest) == [("node1", False, True)]


@pytest.mark.parametrize("member", ["node9", "0", "00000000000000ff", "x", "%20"])
def test_who_is_no_member_is_neither_promoted_nor_removed(rest: Rest, member: str) -> None:
    assert "is not a member; there is node1" in rest.error("DELETE", f"/v1/members/{member}", 404)
    assert "is not a member; there is node1" in rest.error("POST", f"/v1/members/{member}/promote", 404, json={})


def test_another_page_cannot_have_a_member_promoted(rest: Rest) -> None:
    rest.json("POST", "/v1/members", 201, json=NEW)
    says = rest.error("POST", "/v1/members/node2/promote", 400, content=b"{}", headers={"Content-Type": "text/plain"})
    assert "content-type: must be application/json" in says
    assert members(rest)[1] == ("node2", True, False)


def test_without_a_leader_503_and_nothing_changes(rest: Rest) -> None:
    rest.node.be_without_leader()
    assert "UNAVAILABLE no leader" in rest.error("POST", "/v1/members", 503, json=NEW)
    assert len(rest.json("GET", "/v1/members")["members"]) == 1
