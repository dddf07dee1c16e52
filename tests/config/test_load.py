"""What loads, and what each mistake is told."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rocinante import limits
from rocinante.config import (
    AuthOptions,
    ClusterConfig,
    Controller,
    Datacenter,
    FlowOptions,
    FlowTimeouts,
    IngressLimits,
    LogLevel,
    LogOptions,
    RestOptions,
    Rotation,
    RotationMode,
    StorageEngine,
    StorageOptions,
    Timers,
    load_config,
)
from rocinante.config.model import META
from rocinante.errors import ConfigError
from rocinante.flows.timeouts import TIMEOUT_NAMES
from rocinante.identity import cluster_id, server_id
from tests.config.tools import SECTION_9, cluster, controllers, write

EXAMPLE = Path(__file__).parents[2] / "packaging" / "rocinante.example.yaml"


def problems(directory: Path, text: str | bytes) -> list[str]:
    path = write(directory, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [line.removeprefix(f"{path}:") for line in caught.value.problems]


def test_the_fixed_interface_loads_verbatim(tmp_path: Path) -> None:
    config, warnings = load_config(write(tmp_path, SECTION_9))
    nodes = tuple(
        Controller(f"node{i}", "127.0.0.1", 35000 + i, 8000 + i, None if warnings else Path("/usr/share/rocinante/www"))
        for i in (1, 2, 3)
    )
    assert config == ClusterConfig("test", nodes, "dc1", cleanup_on_failure=True)
    assert config.timers == Timers(20, 100, 1000, 5000)
    assert config.cluster_id() == cluster_id("test", "dc1")
    assert nodes[0].id == server_id("127.0.0.1", 35001)
    assert config.data_directory(nodes[1]) == Path("/var/lib/rocinante/test-node2")
    assert config.controller("node3") == nodes[2]
    assert config.controller("node4") is None


def test_a_missing_wwwroot_is_one_warning(tmp_path: Path) -> None:
    text = SECTION_9.replace("/usr/share/rocinante/www", str(tmp_path / "gone"))
    config, warnings = load_config(write(tmp_path, text))
    assert [node.wwwroot for node in config.controllers] == [None, None, None]
    assert len(warnings) == 1
    assert warnings[0].endswith(
        f":6: artifact.cluster.controllers[0].wwwroot: {tmp_path}/gone is not a directory on this host: "
        "the packaged page is served instead"
    )
    (tmp_path / "gone").mkdir()
    config, warnings = load_config(tmp_path / "cluster.yaml")
    assert config.controllers[2].wwwroot == tmp_path / "gone"
    assert warnings == []


def test_an_even_number_of_controllers_is_a_warning(tmp_path: Path) -> None:
    text = controllers("{address: 10.0.0.1, port: 1, rest: 2}", "{address: 10.0.0.2, port: 1, rest: 2}")
    assert "2 controllers tolerate the failure of 0, as 1 do: an odd number" in load_config(write(tmp_path, text))[1][0]


def test_every_option_is_read(tmp_path: Path) -> None:
    config, _ = load_config(
        write(
            tmp_path,
            """\
artifact:
  cluster:
    name: c-1
    datacenter: fra
    controllers:
      - {name: a, address: "fd00:0::1", port: 7000, rest: 7001}
    timers: {tickMs: 5, heartbeatMs: 20, electionMs: 200, requestTimeoutMs: 900}
    rotation: {mode: delay_heartbeats, minSeconds: 5, maxSeconds: 9}
    storage:
      {engine: memory, dataDir: /srv/r, compactEntries: 100, compactBytes: 1048576, keepEntries: 0,
       keepRevisions: 7, diskReserveBytes: 0}
    limits: {ingressProposals: 16, ingressBytes: 4194304, keyBytes: 1048576}
    flows:
      {max: 1000, maxBytes: 1048576, timeouts: {udp: 5, tcpEstablished: 77},
       zones: {7: {udp: 6}, 65535: {}}}
    log: {level: debug}
    rest: {allowedHosts: [Rocinante.Example, 10.0.0.9], threads: 3}
    auth: {tokenFile: /etc/rocinante/tokens}
    datacenters:
      - {name: ber, controllers: [{address: 10.2.0.1, port: 7000}, {address: "fd00:0::2", port: 7000}]}
      - {name: muc, controllers: [{address: 10.3.0.1, port: 7000}]}
