"""How much chance of a false promotion one look may take, so that a quarter of looks takes no more than was agreed.

Every evaluation of a challenger is a look. Looks share held-out questions and often their challenger's ancestry, so they
are neither independent nor new data; methods that count on fresh evidence (LORD, alpha-investing, group-sequential bounds)
promise nothing then. What holds under any dependence is the plain union bound: the looks of any 91 days spend together at
most the quarter's budget. It accrues by the calendar (as Lan and DeMets 1983 spend by time), a rest is not saved up for more
than two weeks, and no look takes more than half of what is left, so that there is always something for the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

QUARTER = timedelta(days=91)
BUDGET = 0.05
"""The chance that any of a quarter's looks promotes a model that is no better."""
SAVED_AT_MOST = timedelta(days=14)
LEAST = 0.0005
"""What a second look on the same day may take, where there is as much left."""

NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class Spent:
    """One earlier look: when it was asked for, and what it took."""

    at: datetime
    alpha: float


def alpha_of(earlier: Sequence[Spent], moment: datetime, *, budget: float = BUDGET) -> float:
    """What a look that is asked for at `moment` may take. The sum over any quarter stays below `budget`."""
    recent = [each for each in earlier if each.at > moment - QUARTER]
    left = max(0.0, budget - sum(each.alpha for each in recent))
    last = max((each.at for each in recent), default=moment - SAVED_AT_MOST)
    rested = min(max(moment - last, timedelta()), SAVED_AT_MOST)
    accrued = max(budget * (rested / QUARTER), LEAST * budget / BUDGET)
    return max(NEXT_TO_NOTHING, min(accrued, left / 2))
