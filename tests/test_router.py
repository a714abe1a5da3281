"""A router learns what its labels hold, says how sure it may be, and is the same after it was kept."""

import json
import subprocess
import sys

import numpy as np
import pytest

from training.router import (
    RatedAnswer,
    Router,
    UnknownRouter,
    duel_labels,
    fit,
    gathered,
    label_of,
)
from training.router_calibration import (
    Isotonic,
    Platt,
    brier,
    calibrated,
    calibration_error,
    isotonic,
    sigmoid,
)
from training.router_fit import Asked


def ratings(count: int, *, seed: int = 0, signal: float = 2.0, both: bool = True) -> list[RatedAnswer]:
    """Made-up ratings: the mean log-probability tells good local answers, and in "hard" the API model is much better."""
    dice = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        hard = number % 2 == 0
        logprob = float(dice.normal())
        good = dice.random() < 1 / (1 + np.exp(-(signal * logprob + (-0.5 if hard else 1.0))))
        topic, features = (
            ("hard" if hard else "easy"),
            {"logprob_mean": logprob, "noise": float(dice.normal())},
        )
        question = f"Question {number} about {topic} things"
        rows.append(RatedAnswer(f"q{number}", question, f"t{number}", "local", float(good), topic, features))
        if both:
            better = float(dice.random() < 0.9)
            rows.append(RatedAnswer(f"q{number}", question, f"t{number}", "openai", better, topic, features))
    return rows


@pytest.fixture(scope="module")
def router() -> Router:
    fitted = fit(ratings(300))
    assert fitted is not None
    return fitted


def test_it_learns_answers_and_topics(router: Router) -> None:
    """Likely tokens are a good sign, a hard topic a bad one, and the API model is worth most where both are missing."""
    sure = router.expect(Asked("Question about easy things", "easy", {"logprob_mean": 1.5, "noise": 0.0}))
    unsure = router.expect(Asked("Question about hard things", "hard", {"logprob_mean": -1.5, "noise": 0.0}))
    assert sure.p_local > 0.8 > 0.3 > unsure.p_local
    assert unsure.gain > 0.4 > 0.15 > sure.gain
    assert 0.8 < unsure.p_api <= 1


def test_what_is_not_known_is_ordinary(router: Router) -> None:
    """A new channel, or an answer without log-probabilities, is judged by the rest."""
    told = router.expect(Asked("Something else entirely", "new channel"))
    assert 0.2 < told.p_local < 0.9


def test_its_chances_hold_on_what_it_never_saw(router: Router) -> None:
    """Of answers with a chance of 70 %, about 70 % are good."""
    fresh = [row for row in ratings(2000, seed=9) if row.kind == "local"]
    told = router.expect_all([Asked(row.question, row.topic, row.features) for row in fresh])
    assert calibration_error(told.p_local, [row.label for row in fresh]) < 0.08


def test_it_is_the_same_after_it_was_kept(router: Router) -> None:
    """JSON and back gives the very same numbers, in little room."""
    kept = json.dumps(router.to_json())
    again = Router.from_json(json.loads(kept))
    asked = Asked("Question 3 about hard things", "hard", {"logprob_mean": -0.3})
    assert again.expect(asked) == router.expect(asked)
    assert again == router
    assert len(kept) < 100_000
    assert "things" not in kept


def test_a_router_of_another_time_is_refused(router: Router) -> None:
    """In words, so that the threshold decides until the next fit."""
    with pytest.raises(UnknownRouter, match="version 99"):
        Router.from_json(router.to_json() | {"version": 99})


def test_nothing_is_fitted_on_next_to_nothing() -> None:
    """Too few ratings, or all alike, say nothing."""
    assert fit([]) is None
    assert fit(ratings(29)) is None
    assert fit([RatedAnswer(f"q{n}", "why?", f"t{n}", "local", 1.0) for n in range(60)]) is None


