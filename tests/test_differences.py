"""Paired differences: intervals and chances that are right for few, uneven and tied clusters, checked against scipy."""

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from training.differences import (
    Interval,
    _student_quantile,
    chances,
    clusters_for,
    detectable,
    holm,
    paired_bootstrap,
)

Draw = Callable[[random.Random], tuple[list[float], list[str]]]


def alone(n: int, differ: float) -> Draw:
    """Two equal models that differ on some answers, each a cluster of its own, right or wrong as the coin falls."""

    def draw(rng: random.Random) -> tuple[list[float], list[str]]:
        values = [rng.choice((-1.0, 1.0)) if rng.random() < differ else 0.0 for _ in range(n)]
        return values, [f"c{i}" for i in range(n)]

    return draw


def together(threads: int, size: int, likeness: float = 0.7) -> Draw:
    """Two equal models on paraphrases: the answers of one thread mostly stand or fall together."""

    def draw(rng: random.Random) -> tuple[list[float], list[str]]:
        values: list[float] = []
        for _ in range(threads):
            common = rng.gauss(0, 0.25 * math.sqrt(likeness))
            values += [common + rng.gauss(0, 0.25 * math.sqrt(1 - likeness)) for _ in range(size)]
        return values, [f"c{i // size}" for i in range(threads * size)]

    return draw


def mixed_sizes(threads: int) -> Draw:
    """As before, with threads of 1 to 8 paraphrases."""

    def draw(rng: random.Random) -> tuple[list[float], list[str]]:
        values: list[float] = []
        names: list[str] = []
        for thread in range(threads):
            size, common = rng.choice((1, 1, 2, 3, 8)), rng.gauss(0, 0.2)
            values += [common + rng.gauss(0, 0.13) for _ in range(size)]
            names += [f"c{thread}"] * size
        return values, names

    return draw


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(alone(100, 0.2), id="100 answers, 20 differ"),
        pytest.param(alone(100, 0.05), id="100 answers, 5 differ"),
        pytest.param(alone(20, 0.3), id="20 answers"),
        pytest.param(together(33, 3), id="33 threads of 3"),
        pytest.param(together(10, 10), id="10 threads of 10"),
        pytest.param(mixed_sizes(20), id="20 threads of 1 to 8"),
    ],
)
def test_chance_alone_is_told_from_a_gain(draw: Draw) -> None:
    """Of equal models at most one in twenty looks better at 5 %, and the 95 % interval covers the truth, also for few and
    uneven clusters."""
    rng = random.Random(11)
    better = covered = 0
    repetitions = 300
    for _ in range(repetitions):
        values, clusters = draw(rng)
        seed = rng.randrange(10**6)
        gain = paired_bootstrap(values, clusters, resamples=600, seed=seed)
        better += chances({"f1": values}, clusters, resamples=599, seed=seed)["f1"] <= 0.05
        covered += gain.interval.low <= 0 <= gain.interval.high
    assert better / repetitions <= 0.065  # a true 5 % shows as much in 300 repetitions
    assert covered / repetitions >= 0.915


def test_paraphrases_taken_for_evidence_of_their_own_would_promote_noise() -> None:
    """The test above can fail: forgetting the clusters calls an equal model better far more often than once in twenty."""
    rng = random.Random(12)
    better = 0
    for _ in range(100):
        values, _ = together(20, 10)(rng)
        better += chances({"f1": values}, [str(i) for i in range(200)], resamples=399)["f1"] <= 0.05
    assert better / 100 > 0.12


def test_the_chance_is_the_one_an_independent_library_gives() -> None:
    """scipy's permutation test with swapped signs, exact for few clusters and drawn for many; and with a margin."""
    from scipy import stats

    rng = np.random.default_rng(3)
    for count in (9, 40):
        values = np.round(rng.normal(0.08, 0.3, count) * 12) / 12
        names = [str(i) for i in range(count)]
        for margin in (0.0, 0.05):
            oracle = stats.permutation_test(
                (values + margin,),
                np.sum,
                permutation_type="samples",
                alternative="greater",
                n_resamples=np.inf if count < 12 else 15_000,
                rng=np.random.default_rng(4),
            )
            ours = chances({"f1": list(values)}, names, margin=margin, resamples=15_000)["f1"]
            assert ours == pytest.approx(oracle.pvalue, abs=0.0005 if count < 12 else 0.012)


def test_the_interval_is_the_one_an_independent_library_gives() -> None:
    """scipy's bootstrap of independent pairs, widened by Hesterberg's factor, which is next to nothing for 200 of them."""
    from scipy import stats

    rng = np.random.default_rng(5)
    values = np.clip(rng.standard_t(3, 200) * 0.2 + 0.04, -1, 1)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=8_000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    found = paired_bootstrap(list(values), [str(i) for i in range(200)], resamples=8_000).interval
    assert found.low == pytest.approx(oracle.low, abs=0.004)
    assert found.high == pytest.approx(oracle.high, abs=0.004)


