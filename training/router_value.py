"""What a router is worth: the decision by expected value, scores of routing, and whether a new router replaces the last.

Everything is pure. A router takes over only where questions that it had not seen say that it decides better, and the whole
interval says so; a router that is no better stays where it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.promotion import Difference, paired_bootstrap
from training.router import FOLDS, Expected, Rated, RatedAnswer, Router, fit_rated, fold_of, gathered
from training.router_calibration import brier, calibrated, calibration_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

SURE_LOGPROB = -0.35
"""A local answer whose tokens were on average likelier than exp(-0.35) = 0.70 is sure enough while there is no router."""
FEWEST_COMPARED = 50
"""Fewer questions that tell what both decisions are worth, and the last router stays."""
_LEVEL = 0.95
_RESAMPLES = 400
_WEIGHT_LIMIT = 10.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is weighed: a good answer in place of a bad one is worth `value_usd`, an API answer costs `cost_api_usd`.

    `waiting_usd` is what the wait for a second answer counts for.
    """

    value_usd: float
    cost_api_usd: float
    waiting_usd: float = 0.0

    @property
    def break_even(self) -> float:
        """The gain from which asking an API model pays; above 1 it never does."""
        if self.value_usd <= 0:
            return math.inf
        return (self.cost_api_usd + self.waiting_usd) / self.value_usd


