"""Paired differences that hang together in two ways: by thread, and by who wrote or chose the reference. Pure numbers.

Threads are told apart by swapping models within them (`training.differences`). People cut across threads: somebody whose
style one model copies lifts that model in all of their threads at once. The variance here counts both ways at once (Cameron,
Gelbach and Miller, "Robust Inference With Multiway Clustering", 2011) and is compared with Student's t of the fewer
clusters.
"""

import math
from collections.abc import Mapping, Sequence

FEWEST = 6
"""Fewer people than these carry no estimate of how much people differ."""


def people_in(raters: Sequence[str]) -> int:
    """How many people there are; "" is nobody."""
    return len({each for each in raters if each})


def two_way_chances(
    differences: Mapping[str, Sequence[float]],
    clusters: Sequence[str],
    raters: Sequence[str],
    *,
    margin: float = 0.0,
) -> dict[str, float]:
    """For each metric the one-sided p-value of "the mean difference is -`margin` or less", with threads and people counted
    once each; a pair of nobody is its own. 0.0 (no objection) where there are fewer than `FEWEST` people."""
    if people_in(raters) < FEWEST:
        return dict.fromkeys(differences, 0.0)
    people = [who or f"\0{cluster}" for who, cluster in zip(raters, clusters, strict=True)]
    freedom = min(people_in(raters), len(set(clusters))) - 1
    return {name: _chance(values, clusters, people, margin, freedom) for name, values in differences.items()}


def _chance(
    values: Sequence[float], clusters: Sequence[str], people: Sequence[str], margin: float, freedom: int
) -> float:
    mean = math.fsum(values) / len(values)
    error = math.sqrt(two_way_variance(values, clusters, people))
    if error <= 1e-12:
        return 0.0 if mean + margin > 0 else 1.0
    return student_above((mean + margin) / error, freedom)


def two_way_variance(values: Sequence[float], clusters: Sequence[str], people: Sequence[str]) -> float:
    """Of the mean: by thread plus by person less by both, each with its small-sample factor; never below the larger."""
    both = [f"{cluster}\0{who}" for cluster, who in zip(clusters, people, strict=True)]
    by_thread, by_person = _variance(values, clusters), _variance(values, people)
    return max(by_thread + by_person - _variance(values, both), by_thread, by_person)


def _variance(values: Sequence[float], groups: Sequence[str]) -> float:
    mean = math.fsum(values) / len(values)
    sums: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        sums.setdefault(group, []).append(value - mean)
    if len(sums) < 2:
        return 0.0
    squares = math.fsum(math.fsum(each) ** 2 for each in sums.values())
    return squares / len(values) ** 2 * len(sums) / (len(sums) - 1)


def student_above(t: float, freedom: int) -> float:
    """The chance that Student's t with `freedom` degrees of freedom exceeds `t`: with t = sqrt(freedom) cot(angle) it is
    the share of the integral of sin(x) ** (freedom - 1) that lies below the angle."""
    import numpy as np

    angle = math.atan2(math.sqrt(freedom), t)
    part, whole = (
        np.trapezoid(np.sin(x) ** (freedom - 1), x)
        for x in (np.linspace(0.0, angle, 20_001), np.linspace(0.0, math.pi, 20_001))
    )
    return float(part / whole)