def test_the_interval_of_clusters_is_the_one_of_their_means() -> None:
    """With clusters of one size scipy's bootstrap of the clusters' means is the same thing."""
    from scipy import stats

    rng = np.random.default_rng(7)
    means = rng.normal(0.05, 0.2, 60)
    values = np.repeat(means, 4) + np.tile([-0.1, 0.0, 0.0, 0.1], 60)
    oracle = stats.bootstrap(
        (means,), np.mean, n_resamples=8_000, method="percentile", rng=np.random.default_rng(8)
    ).confidence_interval
    found = paired_bootstrap(list(values), [str(i // 4) for i in range(240)], resamples=8_000).interval
    assert found.low == pytest.approx(oracle.low, abs=0.005)
    assert found.high == pytest.approx(oracle.high, abs=0.005)


def test_students_quantiles_are_scipys() -> None:
    """From six degrees of freedom on within a tenth of a percent."""
    from scipy import stats

    for freedom in (6, 11, 40, 200):
        for probability in (0.9, 0.975, 0.995):
            assert _student_quantile(probability, freedom) == pytest.approx(
                stats.t.ppf(probability, freedom), rel=0.002
            )


def test_holms_correction() -> None:
    """The smallest is multiplied by the number of tests, and no later one gets below an earlier one."""
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_the_detectable_difference_is_found_in_four_of_five_cases() -> None:
    """And as many clusters as are asked for make a difference detectable."""
    found = detectable(0.25, 180, 0.0038)
    assert clusters_for(found, 0.25, 0.0038) in {180, 181}
    error = 0.25 / math.sqrt(180)
    beyond = NormalDist().inv_cdf(1 - 0.0038) * error
    assert 1 - NormalDist(found, error).cdf(beyond) == pytest.approx(0.80, abs=0.001)


def test_ties_are_no_evidence() -> None:
    """Two models that say the same have a chance of 1, and not worse by a margin is plain then."""
    same = {"f1": [0.0] * 40}
    names = [str(i) for i in range(40)]
    assert chances(same, names) == {"f1": 1.0}
    assert chances(same, names, margin=0.05)["f1"] < 0.001


def test_the_interval_is_the_textbook_one_for_well_behaved_data() -> None:
    """For many independent differences it agrees with Student's interval of the mean."""
    rng = random.Random(14)
    values = [rng.gauss(0.05, 0.3) for _ in range(400)]
    found = paired_bootstrap(values, [str(i) for i in range(400)], resamples=6000, seed=4)
    mean = math.fsum(values) / 400
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 399)
    assert found.mean == pytest.approx(mean)
    assert found.spread == pytest.approx(spread)
    assert found.interval.low == pytest.approx(mean - 1.966 * spread / 20, abs=0.002)
    assert found.interval.high == pytest.approx(mean + 1.966 * spread / 20, abs=0.002)


def test_the_same_seed_gives_the_same_interval_in_any_order() -> None:
    """An evaluation that is looked at again says the same; the order in which answers came does not count."""
    values, clusters = mixed_sizes(15)(random.Random(15))
    first = paired_bootstrap(values, clusters, seed=9)
    shuffled = sorted(zip(values, clusters, strict=True), key=lambda pair: (pair[1][::-1], pair[0]))
    again = paired_bootstrap([value for value, _ in shuffled], [cluster for _, cluster in shuffled], seed=9)
    assert again.interval.low == pytest.approx(first.interval.low)
    assert again.interval.high == pytest.approx(first.interval.high)
    assert paired_bootstrap(values, clusters, seed=10).interval != first.interval


def test_one_thread_says_nothing() -> None:
    """Thirty paraphrases of one question are one piece of evidence, however well they went."""
    gain = paired_bootstrap([0.5] * 30, ["c"] * 30)
    assert (gain.n, gain.clusters, gain.interval) == (30, 1, Interval(-1.0, 1.0, 0.95))


def test_input_that_is_no_pair_is_refused() -> None:
    """Unequal lengths and nothing at all are errors, not numbers."""
    with pytest.raises(ValueError, match="2 differences but 1 clusters"):
        paired_bootstrap([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="at least one pair"):
        paired_bootstrap([], [])


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile", "tolerance"),
    # Two-sided 95 % and 99 % points of Student's t as printed in every table.
    [
        (0.975, 1, 12.706, 0.001),
        (0.975, 2, 4.303, 0.001),
        (0.975, 3, 3.182, 0.03),
        (0.975, 5, 2.571, 0.002),
        (0.975, 9, 2.262, 0.001),
        (0.995, 9, 3.250, 0.003),
        (0.975, 30, 2.042, 0.001),
    ],
)
def test_student_quantiles(probability: float, freedom: int, quantile: float, tolerance: float) -> None:
    """Within the accuracy that the docstring promises."""
    assert _student_quantile(probability, freedom) == pytest.approx(quantile, rel=tolerance)
