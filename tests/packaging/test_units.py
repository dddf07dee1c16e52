"""The units: systemd understands them, and their exposure stays where it is. Those on real hosts: tests/systemd."""

from __future__ import annotations

import re
import subprocess

import pytest

from rocinante.errors import EXIT_DATA, EXIT_STORAGE, EXIT_USAGE
from tests.support.tools import ROOT, requires

UNITS = ROOT / "systemd"
EXPOSURE_MAX = {"rocinante@.service": 1.5, "rocinante-sniffer@.service": 2.0}


@requires("systemd-analyze")
@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_exposure(unit: str) -> None:
    command = ["systemd-analyze", "--no-pager", "security", "--offline=true", str(UNITS / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE_MAX[unit], said


@requires("systemd-analyze")
@pytest.mark.parametrize("unit", ["rocinante@.service", "rocinante-sniffer@.service", "rocinante.target"])
def test_systemd_understands_every_line(unit: str) -> None:
    command = ["systemd-analyze", "--man=no", "verify", str(UNITS / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    wrong = [line for line in said.splitlines() if "rocinante" in line and "is not executable" not in line]
    assert not wrong


def test_what_a_restart_does_not_mend_is_not_restarted() -> None:
    text = (UNITS / "rocinante@.service").read_text()
    found = re.search(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert found is not None
    assert {int(word) for word in found[1].split()} == {EXIT_USAGE, EXIT_DATA, EXIT_STORAGE}
