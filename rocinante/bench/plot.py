"""Throughput against latency as a picture, SVG or PNG by its name's ending. Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rocinante.bench.running import Stage
from rocinante.errors import FailedPrecondition, InvalidArgument

__all__ = ["check", "plot"]

ENDINGS: Final = (".svg", ".png")
_LINES: Final = (("p50_ms", "median"), ("p99_ms", "99th percentile"), ("max_ms", "maximum"))


def check(path: Path) -> None:
    """Before anything is measured: whether it can be drawn there. Raises InvalidArgument, FailedPrecondition."""
    if path.suffix.lower() not in ENDINGS:
        raise InvalidArgument("--plot", f"{path.name}: the name must end in {' or '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise InvalidArgument("--plot", f"there is no directory {path.absolute().parent}")
    try:
        import matplotlib.figure  # noqa: F401 - only whether it is there
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "--plot needs matplotlib, which is not installed: pip install 'rocinante[bench]' (or matplotlib itself)"
        ) from None


def plot(path: Path, stages: Sequence[Stage]) -> None:
    """One point a stage, in the order of throughput. Raises OSError."""
    from matplotlib.figure import Figure

    shown = sorted((stage for stage in stages if stage.batches), key=lambda stage: stage.per_second)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    for name, words in _LINES:
        axes.plot(
            [stage.per_second for stage in shown], [stage.latency[name] for stage in shown], marker="o", label=words
        )
    for stage in shown:
        axes.annotate(
            _label(stage), (stage.per_second, stage.latency["p50_ms"]), xytext=(4, -12), textcoords="offset points",
            fontsize=7,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("flows a second, acknowledged")
    axes.set_ylabel("latency of a batch, ms")
    axes.set_title("rocinante bench flows: throughput and latency")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, format=path.suffix[1:].lower(), dpi=144)


def _label(stage: Stage) -> str:
    plan = stage.plan
    load = f"{plan.writers}×{plan.in_flight}" if plan.rate is None else f"{plan.rate:,.0f}/s"
    return f"{load}, {plan.batch:,}"
