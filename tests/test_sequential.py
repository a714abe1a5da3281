"""A canary that is rated worse is seen soon, and one that is not is left in peace, however often somebody looks."""

import numpy as np
import pytest

from tests.benchmarks.bench_verdict import Drawn, first_alarm, rated
from training.sequential import Rated, blocks, harm, log_capital


def test_a_drop_from_80_to_60_percent_is_seen_within_75_ratings_on_each_side() -> None:
    """In half of the cases, one rating at a time from either side in turn."""
    rng = np.random.default_rng(31)
    found = [first_alarm(rated(rng, Drawn(0.8, 0.6, 300)), 0.05) for _ in range(150)]
    per_side = [each / 2 if each else 10_000 for each in found]
    assert float(np.median(per_side)) <= 75


@pytest.mark.parametrize("liked", [0.5, 0.8, 0.95])
def test_an_equal_canary_is_left_in_peace(liked: float) -> None:
    """At most one false alarm in twenty canaries that are looked at after each of 600 ratings."""
    rng = np.random.default_rng(32)
    alarms = sum(bool(first_alarm(rated(rng, Drawn(liked, liked, 300)), 0.05)) for _ in range(600))
    assert alarms / 600 <= 0.05


def test_a_week_in_which_everybody_is_cross_is_no_alarm() -> None:
    """Both sides are rated at the same time: what happens to both is nobody's fault."""
    rng = np.random.default_rng(33)
    alarms = 0
    for _ in range(100):
        moods = np.where(np.arange(400) < 200, 0.9, 0.4)
        told = [
            Rated(bool(side), float(rng.random() < mood))
            for side, mood in zip(rng.random(400) < 0.2, moods, strict=True)
        ]
        alarms += harm(told).shown(0.05)
    assert alarms / 100 <= 0.05


def test_a_better_canary_is_never_accused() -> None:
    """The test is one-sided."""
    rng = np.random.default_rng(34)
    assert not any(first_alarm(rated(rng, Drawn(0.6, 0.8, 300)), 0.05) for _ in range(100))


def test_peeking_with_an_ordinary_test_would_accuse_many() -> None:
    """The tests above can fail: a z-test after every rating raises the alarm several times as often."""
    rng = np.random.default_rng(35)
    alarms = 0
    for _ in range(100):
        a, b = (rng.random((2, 300)) < 0.8).cumsum(axis=1) / np.arange(1, 301)
        error = np.sqrt((a * (1 - a) + b * (1 - b)) / np.arange(1, 301)) + 1e-9
        alarms += bool(np.any(((a - b) / error)[9:] > 1.645))
    assert alarms / 100 > 0.15


def test_blocks_are_made_of_sides_alone() -> None:
    """At least one of each side; what is left over waits."""
    told = [
        Rated(False, 1.0),
        Rated(False, 0.0),
        Rated(True, 0.0),
        Rated(True, 1.0),
        Rated(False, 0.5),
        Rated(True, 0.0),
    ]
    assert list(blocks(told)) == [0.5, -0.5]
    assert harm(told[:2]).odds == 1.0
    assert harm([]).blocks == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        list(blocks([Rated(True, 2.0)]))


def test_the_players_money_is_a_fair_game() -> None:
    """Computed by hand for two blocks; and over all outcomes of an equal canary the mean stays 1."""
    stakes = np.linspace(0.05, 0.75, 15)
    by_hand = np.mean((1 + stakes * 1.0) * (1 - stakes * 0.5))
    assert np.exp(log_capital([1.0, -0.5]))[-1] == pytest.approx(by_hand)
    outcomes = [(1.0, 0.16), (-1.0, 0.16), (0.0, 0.68)]
    mean = sum(
        p * q * r * float(np.exp(log_capital([a, b, c]))[-1])
        for a, p in outcomes
        for b, q in outcomes
        for c, r in outcomes
    )
    assert mean == pytest.approx(1.0)


def test_the_odds_once_reached_stay() -> None:
    """An alarm does not unring: what counts is the most that was ever reached."""
    worse = [Rated(side, float(not side)) for _ in range(12) for side in (False, True)]
    better = [Rated(side, float(side)) for _ in range(40) for side in (False, True)]
    assert harm(worse).shown(0.05)
    assert harm([*worse, *better]).odds == pytest.approx(harm(worse).odds)
