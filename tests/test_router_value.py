"""A router replaces the last only where it really decides better, and what it saved is told with its doubt."""

import math

import numpy as np
import pytest

from training.router import Expected, RatedAnswer
from training.router_estimates import AnsweredQuestion, LoggedChoice, doubly_robust, router_report
from training.router_value import (
    FEWEST_COMPARED,
    Prices,
    apgr,
    cpt,
    replacement,
    sure_by_threshold,
    worth_asking,
)

PRICES = Prices(value_usd=0.10, cost_api_usd=0.02)


@pytest.mark.parametrize(
    ("gain", "value", "cost", "waiting", "asked"),
    [
        (0.3, 0.10, 0.02, 0.0, True),
        (0.199, 0.10, 0.02, 0.0, False),
        (0.1, 0.10, 0.02, 0.0, False),
        (0.3, 0.10, 0.02, 0.01, False),
        (0.01, 1.00, 0.001, 0.0, True),
        (-0.2, 0.10, 0.0, 0.0, False),
        (1.0, 0.0, 0.0, 0.0, False),
        (1.0, 0.01, 0.02, 0.0, False),
    ],
)
def test_an_api_model_is_asked_where_it_pays(
    gain: float, value: float, cost: float, waiting: float, asked: bool
) -> None:
    """The gain in dollars must be more than the price."""
    assert worth_asking(Expected(0.5, 0.5 + gain, gain), Prices(value, cost, waiting)) is asked


@pytest.mark.parametrize(
    ("features", "sure"),
    [
        ({"logprob_mean": -0.35}, True),
        ({"logprob_mean": -0.36}, False),
        ({"logprob_mean": -0.1, "finish_length": 1.0}, False),
        ({}, False),
    ],
)
def test_the_threshold(features: dict[str, float], sure: bool) -> None:
    """Conservative: what is not known to be sure is not."""
    assert sure_by_threshold(features) is sure


