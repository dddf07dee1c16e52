"""The verbs against a real server: what they print, in both forms, and their exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rocinante.errors import ResourceExhausted
from rocinante.identity import format_id
from tests.cli.conftest import Run
from tests.client.serving import Cluster, serving

TUPLE = ("--protocol", "tcp", "--source", "192.0.2.1:41234", "--destination", "198.51.100.7:443")
FLOW_ID = "00000406c0000201c6336407a11201bb"


def columns(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_keys_in_tables(on: Run) -> None:
    assert on("kv", "put", "greeting", "hello").text == "revision 2\n"
    assert on("kv", "put", "greeting", "bye", "--previous").text == "revision 3\nwas hello\n"
    assert on("kv", "put", "new", "", "--previous").text == "revision 4\nwas not there\n"
    assert on("kv", "get", "greeting").text == (
        "KEY       VALUE  VERSION  REVISION\n"
        "greeting  bye          2         3\n"
    )  # fmt: skip
    assert on("kv", "list").text == (
        "KEY       VERSION  REVISION\n"
        "greeting        2         3\n"
        "new             1         4\n"
    )  # fmt: skip
    assert on("kv", "list", "gr", "--values", "-n", "1").text.splitlines()[1].split() == ["greeting", "bye", "2", "3"]
    assert on("kv", "get", "greeting", "--revision", "2", "--raw").out == b"hello"
    assert on("kv", "del", "gr", "--prefix").text == "deleted 1\n"
    assert on("kv", "del", "gr").text == "deleted 0\n"


def test_keys_in_json(on: Run) -> None:
    assert json.loads(on("kv", "put", "a", "1", "-o", "json").out) == {
        "key": "a",
        "key_encoding": "utf-8",
        "revision": 2,
    }
    item = {
        "key": "a",
        "key_encoding": "utf-8",
        "value": "1",
        "value_encoding": "utf-8",
        "create_revision": 2,
        "mod_revision": 2,
        "version": 1,
        "lease": 0,
    }
    assert json.loads(on("kv", "get", "a", "-o", "json").out) == item
    assert json.loads(on("-o", "json", "kv", "get", "a", "--prefix").out) == [item]
    assert json.loads(on("kv", "list", "-o", "json", "--values").out) == [item]
    assert json.loads(on("kv", "put", "a", "2", "--previous", "-o", "json").out)["previous"] == item
    gone = {"key": "a", "key_encoding": "utf-8", "deleted": 1, "revision": 4}
    assert json.loads(on("kv", "del", "a", "-o", "json").out) == gone


def test_values_are_bytes(on: Run, tmp_path: Path) -> None:
    content = bytes(range(256))
    file = tmp_path / "value"
    file.write_bytes(content)
    assert on("kv", "put", "bin", "--file", str(file)).status == 0
    assert on("kv", "get", "--raw", "bin").out == content
    assert json.loads(on("kv", "get", "bin", "-o", "json").out)["value_encoding"] == "base64"
    assert "\\x07" in on("kv", "get", "bin").text, "a value does not reach the terminal as a command to it"


def test_a_key_that_is_not_there_is_status_1(on: Run) -> None:
    ran = on("kv", "get", "nope")
    assert (ran.status, ran.out, ran.err) == (1, b"", "rocinante: there is no key 'nope'\n")


def test_a_compacted_revision_is_status_1_and_too_large_a_value_2(on: Run, tmp_path: Path) -> None:
    assert "future revision" in (ran := on("kv", "get", "a", "--revision", "9")).err
    assert ran.status == 1
    (tmp_path / "big").write_bytes(b"x" * 600_000)
    ran = on("kv", "put", "a", "--file", str(tmp_path / "big"))
    assert (ran.status, "value: has more than 524288 bytes" in ran.err) == (2, True)
    ran = on("kv", "put", "a", "--file", str(tmp_path / "none"))
    assert (ran.status, "No such file or directory" in ran.err) == (1, True)


def test_status(on: Run, cluster: Cluster) -> None:
    lines = on("status").text.splitlines()
    assert lines[:2] == ["Cluster test in dc1: node1 leads in term 2, 1 of 1 nodes answered", ""]
    assert columns(lines[2])[:5] == ["NODE", "ENDPOINT", "ROLE", "TERM", "COMMIT"]
    assert columns(lines[3])[:4] == ["node1", cluster.endpoints[0], "leader", "2"]
    found = json.loads(on("status", "-o", "json").out)
    assert (found["leader_endpoint"], found["asked"]) == (cluster.endpoints[0], cluster.endpoints[0])
    (node,) = found["nodes"]
    assert (node["id"], node["role"], node["answered"]) == (format_id(cluster.node.member.id), "leader", True)


def test_status_without_a_leader_is_status_3(on: Run, cluster: Cluster) -> None:
    cluster.node.be_without_leader()
    ran = on("status")
    assert (ran.status, ran.text.splitlines()[0]) == (3, "Cluster test in dc1: no leader, 1 of 1 nodes answered")
    assert "a majority of the 1 nodes must run" in ran.err
    assert on("leader").status == 3


def test_status_shows_who_does_not_answer(cli: Run) -> None:
    with serving(3) as cluster:
        cluster.shut(2)
        lines = cli("status", "-c", cluster.endpoints[0]).text.splitlines()
        assert lines[0].endswith("2 of 3 nodes answered")
        assert "node3" in lines[-1]
        by_file = cli("status", "-c", ",".join(reversed(cluster.endpoints)), "-o", "json")
        assert [node["answered"] for node in json.loads(by_file.out)["nodes"]].count(False) == 1


def test_the_first_node_that_answers_is_asked(cli: Run) -> None:
    with serving(3) as cluster:
        everywhere = ",".join(cluster.endpoints)
        cluster.shut(0)
        for verb in (["status"], ["log"], ["kv", "put", "a", "1"], ["flow", "list"], ["members"], ["leader"]):
            assert cli("-c", everywhere, *verb).status == 0, verb


def test_a_cluster_yaml_says_where_the_nodes_are(cli: Run, cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    port = cluster.grpc_ports[0]
    file.write_text(
        f"artifact: {{cluster: {{name: test, controllers: [{{address: 127.0.0.1, port: {port}, rest: 8001}}]}}}}"
    )
    assert cli("status", "--config", str(file)).status == 0
    assert cli("--config", str(file), "kv", "list").status == 0


@pytest.mark.parametrize("arguments", [["members"], ["members", "list"]])
def test_members(on: Run, cluster: Cluster, arguments: list[str]) -> None:
    lines = on(*arguments).text.splitlines()
    assert columns(lines[0]) == ["NODE", "ENDPOINT", "REST", "KIND", "LEADER", "ID"]
    identifier = format_id(cluster.node.member.id)
    assert lines[1].split() == [
        "node1", cluster.endpoints[0], str(cluster.rest_ports[0]), "voter", "yes", identifier,
    ]  # fmt: skip
    (member,) = json.loads(on(*arguments, "-o", "json").out)["members"]
    assert (member["id"], member["leader"], member["learner"]) == (identifier, True, False)


def test_members_come_and_go_and_leadership_moves(on: Run) -> None:
    assert "learner" in on("members", "add", "127.0.0.1:35077", "--name", "node7", "--rest", "8077").text
    assert on("members", "add", "127.0.0.1:35077").status == 1
    assert "voter" in on("members", "promote", "node7").text.splitlines()[-1]
    assert on("leader", "transfer", "127.0.0.1:35077").text == "node7 (127.0.0.1:35077) leads\n"
    assert on("leader").text == "node7 (127.0.0.1:35077)\n"
    assert json.loads(on("leader", "show", "-o", "json").out)["name"] == "node7"
    assert json.loads(on("leader", "transfer", "-o", "json").out)["leader_endpoint"] != "127.0.0.1:35077"
    assert "node7" not in on("members", "remove", "node7").text
    ran = on("members", "remove", "node9")
    assert (ran.status, "no member is called 'node9'; there are node1" in ran.err) == (1, True)


def test_flows(on: Run) -> None:
    put = on("flow", "put", *TUPLE, "--state", "established", "--backend", "10.0.0.5:8443", "--flag", "assured")
    assert re.fullmatch(r"wrote 1 at log index \d+\n", put.text)
    lines = on("flow", "list", "--ids").text.splitlines()
    assert columns(lines[0])[:5] == ["PROTO", "SOURCE", "DESTINATION", "STATE", "BACKEND"]
    row = columns(lines[1])
    assert row[:5] == ["tcp", "192.0.2.1:41234", "198.51.100.7:443", "ESTABLISHED", "10.0.0.5:8443"]
    assert (row[-1], row[-3], row[-2]) == (FLOW_ID, "never", "dc1")
    turned = ("--protocol", "6", "--source", TUPLE[5], "--destination", TUPLE[3])
    (entry,) = json.loads(on("flow", "get", *turned, "-o", "json").out)
    assert (entry["id"], entry["flags"]) == (FLOW_ID, ["ASSURED"])
    assert json.loads(on("flow", "list", "--port", "443", "-o", "json").out) == [entry]
    assert json.loads(on("flow", "list", "--lines").out) == entry
    assert on("flow", "list", "--state", "CLOSE", "-o", "json").text == "[]\n"
    assert on("flow", "delete", FLOW_ID).text == "deleted 1\n"
    ran = on("flow", "get", FLOW_ID)
    assert (ran.status, ran.err) == (1, f"rocinante: there is no flow {FLOW_ID}\n")


def test_flows_from_json_lines(on: Run, tmp_path: Path) -> None:
    file = tmp_path / "flows.jsonl"
    lines = [
        {"protocol": "udp", "source": f"192.0.2.1:{port}", "destination": "192.0.2.2:53"} for port in range(1000, 1010)
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    put = json.loads(on("flow", "put", str(file), "--backend-name", "dns-1", "--ttl", "60", "-o", "json").out)
    assert put["records"] == 10
    again = on("flow", "list", "--lines")
    assert {json.loads(line)["backend_name"] for line in again.text.splitlines()} == {"dns-1"}
    file.write_bytes(again.out)
    assert on("flow", "put", str(file)).status == 0, "what is listed can be put back"
    assert on("flow", "put", "--until", "applied:node1", str(file)).status == 0
    assert "until: 'soon' is not \"committed\"" in on("flow", "put", "--until", "soon", str(file)).err
    assert "node9 (is no member; there are node1)" in on("flow", "put", "--until", "applied:node9", str(file)).err
    for wrong, message in [("{", ":1: is not JSON"), ("[]", ":1: must be a JSON object"), ('\n{"mark": "x"}', ":2.")]:
        file.write_text(wrong)
        ran = on("flow", "put", str(file))
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert str(file) + message in ran.err


def test_watches_end_after_a_count(on: Run) -> None:
    on("kv", "put", "a", "1")
    on("kv", "put", "a", "2")
    on("kv", "del", "a")
    watched = on("kv", "watch", "a", "--revision", "1", "-n", "3", "--previous")
    assert watched.text == (
        "2  PUT     a = 1\n"
        "3  PUT     a = 2  (was 1)\n"
        "4  DELETE  a  (was 2)\n"
    )  # fmt: skip
    lines = on("kv", "watch", "a", "--revision", "2", "-n", "3", "-o", "json").text.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["type"], event["revision"]) for event in events] == [("PUT", 2), ("PUT", 3), ("DELETE", 4)]
    on("flow", "put", *TUPLE)
    lines = on("flow", "watch", "--snapshot", "-n", "3").text.splitlines()
    assert [columns(line)[1] for line in lines] == ["RESET", "PUT", "SYNCED"]
    changes = on("flow", "watch", "--snapshot", "-n", "2", "-o", "json").out.splitlines()
    assert [json.loads(line)["type"] for line in changes] == ["RESET", "PUT"]
    ran = on("flow", "watch", "--from-index", "99999", "-n", "1")
    assert (ran.status, "watch again with a snapshot" in ran.err) == (1, True)


def test_log(on: Run) -> None:
    on("kv", "put", "a", "1")
    lines = on("log", "-n", "3").text.splitlines()
    assert columns(lines[0]) == ["INDEX", "TERM", "KIND", "BYTES", "STATE", "COMMANDS"]
    assert "kv_put" in lines[-2]
    entries = json.loads(on("log", "--committed", "-n", "2", "-o", "json").out)
    assert set(entries[0]) == {"index", "term", "kind", "size_bytes", "commands", "committed"}


def test_a_busy_cluster_is_status_3(on: Run, cluster: Cluster) -> None:
    cluster.node.be_refusing(ResourceExhausted("the ingress buffer is full"))
    ran = on("kv", "put", "a", "1", "--timeout", "0.3")
    assert (ran.status, ran.err) == (3, "rocinante: the ingress buffer is full; try again later\n")


def test_an_unknown_outcome_is_status_3_and_says_so(on: Run, cluster: Cluster) -> None:
    from rocinante.state.command import Kind

    propose = cluster.node.propose

    def slow_for_puts(kind, body, **more):  # type: ignore[no-untyped-def]
        if kind is Kind.KV_PUT:
            cluster.node.be_slow()
        return propose(kind, body, **more)

    cluster.node.propose = slow_for_puts  # type: ignore[method-assign]
    ran = on("kv", "put", "a", "1", "--timeout", "0.5")
    cluster.node.be_normal()
    assert (ran.status, ran.err.count("\n")) == (3, 1)
    assert "may or may not have been carried out" in ran.err
    assert "read it back before you repeat it" in ran.err
