"""Paired differences between two models: means, intervals and chances, with whole clusters as the pieces of evidence.

Pure numbers. Paraphrases of one question, or the turns of one thread, stand or fall together: one cluster counts once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORMAL = NormalDist()
POWER = 0.80
EXACT_UP_TO = 13
"""So many clusters that differ, and every way to swap the two models is counted (8,192) instead of drawn."""
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
    clusters. tests/test_differences.py measures false promotions of an equal model and coverage; the limit it cannot lift:
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


def chances(
    differences: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    *,
    margin: float = 0.0,
    resamples: int = 9_999,
    seed: int = 0,
) -> dict[str, float]:
    """For each metric the one-sided p-value of "the mean difference is -`margin` or less".

    With margin 0 it is a test of superiority, else of non-inferiority. It swaps the two models' names, cluster by cluster
    (Fisher's randomisation test on the clusters' sums; Canay, Romano and Shaikh 2017 for clusters): for two equal models
    every swap is equally likely, whatever the scores' distribution, ties and uneven clusters, so the error rate is exact.
    With a margin the differences are shifted first, and it is exact where they lie evenly about their mean.
    All metrics see the same swaps. Deterministic for a seed and independent of the order of the pairs.
    """
    import numpy as np

    columns = []
    for values in differences.values():
        sums, sizes = _by_cluster(values, clusters)
        columns.append(np.asarray(sums) + margin * np.asarray(sizes, dtype=float))
    table = np.stack(columns, axis=1)
    table = table[np.any(np.abs(table) > 1e-12, axis=1)]
    if not len(table):
        return dict.fromkeys(differences, 1.0)
    signs = _swaps(len(table), resamples, seed)
    seen = table.sum(axis=0)
    reached = (signs @ table >= seen - 1e-9).sum(axis=0)
    drawn = len(table) > EXACT_UP_TO
    p = (reached + drawn) / (len(signs) + drawn)
    return {metric: float(min(1.0, value)) for metric, value in zip(differences, p, strict=True)}


def _swaps(count: int, resamples: int, seed: int) -> "NDArray[np.float64]":
    """Rows of +1 and -1: every combination where there are few, else drawn ones."""
    import numpy as np

    if count <= EXACT_UP_TO:
        codes = np.arange(2**count)[:, None] >> np.arange(count)
        return np.asarray(1.0 - 2.0 * (codes & 1))
    bits = np.random.default_rng(seed).integers(0, 256, (resamples, (count + 7) // 8), dtype=np.uint8)
    return np.asarray(1.0 - 2.0 * np.unpackbits(bits, axis=1)[:, :count])


def holm(chances_of: Mapping[str, float]) -> dict[str, float]:
    """The p-values after Holm's step-down correction: the chance of even one false discovery in the family is the level."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(chances_of, key=lambda name: chances_of[name])
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - place) * chances_of[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in chances_of}


def detectable(spread: float, clusters: int, alpha: float) -> float:
    """The smallest true difference that a one-sided test at `alpha` finds in 4 of 5 cases; 0.0 where nothing varies."""
    return (NORMAL.inv_cdf(1 - alpha) + NORMAL.inv_cdf(POWER)) * spread / math.sqrt(clusters)


def clusters_for(difference: float, spread: float, alpha: float) -> int:
    """How many clusters a one-sided test at `alpha` needs to find a true `difference` (above 0) in 4 of 5 cases."""
    factor = NORMAL.inv_cdf(1 - alpha) + NORMAL.inv_cdf(POWER)
    return max(1, math.ceil((factor * spread / difference) ** 2))


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
    tail = NORMAL.cdf(-math.sqrt(count / (count - 1)) * _student_quantile(0.5 + level / 2, count - 1))
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
    z = NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
