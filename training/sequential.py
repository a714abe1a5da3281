"""Whether one of two models is rated worse, looked at after every rating: a test that peeking does not spoil.

Testing by betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024).
Ratings of the two sides are put into blocks as they come, at least one of each; in a block, D is the mean of the current
model minus that of the canary, between -1 and 1. If the canary is no worse, D is 0 or less on average whatever came
before, and no bet on it grows: the capital of a player who stakes a share of it on "D is above 0" exceeds 1/alpha with a
chance of at most alpha, however often somebody looks (Ville's inequality). The player here is fifteen players with stakes
from 5 % to 75 %, each with a fifteenth of the money, so that no size of the difference needs to be known. Both sides of a
block are rated at the same time: a week in which everybody is cross changes nothing. `tests/benchmarks/bench_verdict.py`
measures false alarms and how soon a drop is seen.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLAYERS = 15
_SMALLEST, _LARGEST = 0.05, 0.75


@dataclass(frozen=True, slots=True)
class Rated:
    """One piece of evidence, in the order in which they came: a thread's mean rating, 0 (disliked) to 1 (liked)."""

    canary: bool
    liked: float


@dataclass(frozen=True, slots=True)
class Harm:
    """What the ratings say so far. `odds` is the most that a player against the canary ever had of his first coin: at 20 the
    chance of a false alarm is 1 in 20, ever. `blocks` is how many comparisons that are."""

    odds: float
    blocks: int

    def shown(self, alpha: float) -> bool:
        """Whether it is shown at this level that the canary is rated worse."""
        return self.odds >= 1 / alpha


def harm(rated: Sequence[Rated]) -> Harm:
    """The evidence that the canary is rated worse than the current model. Linear in the number of ratings."""
    differences = list(blocks(rated))
    if not differences:
        return Harm(1.0, 0)
    capital = log_capital(differences)
    return Harm(math.exp(min(700.0, max(0.0, float(capital.max())))), len(differences))


def blocks(rated: Sequence[Rated]) -> Iterator[float]:
    """The differences, block by block. Which ratings a block gets depends on their sides alone, never on what they say."""
    sums, counts = [0.0, 0.0], [0, 0]
    for each in rated:
        if not 0 <= each.liked <= 1:
            raise ValueError(f"a rating lies between 0 and 1, not at {each.liked}")
        sums[each.canary] += each.liked
        counts[each.canary] += 1
        if all(counts):
            yield sums[0] / counts[0] - sums[1] / counts[1]
            sums, counts = [0.0, 0.0], [0, 0]


def log_capital(differences: Sequence[float]) -> "NDArray[np.float64]":
    """The logarithm of the players' money after each block, their mean; they began with 1."""
    import numpy as np

    stakes = np.linspace(_SMALLEST, _LARGEST, _PLAYERS)
    each = np.cumsum(np.log1p(np.asarray(differences, dtype=float)[:, None] * stakes), axis=0)
    most = each.max(axis=1)
    return np.asarray(most + np.log(np.exp(each - most[:, None]).mean(axis=1)))
