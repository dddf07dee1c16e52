"""Runs rounds: load, fault, healing, checks; and what came of each.

A round that fails keeps its directory (configuration, logs, history), and the rest of its stint goes on with a new
cluster: what comes after a violation proves nothing.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from typing import Final

from rocinante.errors import RocinanteError
from tests.faults.cluster import NetworkCluster
from tests.faults.disk import DiskFailure
from tests.faults.history import Asked, is_write, longest_gap, read_history
from tests.faults.loading import LoadProcess
from tests.faults.namespaces import Lab
from tests.faults.plan import Round, Stint
from tests.faults.registry import GAP_S_MAX, Fault, Scene
from tests.faults.verify import check_cluster, check_history, check_logs, check_scene, wait_whole
from tests.support.cluster import ClusterFailure

OPTIONS: Final = {"storage": {"compactEntries": 1000, "keepEntries": 200}, "log": {"level": "info"}}
"""Snapshots and compactions happen in every round, not only after hours."""


FAILURES: Final = (AssertionError, RocinanteError, DiskFailure, OSError, RuntimeError, ValueError, SubprocessError)
"""What ends a round at once, and not the run: something is not as it should be, in the cluster or on its host."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last. Timers are those that users have by default unless `timers` says otherwise."""

    around_s: float = 1.0
    """Load before the fault and after its healing."""
    lasts: float = 1.0
    """Factor for the faults' own times."""
    timers: dict[str, int] | None = None
    keep: bool = False
    """The directories of rounds that pass."""
    judge_gaps: bool = True
    """Whether too long a time without a write is a violation; it is measured in any case."""


QUICK: Final = Pace(around_s=0.3, lasts=0.4, timers={"electionMs": 1000, "heartbeatMs": 100}, judge_gaps=False)
"""The short form: shorter faults, on a machine that may be busy with other things. The timers are not so short that a
node that gets no processor for a while is taken for a dead one."""


@dataclass(slots=True)
class Result:
    """What came of one round; times in seconds."""

    number: int
    fault: str
    nodes: int
    draw: str
    writes: int = 0
    """Acknowledged."""
    reads: int = 0
    refused: int = 0
    unknown: int = 0
    gap_s: float = 0.0
    """The longest time without an acknowledged write, from just before the fault on."""
    gap_at_s: float = 0.0
    """When that began, after the fault's first act."""
    faulty_s: float = 0.0
    """From the first act of the fault to the end of its healing."""
    ready_s: float = 0.0
    """From then until every process served: Python's imports, where it was started."""
    whole_s: float = 0.0
    """From then until all members were back."""
    rss_mib: float = 0.0
    hits: int | None = None
    notes: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    kept: str = ""


def run_stint(
    lab: Lab, stint: Stint, directory: Path, pace: Pace, done: Callable[[Result], None], began: Callable[[Round], None]
) -> None:
    """All rounds of a stint; `began` and `done` are told about each."""
    left = list(stint.rounds)
    attempt = 0
    while left:
        attempt += 1
        place = directory / f"round-{left[0].number:04}"
        results = _run_cluster(lab, stint, left, place, pace, done, began)
        left = left[results:]


def _run_cluster(
    lab: Lab,
    stint: Stint,
    rounds: list[Round],
    place: Path,
    pace: Pace,
    done: Callable[[Result], None],
    began: Callable[[Round], None],
) -> int:
    """As many rounds as one cluster gets through: all, or until one fails. The number of rounds that were run."""
    options: dict[str, object] = {**OPTIONS, **stint.fault.options}
    if pace.timers is not None:
        options["timers"] = pace.timers
    cluster = NetworkCluster(lab, place, stint.nodes, **options)
    rig = stint.fault.rig(cluster) if stint.fault.rig is not None else contextlib.nullcontext()
    count = 0
    failed = False
    with rig, cluster, LoadProcess(cluster, place / "load.log") as load:
        try:
            cluster.start()
            wait_whole(cluster)
        except ClusterFailure as failure:
            lost = Result(rounds[0].number, rounds[0].fault.name, rounds[0].nodes, rounds[0].draw, kept=str(place))
            lost.violations.append(f"a cluster without a fault did not start: {failure}")
            done(lost)
            return 1
        for round_ in rounds:
            count += 1
            began(round_)
            result = _run_round(cluster, load, round_, place, pace)
            failed = bool(result.violations)
            result.kept = str(place) if failed else ""
            done(result)
            if failed:
                break
    if not failed and not pace.keep:
        shutil.rmtree(place)
    return count


def _run_round(cluster: NetworkCluster, load: LoadProcess, round_: Round, place: Path, pace: Pace) -> Result:
    """One round, and all that is wrong with it."""
    fault = round_.fault
    scene = Scene(cluster, random.Random(f"{round_.draw}/{fault.name}"))
    result = Result(round_.number, fault.name, round_.nodes, round_.draw, notes=scene.notes)
    lasts_s = pace.lasts * scene.random.uniform(*fault.lasts_s)
    cluster.mark_logs()
    load.begin(round_.number, round_.draw)
    begin = time.monotonic()
    try:
        scene.wait(pace.around_s)
        begin = time.monotonic()
        steps = fault.inject(scene)
        next(steps)
        scene.wait(lasts_s)
        next(steps, None)
        healed = time.monotonic()
        result.faulty_s = healed - begin
        for number in cluster.nodes:
            cluster.wait_ready(number)
        result.ready_s = time.monotonic() - healed
        wait_whole(cluster)
        result.whole_s = time.monotonic() - healed
        scene.wait(pace.around_s)
    except FAILURES as error:
        result.violations.append(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
        result.notes.append(str(error))
    came_back = not result.violations
    end = time.monotonic()
    file = place / f"history-{round_.number:04}.jsonl"
    load.end(file)
    history = read_history(file)
    _count(result, history, begin, end)
    result.hits = scene.hits
    result.violations += check_history(history)
    if came_back:
        result.violations += check_cluster(cluster) + check_logs(fault, scene) + check_scene(scene)
        result.violations += _too_long(result, fault) if pace.judge_gaps else []
    if not result.violations:
        result.rss_mib = max(cluster.rss_mib(number) for number in cluster.running())
        if not pace.keep:
            file.unlink()
    return result


def _too_long(result: Result, fault: Fault) -> list[str]:
    bound_s = fault.gap_s_max
    if bound_s is None:
        bound_s = GAP_S_MAX + result.faulty_s + result.ready_s
    if result.gap_s <= bound_s:
        return []
    return [f"no write was acknowledged for {result.gap_s:.1f} s, {bound_s:.1f} s at most may be"]


def _count(result: Result, history: list[Asked], begin: float, end: float) -> None:
    for one in history:
        if one.how == "ok":
            result.writes += is_write(one)
            result.reads += not is_write(one)
        elif one.how == "refused":
            result.refused += 1
        else:
            result.unknown += 1
    result.gap_s, at = longest_gap(history, begin, end)
    result.gap_at_s = at - begin
