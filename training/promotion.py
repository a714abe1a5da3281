"""Whether a challenger may replace the current model: intervals on paired differences, and a verdict with three outcomes.

Everything here is pure: numbers in, a value out. It knows no database, no clock and no Slack, promotes nothing itself,
and never calls a gain what the evidence does not carry.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from training.evaluation import Sheet

_NORMAL = NormalDist()
_POWER = 0.80
_FEWEST_CLUSTERS = 6  # with five, all of them favour the better of two equal models once in 32 times
_CELLS_AT_ONCE = 1_000_000  # resampled clusters held in memory together: about 16 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; `level` is its nominal coverage, for example 0.95."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences with its interval: `n` pairs in `clusters` groups that count as one piece of evidence.

    `spread` is the standard deviation that one cluster adds to the mean, so that the standard error is
    `spread / sqrt(clusters)`; 0.0 where there are fewer than two clusters.
    """

    mean: float
    interval: Interval
    n: int
    clusters: int
    spread: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Difference.from_json` gives the same value back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Difference":
        return cls(**{**data, "interval": Interval(**data["interval"])})


class Outcome(StrEnum):
    PROMOTE = "promote"
    KEEP = "keep"
    NOT_ENOUGH_EVIDENCE = "not enough evidence"


@dataclass(frozen=True, slots=True)
class Guards:
    """What must not get worse for the sake of a score. `latency_ratio` is the challenger's median seconds over the
    current model's (None where nothing was timed); the rates are shares 0..1 of the challenger's held-out answers."""

    latency_ratio: float | None = None
    error_rate: float = 0.0
    empty_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """The most that each guard may show; more than that and the current model stays.

    Slowness counts only where people notice it: a median below `noticeable_s` seconds is never held against a challenger
    (a base that says little is quickly done, and twice nothing is nothing).
    """

    latency_ratio: float = 2.0
    noticeable_s: float = 5.0
    error_rate: float = 0.02
    empty_rate: float = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says, with its reason in one plain sentence; `more_needed` is 0 unless evidence is missing.

    `gain` is challenger minus current and `over_memory` challenger minus memory, in `metric`; None where not compared.
    """

    outcome: Outcome
    reason: str
    more_needed: int = 0
    metric: str = "token_f1"
    gain: Difference | None = None
    over_memory: Difference | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Verdict.from_json` gives the same value back."""
        return asdict(self) | {"outcome": self.outcome.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Verdict":
        gain, over_memory = data["gain"], data["over_memory"]
        return cls(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "gain": Difference.from_json(gain) if gain else None,
                "over_memory": Difference.from_json(over_memory) if over_memory else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What was agreed before the answers were looked at.

    `margin` (0..1) is the smallest gain worth a change, `minimum` the fewest held-out answers that are looked at, and
    `held_out_share` the share of rated answers that becomes held-out, by which "N more rated answers" is worked out.
    """

    metric: str = "token_f1"
    margin: float = 0.02
    minimum: int = 20
    held_out_share: float = 1.0
    limits: GuardLimits = GuardLimits()

    def __post_init__(self) -> None:
        if not 0 < self.held_out_share <= 1:
            raise ValueError(f"held_out_share must be above 0 and at most 1, not {self.held_out_share}")
        if self.margin <= 0 or self.minimum < 1:
            raise ValueError(f"margin and minimum must be above 0, not {self.margin} and {self.minimum}")