def test_the_gap_by_hand() -> None:
    """Four questions, of which the strong model wins two: asking these first recovers half of the gap with one call."""
    weak, strong = [1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    assert cpt([0, 1, 1, 0], weak, strong) == 25
    assert cpt([0, 1, 1, 0], weak, strong, share=0.8) == 50
    assert apgr([0, 1, 1, 0], weak, strong) == pytest.approx(0.75)
    assert apgr([1, 0, 0, 1], weak, strong) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no gap"):
        apgr([1], [1], [1])


def told(
    count: int, seed: int, *, signal: float, api_good: float = 0.95, drawn: float = 0.0
) -> list[RatedAnswer]:
    """Made-up ratings whose log-probabilities are all far below the threshold, so that it always asks the API model."""
    dice = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        feature = float(dice.normal())
        good = float(dice.random() < 1 / (1 + math.exp(-signal * feature)))
        better = float(dice.random() < api_good)
        features = {"logprob_mean": -2 + 0.1 * feature, "refusal": float(dice.random() < 0.2)}
        asked_api = dice.random() >= drawn
        for kind, label in (("local", good), ("openai", better)):
            if drawn and (kind == "openai") != asked_api:
                continue
            chance = (1 - drawn if asked_api else drawn) if drawn else 1.0
            rows.append(
                RatedAnswer(
                    f"q{number}", f"Question {number}?", f"t{number}", kind, label, "c", features, chance
                )
            )
    return rows


def test_a_router_that_decides_better_takes_over() -> None:
    """Where the threshold pays for every question, one that knows the good local answers saves money."""
    made = replacement(told(300, 1, signal=3.0), prices=PRICES)
    assert made.adopted, made.reason
    assert made.router is not None
    assert made.scores is not None
    assert made.scores.gain is not None
    assert made.scores.gain.interval.low > 0
    assert made.scores.apgr is not None
    assert made.scores.apgr_low is not None
    assert made.scores.apgr > made.scores.apgr_low > 0.5
    assert made.scores.ece < 0.15
    assert made.scores.pairs == 300
    assert made.scores.calibration == "platt"


def test_it_learns_from_draws_as_well() -> None:
    """One answer a question, with the chance with which it came to be seen: that is enough, with more of them."""
    made = replacement(told(700, 3, signal=3.0, drawn=0.4), prices=Prices(0.10, 0.05))
    assert made.adopted, made.reason


def test_a_router_that_is_no_better_does_not_replace_the_last() -> None:
    """The last one was fitted on the very same: there is nothing to gain."""
    rows = told(300, 1, signal=3.0)
    made = replacement(rows, prices=PRICES, incumbent_rows=rows)
    assert not made.adopted
    assert "not certain" in made.reason
    assert made.router is not None


def test_too_little_evidence_changes_nothing() -> None:
    """Without pairs or draws nobody knows what either decision is worth; with few ratings nothing is fitted."""
    one_armed = [row for row in told(200, 1, signal=3.0) if row.kind == "local"]
    made = replacement(one_armed, prices=PRICES)
    assert not made.adopted
    assert f"at least {FEWEST_COMPARED}" in made.reason
    assert replacement(told(20, 1, signal=3.0), prices=PRICES).router is None


def test_noise_is_hardly_ever_adopted() -> None:
    """Features that say nothing, and an API model whose gain is just its price: every decision is worth the same."""
    adopted = sum(
        replacement(told(80, seed, signal=0.0, api_good=0.7), prices=Prices(0.10, 0.02)).adopted
        for seed in range(20)
    )
    assert adopted <= 2  # 5 % of 20 is 1; the seeds are fixed


def test_savings_and_quality() -> None:
    """60 of 100 questions answered here, API answers at 2 cents: about 1.2 cents saved a question, with an interval."""
    rows = [
        AnsweredQuestion(
            f"t{number}",
            "local" if number % 5 < 3 else "openai",
            cost_usd=0.0 if number % 5 < 3 else (0.01 if number % 2 else 0.03),
            label=float(number % 4 > 0) if number % 2 else None,
            p_good=0.75 if number % 5 < 3 else None,
        )
        for number in range(100)
    ]
    report = router_report(rows)
    assert report.local_share == 0.6
    assert report.spent_usd == pytest.approx(0.8)
    assert report.saved is not None
    assert report.saved.mean == pytest.approx(0.012)
    assert report.saved.interval.low < 0.012 < report.saved.interval.high
    assert report.saved_usd == pytest.approx(1.2)
    assert report.calibrated_on == 30
    assert report.local_good is not None
    assert report.api_good is not None
    assert report.local_good.n == 30
    assert (
        0 <= report.local_good.interval.low <= report.local_good.mean <= report.local_good.interval.high <= 1
    )


def test_nothing_is_claimed_of_nothing() -> None:
    """No questions, no figures; without an API answer its usual price stands in."""
    report = router_report([])
    assert (report.local_share, report.saved, report.calibration_error, report.local_good) == (
        None,
        None,
        None,
        None,
    )
    alone = [AnsweredQuestion("t1", "local"), AnsweredQuestion("t2", "memory")]
    assert router_report(alone).saved_usd is None
    assert router_report(alone, usual_api_usd=0.02).saved_usd == pytest.approx(0.04)


def test_another_policy_is_judged_from_draws() -> None:
    """The estimate is right though the model behind it is wrong, because the propensities are known."""
    dice = np.random.default_rng(0)
    rows = []
    for number in range(4000):
        escalated = bool(dice.random() < 0.3)
        good = float(dice.random() < (0.9 if escalated else 0.6))
        rows.append(
            LoggedChoice(f"t{number}", escalated, 0.3 if escalated else 0.7, good, p_local=0.2, p_api=0.3)
        )
    always, never = doubly_robust(rows, lambda row: True), doubly_robust(rows, lambda row: False)
    assert always is not None
    assert never is not None
    assert always.interval.low < 0.9 < always.interval.high
    assert never.interval.low < 0.6 < never.interval.high
    assert doubly_robust([], lambda row: True) is None
