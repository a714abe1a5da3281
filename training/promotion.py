"""Whether a challenger may replace the current model: a verdict with three outcomes, by rules agreed beforehand.

Everything here is pure: a sheet and its specification in, a value out. It knows no database, no clock and no Slack, promotes
nothing itself, and never calls a gain what the evidence does not carry.

Promoted is who is not worse in any metric (non-inferiority within the margin) and better on the declared axis, where the
tests are paired by question, count a cluster and a person once, and stay within what this look may take of the quarter's
budget.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from training import promotion_words as words
from training.differences import (
    Difference,
    Interval,
    chances,
    clusters_for,
    detectable,
    holm,
    paired_bootstrap,
)
from training.specification import Axis, GuardLimits, OverMemory, Specification
from training.two_ways import people_in, two_way_chances

if TYPE_CHECKING:
    from training.evaluation import ArmScores, Row, Sheet

__all__ = [
    "Difference",
    "GuardLimits",
    "Interval",
    "Outcome",
    "Specification",
    "Test",
    "Verdict",
    "judge",
    "paired_bootstrap",
]

CHALLENGER, MEMORY = "challenger", "memory"


class Outcome(StrEnum):
    PROMOTE = "promote"
    KEEP = "keep"
    NOT_ENOUGH_EVIDENCE = "not enough evidence"


@dataclass(frozen=True, slots=True)
class Test:
    """One metric: challenger minus current, the chance of such a gain between equal models (`p_better`, after Holm's
    correction `p_holm`), and of such a result by a model worse by the margin (`p_not_worse`)."""

    metric: str
    mean: float
    p_better: float
    p_holm: float
    p_not_worse: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says, with its reason in plain sentences; `more_needed` is 0 unless evidence is missing.

    `gain` is challenger minus current and `over_memory` challenger minus memory (where memory had an answer), in `metric`;
    None where not compared. `detectable` is the smallest difference that would have been found in 4 of 5 cases. `spent` is
    what this look took of the quarter's budget, `specification` the hash of what was agreed.
    """

    outcome: Outcome
    reason: str
    more_needed: int = 0
    metric: str = "token_f1"
    gain: Difference | None = None
    over_memory: Difference | None = None
    tests: tuple[Test, ...] = ()
    detectable: float = 0.0
    axis: Axis = Axis.QUALITY
    alpha: float = 0.0
    spent: float = 0.0
    specification: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Verdict.from_json` gives the same value back."""
        told = asdict(self) | {"outcome": self.outcome.value, "axis": self.axis.value}
        return told | {"tests": list(told["tests"])}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Verdict":
        """Also of a verdict from before specifications."""
        gain, over_memory = data["gain"], data["over_memory"]
        return cls(
            **{
                **data,
                "outcome": Outcome(data["outcome"]),
                "gain": Difference.from_json(gain) if gain else None,
                "over_memory": Difference.from_json(over_memory) if over_memory else None,
                "tests": tuple(Test(**each) for each in data.get("tests", ())),
                "axis": Axis(data.get("axis", Axis.QUALITY)),
            }
        )


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the sheet shows, worked out once."""

    gain: Difference
    tests: tuple[Test, ...]
    over_memory: Difference | None
    guard: str
    people: int


def judge(
    sheet: "Sheet", specification: Specification | None = None, *, beside: Mapping[str, Any] | None = None
) -> Verdict:
    """The verdict on the sheet's "challenger" against the arm that the specification names.

    `beside` are the sheet's further parts as JSON ("judge", "probes", "refusals"), where there are any.
    """
    agreed = specification or Specification()
    decided = _judged(sheet, agreed, beside or {})
    return replace(
        decided, metric=agreed.metric, axis=agreed.axis, alpha=agreed.alpha, specification=agreed.sha256
    )


def _judged(sheet: "Sheet", agreed: Specification, beside: Mapping[str, Any]) -> Verdict:
    challenger, serving = sheet.arm(CHALLENGER), sheet.arm(agreed.against)
    for arm in (challenger, serving):
        if arm.failed:
            return Verdict(Outcome.KEEP, words.nothing_to_compare(arm.name, arm.failed))
    evidence = _evidence(sheet, agreed, beside)
    decided = _decide(sheet, evidence, agreed, beside)
    found = detectable(evidence.gain.spread, evidence.gain.clusters, agreed.per_metric)
    return replace(
        decided,
        gain=evidence.gain,
        over_memory=evidence.over_memory,
        tests=evidence.tests,
        detectable=found,
    )


def _evidence(sheet: "Sheet", agreed: Specification, beside: Mapping[str, Any]) -> _Evidence:
    pairs = _pairs(sheet, CHALLENGER, agreed.against)
    clusters = [ours.cluster for ours, _ in pairs]
    differences = {metric: _differences(pairs, metric) for metric in agreed.metrics}
    raters = [ours.rater for ours, _ in pairs]
    better = _both_ways(differences, clusters, raters, agreed)
    not_worse = _both_ways(differences, clusters, raters, agreed, margin=agreed.margin)
    corrected = holm(better)
    tests = tuple(
        Test(
            metric,
            math.fsum(values) / len(values),
            better[metric],
            corrected[metric],
            not_worse[metric],
        )
        for metric, values in differences.items()
    )
    gain = paired_bootstrap(differences[agreed.metric], clusters, level=agreed.level, seed=agreed.seed)
    guard = _failed_guard(sheet, agreed, beside)
    return _Evidence(gain, tests, _over_memory(sheet, agreed), guard, people_in(raters))


def _both_ways(
    differences: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    raters: Sequence[str],
    agreed: Specification,
    *,
    margin: float = 0.0,
) -> dict[str, float]:
    """The chances by thread, or those by thread and person where these object more."""
    swapped = chances(differences, clusters, margin=margin, resamples=agreed.resamples, seed=agreed.seed)
    crossed = two_way_chances(differences, clusters, raters, margin=margin)
    return {metric: max(p, crossed[metric]) for metric, p in swapped.items()}


def _decide(sheet: "Sheet", evidence: _Evidence, agreed: Specification, beside: Mapping[str, Any]) -> Verdict:
    gain = evidence.gain
    if gain.n < agreed.minimum or gain.clusters < agreed.fewest_clusters:
        return _too_few(gain, agreed)
    if evidence.guard:
        return Verdict(Outcome.KEEP, words.kept(evidence.guard))
    if blocked := _blocked_by_memory(evidence.over_memory, agreed):
        return Verdict(Outcome.KEEP, words.kept(blocked))
    if agreed.axis is Axis.QUALITY:
        return replace(_on_quality(evidence, agreed), spent=agreed.alpha)
    return replace(_on_other_axis(sheet, evidence, agreed, beside), spent=agreed.alpha)


def _on_quality(evidence: _Evidence, agreed: Specification) -> Verdict:
    gain = evidence.gain
    told = words.evidence(gain, agreed.metric)
    if gain.interval.high < agreed.worthwhile:
        return Verdict(Outcome.KEEP, words.kept(f"{words.no_gain(gain, agreed.worthwhile)} ({told})"))
    better = [test for test in evidence.tests if test.p_holm <= agreed.alpha]
    if better and gain.mean > 0 and _not_worse(evidence, agreed):
        memory = words.beside_memory(evidence.over_memory)
        return Verdict(Outcome.PROMOTE, words.better(gain, told, memory) + words.few_people(evidence.people))
    return _undecided(gain, agreed)


def _on_other_axis(
    sheet: "Sheet", evidence: _Evidence, agreed: Specification, beside: Mapping[str, Any]
) -> Verdict:
    """Not worse in quality comes first; then cheaper, faster, or preferred by the judge."""
    gain = evidence.gain
    if gain.interval.high < -agreed.margin:
        return Verdict(Outcome.KEEP, words.kept(words.no_gain(gain, agreed.worthwhile)))
    differences, clusters, saved = _axis(sheet, agreed, beside)
    if not differences:
        return Verdict(Outcome.KEEP, words.kept(words.not_measured(agreed.axis)))
    if saved <= (0.0 if agreed.axis is Axis.JUDGE else agreed.worthwhile_saving):
        return Verdict(Outcome.KEEP, words.kept(words.no_saving(agreed.axis, saved)))
    p = chances({"axis": differences}, clusters, resamples=agreed.resamples, seed=agreed.seed)["axis"]
    if p <= agreed.alpha and _not_worse(evidence, agreed):
        told = words.evidence(gain, agreed.metric)
        memory = words.beside_memory(evidence.over_memory)
        reason = words.better_on(agreed.axis, saved, agreed.margin, told, memory)
        return Verdict(Outcome.PROMOTE, reason + words.few_people(evidence.people))
    return _undecided(gain, agreed)


def _axis(
    sheet: "Sheet", agreed: Specification, beside: Mapping[str, Any]
) -> tuple[list[float], list[str], float]:
    """Paired differences on the declared axis (above 0 is better), their clusters, and the gain as a share."""
    if agreed.axis is Axis.JUDGE:
        pairs = judged_pairs(sheet, beside, agreed.against)
        scores = [score for score, _ in pairs]
        return scores, [cluster for _, cluster in pairs], math.fsum(scores) / max(1, len(scores))
    rows = [
        (ours, theirs)
        for ours, theirs in _pairs(sheet, CHALLENGER, agreed.against)
        if not ours.answered.error and not theirs.answered.error
    ]
    name = "cost_usd" if agreed.axis is Axis.COST else "seconds"
    spent = [(getattr(ours.answered, name), getattr(theirs.answered, name)) for ours, theirs in rows]
    before = math.fsum(theirs for _, theirs in spent)
    if not before:
        return [], [], 0.0
    differences = [theirs - ours for ours, theirs in spent]
    return differences, [ours.cluster for ours, _ in rows], math.fsum(differences) / before


def judged_pairs(sheet: "Sheet", beside: Mapping[str, Any], against: str) -> list[tuple[float, str]]:
    """What an LLM judge preferred, question by question: +1 the challenger, -1 `against`, 0 a tie; with the cluster.

    Nothing where the judge compared other arms.
    """
    told = beside.get("judge") or {}
    if (told.get("arm", CHALLENGER), told.get("against", against)) != (CHALLENGER, against):
        return []
    clusters = {row.answered.example: row.cluster for row in sheet.rows}
    scores = {"win": 1.0, "tie": 0.0, "loss": -1.0}
    pairs = told.get("pairs") or ()
    found = [(scores.get(str(pair.get("verdict"))), str(pair.get("example"))) for pair in pairs]
    return [
        (score, clusters[example]) for score, example in found if score is not None and example in clusters
    ]


def _not_worse(evidence: _Evidence, agreed: Specification) -> bool:
    return all(test.p_not_worse <= agreed.alpha for test in evidence.tests)


def _too_few(gain: Difference, agreed: Specification) -> Verdict:
    held_out = max(agreed.minimum - gain.n, agreed.fewest_clusters - gain.clusters)
    more = as_rated_answers(held_out, agreed.held_out_share)
    return Verdict(
        Outcome.NOT_ENOUGH_EVIDENCE,
        words.too_few(gain, agreed.minimum, agreed.fewest_clusters, more),
        more,
    )


def _undecided(gain: Difference, agreed: Specification) -> Verdict:
    held_out = more_clusters_needed(gain, agreed) * gain.n / gain.clusters
    more = as_rated_answers(held_out, agreed.held_out_share)
    found = detectable(gain.spread, gain.clusters, agreed.per_metric)
    passed_alone = gain.interval.low > 0
    reason = words.undecided(gain, agreed.metric, more, found, alpha=agreed.alpha, alone=passed_alone)
    return Verdict(Outcome.NOT_ENOUGH_EVIDENCE, reason, more)


def more_clusters_needed(gain: Difference, agreed: Specification) -> int:
    """How many more clusters would decide with 80 % power if the true difference is the one observed.

    It is decided once the observed mean is told from zero (promote) or from what is worth a change (keep), whichever comes
    sooner.
    """
    ways = []
    if gain.mean > 0:
        ways.append(clusters_for(gain.mean, gain.spread, agreed.per_metric))
    if gain.mean < agreed.worthwhile:
        ways.append(clusters_for(agreed.worthwhile - gain.mean, gain.spread, (1 - agreed.level) / 2))
    return max(1, min(ways) - gain.clusters)


def as_rated_answers(held_out: float, share: float) -> int:
    """Rounded up to two figures: it is an estimate and should look like one."""
    exact = math.ceil(held_out / share - 1e-9)
    step = int(10 ** max(0, len(str(exact)) - 2))
    return math.ceil(exact / step) * step


# --- What must not get worse --------------------------------------------------------------------------------


def _failed_guard(sheet: "Sheet", agreed: Specification, beside: Mapping[str, Any]) -> str:
    challenger, serving, limits = sheet.arm(CHALLENGER), sheet.arm(agreed.against), agreed.limits
    if blocked := (beside.get("probes") or {}).get("blocked"):
        return words.probes(blocked)
    if challenger.error_rate > limits.error_rate:
        return words.fails(challenger.error_rate, limits.error_rate)
    if challenger.empty_rate > limits.empty_rate:
        return words.empty(challenger.empty_rate, limits.empty_rate)
    if refused := _refuses_more(beside, agreed):
        return refused
    return _too_slow(challenger, serving, limits) or _too_dear(challenger, serving, limits)


def _too_slow(challenger: "ArmScores", serving: "ArmScores", limits: GuardLimits) -> str:
    if challenger.latency_p50_s <= limits.noticeable_s or not serving.latency_p50_s:
        return ""
    ratio = challenger.latency_p50_s / serving.latency_p50_s
    return words.slow(ratio, limits.latency_ratio) if ratio > limits.latency_ratio else ""


def _too_dear(challenger: "ArmScores", serving: "ArmScores", limits: GuardLimits) -> str:
    ours, theirs = 1000 * challenger.cost_usd / challenger.n, 1000 * serving.cost_usd / serving.n
    if ours <= limits.noticeable_usd or ours <= limits.cost_ratio * theirs:
        return ""
    return words.dear(ours, theirs, limits.cost_ratio)


def _refuses_more(beside: Mapping[str, Any], agreed: Specification) -> str:
    refusals = beside.get("refusals") or {}
    ours, theirs = _share(refusals.get(CHALLENGER)), _share(refusals.get(agreed.against))
    if ours - theirs <= agreed.limits.refusals_more:
        return ""
    return words.refuses(ours, theirs)


def _share(told: Any) -> float:
    """A share, also where it is told as a count of so many."""
    if isinstance(told, Mapping):
        return float(told.get("share", told.get("refused", 0) / max(1, told.get("n", 1))))
    return float(told or 0.0)


def _over_memory(sheet: "Sheet", agreed: Specification) -> Difference | None:
    """Challenger minus memory on the questions to which memory had an answer; None where it had none to compare."""
    arms = {arm.name: arm for arm in sheet.arms}
    if MEMORY not in arms or arms[MEMORY].failed:
        return None
    pairs = [
        pair
        for pair in _pairs(sheet, CHALLENGER, MEMORY)
        if not pair[1].answered.error and pair[1].answered.text.strip()
    ]
    if not pairs:
        return None
    clusters = [ours.cluster for ours, _ in pairs]
    return paired_bootstrap(
        _differences(pairs, agreed.metric), clusters, level=agreed.level, seed=agreed.seed
    )


def _blocked_by_memory(over_memory: Difference | None, agreed: Specification) -> str:
    """Why memory stands in the way. A difference that may be chance is held against a challenger only where it must beat
    memory: who must not be worse is innocent until the whole interval lies below zero."""
    if over_memory is None or over_memory.clusters < agreed.fewest_clusters:
        return ""
    if agreed.memory is not OverMemory.SAY and over_memory.interval.high < 0:
        return words.memory_better(over_memory)
    if agreed.memory is OverMemory.BETTER and over_memory.interval.low <= 0:
        return words.memory_as_good(over_memory)
    return ""


def _pairs(sheet: "Sheet", a: str, b: str) -> "list[tuple[Row, Row]]":
    others = {row.answered.example: row for row in sheet.rows_of(b)}
    return [(row, others[row.answered.example]) for row in sheet.rows_of(a)]


def _differences(pairs: "Sequence[tuple[Row, Row]]", metric: str) -> list[float]:
    return [getattr(ours.scores, metric) - getattr(theirs.scores, metric) for ours, theirs in pairs]