""",
        )
    )
    assert config == ClusterConfig(
        "c-1",
        (Controller("a", "fd00::1", 7000, 7001),),
        "fra",
        timers=Timers(5, 20, 200, 900),
        rotation=Rotation(RotationMode.DELAY_HEARTBEATS, 5, 9),
        storage=StorageOptions(StorageEngine.MEMORY, Path("/srv/r"), 100, 1_048_576, 0, 7, 0),
        limits=IngressLimits(16, 4_194_304, 1_048_576),
        flows=FlowOptions(
            1_000,
            1_048_576,
            FlowTimeouts(udp=5, tcp_established=77),
            ((7, FlowTimeouts(udp=6, tcp_established=77)), (65_535, FlowTimeouts(udp=5, tcp_established=77))),
        ),
        log=LogOptions(LogLevel.DEBUG),
        rest=RestOptions(("rocinante.example", "10.0.0.9"), 3),
        auth=AuthOptions(Path("/etc/rocinante/tokens")),
        datacenters=(Datacenter("ber", ("10.2.0.1:7000", "[fd00::2]:7000")), Datacenter("muc", ("10.3.0.1:7000",))),
    )
    assert config.controllers[0].endpoint == "[fd00::1]:7000"
    assert config.controllers[0].rest_endpoint == "[fd00::1]:7001"


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("storage: memory", "storage.engine", StorageEngine.MEMORY),
        ("rotation: {mode: off}", "rotation.mode", RotationMode.OFF),
        ("flows: {timeouts: off}", "flows.timeouts", None),
        ("datacenter: no", "datacenter", "no"),
        ("datacenter: 12", "datacenter", "12"),
    ],
)
def test_words_that_yaml_would_turn_into_something_else(tmp_path: Path, line: str, path: str, value: object) -> None:
    found: Any = load_config(write(tmp_path, cluster(line)))[0]
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def scripted() -> dict[str, tuple[str, list[str]]]:
    """The cases of mistakes.txt."""
    cases = {}
    text = (Path(__file__).parent / "mistakes.txt").read_text()
    for case in text.split("=== ")[1:]:
        name, rest = case.split("\n", 1)
        content, expected = rest.split("----\n", 1)
        cases[name] = (content, expected.strip("\n").split("\n"))
    return cases


NOT_TEXT = """\
 not YAML: unacceptable character #x0000: special characters are not allowed in "<unicode string>", position 0"""
WRONG: dict[str, tuple[str | bytes, list[str]]] = {
    **scripted(),
    "not UTF-8": (b"artifact:\n  cl\xff\n", ["2: is not UTF-8 text"]),
    "binary": (b"\x00\x01\x02", [NOT_TEXT]),
    "too deep": ("artifact: " + "[" * 100 + "]" * 100, ["1: not YAML: nested deeper than 16 levels"]),
    "too many": (
        controllers(*(f"{{address: 10.0.0.{i}, port: 1, rest: 2}}" for i in range(1, 66))),
        ["4: artifact.cluster.controllers: expected a list of 1 to 64, got a list of 65"],
    ),
    "far too large": (
        cluster(f"timers: {{tickMs: {'9' * 30}}}"),
        [f"5: artifact.cluster.timers.tickMs: expected ms from 1 to 1000, got '{'9' * 30}'"],
    ),
}


def test_the_script_of_mistakes_is_read() -> None:
    assert len(WRONG) >= 50


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file(tmp_path: Path, name: str) -> None:
    text, expected = WRONG[name]
    assert problems(tmp_path, text) == expected


