"""The cluster YAML: a configuration, or ConfigError with one line a mistake, that has the file and mostly the line."""

from __future__ import annotations

import time
from typing import Final

from rocinante.config import load_config
from rocinante.errors import ConfigError
from rocinante.limits import CONFIG_PROBLEMS_MAX
from tests.fuzz.targets import Target
from tests.fuzz.targets.storage import folder
from tests.support.tools import ROOT

EXAMPLE: Final = ROOT / "packaging" / "rocinante.example.yaml"
SECONDS_MAX: Final = 5.0
"""Of processor time; the worst of what fits the limit takes about one."""
SHORT: Final = b"""\
artifact:
  cleanupOnFailure: true
  cluster:
    name: test
    controllers:
      - {address: 127.0.0.1, port: 35001, rest: 8001, wwwroot: /usr/share}
      - {address: "::1", port: 35002, rest: 8002, name: two}
    storage: memory
    timers: {tickMs: 10, heartbeatMs: 50, electionMs: 500}
    rotation: {mode: off}
    rest: {allowedHosts: [a.example, 10.0.0.1]}
"""
BOMB: Final = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(12))
    + b"artifact: *m\n"
)


def one_config(data: bytes) -> None:
    path = folder() / "cluster.yaml"
    path.write_bytes(data)
    began = time.process_time()
    try:
        config, warnings = load_config(path)
    except ConfigError as error:
        assert 1 <= len(error.problems) <= CONFIG_PROBLEMS_MAX + 1
        for problem in error.problems:
            assert problem.startswith(str(path)), problem
            assert "\n" not in problem, problem
            problem.encode()
        str(error)
    else:
        assert config.controllers
        assert all(1 <= controller.port <= 65535 for controller in config.controllers)
        assert len({controller.id for controller in config.controllers}) == len(config.controllers)
        for warning in warnings:
            warning.encode()
    finally:
        path.unlink()
    assert time.process_time() - began < SECONDS_MAX


def seeds() -> list[bytes]:
    return [
        SHORT,
        EXAMPLE.read_bytes(),
        b"\xef\xbb\xbf" + SHORT,
        BOMB,
        b"[" * 5000,
        b"{a: " * 3000,
        b"artifact: &x {cluster: *x}\n",
        b"artifact: !!python/object/apply:os.system [true]\n",
        b"%YAML 1.1\n---\nartifact: {}\n---\n{}\n",
        b"artifact: {cluster: {name: " + b"9" * 5000 + b", controllers: [{port: " + b"9" * 5000 + b"}]}}\n",
        b"? [a, b]\n: {}\n<<: {artifact: 1}\n",
        SHORT.replace(b"name: test", b"name: test\n    name: test"),
        'artifact: {cluster: {name: "\\ud800", datacenter: é}}'.encode(),
    ]


TARGETS: Final = [Target("config", one_config, seeds, 65_536, 150)]
