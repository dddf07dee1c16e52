"""The scenarios of ansible/extensions/molecule, run and judged: `python -m tests.hosts.scenarios [NAME ...]`.

Each one in hosts of its own, so several may run at once (`--jobs`), with a bound on its time. Molecule passes what it
cannot find, with a warning: so its recap is read too, and a scenario in which something is missing has failed. Whatever
happened, its hosts are removed at the end, and something that stays of them is a failure.

`together` is default, upgrade and bad_node in one lab, for where the time is too short for three (`.ci/run`); it runs
when it is named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.hosts import lab, load, packages
from tests.hosts.names import STATE, LabError
from tests.hosts.tree import SYSTEMS, VARIABLE, tree

ROOT: Final = Path(__file__).resolve().parents[2]
COLLECTION: Final = ROOT / "ansible"
SCENARIOS: Final = COLLECTION / "extensions" / "molecule"
LOGS: Final = ROOT / ".molecule"
PACKAGES: Final = STATE.parent / "rocinante-lab-packages"
TIMEOUT_S: Final = 1500.0
TOGETHER: Final = "together"
_MISSING: Final = re.compile(r"missing[=: ]+(\d+)", re.IGNORECASE)
_COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")


class Outcome(NamedTuple):
    name: str
    seconds: float
    problem: str
    """Empty: it passed."""
    seen: str
    """What its writers saw, where it has some."""


def names() -> list[str]:
    """All scenarios, `default` first."""
    found = sorted(path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))
    return sorted(found, key=lambda name: name != "default")


def lab_name(scenario: str) -> str:
    """As inventory/group_vars/all.yml has it."""
    return "m" + scenario.replace("_", "")


def problem_of(status: int, output: str) -> str:
    """What a finished run of molecule says against its scenario."""
    if status:
        return f"molecule: exit status {status}"
    missing = [int(number) for number in _MISSING.findall(_COLOR.sub("", output))]
    if any(missing):
        return "a playbook of its sequence is missing"
    if "PLAY RECAP" not in output:
        return "no play was run"
    return ""


def run(name: str, molecule: Path, timeout_s: float) -> Outcome:
    """One scenario, whole."""
    began = time.monotonic()
    log, report = LOGS / f"{name}.log", LOGS / f"{name}.json"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{molecule.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "ROCINANTE_SOURCE": str(ROOT),
        "ROCINANTE_PACKAGES": str(PACKAGES),
        "ROCINANTE_LAB": lab_name(name),
        "ROCINANTE_REPORT": str(report),
        "PYTHONPATH": str(ROOT),
        "ANSIBLE_FORCE_COLOR": "0",
        "NO_COLOR": "1",
    }
    problem = ""
    with log.open("w") as file:
        process = subprocess.Popen(
            [molecule, "test", "--scenario-name", name],
            cwd=COLLECTION, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            problem = f"not done after {timeout_s:.0f} s"
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            lab.remove(lab_name(name))
            raise
    problem = problem or problem_of(status, log.read_text())
    left = lab.leftovers(lab_name(name))
    if left and not problem:
        problem = f"its destroy left {', '.join(left)}"
    if left:
        lab.remove(lab_name(name))
    seen = load.in_words(json.loads(report.read_text())) if report.exists() else ""
    return Outcome(name, time.monotonic() - began, problem and f"{problem}; see {log.relative_to(ROOT)}", seen)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts.scenarios", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(names())}; default: all but {TOGETHER}")
    parser.add_argument("--package", type=Path, required=True, help="the .deb to install")
    parser.add_argument("--molecule", type=Path, default=ROOT / ".venv/bin/molecule", help="the program")
    parser.add_argument("--on", choices=list(SYSTEMS), default=next(iter(SYSTEMS)), help="what the hosts run")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once (1)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds that one may take")
    arguments = parser.parse_args()
    wanted = arguments.scenario or [name for name in names() if name != TOGETHER]
    if unknown := set(wanted) - set(names()):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    LOGS.mkdir(exist_ok=True)
    os.environ[VARIABLE] = arguments.on  # for all that makes hosts, molecule's playbooks too
    try:
        tree()
        packages.make(arguments.package, PACKAGES)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(lambda name: _say(run(name, arguments.molecule, arguments.timeout)), wanted))
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _say(outcome: Outcome) -> Outcome:
    print(f"{outcome.name:15} {outcome.seconds:6.0f} s  {outcome.problem or 'passed'}", flush=True)
    if outcome.seen:
        print(f"{'':15} {outcome.seen}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
