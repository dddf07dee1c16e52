"""DELETE /v1/flows?…"""

from __future__ import annotations

import pytest

from rocinante import limits
from tests.rest.conftest import Rest
from tests.rest.test_flows import flow


def write(rest: Rest, *flows: object, origin: str = "") -> None:
    rest.json("POST", "/v1/flows", json=list(flows), params={"origin": origin} if origin else {})


def test_a_filter_an_origin_or_all(rest: Rest) -> None:
    for origin in ("", "dc2"):
        write(rest, *(flow(f"192.0.2.{number}") for number in range(1, 9)), flow("2001:db8::9"), origin=origin)
    answer = rest.json("DELETE", "/v1/flows?address=192.0.2.0/30&port=443")
    assert answer == {"deleted": 3, "index": answer["index"], "cursor": "", "looked_at": 9, "places": 9}
    assert rest.json("DELETE", "/v1/flows?address=2001:db8::/64&origin=*")["deleted"] == 2
    assert rest.json("DELETE", "/v1/flows?all")["deleted"] == 5
    assert rest.json("GET", "/v1/flows")["total"] == 8
    assert rest.json("DELETE", "/v1/flows?origin=dc2")["deleted"] == 8
    assert rest.json("DELETE", "/v1/flows?all=true")["deleted"] == 0


def test_it_goes_on_by_cursor(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLOW_EXPIRE_ROWS_MAX", 10)
    monkeypatch.setattr(limits, "FLOW_DELETE_CALL_S", 0.0)
    write(rest, *(flow(f"192.0.2.{number}") for number in range(1, 36)))
    deleted, cursor = [], ""
    while True:
        answer = rest.json("DELETE", "/v1/flows", params={"state": "NONE", "cursor": cursor})
        deleted.append(answer["deleted"])
        cursor = answer["cursor"]
        if not cursor:
            break
    assert deleted == [10, 10, 10, 5]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "all: without any filter"),
        ("?address=x", "address"),
        ("?all=perhaps", "all"),
        ("?all&cursor=zz", "cursor"),
        ("?all&colour=red", "colour"),
        (f"?all&origin={'x' * 64}", "origin"),
    ],
)
def test_what_cannot_be_names_the_parameter_and_deletes_nothing(rest: Rest, query: str, text: str) -> None:
    write(rest, flow())
    assert text in rest.error("DELETE", f"/v1/flows{query}", 400)
    assert rest.node.state.flows_count() == 1
