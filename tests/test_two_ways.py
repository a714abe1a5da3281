"""Threads and people at once: the test that a person's style is not taken for a better model."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_promotion import SPEC, sheet

from training.evaluation import Sheet
from training.promotion import Outcome, judge
from training.two_ways import people_in, student_above, two_way_chances, two_way_variance

Draw = tuple[list[float], list[str], list[str]]


def draw(rng: np.random.Generator, *, people: int = 12, style: float = 0.12, gain: float = 0.0) -> Draw:
    """240 differences of equal models (or better by `gain`), in threads of two; each person's style lifts theirs alike."""
    lifts = rng.normal(0, style, people)
    who = rng.integers(0, people, 120)
    values = [gain + lifts[who[i // 2]] + rng.normal(0, 0.15) for i in range(240)]
    return values, [f"t{i // 2}" for i in range(240)], [f"r{who[i // 2]}" for i in range(240)]


def alarms(people: bool, *, rounds: int = 400, gain: float = 0.0, style: float = 0.12) -> float:
    """The share of draws in which the challenger counts as better at the level of 5 %."""
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(rounds):
        values, threads, raters = draw(rng, gain=gain, style=style)
        shown = raters if people else threads
        found += two_way_chances({"f1": values}, threads, shown)["f1"] <= 0.05
    return found / rounds


def test_a_persons_style_is_not_taken_for_a_better_model() -> None:
    """Counting threads alone promotes equal models about one time in four; people too: the five percent that were agreed."""
    assert alarms(people=False) > 0.2
    assert alarms(people=True) <= 0.07


def test_a_gain_is_still_found_where_people_hardly_differ() -> None:
    """Counting people costs little power where there is nothing to count."""
    assert alarms(people=True, gain=0.05, style=0.0, rounds=200) > 0.9


def test_the_variance_is_what_was_published() -> None:
    """By hand, for four values of two threads and two people: by thread plus by person less by pair, and never less than
    the larger."""
    values = [1.0, 3.0, 2.0, 6.0]
    threads, people = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    # About the mean of 3: -2, 0, -1, 3. Threads: -2 and 2; people: -3 and 3; pairs: each its own.
    by_thread, by_person, by_pair = 8 / 16 * 2, 18 / 16 * 2, 14 / 16 * 4 / 3
    assert two_way_variance(values, threads, people) == pytest.approx(
        max(by_thread + by_person - by_pair, by_thread, by_person)
    )
    one = two_way_variance(values, threads, threads)
    assert one == pytest.approx(by_thread)


def test_students_tail_is_scipys() -> None:
    """Over the range that matters."""
    from scipy import stats

    for freedom in (1, 2, 5, 11, 60):
        for t in (-3.0, 0.0, 0.7, 2.0, 4.8):
            assert student_above(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-4)


def test_few_people_object_to_nothing() -> None:
    """Of fewer than six nobody knows how much they differ."""
    values, threads, raters = draw(np.random.default_rng(1), people=5)
    assert people_in(raters) == 5
    assert two_way_chances({"f1": values}, threads, raters) == {"f1": 0.0}
    assert two_way_chances({"f1": values}, threads, [""] * 240) == {"f1": 0.0}


def test_no_difference_at_all_is_no_gain() -> None:
    """Nothing varies: certain of what is there, and of nothing else."""
    threads = [f"t{i}" for i in range(12)]
    assert two_way_chances({"f1": [0.0] * 12}, threads, threads) == {"f1": 1.0}
    assert two_way_chances({"f1": [0.0] * 12}, threads, threads, margin=0.05) == {"f1": 0.0}
    assert math.isclose(two_way_chances({"f1": [0.1] * 12}, threads, threads)["f1"], 0.0)


def test_a_gain_that_one_persons_threads_make_is_not_promoted() -> None:
    """The same answers: promoted where nobody is known, not where it comes of two of eight people."""

    def challenger(i: int) -> float:
        return 0.62 + i % 3 / 50 if i // 2 % 8 < 2 else 0.31 + i % 3 / 50

    told = sheet(questions=80, current=lambda i: 0.3 + i % 5 / 50, challenger=challenger)
    by_people = Sheet(
        tuple(replace(row, rater=f"r{int(row.answered.example[1:]) // 2 % 8}") for row in told.rows)
    )
    assert judge(told, SPEC).outcome is Outcome.PROMOTE
    assert judge(by_people, SPEC).outcome is Outcome.NOT_ENOUGH_EVIDENCE
    assert Sheet.from_json(by_people.to_json()) == by_people


def test_a_gain_by_few_peoples_word_says_so() -> None:
    """It is promoted, and the reason tells whose taste it may be."""
    told = sheet(questions=80, current=lambda i: 0.3, challenger=lambda i: 0.6 + i % 3 / 50)
    by_two = Sheet(
        tuple(replace(row, rater=f"r{int(row.answered.example[1:]) // 2 % 2}") for row in told.rows)
    )
    verdict = judge(by_two, SPEC)
    assert verdict.outcome is Outcome.PROMOTE
    assert "written or chosen by 2 people" in verdict.reason
    assert "taste" not in judge(told, SPEC).reason
