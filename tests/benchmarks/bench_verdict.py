"""Verdicts and canaries by simulation: how often chance wins, and how soon a difference is seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.figure import Figure
from tests.benchmarks.quarters import World, promoted, quarter, weeks
from training.looks import BUDGET, QUARTER
from training.promotion import Outcome, judge
from training.sequential import Rated, blocks, log_capital
from training.specification import Specification

QUARTERS, LOOKS = 500, 300
WEEKLY = BUDGET * 7 / QUARTER.days
QUESTIONS_FOR_FIVE_POINTS = 230
"""With so many questions the verdict itself says that 5 points would be found in 4 of 5 cases."""


def verdicts() -> Iterator[Figure]:
    """False promotions in quarters of 12 weekly looks at equal models; and how often 5 points are found in one look."""
    rng = np.random.default_rng(6)
    false = sum(promoted(quarter(rng, World(), 0.0)) for _ in range(QUARTERS)) / QUARTERS
    yield Figure("false_promotion_rate", round(false, 4), "share of quarters", 0.05, "lower")
    rng = np.random.default_rng(7)
    found, stated = power(rng, World(QUESTIONS_FOR_FIVE_POINTS), LOOKS)
    yield Figure("promotion_power", round(found, 4), "share of looks", 0.80, "higher")
    yield Figure("promotion_detectable", round(100 * stated, 2), "points", 5.0, "lower")


def power(rng: np.random.Generator, world: World, looks: int, gain: float = 0.05) -> tuple[float, float]:
    """How often a weekly look promotes a better model, and the difference that the verdicts say they would have found."""
    agreed = [Specification(alpha=WEEKLY, resamples=1_999, seed=look) for look in range(looks)]
    said = [judge(next(weeks(rng, world, gain)), each) for each in agreed]
    found = sum(each.outcome is Outcome.PROMOTE for each in said) / looks
    return found, float(np.median([each.detectable for each in said]))


CANARIES = 2_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """Ratings of a canary's life: the shares that are liked on both sides, how many on each, and whether in turn or one of
    the canary to so many of the others (`beside`)."""

    current: float
    canary: float
    each: int
    beside: int = 1


def rated(rng: np.random.Generator, drawn: Drawn) -> list[Rated]:
    """The ratings, one by one; with one of the canary to several of the others their order is drawn."""
    sides = np.tile([False] * drawn.beside + [True], drawn.each)
    if drawn.beside > 1:
        rng.shuffle(sides)
    liked = rng.random(len(sides)) < np.where(sides, drawn.canary, drawn.current)
    return [Rated(bool(side), float(yes)) for side, yes in zip(sides, liked, strict=True)]


def first_alarm(ratings: Sequence[Rated], alpha: float) -> int:
    """After how many ratings somebody who looks after each of them is alarmed; 0: never."""
    differences = list(blocks(ratings))
    reached = np.nonzero(log_capital(differences) >= np.log(1 / alpha))[0] if differences else []
    if not len(reached):
        return 0
    seen, counts, done = [0, 0], [0, 0], 0
    for place, each in enumerate(ratings, start=1):
        counts[each.canary] += 1
        seen[each.canary] += 1
        if all(counts):
            counts, done = [0, 0], done + 1
            if done > reached[0]:
                return place
    return 0


def canaries() -> Iterator[Figure]:
    """How soon a drop from 80 % to 60 % is seen, and how often an equal canary is accused within 1,000 ratings a side."""
    rng = np.random.default_rng(8)
    found = [first_alarm(rated(rng, Drawn(0.8, 0.6, 400)), 0.05) for _ in range(CANARIES)]
    median = float(np.median([each / 2 if each else np.inf for each in found]))
    yield Figure("canary_detect_ratings_median", median, "ratings on each side", 75.0, "lower")
    fifth = [first_alarm(rated(rng, Drawn(0.8, 0.6, 400, beside=4)), 0.05) for _ in range(CANARIES // 2)]
    median = float(np.median([each / 5 if each else np.inf for each in fifth]))
    yield Figure("canary_detect_at_a_fifth", median, "ratings of the canary", 75.0, "lower")
    alarms = [
        first_alarm(rated(rng, Drawn(liked, liked, 1_000)), 0.05)
        for liked in (0.5, 0.8, 0.9)
        for _ in range(CANARIES)
    ]
    rate = sum(map(bool, alarms)) / len(alarms)
    yield Figure("canary_false_alarm_rate", round(rate, 4), "share of canaries", 0.05, "lower")
