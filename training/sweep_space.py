"""What a sweep tries: values around the derived plan. Pure; imports no torch.

What somebody named themselves is not tried. An effort is a word for epochs and rank, so it settles both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from training.plan import Plan, counted
from training.rundir import Job

TRIALS, TRIALS_AT_MOST = 12, 50
RATE_APART = 5.0  # times slower and faster than the derived learning rate
RATE_AT_MOST = 0.1
RANK_AT_MOST = 256
FACTORS = (0.5, 1.0, 2.0)  # of the derived rank, epochs and rows of a step
STEPS_AT_LEAST = 16  # fewer steps tell nothing of a larger batch
RATE, RANK, EPOCHS, BATCH = "learning_rate", "rank", "epochs", "batch"


@dataclass(frozen=True, slots=True)
class Space:
    """The values of each; one value: it is fixed. `slowest` and `fastest` bound the learning rate; `batch` are factors."""

    slowest: float
    fastest: float
    ranks: tuple[int, ...]
    epochs: tuple[float, ...]
    batch: tuple[float, ...]

    @property
    def points(self) -> list[dict[str, Any]] | None:
        """All there are; None where the learning rate is free: there is always one more."""
        if self.slowest < self.fastest:
            return None
        return [
            {RATE: self.slowest, RANK: rank, EPOCHS: epochs, BATCH: batch}
            for rank, epochs, batch in product(self.ranks, self.epochs, self.batch)
        ]


def space_of(made: Plan, job: Job) -> Space:
    """What to try around the derived plan; the plan itself is a point of it."""
    rate = 1.0 if job.learning_rate else RATE_APART
    named_rank = job.rank or job.effort
    named_epochs = job.epochs or job.effort
    return Space(
        slowest=made.learning_rate / rate,
        fastest=max(made.learning_rate, min(RATE_AT_MOST, made.learning_rate * rate)),
        ranks=(made.rank,) if named_rank else _ranks(made.rank),
        epochs=(made.epochs,) if named_epochs else tuple(made.epochs * factor for factor in FACTORS),
        batch=(1.0,) if job.batch_size else _batches(made),
    )


def derived_point(made: Plan) -> dict[str, Any]:
    """The derived plan as a point: it is tried first, so that what is chosen is never worse on the held-out examples."""
    return {RATE: made.learning_rate, RANK: made.rank, EPOCHS: made.epochs, BATCH: 1.0}


def plan_at(
    made: Plan, point: Mapping[str, Any], *, rows: int, mean_tokens: float, alpha: int | None
) -> Plan:
    """The derived plan with a point's values. It takes no more rows at once than the derived one, for memory's sake."""
    batch, gathered = made.batch_size, made.accumulation
    if point[BATCH] > 1:
        gathered = round(gathered * point[BATCH])
    elif point[BATCH] < 1 and batch > 1:
        batch = max(1, round(batch * point[BATCH]))
    elif point[BATCH] < 1:
        gathered = max(1, round(gathered * point[BATCH]))
    tried = replace(
        made,
        learning_rate=float(point[RATE]),
        rank=int(point[RANK]),
        alpha=alpha or 2 * int(point[RANK]),
        epochs=float(point[EPOCHS]),
        batch_size=batch,
        accumulation=gathered,
    )
    return counted(tried, rows, mean_tokens)


def _ranks(rank: int) -> tuple[int, ...]:
    return tuple(sorted({max(1, min(max(rank, RANK_AT_MOST), round(rank * factor))) for factor in FACTORS}))


def _batches(made: Plan) -> tuple[float, ...]:
    smaller = made.batch_size * made.accumulation > 1
    larger = made.max_steps >= 2 * STEPS_AT_LEAST
    return (*((0.5,) if smaller else ()), 1.0, *((2.0,) if larger else ()))
