"""What routing saved and whether quality held, from plain rows: for `/apprentice status` and reports.

A policy can be judged before it decides, from logged choices. Pure; every figure comes with how many questions it rests on,
and is None where nothing can be said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.promotion import Difference, Interval, paired_bootstrap
from training.router_calibration import calibration_error

_WEIGHT_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question that was answered. `kind` gave the answer: "memory", "local" or an API's.

    `cost_usd` is all that was billed for it. `label` (0..1) is what people said of the answer, None where nobody judged;
    `p_good` what the router expected of the local answer, where that is the one that was given.
    """

    cluster: str
    kind: str
    cost_usd: float = 0.0
    label: float | None = None
    p_good: float | None = None


@dataclass(frozen=True, slots=True)
class RouterReport:
    """Figures of a time. `local_share` counts answers of the local model and memory.

    `saved` is dollars per question against asking an API model each time, with its interval (times `questions` for the sum);
    `calibration_error` rests on `calibrated_on` judged local answers. `local_good` and `api_good` are shares of good answers
    (memory's are left out).
    """

    questions: int
    local_share: float | None
    spent_usd: float
    saved: Difference | None
    calibration_error: float | None
    calibrated_on: int
    local_good: Difference | None
    api_good: Difference | None

    @property
    def saved_usd(self) -> float | None:
        """The sum that was saved, as an estimate."""
        return None if self.saved is None else self.saved.mean * self.questions


@dataclass(frozen=True, slots=True)
class LoggedChoice:
    """A question with a choice that was drawn: whether an API model gave the answer, with which probability that was done,
    and the answer's label; what a model expected of either answer makes the estimate steadier."""

    cluster: str
    escalated: bool
    propensity: float
    label: float
    p_local: float = 0.5
    p_api: float = 0.5


def router_report(rows: Sequence[AnsweredQuestion], *, usual_api_usd: float | None = None) -> RouterReport:
    """The figures of these questions.

    What a question would have cost with an API model is the mean of those that one answered; `usual_api_usd` stands in
    while there are none.
    """
    ours = [row for row in rows if row.kind in ("memory", "local")]
    judged = [row for row in rows if row.kind == "local" and row.label is not None and row.p_good is not None]
    return RouterReport(
        questions=len(rows),
        local_share=len(ours) / len(rows) if rows else None,
        spent_usd=sum(row.cost_usd for row in rows),
        saved=_saved(rows, usual_api_usd),
        calibration_error=calibration_error(
            [row.p_good or 0.0 for row in judged], [row.label or 0.0 for row in judged]
        )
        if judged
        else None,
        calibrated_on=len(judged),
        local_good=_good([row for row in rows if row.kind == "local"]),
        api_good=_good([row for row in rows if row.kind not in ("memory", "local")]),
    )


def doubly_robust(
    rows: Sequence[LoggedChoice], escalates: Callable[[LoggedChoice], bool]
) -> Difference | None:
    """The share of good answers that another policy would have given, from choices that were drawn with a known chance.

    Inverse propensity weights (at most tenfold) correct what a model expected. Right where the propensities are, and within
    the interval where enough of them are not tiny; None without rows.
    """
    if not rows:
        return None
    values = []
    for row in rows:
        wanted = escalates(row)
        expected = row.p_api if wanted else row.p_local
        seen = wanted == row.escalated
        weight = min(_WEIGHT_LIMIT, 1 / max(row.propensity, 1e-9)) if seen else 0.0
        values.append(expected + weight * (row.label - expected))
    return paired_bootstrap(values, [row.cluster for row in rows])


def _saved(rows: Sequence[AnsweredQuestion], usual_api_usd: float | None) -> Difference | None:
    """Dollars per question against api-only, resampling threads: the price of an API answer is an estimate as well."""
    import numpy as np

    bought = [row.cost_usd for row in rows if row.kind not in ("memory", "local")]
    if not rows or not (bought or usual_api_usd):
        return None
    names = sorted({row.cluster for row in rows})
    place = {name: number for number, name in enumerate(names)}
    ours, spent, api, paid = (np.zeros(len(names)) for _ in range(4))
    for row in rows:
        at = place[row.cluster]
        local = row.kind in ("memory", "local")
        ours[at] += local
        api[at] += not local
        spent[at] += row.cost_usd if local else 0.0
        paid[at] += 0.0 if local else row.cost_usd
    usual = sum(bought) / len(bought) if bought else float(usual_api_usd or 0.0)
    drawn = np.random.default_rng(0).integers(0, len(names), (1000, len(names)))
    counts, prices = api[drawn].sum(axis=1), paid[drawn].sum(axis=1)
    price = np.where(counts > 0, prices / np.maximum(counts, 1), usual)
    saved = (price * ours[drawn].sum(axis=1) - spent[drawn].sum(axis=1)) / np.maximum(
        ours[drawn].sum(axis=1) + counts, 1
    )
    mean = float((usual * ours.sum() - spent.sum()) / len(rows))
    low, high = (float(each) for each in np.quantile(saved, [0.025, 0.975]))
    spread = float(saved.std() * len(names) ** 0.5)
    return Difference(mean, Interval(min(low, mean), max(high, mean), 0.95), len(rows), len(names), spread)


def _good(rows: Sequence[AnsweredQuestion]) -> Difference | None:
    judged = [row for row in rows if row.label is not None]
    if not judged:
        return None
    told = paired_bootstrap([row.label or 0.0 for row in judged], [row.cluster for row in judged])
    interval = Interval(max(0.0, told.interval.low), min(1.0, told.interval.high), told.interval.level)
    return Difference(told.mean, interval, told.n, told.clusters, told.spread)
