"""Noise never replaces the model people are used to, a real gain is told from it, and nobody changes the rules
afterwards."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from storage.errors import PublicError
from storage.learning import Look
from tests.benchmarks.bench_verdict import power
from tests.benchmarks.quarters import World, promoted, quarter
from training.differences import Difference, Interval
from training.evaluating import judge_sheet, spent_by
from training.evaluation import Answered, Row, Sheet
from training.looks import BUDGET, LEAST, QUARTER, Spent, alpha_of
from training.metrics import Scores
from training.promotion import Outcome, Verdict, judge, more_clusters_needed
from training.specification import Axis, GuardLimits, OverMemory, Specification

PROMOTE, KEEP, UNDECIDED = Outcome.PROMOTE, Outcome.KEEP, Outcome.NOT_ENOUGH_EVIDENCE
Score = Callable[[int], float | None]
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
SPEC = Specification(resamples=1_999)


def sheet(
    *, questions: int = 40, topic: int = 2, seconds: float = 1.0, usd: float = 0.0, **arms: Score
) -> Sheet:
    """A sheet of questions, so many to a topic; an arm says its score per question, None where it failed."""
    rows = []
    for name, scores in arms.items():
        for i in range(questions):
            value = scores(i)
            error = "" if value is not None else "no key"
            answered = Answered(name, f"q{i}", "text", seconds=seconds, cost_usd=usd, error=error)
            rows.append(Row(answered, f"t{i // topic}", Scores(0.0, value or 0.0, 0.0, value or 0.0)))
    return Sheet(tuple(rows))


def changed(told: Sheet, arm: str, **what: object) -> Sheet:
    rows = [
        replace(row, answered=replace(row.answered, **what)) if row.answered.arm == arm else row  # type: ignore[arg-type]
        for row in told.rows
    ]
    return Sheet(tuple(rows))


def better(i: int) -> float:
    return 0.5 + i % 3 / 50


def usual(i: int) -> float:
    return 0.3


def noise(i: int) -> float:
    return 0.3 + (0.2, -0.25, 0.3, -0.2)[i // 2 % 4]


def test_a_clear_gain_is_promoted_with_its_figures() -> None:
    """The reason names the difference, its interval, the metric and how many answers it rests on; the tests are kept."""
    said = judge(sheet(current=usual, challenger=better), SPEC)
    assert said.outcome is PROMOTE
    assert said.reason.startswith(
        "The challenger is better than the current model by 22.0 points (token f1, 95% interval +"
    )
    assert said.reason.endswith("40 held-out answers).")
    assert [test.metric for test in said.tests] == ["token_f1", "chrf"]
    assert all(test.p_holm <= SPEC.alpha and test.p_not_worse <= SPEC.alpha for test in said.tests)
    assert said.specification == SPEC.sha256
    assert said.spent == SPEC.alpha
    assert said.gain is not None
    assert said.gain.clusters == 20


def test_noise_is_not_enough_and_says_what_would_be() -> None:
    """The smallest difference that would have been found, and about how many more rated answers are needed."""
    said = judge(sheet(current=usual, challenger=noise), SPEC)
    assert said.outcome is UNDECIDED
    assert said.more_needed > 0
    assert f"{100 * said.detectable:.1f} points would have been found in 4 of 5 cases" in said.reason
    assert f"about {said.more_needed} more rated answers would decide it" in said.reason


def test_worse_and_hardly_better_are_kept() -> None:
    """A gain below what is worth a change changes nothing."""
    assert "worse by 10.0 points" in judge(sheet(current=usual, challenger=lambda i: 0.2), SPEC).reason
    hardly = judge(sheet(current=usual, challenger=lambda i: 0.31), SPEC)
    assert hardly.outcome is KEEP
    assert "by less than the 2.0 points that are worth a change" in hardly.reason
    assert judge(sheet(current=usual, challenger=usual), SPEC).outcome is KEEP


def test_a_look_may_not_take_more_than_its_share() -> None:
    """What one look alone would promote is not enough where there are many looks, and that is said."""
    scores = sheet(questions=60, current=usual, challenger=lambda i: 0.3 + (0.3 if i // 2 % 3 else -0.2))
    alone, one_of_many = judge(scores, SPEC), judge(scores, SPEC.with_alpha(0.0004))
    assert alone.outcome is PROMOTE
    assert one_of_many.outcome is UNDECIDED
    assert "not within the 0.04% that this one of many looks may take" in one_of_many.reason


def test_a_gain_in_one_metric_must_not_be_a_loss_in_another() -> None:
    """Not worse holds for every metric of the agreement."""
    scores = sheet(current=usual, challenger=better)
    torn = [
        replace(
            row, scores=replace(row.scores, chrf=0.15 + (0.05 if int(row.answered.example[1:]) % 4 else 0))
        )
        if row.answered.arm == "challenger"
        else row
        for row in scores.rows
    ]
    assert judge(Sheet(tuple(torn)), SPEC).outcome is UNDECIDED


def test_too_few_answers_are_counted_in_rated_answers_and_spend_nothing() -> None:
    """Only one rated answer in five is held out, so five are needed for each one missing; nobody looked at a difference."""
    few = judge(
        sheet(questions=12, topic=1, current=usual, challenger=better), replace(SPEC, held_out_share=0.2)
    )
    assert few.outcome is UNDECIDED
    assert few.more_needed == 40
    assert "about 40 more rated answers" in few.reason
    assert few.spent == 0
    one_topic = judge(sheet(questions=30, topic=30, current=usual, challenger=better), SPEC)
    assert one_topic.outcome is UNDECIDED


@pytest.mark.parametrize(
    ("told", "beside", "said"),
    [
        (
            sheet(current=usual, challenger=lambda i: better(i) if i > 1 else None),
            {},
            "failed on 5% of the questions",
        ),
        (changed(sheet(current=usual, challenger=better), "challenger", text=" "), {}, "answers are empty"),
        (
            changed(sheet(current=usual, challenger=better), "challenger", seconds=6.0),
            {},
            "6.0 times as long",
        ),
        (
            changed(sheet(current=usual, challenger=better), "challenger", cost_usd=0.01),
            {},
            "cost $10.00 instead of $0.00",
        ),
        (
            sheet(current=usual, challenger=better),
            {"refusals": {"challenger": {"n": 40, "refused": 8, "share": 0.2}, "current": {"share": 0.05}}},
            "refuses 20% of the questions, the current model 5%",
        ),
        (
            sheet(current=usual, challenger=better),
            {"probes": {"blocked": ["It told a planted secret.", "It agrees with anything."]}},
            "It told a planted secret; It agrees with anything",
        ),
    ],
)
def test_every_guard_has_been_seen_to_block(told: Sheet, beside: dict[str, object], said: str) -> None:
    """Better scores do not buy errors, silence, slowness, cost, refusals or a leak; and nothing is spent."""
    kept = judge(told, SPEC, beside=beside)
    assert kept.outcome is KEEP
    assert said in kept.reason
    assert kept.spent == 0


@pytest.mark.parametrize(
    ("current_s", "challenger_s", "promoted_"), [(0.2, 1.6, True), (2.0, 5.5, False), (4.0, 7.0, True)]
)
def test_slowness_counts_only_where_people_notice_it(
    current_s: float, challenger_s: float, promoted_: bool
) -> None:
    """A base that says three words is quickly done; a challenger that answers in 1.6 s is not refused for that."""
    told = changed(sheet(current=usual, challenger=better), "current", seconds=current_s)
    told = changed(told, "challenger", seconds=challenger_s)
    assert (judge(told, SPEC).outcome is PROMOTE) is promoted_


def test_a_fine_tune_must_not_be_worse_than_memory_where_memory_has_an_answer() -> None:
    """Shown to be worse: kept. As good as can be told: promoted and said. The agreement may ask for less, or for more."""
    worse = sheet(current=usual, challenger=better, memory=lambda i: 0.9)
    kept = judge(worse, SPEC)
    assert kept.outcome is KEEP
    assert "where memory has an answer it is better than the challenger by 38.0 points" in kept.reason
    said = judge(worse, replace(SPEC, memory=OverMemory.SAY))
    assert said.outcome is PROMOTE
    assert "but memory is still better than the challenger by 38.0 points" in said.reason
    level = sheet(
        current=usual, challenger=better, memory=lambda i: better(i) + (0.1 if i // 2 % 2 else -0.1)
    )
    assert "no better than memory as far as can be told" in judge(level, SPEC).reason
    assert judge(level, SPEC).outcome is PROMOTE
    assert judge(level, replace(SPEC, memory=OverMemory.BETTER)).outcome is KEEP
    over = judge(sheet(current=usual, challenger=better, memory=lambda i: 0.1), SPEC)
    assert "and better than memory by" in over.reason


def test_a_memory_that_failed_or_knows_nothing_is_left_out() -> None:
    """Nobody is told that a fine-tune beats a memory that was not there."""
    failed = judge(sheet(current=usual, challenger=better, memory=lambda i: None), SPEC)
    assert failed.over_memory is None
    assert "memory" not in failed.reason
    silent = changed(sheet(current=usual, challenger=better, memory=lambda i: 0.0), "memory", text="")
    assert judge(silent, SPEC).over_memory is None


def test_an_arm_that_gave_no_answer_promotes_nothing() -> None:
    """A current model that could not be asked does not make any challenger look good."""
    judged = judge(sheet(current=lambda i: None, challenger=lambda i: 0.9), SPEC)
    assert judged.outcome is KEEP
    assert "current failed on every question (no key)" in judged.reason


def test_as_good_and_cheaper_is_promoted_where_that_was_declared() -> None:
    """Not worse in quality, and clearly cheaper, faster, or preferred by the judge: on the declared axis only."""
    level = sheet(
        questions=120, usd=0.002, current=noise, challenger=lambda i: noise(i) + (0.01, -0.01)[i // 2 % 2]
    )
    dear = changed(level, "current", cost_usd=0.004)
    assert judge(dear, SPEC).outcome is not PROMOTE
    cheaper = judge(dear, replace(SPEC, axis=Axis.COST))
    assert cheaper.outcome is PROMOTE
    assert "costs 50% less and is not worse by 5.0 points or more" in cheaper.reason
    assert "not worth a change" in judge(level, replace(SPEC, axis=Axis.COST)).reason
    quick = changed(level, "current", seconds=3.0)
    assert "takes 67% less time" in judge(quick, replace(SPEC, axis=Axis.LATENCY)).reason
    worse = changed(sheet(questions=120, current=better, challenger=usual), "current", cost_usd=0.004)
    assert judge(worse, replace(SPEC, axis=Axis.COST)).outcome is KEEP


def test_a_judges_word_decides_only_where_it_was_declared() -> None:
    """Wins minus losses, question by question; a judge that was not asked promotes nobody."""
    level = sheet(questions=120, current=noise, challenger=noise)
    axis = replace(SPEC, axis=Axis.JUDGE)
    won = {
        "judge": {"pairs": [{"example": f"q{i}", "verdict": "win" if i % 3 else "tie"} for i in range(120)]}
    }
    assert "preferred by the judge by 66.7 points" in judge(level, axis, beside=won).reason
    assert judge(level, axis, beside=won).outcome is PROMOTE
    assert judge(level, SPEC, beside=won).outcome is not PROMOTE
    lost = {"judge": {"pairs": [{"example": f"q{i}", "verdict": "loss"} for i in range(120)]}}
    assert judge(level, axis, beside=lost).outcome is KEEP
    assert "the judge was not asked" in judge(level, axis).reason


# --- The agreement ------------------------------------------------------------------------------------------


def test_an_agreement_survives_json_and_has_one_hash() -> None:
    """What is stored is what was agreed; every part of it is under the hash."""
    agreed = Specification(
        axis=Axis.COST, memory=OverMemory.BETTER, limits=GuardLimits(latency_ratio=3.0), alpha=0.004
    )
    stored = json.loads(json.dumps(agreed.stored(), allow_nan=False))
    assert Specification.from_json(stored) == agreed
    assert stored["sha256"] == agreed.sha256
    others = [
        replace(agreed, alpha=0.005),
        replace(agreed, margin=0.1),
        replace(agreed, limits=GuardLimits()),
    ]
    assert len({each.sha256 for each in (agreed, *others)}) == 4
    with pytest.raises(ValueError, match="held_out_share"):
        Specification(held_out_share=0)


def test_a_changed_agreement_judges_nothing() -> None:
    """Whoever lowers the bar after the answers are in is told so."""
    told = sheet(current=usual, challenger=better)
    stored = SPEC.stored()
    judged = judge_sheet(told, stored)
    assert judged is not None
    assert judged.specification == stored["sha256"]
    with pytest.raises(PublicError, match="not the one that was agreed on"):
        judge_sheet(told, {**stored, "margin": 0.5})
    assert judge_sheet(sheet(current=usual), {}) is None


def test_a_verdict_survives_json() -> None:
    """What is stored is what was decided; verdicts from before agreements are read as well."""
    for said in (
        judge(sheet(current=usual, challenger=better, memory=usual), SPEC),
        judge(sheet(current=usual, challenger=noise), SPEC),
        Verdict(KEEP, "because."),
    ):
        assert Verdict.from_json(json.loads(json.dumps(said.to_json(), allow_nan=False))) == said
    names = ("outcome", "reason", "more_needed", "metric", "gain", "over_memory")
    old = {name: value for name, value in Verdict(KEEP, "because.").to_json().items() if name in names}
    assert Verdict.from_json(old) == Verdict(KEEP, "because.")


def test_an_undecided_comparison_always_asks_for_more() -> None:
    """Never "about 0 more": whatever the observed difference, the number is at least one and not absurd."""
    for step in range(-20, 21):
        gain = Difference(step / 1000, Interval(-0.05, 0.05, 0.95), 60, 30, 0.3)
        assert 1 <= more_clusters_needed(gain, SPEC) < 100_000


# --- Looks --------------------------------------------------------------------------------------------------


def looks(gaps_days: list[float]) -> list[Spent]:
    spent: list[Spent] = []
    moment = MONDAY
    for gap in gaps_days:
        moment += timedelta(days=gap)
        spent.append(Spent(moment, alpha_of(spent, moment)))
    return spent


@pytest.mark.parametrize(
    "gaps",
    [[7.0] * 60, [1.0] * 300, [0.01] * 400, [30.0] * 12, [40.0, *[7.0] * 13, *[0.2] * 30], [14.0] * 20],
)
def test_no_quarter_spends_more_than_was_agreed(gaps: list[float]) -> None:
    """Weekly, nightly, by the minute or after a rest: the looks of any 91 days add up to less than the budget."""
    spent = looks(gaps)
    for last in spent:
        window = [each.alpha for each in spent if last.at - QUARTER < each.at <= last.at]
        assert sum(window) <= BUDGET + 1e-6
    assert all(each.alpha > 0 for each in spent)


def test_weekly_looks_get_even_shares_and_a_second_look_on_a_day_little() -> None:
    """A rest is saved up for two weeks at most; what a look did not use is there for the next."""
    weekly = [each.alpha for each in looks([7.0] * 10)]
    assert weekly[0] == pytest.approx(2 * weekly[1])
    assert len({round(alpha, 9) for alpha in weekly[1:]}) == 1
    again = looks([7.0, 7.0, 0.1])
    assert again[-1].alpha == LEAST
    unused = [Spent(MONDAY, 0.0)]
    assert alpha_of(unused, MONDAY + timedelta(days=7)) == pytest.approx(BUDGET / 13)


def test_what_is_reserved_counts_until_it_is_known_what_was_spent() -> None:
    """Two evaluations at once do not spend the same; one that came to nothing gives its share back."""
    agreed = SPEC.stored()
    asked = MONDAY
    going_on = Look(asked, agreed, {}, live=True)
    assert spent_by(going_on, asked + timedelta(hours=1)) == SPEC.alpha
    assert spent_by(going_on, asked + timedelta(days=3)) == 0
    assert spent_by(Look(asked, agreed, {}, live=False), asked + timedelta(hours=1)) == 0
    assert spent_by(Look(asked, agreed, {"spent": 0.001}, live=False), asked + timedelta(days=30)) == 0.001


# --- Simulated quarters; the full figures are `python -m tests.benchmarks false_promotion_rate` ------------------


def test_equal_models_are_hardly_ever_promoted_in_a_quarter_of_weekly_runs() -> None:
    """Twelve looks at the same questions, with ties, uneven clusters and heavy tails: at most one quarter in twenty."""
    rng = np.random.default_rng(61)
    false = sum(promoted(quarter(rng, World(24), 0.0, resamples=999)) for _ in range(60))
    assert false / 60 <= 0.05


def test_a_look_that_takes_five_percent_every_week_would_promote_noise() -> None:
    """The test above can fail: without the quarter's budget equal models are promoted again and again."""
    rng = np.random.default_rng(62)
    agreed = Specification(alpha=0.05, resamples=499, worthwhile=0.001)
    from tests.benchmarks.quarters import weeks

    false = 0
    for _ in range(12):
        sheets = weeks(rng, World(24), 0.0)
        false += any(judge(next(sheets), agreed).outcome is PROMOTE for _ in range(12))
    assert false >= 2


def test_ten_points_are_found_in_one_look() -> None:
    """A gain of twice what the verdict calls detectable is promoted nearly always."""
    found, stated = power(np.random.default_rng(63), World(80), 12, gain=0.2)
    assert stated < 0.14
    assert found >= 0.8
