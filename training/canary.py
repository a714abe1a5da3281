"""A canary: a version that answers a share of the threads, and when it goes on, goes back, or is over. Pure.

What would end it is agreed before its first answer. Ratings are compared thread by thread (those within a thread stand or
fall together) by a test that may be looked at all the time. Which ratings: all of them. People who volunteer are more
often cross, so a share of liked answers among them is no estimate of satisfaction; but threads are assigned by a draw,
and as long as both models answer equally well both sides are volunteered for alike, so that the comparison stays right.
What is told as satisfaction comes from solicited ratings alone, where there are any.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from training.sequential import Harm, Rated, harm

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CanaryTerms:
    """What is agreed before the first answer.

    `alpha` is the chance of a false alarm over the canary's whole life. `enough` rated threads on its side, without harm,
    are enough; 60 is what shows a drop from 80 % to 60 % in half of all cases. After `days` without them it ends.
    A guard needs `fewest` answers before a share or a median counts; `failures` failures end it at once.
    """

    alpha: float = 0.05
    enough: int = 60
    days: float = 14.0
    fewest: int = 20
    failures: int = 3
    failure_rate: float = 0.05
    empty_more: float = 0.05
    refused_more: float = 0.10
    latency_ratio: float = 2.0
    noticeable_s: float = 5.0
    cost_ratio: float = 1.5
    noticeable_usd: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with their own hash; `from_json` gives the same value back."""
        told = {"schema": SCHEMA, **asdict(self)}
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return {**told, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{name: value for name, value in data.items() if name not in {"schema", "sha256"}})


@dataclass(frozen=True, slots=True)
class Side:
    """One side in figures. `rated` counts threads, `liked` is their mean rating 0..1; `asked` and `asked_liked` the same of
    ratings that were solicited; `seconds` is the median; `usd` of all answers together."""

    answers: int = 0
    empty: int = 0
    refused: int = 0
    failures: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    rated: int = 0
    liked: float = 0.0
    asked: int = 0
    asked_liked: float = 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Both sides and what the comparison says."""

    canary: Side = field(default_factory=Side)
    current: Side = field(default_factory=Side)
    odds: float = 1.0
    blocks: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Tally.from_json` gives the same value back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Of a canary that was never counted: zeros."""
        if not data:
            return cls()
        return cls(**{**data, "canary": Side(**data["canary"]), "current": Side(**data["current"])})


@dataclass(frozen=True, slots=True)
class ThreadRating:
    """What a thread's ratings come to, 0..1; `solicited` where the first of them was asked for."""

    canary: bool
    liked: float
    solicited: bool = False


class Course(StrEnum):
    """What becomes of a canary."""

    GO_ON = "go on"
    ROLL_BACK = "roll back"
    PASSED = "passed"
    TOO_FEW = "too few ratings"


@dataclass(frozen=True, slots=True)
class Judged:
    """The course and why, in a plain sentence."""

    course: Course
    reason: str = ""


def compare(ratings: Sequence[ThreadRating]) -> Harm:
    """The evidence against the canary; `ratings` in the order in which threads were first rated."""
    return harm([Rated(each.canary, each.liked) for each in ratings])


def rated_side(side: Side, ratings: Sequence[ThreadRating], *, canary: bool) -> Side:
    """The side with its ratings."""
    ours = [each for each in ratings if each.canary == canary]
    asked = [each for each in ours if each.solicited]
    told = {
        name: getattr(side, name) for name in ("answers", "empty", "refused", "failures", "seconds", "usd")
    }
    return Side(
        **told,
        rated=len(ours),
        liked=_mean([each.liked for each in ours]),
        asked=len(asked),
        asked_liked=_mean([each.liked for each in asked]),
    )


def judge_canary(tally: Tally, terms: CanaryTerms, *, age_days: float) -> Judged:
    """What becomes of a canary, by what was agreed: harm first, then guards, then whether it has been seen enough."""
    if tally.odds >= 1 / terms.alpha:
        return Judged(Course.ROLL_BACK, _worse(tally))
    if guard := _failed_guard(tally, terms):
        return Judged(Course.ROLL_BACK, guard)
    if tally.canary.rated >= terms.enough and tally.current.rated >= terms.enough:
        return Judged(Course.PASSED, _passed(tally, terms))
    if age_days >= terms.days:
        return Judged(Course.TOO_FEW, _too_few(tally, terms))
    return Judged(Course.GO_ON)


def _worse(tally: Tally) -> str:
    ours, theirs = tally.canary, tally.current
    return (
        f"it is rated worse: {ours.liked:.0%} of {_threads(ours.rated)} like it, {theirs.liked:.0%} of "
        f"{_threads(theirs.rated)} the current model (odds {tally.odds:.0f} to 1 against chance)"
    )


def _passed(tally: Tally, terms: CanaryTerms) -> str:
    ours, theirs = tally.canary, tally.current
    return (
        f"{_threads(ours.rated)} rated it ({ours.liked:.0%} liked; the current model {theirs.liked:.0%} of "
        f"{_threads(theirs.rated)}) without a sign of harm; {terms.enough} on each side were agreed"
    )


def _too_few(tally: Tally, terms: CanaryTerms) -> str:
    return (
        f"after {terms.days:.0f} days only {_threads(tally.canary.rated)} with it and {_threads(tally.current.rated)} with "
        f"the current model were rated, {terms.enough} on each side were agreed; nothing speaks against it, but that is "
        "too little to tell"
    )


def _failed_guard(tally: Tally, terms: CanaryTerms) -> str:
    ours, theirs = tally.canary, tally.current
    tried = ours.answers + ours.failures
    if ours.failures >= terms.failures and ours.failures > terms.failure_rate * tried:
        return f"it failed to answer {ours.failures} of {tried} times"
    if ours.answers < terms.fewest:
        return ""
    empty, refused = ours.empty / ours.answers, ours.refused / ours.answers
    if _clearly_more(ours.empty, ours.answers, theirs.empty, theirs.answers, terms.empty_more):
        return f"{empty:.0%} of its answers are empty (the current model: {_of(theirs.empty, theirs.answers):.0%})"
    if _clearly_more(ours.refused, ours.answers, theirs.refused, theirs.answers, terms.refused_more):
        return (
            f"it refuses {refused:.0%} of what it is asked (the current model: "
            f"{_of(theirs.refused, theirs.answers):.0%})"
        )
    if theirs.answers < terms.fewest:
        return ""
    if ours.seconds > terms.noticeable_s and ours.seconds > terms.latency_ratio * theirs.seconds:
        return f"it takes {ours.seconds:.1f} s instead of {theirs.seconds:.1f} s for an answer"
    dear, usual = 1000 * ours.usd / ours.answers, 1000 * theirs.usd / theirs.answers
    if dear > terms.noticeable_usd and dear > terms.cost_ratio * usual:
        return f"1,000 of its answers cost ${dear:.2f} instead of ${usual:.2f}"
    return ""


def _clearly_more(ours: int, n: int, theirs: int, m: int, allowed: float) -> bool:
    """Whether a share is higher by more than `allowed` and by three standard errors: shares of few answers jump about."""
    if not n:
        return False
    before = _of(theirs, m)
    error = math.sqrt(max(before, 1 / (m + 2)) * (1 - before) * (1 / n + 1 / max(1, m)))
    return ours / n - before > max(allowed, 3 * error)


def _of(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"