def test_an_api_model_nobody_rated_is_taken_for_usual() -> None:
    """Its chance is the usual one, and one bad rating does not change that much."""
    rows = ratings(60, both=False)
    alone = fit(rows)
    bad = fit([*rows, RatedAnswer("q1", "x", "t1", "openai", 0.0, "easy")])
    assert alone is not None
    assert bad is not None
    asked = Asked("x", "easy", {"logprob_mean": 0.0})
    assert alone.expect(asked).p_api == pytest.approx(0.8)
    assert 0.6 < bad.expect(asked).p_api < 0.8


@pytest.mark.parametrize(
    ("votes", "corrected", "label"),
    [
        ([1], False, 1.0),
        ([1, -1], False, 0.5),
        ([0], False, None),
        ([], False, None),
        ([1, 1], True, 0.0),
        ([], True, 0.0),
    ],
)
def test_labels(votes: list[int], corrected: bool, label: float | None) -> None:
    """A corrected answer was bad, whatever the thumbs."""
    assert label_of(votes, corrected=corrected) == label


@pytest.mark.parametrize(
    ("outcome", "labels"), [("a", (1, 0)), ("b", (0, 1)), ("tie", (1, 1)), ("both bad", (0, 0)), ("", None)]
)
def test_a_duel_labels_both(outcome: str, labels: tuple[float, float] | None) -> None:
    """That is what duels are worth to the router."""
    assert duel_labels(outcome) == labels


def test_rare_draws_weigh_more_but_not_without_end() -> None:
    """One in four counts fourfold, one in a thousand tenfold."""
    rows = [
        RatedAnswer(f"q{n}", "why?", "t", "local", 1.0, propensity=p)
        for n, p in enumerate((1.0, 0.25, 0.001))
    ]
    assert [each.local_weight for each in gathered(rows)] == [1, 4, 10]


def test_nobody_outvotes_the_team() -> None:
    """Who rates most of all answers carries a quarter."""
    raters = ["loud"] * 96 + ["a", "b", "c", "d"]
    rows = [RatedAnswer(f"q{n}", "why?", "t", "local", 1.0, raters=(who,)) for n, who in enumerate(raters)]
    weights = {row.question_id: row for row in rows}
    told = gathered(list(weights.values()))
    assert sum(each.local_weight for each in told) == pytest.approx(25 + 4)


def test_a_known_curve_is_found_again() -> None:
    """Platt finds slope and offset, the staircase any rising curve; by the number of labels one is taken."""
    dice = np.random.default_rng(1)
    scores = dice.normal(size=6000)
    for curve in (sigmoid(0.5 * scores - 1), np.clip(0.5 + 0.2 * np.sign(scores) + 0.1 * scores, 0.02, 0.98)):
        labels = (dice.random(6000) < curve).astype(float)
        assert np.abs(calibrated(scores, labels).chance(scores) - curve).mean() < 0.03
    labels = (dice.random(6000) < sigmoid(0.5 * scores - 1)).astype(float)
    assert isinstance(calibrated(scores, labels), Isotonic)
    few = calibrated(scores[:900], labels[:900])
    assert isinstance(few, Platt)
    assert few.slope == pytest.approx(0.5, abs=0.2)
    assert few.offset == pytest.approx(-1, abs=0.2)


def test_the_staircase_rises_and_averages_what_falls() -> None:
    """Pool adjacent violators, by hand: 1, 0 become a step of one half."""
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
    told = isotonic(scores, labels, np.ones(4))
    assert told.scores == (1.0, 2.5, 4.0)
    assert told.chances == pytest.approx((0.25, 0.5, 0.75))


def test_calibration_error_and_brier_by_hand() -> None:
    """Two bins: off by 0.2 on half of the answers, and by 0.1 on the other half."""
    assert calibration_error([0.7, 0.7, 0.1, 0.1], [1, 0, 0, 0]) == pytest.approx(0.15)
    assert calibration_error([1.0], [1.0]) == 0
    assert brier([0.5, 1.0], [1.0, 0.0]) == pytest.approx(0.625)
    with pytest.raises(ValueError, match="at least one label"):
        calibration_error([], [])


def test_importing_it_loads_no_numpy_and_no_torch() -> None:
    """A bot that has no router yet pays nothing for it."""
    code = "import sys, training.router_value, training.router_estimates; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