def paired_bootstrap(
    differences: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> Difference:
    """The mean of paired differences and an interval from resampling whole clusters.

    Paraphrases of one thread are one cluster: they stand or fall together, and drawing them one by one would take them
    for independent evidence. The interval is Hesterberg's expanded percentile interval ("What Teachers Should Know about
    the Bootstrap", 2015): percentiles moved outwards as Student's t does, because the plain ones are too narrow for few
    clusters. tests/test_promotion.py measures false promotions of an equal model and coverage; the limit it cannot lift:
    where one rare big loss balances many small gains, 20 answers may simply not contain the loss.

    A single cluster says nothing: its interval is the whole range of a difference of scores, -1 to 1. Deterministic for a
    seed and independent of the order of the pairs. Raises ValueError for no or unequal input.
    """
    if len(differences) != len(clusters):
        raise ValueError(f"{len(differences)} differences but {len(clusters)} clusters; they are pairs")
    if not differences:
        raise ValueError("a difference needs at least one pair of answers")
    sums, sizes = _by_cluster(differences, clusters)
    mean = math.fsum(sums) / len(differences)
    if len(sums) < 2:
        return Difference(mean, Interval(-1.0, 1.0, level), len(differences), 1, 0.0)
    low, high = _expanded_percentiles(sums, sizes, level, resamples, seed)
    interval = Interval(min(low, mean), max(high, mean), level)
    return Difference(mean, interval, len(differences), len(sums), _spread(sums, sizes, mean))


def verdict(
    gain: Difference,
    over_memory: Difference | None = None,
    guards: Guards | None = None,
    rule: Rule | None = None,
) -> Verdict:
    """Promote, keep, or not enough evidence. `gain` is challenger minus current, `over_memory` challenger minus memory
    (None: there was no memory arm).

    Promoted only if the whole interval lies above zero; kept if a guard fails or the whole interval lies below the
    margin; else more answers are needed. Memory never stops a promotion, but the reason says when it is as good or better.
    """
    outcome, reason, more_needed = _decide(gain, over_memory, guards or Guards(), rule := rule or Rule())
    return Verdict(outcome, reason, more_needed, rule.metric, gain, over_memory)


def judge(sheet: "Sheet", *, current: str = "current", rule: Rule | None = None) -> Verdict:
    """The verdict on the sheet's "challenger" against the arm named `current`, with its "memory" arm where it has one."""
    rule = rule or Rule()
    challenger, serving = sheet.arm("challenger"), sheet.arm(current)
    for arm in (challenger, serving):
        if arm.failed:
            reason = (
                f"The current model stays: there was nothing to compare, because {arm.name} {arm.failed}."
            )
            return Verdict(Outcome.KEEP, reason, metric=rule.metric)
    noticed = challenger.latency_p50_s > rule.limits.noticeable_s and serving.latency_p50_s > 0
    ratio = challenger.latency_p50_s / serving.latency_p50_s if noticed else None
    memory = any(arm.name == "memory" and not arm.failed for arm in sheet.arms)
    return verdict(
        sheet.difference("challenger", current, rule.metric),
        sheet.difference("challenger", "memory", rule.metric) if memory else None,
        Guards(ratio, challenger.error_rate, challenger.empty_rate),
        rule,
    )


def more_clusters_needed(gain: Difference, margin: float) -> int:
    """How many more clusters would decide with 80 % power if the true difference is the one observed.

    It is decided once the observed mean is told from zero (promote) or from the margin (keep), whichever comes sooner.
    """
    factor = _NORMAL.inv_cdf(0.5 + gain.interval.level / 2) + _NORMAL.inv_cdf(_POWER)
    gap = max(gain.mean, margin - gain.mean)
    return max(1, math.ceil((factor * gain.spread / gap) ** 2) - gain.clusters)


def _by_cluster(differences: Sequence[float], clusters: Sequence[str]) -> tuple[list[float], list[int]]:
    groups: dict[str, list[float]] = {}
    for difference, cluster in zip(differences, clusters, strict=True):
        groups.setdefault(cluster, []).append(difference)
    ordered = [groups[name] for name in sorted(groups)]
    return [math.fsum(group) for group in ordered], [len(group) for group in ordered]


def _spread(sums: Sequence[float], sizes: Sequence[int], mean: float) -> float:
    count = len(sums)
    squares = math.fsum((s - mean * n) ** 2 for s, n in zip(sums, sizes, strict=True))
    return math.sqrt(squares * count / (count - 1)) / sum(sizes) * math.sqrt(count)


def _expanded_percentiles(
    sums: Sequence[float], sizes: Sequence[int], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    import numpy as np

    count = len(sums)
    tail = _NORMAL.cdf(-math.sqrt(count / (count - 1)) * _student_quantile(0.5 + level / 2, count - 1))
    means = _resampled_means(
        np.asarray(sums), np.asarray(sizes, dtype=float), resamples, np.random.default_rng(seed)
    )
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled_means(
    sums: "NDArray[np.float64]", sizes: "NDArray[np.float64]", resamples: int, rng: "np.random.Generator"
) -> "NDArray[np.float64]":
    import numpy as np

    count = len(sums)
    rows = max(1, _CELLS_AT_ONCE // count)
    parts = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, count, (min(rows, resamples - start), count))
        parts.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(parts)


def _student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t, exact for 1 and 2 degrees of freedom, else by the Cornish-Fisher expansion (Abramowitz and
    Stegun 26.7.5); within 3 % at 3 degrees of freedom and 0.1 % from 6 on, for the levels that are used here."""
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    z = _NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))


def _decide(
    gain: Difference, over_memory: Difference | None, guards: Guards, rule: Rule
) -> tuple[Outcome, str, int]:
    if gain.n < rule.minimum or gain.clusters < _FEWEST_CLUSTERS:
        return _too_few(gain, rule)
    if failed := _failed_guard(guards, rule.limits):
        return Outcome.KEEP, f"The current model stays: {failed}.", 0
    evidence = _evidence(gain, rule)
    if gain.interval.high < rule.margin:
        return Outcome.KEEP, f"The current model stays: {_no_gain(gain, rule)} ({evidence}).", 0
    if gain.interval.low > 0:
        memory = _beside_memory(over_memory)
        better = (
            f"The challenger is better than the current model by {_points(gain.mean)} ({evidence}){memory}."
        )
        return Outcome.PROMOTE, better, 0
    return _undecided(gain, rule)


def _too_few(gain: Difference, rule: Rule) -> tuple[Outcome, str, int]:
    more = _as_rated_answers(max(rule.minimum - gain.n, _FEWEST_CLUSTERS - gain.clusters), rule)
    reason = (
        f"Not enough evidence yet: {_count(gain.n, 'held-out answer')} to {_count(gain.clusters, 'different question')}, "
        f"at least {rule.minimum} to {_FEWEST_CLUSTERS} are needed; about {_count(more, 'more rated answer')}."
    )
    return Outcome.NOT_ENOUGH_EVIDENCE, reason, more


def _undecided(gain: Difference, rule: Rule) -> tuple[Outcome, str, int]:
    held_out = more_clusters_needed(gain, rule.margin) * gain.n / gain.clusters
    more = _as_rated_answers(held_out, rule)
    reason = (
        f"Not enough evidence yet: the difference is {_signed(gain.mean)} ({_evidence(gain, rule)}), which may be chance; "
        f"about {_count(more, 'more rated answer')} would decide it."
    )
    return Outcome.NOT_ENOUGH_EVIDENCE, reason, more


def _as_rated_answers(held_out: float, rule: Rule) -> int:
    """Rounded up to two figures: it is an estimate and should look like one."""
    exact = math.ceil(held_out / rule.held_out_share - 1e-9)
    step = int(10 ** max(0, len(str(exact)) - 2))
    return math.ceil(exact / step) * step


def _failed_guard(guards: Guards, limits: GuardLimits) -> str:
    if guards.error_rate > limits.error_rate:
        return f"the challenger failed on {guards.error_rate:.0%} of the questions (allowed: {limits.error_rate:.0%})"
    if guards.empty_rate > limits.empty_rate:
        return f"{guards.empty_rate:.0%} of the challenger's answers are empty (allowed: {limits.empty_rate:.0%})"
    if guards.latency_ratio is not None and guards.latency_ratio > limits.latency_ratio:
        slower = f"the challenger takes {guards.latency_ratio:.1f} times as long as the current model"
        return f"{slower} (allowed: {limits.latency_ratio:.1f} times)"
    return ""


def _no_gain(gain: Difference, rule: Rule) -> str:
    if gain.interval.high < 0:
        return f"the challenger is worse by {_points(-gain.mean)}"
    if gain.interval.low > 0:
        return (
            f"the challenger is better, but by less than the {_points(rule.margin)} that are worth a change"
        )
    return f"the challenger is not better by the {_points(rule.margin)} that are worth a change"


def _beside_memory(gain: Difference | None) -> str:
    if gain is None:
        return ""
    if gain.interval.low > 0:
        return f", and better than memory by {_points(gain.mean)}"
    if gain.interval.high < 0:
        return f", but memory is still better than the challenger by {_points(-gain.mean)}"
    return (
        f", but no better than memory as far as can be told (difference {_signed(gain.mean)}, {_range(gain)})"
    )


def _evidence(gain: Difference, rule: Rule) -> str:
    return f"{rule.metric.replace('_', ' ')}, {_range(gain)}, {_count(gain.n, 'held-out answer')}"


def _range(gain: Difference) -> str:
    low, high = gain.interval.low, gain.interval.high
    return f"{gain.interval.level:.0%} interval {100 * low:+.1f} to {100 * high:+.1f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
