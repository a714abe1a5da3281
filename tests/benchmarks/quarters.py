"""Quarters of weekly evaluations, simulated: equal models and better ones, on data like ours.

Scores are like token F1 and chrF: many questions on which both models say the same (ties), the rest anywhere between
nothing and everything right; paraphrases of one question (1 to 8, most of them 1) go well or badly together, and some
questions have a much larger difference than the rest. The held-out questions are the same in every week of a quarter, and
what is hard for one challenger tends to be hard for the next: looks are not independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from training.evaluation import Answered, Row, Sheet
from training.looks import Spent, alpha_of
from training.metrics import Scores
from training.promotion import Outcome, Verdict, judge
from training.specification import Specification

Floats, Ints = NDArray[np.float64], NDArray[np.int64]
WEEKS = 12
START = datetime(2026, 1, 5, tzinfo=UTC)
SIZES = (1, 1, 1, 2, 3, 8)


@dataclass(frozen=True, slots=True)
class World:
    """What is asked: `questions` clusters; the models differ on a share of them."""

    questions: int = 60
    differ: float = 0.5
    likeness: float = 0.6


def weeks(rng: np.random.Generator, world: World, gain: float) -> Iterator[Sheet]:
    """The sheets of a quarter; every challenger is `gain` better than the current model in expectation."""
    sizes = rng.choice(SIZES, world.questions)
    clusters = np.repeat(np.arange(world.questions), sizes)
    usual = (0.25 + 0.5 * rng.beta(1.2, 1.2, world.questions))[clusters]
    taste = rng.standard_t(3, world.questions) * 0.12
    while True:
        own = rng.standard_t(3, world.questions) * 0.12
        sign = rng.choice((-1.0, 1.0), world.questions)
        # How much a question divides models is the same for all challengers of a quarter, but not whom it favours.
        lean = (
            np.sqrt(world.likeness) * taste + np.sqrt(1 - world.likeness) * own
        ) * sign + gain / world.differ
        differs = rng.random(world.questions) < world.differ
        apart = np.where(differs[clusters], lean[clusters] + rng.normal(0, 0.06, len(clusters)), 0.0)
        yield _sheet(rng, usual, apart, clusters)


def _sheet(rng: np.random.Generator, usual: Floats, apart: Floats, clusters: Ints) -> Sheet:
    """Where the models do not differ they say the same words; else each score is one of 13, as of short answers."""
    rows = []
    for arm, side in (("current", -0.5), ("challenger", 0.5)):
        exact = 12 * np.clip(usual + side * apart, 0, 1)
        f1 = np.where(apart == 0, np.round(exact), np.floor(exact + rng.random(len(exact)))) / 12
        chrf = 0.1 + 0.8 * f1 + np.where(apart == 0, 0.0, rng.normal(0, 0.02, len(exact)))
        for number, (words, letters, cluster) in enumerate(zip(f1, chrf, clusters, strict=True)):
            answered = Answered(arm, f"q{number}", "said", seconds=1.0)
            rows.append(Row(answered, f"t{cluster}", Scores(0.0, float(words), 0.0, float(letters))))
    return Sheet(tuple(rows))


def quarter(rng: np.random.Generator, world: World, gain: float, *, resamples: int = 1_999) -> list[Verdict]:
    """Twelve weekly looks by the rules that serve: what each may spend comes from the looks before it."""
    spent: list[Spent] = []
    said = []
    sheets = weeks(rng, world, gain)
    for week in range(WEEKS):
        asked = START + timedelta(weeks=week)
        agreed = Specification(alpha=alpha_of(spent, asked), resamples=resamples, seed=week)
        verdict = judge(next(sheets), agreed)
        spent.append(Spent(asked, verdict.spent))
        said.append(verdict)
    return said


def promoted(said: list[Verdict]) -> bool:
    """Whether any week of the quarter would have promoted."""
    return any(each.outcome is Outcome.PROMOTE for each in said)
