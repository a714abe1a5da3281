"""Noise never replaces the model people are used to, and a real gain is told from it."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from training.evaluation import Answered, Row, Sheet
from training.metrics import Scores
from training.promotion import (
    Difference,
    GuardLimits,
    Guards,
    Interval,
    Outcome,
    Rule,
    Verdict,
    _student_quantile,
    judge,
    more_clusters_needed,
    paired_bootstrap,
    verdict,
)

PROMOTE, KEEP, UNDECIDED = Outcome.PROMOTE, Outcome.KEEP, Outcome.NOT_ENOUGH_EVIDENCE
Draw = Callable[[random.Random], tuple[list[float], list[str]]]


def difference(
    mean: float, low: float, high: float, *, n: int = 100, clusters: int = 50, spread: float = 0.3
) -> Difference:
    return Difference(mean, Interval(low, high, 0.95), n, clusters, spread)


@pytest.mark.parametrize(
    ("gain", "guards", "outcome"),
    [
        (difference(0.08, 0.02, 0.14), Guards(), PROMOTE),
        (difference(0.08, 0.0, 0.16), Guards(), UNDECIDED),
        (difference(0.08, -0.01, 0.17), Guards(), UNDECIDED),
        (difference(-0.01, -0.05, 0.03), Guards(), UNDECIDED),
        (difference(-0.01, -0.03, 0.019), Guards(), KEEP),
        (difference(-0.08, -0.14, -0.02), Guards(), KEEP),
        (difference(0.010, 0.005, 0.015), Guards(), KEEP),
        (difference(0.0, 0.0, 0.0), Guards(), KEEP),
        (difference(0.3, 0.2, 0.4, n=19), Guards(), UNDECIDED),
        (difference(0.3, 0.2, 0.4, n=20), Guards(), PROMOTE),
        (difference(0.3, 0.2, 0.4, clusters=5), Guards(), UNDECIDED),
        (difference(-0.3, -0.4, -0.2, n=19), Guards(error_rate=1.0), UNDECIDED),
        (difference(0.3, 0.2, 0.4), Guards(error_rate=0.03), KEEP),
        (difference(0.3, 0.2, 0.4), Guards(error_rate=0.02), PROMOTE),
        (difference(0.3, 0.2, 0.4), Guards(empty_rate=0.03), KEEP),
        (difference(0.3, 0.2, 0.4), Guards(latency_ratio=2.1), KEEP),
        (difference(0.3, 0.2, 0.4), Guards(latency_ratio=2.0), PROMOTE),
        (difference(0.3, 0.2, 0.4), Guards(latency_ratio=None), PROMOTE),
    ],
)
def test_only_a_clear_gain_is_promoted(gain: Difference, guards: Guards, outcome: Outcome) -> None:
    """The whole interval above zero, worth the margin, enough answers, every guard held: else not promoted."""
    said = verdict(gain, guards=guards)
    assert said.outcome is outcome
    assert (said.more_needed > 0) is (outcome is UNDECIDED)
    assert said.reason.endswith(".")


@pytest.mark.parametrize(
    ("over_memory", "said"),
    [
        (None, "held-out answers)."),
        (difference(0.1, 0.05, 0.15), "and better than memory by 10.0 points"),
        (difference(-0.2, -0.3, -0.1), "but memory is still better than the challenger by 20.0 points"),
        (difference(0.01, -0.05, 0.07), "but no better than memory as far as can be told"),
    ],
)
def test_a_promotion_says_how_it_stands_to_memory(over_memory: Difference | None, said: str) -> None:
    """A fine-tune that memory beats may be promoted over the current model, but nobody is told it is the best there is."""
    promoted = verdict(difference(0.08, 0.02, 0.14), over_memory)
    assert promoted.outcome is PROMOTE
    assert said in promoted.reason


def test_reasons_name_the_figures() -> None:
    """A reason carries the difference, its interval, the metric and how many answers it rests on."""
    promoted = verdict(difference(0.082, 0.021, 0.143, n=120), rule=Rule(metric="rouge_l"))
    assert promoted.reason == (
        "The challenger is better than the current model by 8.2 points "
        "(rouge l, 95% interval +2.1 to +14.3, 120 held-out answers)."
    )
    slow = verdict(difference(0.3, 0.2, 0.4), guards=Guards(latency_ratio=3.04))
    assert "3.0 times as long" in slow.reason
    tolerant = Rule(limits=GuardLimits(latency_ratio=4.0))
    assert (
        verdict(difference(0.3, 0.2, 0.4), guards=Guards(latency_ratio=3.04), rule=tolerant).outcome
        is PROMOTE
    )


def test_too_few_answers_are_counted_in_rated_answers() -> None:
    """Only one rated answer in five is held out, so five rated answers are needed for each one missing."""
    said = verdict(difference(0.3, 0.2, 0.4, n=12, clusters=12), rule=Rule(held_out_share=0.2))
    assert said.more_needed == 40
    assert "about 40 more rated answers" in said.reason


@pytest.mark.parametrize("mean", [0.0, 0.005, 0.01, 0.02, 0.05])
def test_more_needed_gives_eighty_percent_power(mean: float) -> None:
    """With as many clusters as were asked for, the interval decides in 80 % of repetitions, if things are as they look."""
    now = difference(mean, mean - 0.06, mean + 0.06, clusters=100, spread=0.3)
    clusters = now.clusters + more_clusters_needed(now, 0.02)
    error = now.spread / math.sqrt(clusters)
    rng = random.Random(5)
    decided = 0
    for _ in range(2000):
        seen = rng.gauss(mean, error)
        decided += seen - 1.96 * error > 0 if mean >= 0.01 else seen + 1.96 * error < 0.02
    assert decided / 2000 == pytest.approx(0.80, abs=0.03)


def test_an_undecided_comparison_always_asks_for_more() -> None:
    """Never "about 0 more": whatever the observed difference, the number is at least one and not absurd."""
    for step in range(-20, 21):
        gain = difference(step / 1000, -0.05, 0.05, clusters=30, n=60)
        said = verdict(gain)
        assert said.outcome is UNDECIDED
        assert 1 <= said.more_needed < 100_000


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
def test_an_equal_model_is_promoted_at_most_once_in_twenty(draw: Draw) -> None:
    """False promotions stay at or under 5 %, and the 95 % interval covers the truth, also for few and uneven clusters."""
    rng = random.Random(11)
    promoted = covered = 0
    repetitions = 400
    for _ in range(repetitions):
        gain = paired_bootstrap(*draw(rng), resamples=600, seed=rng.randrange(10**6))
        promoted += verdict(gain, rule=Rule(margin=1e-9)).outcome is PROMOTE
        covered += gain.interval.low <= 0 <= gain.interval.high
    assert promoted / repetitions <= 0.05
    assert covered / repetitions >= 0.915


def test_paraphrases_taken_for_evidence_of_their_own_would_promote_noise() -> None:
    """The test above can fail: forgetting the clusters promotes an equal model far more often than once in twenty."""
    rng = random.Random(12)
    promoted = 0
    for _ in range(200):
        values, _ = together(20, 10)(rng)
        gain = paired_bootstrap(values, [str(i) for i in range(200)], resamples=400, seed=1)
        promoted += gain.interval.low > 0
    assert promoted / 200 > 0.12


def test_a_real_gain_is_found() -> None:
    """Ten points better on 100 questions with the usual noise is promoted in most repetitions."""
    rng = random.Random(13)
    promoted = 0
    for _ in range(200):
        values, clusters = together(50, 2)(rng)
        gain = paired_bootstrap([value + 0.10 for value in values], clusters, resamples=600, seed=3)
        promoted += verdict(gain).outcome is PROMOTE
    assert promoted / 200 >= 0.75


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
    assert verdict(gain).outcome is UNDECIDED


def test_input_that_is_no_pair_is_refused() -> None:
    """Unequal lengths and nothing at all are errors, not numbers."""
    with pytest.raises(ValueError, match="2 differences but 1 clusters"):
        paired_bootstrap([0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="at least one pair"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="held_out_share"):
        Rule(held_out_share=0)


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


def sheet(**arms: Callable[[int], float | None]) -> Sheet:
    """A sheet of 40 questions in 20 threads; an arm says its score per question, None where it failed."""
    rows = []
    for name, scores in arms.items():
        for i in range(40):
            value = scores(i)
            answered = Answered(
                name, f"q{i}", "text", seconds=1.0, error="" if value is not None else "no key"
            )
            rows.append(Row(answered, f"t{i // 2}", Scores(0.0, value or 0.0, 0.0, 0.0)))
    return Sheet(tuple(rows))


def test_a_sheet_is_judged_with_its_memory_arm() -> None:
    """The challenger is compared with what serves, and the reason says that memory is better."""
    judged = judge(sheet(current=lambda i: 0.3, challenger=lambda i: 0.5 + i % 3 / 50, memory=lambda i: 0.9))
    assert judged.outcome is PROMOTE
    assert "memory is still better" in judged.reason
    assert judged.gain is not None
    assert judged.gain.clusters == 20
    assert judge(sheet(base=lambda i: 0.3, challenger=lambda i: 0.5), current="base").outcome is PROMOTE


def test_an_arm_that_gave_no_answer_promotes_nothing() -> None:
    """A current model that could not be asked does not make any challenger look good."""
    judged = judge(sheet(current=lambda i: None, challenger=lambda i: 0.9))
    assert judged.outcome is KEEP
    assert "current failed on every question (no key)" in judged.reason
    assert judge(sheet(current=lambda i: 0.1, challenger=lambda i: 0.9 if i > 3 else None)).outcome is KEEP


def test_a_memory_that_failed_is_left_out() -> None:
    """Nobody is told that a fine-tune beats a memory that was not there."""
    judged = judge(sheet(current=lambda i: 0.3, challenger=lambda i: 0.5, memory=lambda i: None))
    assert judged.over_memory is None
    assert "memory" not in judged.reason


def test_a_verdict_survives_json() -> None:
    """What is stored is what was decided."""
    for said in (
        verdict(difference(0.08, 0.02, 0.14), difference(0.1, 0.05, 0.15)),
        verdict(difference(0.01, -0.1, 0.2)),
        Verdict(KEEP, "because."),
    ):
        assert Verdict.from_json(json.loads(json.dumps(said.to_json(), allow_nan=False))) == said


@pytest.mark.parametrize(
    ("current_s", "challenger_s", "promoted"), [(0.2, 1.6, True), (2.0, 5.5, False), (4.0, 7.0, True)]
)
def test_slowness_counts_only_where_people_notice_it(
    current_s: float, challenger_s: float, promoted: bool
) -> None:
    """A base that says three words is quickly done; a challenger that answers in 1.6 s is not refused for that."""
    seconds = {"current": current_s, "challenger": challenger_s}
    rows = [
        replace(row, answered=replace(row.answered, seconds=seconds[row.answered.arm]))
        for row in sheet(current=lambda i: 0.3, challenger=lambda i: 0.5).rows
    ]
    assert (judge(Sheet(tuple(rows))).outcome is PROMOTE) is promoted
