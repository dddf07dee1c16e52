"""The collection without a host: what it declares is what it has, and what it writes is a configuration that loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from rocinante.config import Datacenter, load_config

ROOT: Final = Path(__file__).resolve().parents[2]
COLLECTION: Final = ROOT / "ansible"
ROLES: Final = sorted(path.name for path in (COLLECTION / "roles").iterdir())
PLAYBOOKS: Final = sorted(path.name for path in (COLLECTION / "playbooks").glob("*.yml"))
BIN: Final = Path(sys.executable).parent

pytestmark = pytest.mark.timeout(600)  # seconds of processor; minutes where all work


def call(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A program of Ansible, with its files in the test's own directory."""
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_HOME": str(directory / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "XDG_CACHE_HOME": str(directory / "cache"),
        "NO_COLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        command, cwd=COLLECTION, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def loaded(*parts: str) -> Any:
    return yaml.safe_load(COLLECTION.joinpath(*parts).read_text())


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_are_the_defaults(role: str) -> None:
    """Every default is described, with the same value; what is described without a default is required."""
    specs = loaded("roles", role, "meta", "argument_specs.yml")["argument_specs"]
    defaults = loaded("roles", role, "defaults", "main.yml")
    described: dict[str, Any] = {}
    for entry, spec in specs.items():
        file = COLLECTION / "roles" / role / "tasks" / f"{entry}.yml"
        assert file.exists(), f"{entry} is described, there is no {file.name}"
        for name, option in spec["options"].items():
            assert described.setdefault(name, option) == option, f"{name} is described in two ways"
            assert option["description"]
            assert ("default" in option) != option.get("required", False), name
    assert {name: option["default"] for name, option in described.items() if "default" in option} == defaults
    assert all(name.startswith(f"{role}_") for name in described)


def test_the_check_of_argument_specs_covers_all_roles() -> None:
    assert {"facts", "preflight", "install", "configure", "gate", "roll"} <= set(ROLES)


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    done = call(tmp_path, str(BIN / "ansible-lint"), "--offline", "--profile=production", "--strict", "-q")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_playbook_is_one(tmp_path: Path) -> None:
    files = ["site.yml", *(f"playbooks/{name}" for name in PLAYBOOKS)]
    extra = ["-e", "membership_host=dc1a"]
    done = call(tmp_path, str(BIN / "ansible-playbook"), "--syntax-check", *extra, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rolling_play_takes_one_host_at_a_time() -> None:
    """serial 1 is what stops at a host that cannot be reached, too; a list or a share goes on to the next."""
    rolling = [
        (name, play)
        for name in PLAYBOOKS
        for play in loaded("playbooks", name)
        if play.get("hosts") == "rocinante_roll"
    ]
    assert {name for name, _ in rolling} == {"restart.yml", "rotate_secrets.yml", "site.yml", "upgrade.yml"}
    for name, play in rolling:
        assert (play["serial"], play["any_errors_fatal"], play["max_fail_percentage"]) == (1, True, 0), name


def test_every_rescue_ends_in_a_failure() -> None:
    found = [
        (path, task["rescue"][-1])
        for path in COLLECTION.glob("roles/*/tasks/*.yml")
        for task in yaml.safe_load(path.read_text())
        if "rescue" in task
    ]
    assert found
    assert all("ansible.builtin.fail" in last for _, last in found)


INTERPRETER: Final = "ansible_python_interpreter={{ ansible_playbook_python }}"
RENDER: Final = """\
- hosts: rocinante
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: facts}
    - ansible.builtin.template:
        src: ROLE/templates/rocinante.yaml.j2
        dest: OUT/{{ inventory_hostname }}.yaml
        mode: "0600"
        validate: PYTHON -c 'from rocinante.cli.main import main; main()' config check %s
      vars: VARS
"""


def render(tmp_path: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    """The example inventory's YAML of every node, as the role writes it."""
    variables = loaded("roles", "configure", "defaults", "main.yml") | loaded("roles", "configure", "vars", "main.yml")
    play = tmp_path / "render.yml"
    text = RENDER.replace("ROLE", str(COLLECTION / "roles" / "configure")).replace("OUT", str(tmp_path))
    play.write_text(text.replace("VARS", json.dumps(variables)).replace("PYTHON", sys.executable))
    return call(
        tmp_path, str(BIN / "ansible-playbook"), "-i", "inventories/example", "-e", INTERPRETER, *extra, str(play)
    )


def test_the_example_inventory_makes_configurations_that_load(tmp_path: Path) -> None:
    done = render(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for number, datacenter in enumerate(("dc1", "dc2"), 1):
        hosts = [f"{datacenter}{letter}" for letter in "abc"]
        texts = {(tmp_path / f"{host}.yaml").read_text() for host in hosts}
        assert len(texts) == 1, "one file a datacenter"
        config, warnings = load_config(tmp_path / f"{hosts[0]}.yaml")
        assert warnings == []
        assert (config.name, config.datacenter) == ("example", datacenter)
        assert [(node.name, node.endpoint, node.rest) for node in config.controllers] == [
            (host, f"10.81.{number}.{10 + position}:7400", 7401) for position, host in enumerate(hosts, 1)
        ]
        other = 3 - number
        assert config.datacenters == (
            Datacenter(f"dc{other}", tuple(f"10.81.{other}.{10 + position}:7400" for position in (1, 2, 3))),
        )


def test_a_wrong_setting_is_refused_before_it_is_written(tmp_path: Path) -> None:
    done = render(tmp_path, "--extra-vars", '{"rocinante_settings": {"timers": {"electionMs": 1}}}')
    assert done.returncode != 0
    assert "electionMs" in done.stdout + done.stderr
    assert not list(tmp_path.glob("dc*.yaml"))