def test_all_mistakes_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = """\
artifact:
  cleanupOnFailure: perhaps
  cluster:
    name: a b
    log: {level: loud}
    controllers:
      - {address: nowhere, port: 1, rest: 2}
      - {adress: 10.0.0.1, port: 1, rest: 2}
    colour: red
"""
    found = problems(tmp_path, text)
    assert [(int(line.split(":")[0]), line.split(": ")[1]) for line in found] == [
        (2, "artifact.cleanupOnFailure"),
        (4, "artifact.cluster.name"),
        (5, "artifact.cluster.log.level"),
        (7, "artifact.cluster.controllers[0].address"),
        (8, "artifact.cluster.controllers[1].adress"),
        (8, "artifact.cluster.controllers[1].address"),
        (9, "artifact.cluster.colour"),
    ]


def test_endless_mistakes_are_counted(tmp_path: Path) -> None:
    found = problems(tmp_path, cluster(*(f"k{i}: 1" for i in range(150))))
    assert len(found) == limits.CONFIG_PROBLEMS_MAX + 1
    assert found[-1] == " and 50 more mistakes"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "none.yaml", "cannot be read: No such file or directory"),
        (lambda path: path, "cannot be read: Is a directory"),
        (lambda path: write(path, b" " * (limits.CONFIG_FILE_BYTES_MAX + 1)), "is larger than 262144 bytes"),
    ],
    ids=["missing", "a directory", "too large"],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(make(tmp_path))
    assert len(caught.value.problems) == 1


def test_aliases_work_and_do_not_multiply(tmp_path: Path) -> None:
    config, _ = load_config(write(tmp_path, cluster("datacenter: &x frankfurt", "rest: {allowedHosts: [*x]}")))
    assert config.rest.allowed_hosts == ("frankfurt",)
    bomb = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
    started = time.process_time()
    found = problems(tmp_path, cluster(*bomb, "controllers: *a11"))
    assert len(found) == 13
    assert time.process_time() - started < 5


def test_too_many_values(tmp_path: Path) -> None:
    found = problems(tmp_path, "[" + "a," * 21_000 + "]")
    assert found == ["1: not YAML: more than 20000 values"]


def test_the_example_loads_and_shows_every_option_with_its_default() -> None:
    config, warnings = load_config(EXAMPLE)
    assert warnings == []
    assert config == ClusterConfig("example", config.controllers)
    assert config.controllers == tuple(Controller(f"node{i}", "127.0.0.1", 35000 + i, 8000 + i) for i in (1, 2, 3))
    written = yaml.safe_load(EXAMPLE.read_text())["artifact"]
    assert list(written) == ["cleanupOnFailure", "cluster"]
    sections = {
        field.name: {inner.metadata[META].key for inner in dataclasses.fields(type(getattr(config, field.name)))}
        for field in dataclasses.fields(config)
        if dataclasses.is_dataclass(getattr(config, field.name))
    }
    assert set(written["cluster"]) == {"name", "datacenter", "controllers", *sections, "datacenters"}
    assert {key: set(written["cluster"][key]) for key in sections} == sections
    text = EXAMPLE.read_text()
    assert all(f"{field.name}:" in text for field in dataclasses.fields(Controller))
    defaults = {field.metadata[META].key: field.default for field in dataclasses.fields(FlowTimeouts)}
    assert written["cluster"]["flows"]["timeouts"] == defaults


def test_timeouts_are_those_that_batches_are_stamped_by() -> None:
    assert tuple(field.name for field in dataclasses.fields(FlowTimeouts)) == TIMEOUT_NAMES


def test_the_example_says_every_bound() -> None:
    text = EXAMPLE.read_text()
    config = load_config(EXAMPLE)[0]
    for section in (config.timers, config.rotation, config.limits, config.flows, config.storage, config.rest):
        for field in dataclasses.fields(section):
            option = field.metadata[META]
            for bound in (option.minimum, option.maximum):
                assert bound is None or bound == 0 or str(bound) in text or in_words(bound) in text, option.key


def in_words(size_bytes: int) -> str:
    mib = size_bytes // limits.MIB
    return f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"