@dataclass(frozen=True, slots=True)
class RouterScores:
    """What cross-validation says of a router, on questions that each fold had not seen.

    `apgr` is the average share of the gap between both models that is recovered (0.5 is chance), `apgr_low` the lower end
    of its interval, `cpt50` the percentage of API calls that recovers half of the gap; None where no gap was seen. `ece` and
    `brier` judge the chance of a good local answer. `gain` is the value per question over what decides now, in dollars.
    """

    labels: int
    pairs: int
    compared: int
    apgr: float | None
    apgr_low: float | None
    cpt50: float | None
    ece: float
    brier: float
    calibration: str
    gain: Difference | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A fitted router, whether it takes over, and why, in one plain sentence. Without `router` nothing could be fitted."""

    adopted: bool
    reason: str
    router: Router | None = None
    scores: RouterScores | None = None


def worth_asking(expected: Expected, prices: Prices) -> bool:
    """Whether an API model is asked: its better answer is worth more than it costs."""
    return expected.gain > prices.break_even


def sure_by_threshold(features: Mapping[str, float]) -> bool:
    """What decides before there is a router: likely tokens, and an answer that came to its end."""
    return not features.get("finish_length") and features.get("logprob_mean", -math.inf) >= SURE_LOGPROB


def replacement(
    rows: Sequence[RatedAnswer], *, prices: Prices, incumbent_rows: Sequence[RatedAnswer] | None = None
) -> Replacement:
    """Fit a router on `rows` and say whether it takes over.

    `incumbent_rows` are the rated answers that the last router was fitted on, None where the threshold decides. Both are
    looked at on the same folds of threads: the last one is fitted anew without each fold, so that neither has seen what it
    is asked. Only questions count whose value is known for either decision: both answers were judged, or a draw with a
    known chance decided which.
    """
    rated = gathered(rows)
    router = fit_rated(rated)
    if router is None:
        return Replacement(
            False, "There are too few rated local answers to fit a router, or all are rated alike."
        )
    unseen = _unseen(rated, rated)
    before = (
        _threshold(rated, prices)
        if incumbent_rows is None
        else _decided(_unseen(gathered(incumbent_rows), rated), prices)
    )
    scores = _scores(rated, router, unseen, before, prices)
    adopted, reason = _verdict(scores, "the threshold" if incumbent_rows is None else "the last router")
    return Replacement(adopted, reason, router, scores)


def apgr(
    gain: "Sequence[float] | Numbers", weak: "Sequence[float] | Numbers", strong: "Sequence[float] | Numbers"
) -> float:
    """RouteLLM's average performance gap recovered over all shares of strong calls, asking where `gain` is highest first.

    0.5 is what chance gets. Raises ValueError where the strong model is no better.
    """
    import numpy as np

    curve, gap = _curve(gain, weak, strong)
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)) / gap)


def cpt(
    gain: "Sequence[float] | Numbers",
    weak: "Sequence[float] | Numbers",
    strong: "Sequence[float] | Numbers",
    *,
    share: float = 0.5,
) -> float:
    """The percentage of strong calls after which `share` of the gap is recovered. Raises ValueError likewise."""
    import numpy as np

    curve, gap = _curve(gain, weak, strong)
    return 100 * float(np.argmax(curve >= share * gap - 1e-12)) / (len(curve) - 1)


def _curve(gain: Any, weak: Any, strong: Any) -> "tuple[Numbers, float]":
    import numpy as np

    order = np.argsort(-np.asarray(gain, dtype=float), kind="stable")
    gains = (np.asarray(strong, dtype=float) - np.asarray(weak, dtype=float))[order]
    curve = np.concatenate([[0.0], np.cumsum(gains)]) / max(1, len(gains))
    if not len(gains) or curve[-1] <= 0:
        raise ValueError(
            "the strong model is no better than the weak one here, so there is no gap to recover"
        )
    return curve, float(curve[-1])


@dataclass(frozen=True, slots=True)
class _Unseen:
    """Expectations for questions by routers that had not seen them; NaN where none could be fitted."""

    score: "Numbers"
    p_local: "Numbers"
    p_api: "Numbers"
    gain: "Numbers"


def _unseen(fitted_on: Sequence[Rated], looked_at: Sequence[Rated]) -> _Unseen:
    """Each fold by a router fitted on the other folds; chances calibrated by the folds in between."""
    import numpy as np

    told = np.full((4, len(looked_at)), np.nan)
    fold = np.array([fold_of(each.cluster) for each in looked_at])
    for number in range(FOLDS):
        places = np.flatnonzero(fold == number)
        mine = fit_rated([each for each in fitted_on if fold_of(each.cluster) != number], calibrate=False)
        if mine is None or not len(places):
            continue
        asked = [looked_at[int(place)].asked for place in places]
        expected = mine.expect_all(asked)
        told[:, places] = [mine.local_scores(asked), expected.p_local, expected.p_api, expected.gain]
    labels = np.array([each.local for each in looked_at])
    known = ~np.isnan(told[0]) & ~np.isnan(labels)
    for number in range(FOLDS):
        others, here = known & (fold != number), fold == number
        if others.sum() >= 2 and np.ptp(labels[others]) > 0:
            told[1, here] = calibrated(told[0, others], labels[others]).chance(told[0, here])
    return _Unseen(*told)


def _threshold(rated: Sequence[Rated], prices: Prices) -> "Numbers":
    import numpy as np

    return np.array([not sure_by_threshold(each.asked.features) for each in rated], dtype=float)


def _decided(unseen: _Unseen, prices: Prices) -> "Numbers":
    import numpy as np

    return np.where(np.isnan(unseen.gain), np.nan, (unseen.gain > prices.break_even).astype(float))


def _scores(
    rated: Sequence[Rated], router: Router, unseen: _Unseen, before: "Numbers", prices: Prices
) -> RouterScores:
    import numpy as np

    local, api = np.array([each.local for each in rated]), np.array([each.api for each in rated])
    judged = ~np.isnan(unseen.p_local) & ~np.isnan(local)
    paired = np.flatnonzero(~np.isnan(unseen.gain) & ~np.isnan(local) & ~np.isnan(api))
    recovered = _recovered(
        unseen.gain[paired], local[paired], api[paired], [rated[int(place)].cluster for place in paired]
    )
    differences, clusters = _worth(rated, unseen, _decided(unseen, prices) - before, prices)
    return RouterScores(
        labels=router.labels,
        pairs=router.pairs,
        compared=len(differences),
        apgr=recovered[0],
        apgr_low=recovered[1],
        cpt50=recovered[2],
        ece=calibration_error(unseen.p_local[judged], local[judged]) if judged.any() else 1.0,
        brier=brier(unseen.p_local[judged], local[judged]) if judged.any() else 1.0,
        calibration=router.calibration.kind,
        gain=paired_bootstrap(differences, clusters, level=_LEVEL) if differences else None,
    )


def _worth(
    rated: Sequence[Rated], unseen: _Unseen, change: "Numbers", prices: Prices
) -> tuple[list[float], list[str]]:
    """For each question what the changed decision is worth in dollars, doubly robust where a draw decided; and clusters.

    `change` is 1 where an API model is asked now and was not, -1 the other way round, NaN where nothing is known.
    """
    differences, clusters = [], []
    for place, each in enumerate(rated):
        if math.isnan(change[place]):
            continue
        gain = _known_gain(each, float(unseen.p_local[place]), float(unseen.p_api[place]))
        if gain is None:
            continue
        paid = prices.cost_api_usd + prices.waiting_usd
        differences.append(float(change[place]) * (gain * prices.value_usd - paid))
        clusters.append(each.cluster)
    return differences, clusters


def _known_gain(rated: Rated, p_local: float, p_api: float) -> float | None:
    """How much better the API answer is: both labels, or an unbiased estimate from the one that a draw let be seen."""
    if not math.isnan(rated.local) and not math.isnan(rated.api):
        return rated.api - rated.local
    if rated.propensity >= 1 or math.isnan(p_local) or math.isnan(p_api):
        return None
    weight = min(_WEIGHT_LIMIT, 1 / rated.propensity)
    if math.isnan(rated.api):
        return p_api - p_local - weight * (rated.local - p_local)
    return p_api - p_local + weight * (rated.api - p_api)


def _recovered(
    gain: "Numbers", local: "Numbers", api: "Numbers", clusters: Sequence[str]
) -> tuple[float | None, float | None, float | None]:
    """APGR, the lower end of its interval (resampling whole clusters), CPT50."""
    import numpy as np

    if not len(gain) or (api - local).mean() <= 0:
        return None, None, None
    names = sorted(set(clusters))
    members = [np.flatnonzero(np.array(clusters) == name) for name in names]
    dice, told = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([members[each] for each in dice.integers(0, len(names), len(names))])
        if (api[drawn] - local[drawn]).mean() > 0:
            told.append(apgr(gain[drawn], local[drawn], api[drawn]))
    low = float(np.quantile(told, (1 - _LEVEL) / 2)) if told else None
    return apgr(gain, local, api), low, cpt(gain, local, api)


def _verdict(scores: RouterScores, incumbent: str) -> tuple[bool, str]:
    gain = scores.gain
    if gain is None or scores.compared < FEWEST_COMPARED:
        return False, (
            f"{incumbent.capitalize()} goes on deciding: only {scores.compared} questions tell what both answers are worth, "
            f"at least {FEWEST_COMPARED} are needed."
        )
    interval = f"{_LEVEL:.0%} interval {_cents(gain.interval.low)} to {_cents(gain.interval.high)}"
    found = f"{_cents(gain.mean)} a question, {interval}"
    if gain.interval.low > 0:
        return True, f"The new router decides better than {incumbent}: {found}, {scores.compared} questions."
    return (
        False,
        f"{incumbent.capitalize()} goes on deciding: the gain is not certain ({found}, {scores.compared} questions).",
    )


def _cents(usd: float) -> str:
    return f"{100 * usd:+.3f} cents"
