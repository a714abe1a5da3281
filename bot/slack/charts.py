"""Charts of reports: what they show, as Slack's own blocks, and as pictures where a workspace does not take those.

Limits of a `data_visualization` block (title 50 characters, 20 categories, labels and names 20, one value for each category
in each series) are kept here, so that a chart that was made can be sent.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from statistics import fmean
from typing import Any

from bot.errors import PublicError
from bot.slack.report_text import ARM_NAMES, METRICS
from training.evaluation import ArmScores
from training.rundir import Event

TITLE_LIMIT, LABEL_LIMIT = 50, 20
MOST_POINTS = 20
ENOUGH_POINTS = 3
WIDTH_IN, HEIGHT_IN, DPI = 7.0, 3.6, 150


class Kind(StrEnum):
    """How a chart is drawn."""

    LINE = "line"
    BAR = "bar"


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: each series has a value for each category, in their order."""

    title: str
    kind: Kind
    x_label: str
    y_label: str
    categories: tuple[str, ...]
    series: Mapping[str, tuple[float, ...]]

    @property
    def description(self) -> str:
        """The chart in words, for who cannot see it."""
        lines = [
            f"{name} from {values[0]:.3g} ({self.categories[0]}) to {values[-1]:.3g} ({self.categories[-1]})"
            if self.kind is Kind.LINE
            else f"{name}: "
            + ", ".join(f"{label} {value:.3g}" for label, value in zip(self.categories, values, strict=True))
            for name, values in self.series.items()
        ]
        return f"{self.title}. {'; '.join(lines)}."


def loss_chart(progress: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The loss as training went on, from the lines of `progress.jsonl`; None where there are fewer than two points.

    Where the held-out loss was measured often enough, a point is a measurement, and beside it stands the mean training
    loss since the one before. Otherwise the steps are put together evenly.
    """
    # A second stage counts its steps anew, and its loss is of another kind.
    first = next((line["stage"] for line in progress if line.get("stage")), None)
    progress = [line for line in progress if line.get("stage") in {None, first}]
    steps = [(int(line["step"]), float(line["loss"])) for line in progress if _has(line, Event.STEP, "loss")]
    measured = {
        int(line["step"]): float(line["eval_loss"])
        for line in progress
        if _has(line, Event.EVALUATED, "eval_loss") and line.get("step")
    }
    told = dict(sorted(dict(steps).items()))
    ends = [at for at in _thinned(sorted(measured)) if any(step <= at for step in told)]
    if len(ends) >= ENOUGH_POINTS:
        series = {
            "Training": tuple(_means(told, ends)),
            "Held-out": tuple(round(measured[at], 4) for at in ends),
        }
    else:
        ends = _thinned(list(told))
        series = {"Training": tuple(_means(told, ends))}
    if len(ends) < 2:
        return None
    labels = tuple(str(at) for at in ends)
    return Chart("Loss (lower is better)", Kind.LINE, "Step", "Nats per token", labels, series)


def score_chart(arms: Sequence[ArmScores]) -> Chart | None:
    """The scores of every model that answered, metric by metric; None where there is nothing to compare."""
    answered = [arm for arm in arms if not arm.failed]
    if len(answered) < 2:
        return None
    series = {
        ARM_NAMES.get(arm.name, arm.name)[:LABEL_LIMIT]: tuple(
            round(100 * getattr(arm.scores, metric), 1) for metric in METRICS
        )
        for arm in answered
    }
    labels = tuple(METRICS.values())
    return Chart("Scores (higher is better)", Kind.BAR, "", "Points of 100", labels, series)


def chart_block(chart: Chart) -> dict[str, Any]:
    """The chart as Slack draws it."""
    axis: dict[str, Any] = {"categories": list(chart.categories)}
    axis |= {"x_label": chart.x_label} if chart.x_label else {}
    axis |= {"y_label": chart.y_label} if chart.y_label else {}
    series = [
        {
            "name": name,
            "data": [
                {"label": label, "value": value}
                for label, value in zip(chart.categories, values, strict=True)
            ],
        }
        for name, values in chart.series.items()
    ]
    return {
        "type": "data_visualization",
        "title": chart.title[:TITLE_LIMIT],
        "chart": {"type": chart.kind.value, "series": series, "axis_config": axis},
    }


def can_draw() -> bool:
    """Whether matplotlib is installed (without importing it)."""
    return importlib.util.find_spec("matplotlib") is not None


def picture(chart: Chart) -> bytes:
    """The chart as a PNG. Slow: call it in a thread. Raises PublicError where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise PublicError(
            "Pictures of charts need matplotlib. Install it with: pip install 'apprentice-bot[charts]'."
        ) from None
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _drawn(axes, chart)
    axes.set_title(chart.title, loc="left")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.series) > 1:
        figure.legend(loc="outside lower center", ncols=len(chart.series), frameon=False)
    held = BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def _drawn(axes: Any, chart: Chart) -> None:
    places = list(range(len(chart.categories)))
    width = 0.8 / len(chart.series)
    for at, (name, values) in enumerate(chart.series.items()):
        if chart.kind is Kind.LINE:
            axes.plot(places, values, marker="o", markersize=3, label=name)
        else:
            shifted = [place + (at - (len(chart.series) - 1) / 2) * width for place in places]
            axes.bar_label(axes.bar(shifted, values, width, label=name), fmt="%.0f", fontsize=7)
    axes.set_xticks(places, chart.categories)


def _has(line: Mapping[str, Any], event: Event, number: str) -> bool:
    return line.get("event") == event and isinstance(line.get(number), int | float)


def _thinned(steps: Sequence[int]) -> list[int]:
    """At most MOST_POINTS of them, evenly, the last one among them."""
    every = max(1, math.ceil(len(steps) / MOST_POINTS))
    return list(reversed(list(reversed(steps))[::every]))


def _means(losses: Mapping[int, float], ends: Sequence[int]) -> list[float]:
    """The mean loss up to each end, since the one before; what had no step in between repeats the one before."""
    means: list[float] = []
    before = -1
    for end in ends:
        since = [loss for step, loss in losses.items() if before < step <= end]
        means.append(round(fmean(since), 4) if since else means[-1])
        before = end
    return means
