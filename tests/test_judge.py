"""The router at work: ratings become rows, the nightly fit becomes a row, and the desk decides by it."""

import random
from datetime import date
from pathlib import Path

import pytest
from desk_rig import HELP, TEAM, UNSURE, Office, Speaker, office

from bot.figures import Figures
from bot.judge import RouterJudge, rated_answers
from bot.refit import Refit
from storage.records import Question
from storage.store import Store
from storage.values import Message, Proposal
from training.router import RatedAnswer
from training.router_near import Neighbours

EASY, HARD = "Where is the {} form?", "Prove the {} theorem step by step."
WORDS = "blue red green old new long short first last open closed north south".split()  # noqa: SIM905


def judge_of(store: Store, *, cost: float = 0.001) -> RouterJudge:
    return RouterJudge(store, team=TEAM, value_usd=0.05, usual_cost=lambda _kind: cost)


async def rated(store: Store, number: int, *, hard: bool) -> None:
    """A question whose local answer is good if it is easy; the API's is always good. Both were asked and picked."""
    text = (HARD if hard else EASY).format(WORDS[number % len(WORDS)])
    ts = f"{number}.000"
    question = (
        await store.ask(team=TEAM, channel=HELP, ts=ts, thread_ts=ts, asker="U1", text=text, place="channel")
    ).question
    escalated = number % 2 == 0
    features = {"logprob_mean": -1.6 if hard else -0.5, "finish_length": 0.0, "length": 3.0}
    local = Proposal("Local.", "local", "starter", logprobs=(-1.0,), features=features)
    api = Proposal("Api.", "openai", "gpt-6-luna", cost_usd=0.001)
    judgement = {"escalate": escalated, "by": "threshold", "propensity": 0.5}
    answered = await store.answer(
        question,
        [api, local] if escalated else [local],
        messages=[Message("user", text)],
        route={"judgement": judgement},
    )
    await store.posted(answered.answer.id, f"{number}.001")
    await store.rate(
        answered.answer.id, team=TEAM, rater=f"U{number % 9}", value=1 if escalated or not hard else -1
    )


@pytest.fixture
async def ratings(store: Store) -> Store:
    """Two hundred rated answers; half of the questions are beyond the local model."""
    dice = random.Random(4)
    for number in range(1, 201):
        await rated(store, number, hard=dice.random() < 0.5)
    return store


async def test_a_fit_that_is_really_better_decides_from_then_on(ratings: Store, tmp_path: Path) -> None:
    """The threshold would ask for every one of these; the router lets the easy ones stay here."""
    judge = judge_of(ratings)
    row = await Refit(ratings, judge, team=TEAM, apis=["openai"]).fit()
    assert row is not None
    assert row.serving, row.reason
    assert judge.knows.router is not None
    assert judge.knows.cost_usd == {}
    api = Speaker(["From above."])
    desk = office(
        ratings, tmp_path, logprob=-0.5, apis={"openai": api}, judge=judge, local=Speaker(["Local."])
    )
    answered = await desk.desk.answer(await asked(desk, EASY.format("blue")))
    assert answered.candidate.kind == "local"
    route = answered.answer.route["judgement"]
    assert (route["by"], route["escalate"]) == ("router", False)
    assert answered.candidate.p_good == pytest.approx(route["p_local"])
    assert answered.candidate.features["length"] > 0
    desk.local.logprob = -1.6
    assert (await desk.desk.answer(await asked(desk, HARD.format("red")))).candidate.kind == "openai"


async def asked(desk: Office, words: str) -> Question:
    """A question of a later time than those that were rated."""
    for _ in range(300):
        next(desk.numbers)
    return await desk.asked(words)


async def test_another_process_takes_the_router_over(ratings: Store) -> None:
    """It is a row; what was fitted here decides there after its next look, and the same way."""
    here, there = judge_of(ratings), judge_of(ratings)
    await Refit(ratings, here, team=TEAM, apis=["openai"]).fit()
    await there.refresh()
    assert there.knows.router == here.knows.router


async def test_noise_is_kept_and_does_not_decide(store: Store) -> None:
    """The row says why."""
    dice = random.Random(1)
    for number in range(1, 121):
        await rated(store, number, hard=False)
        if dice.random() < 0.5:
            answered = await store.answer_to((await question(store, number)).id)
            assert answered is not None
            await store.rate(answered.answer.id, team=TEAM, rater=f"U{number % 9}", value=-1)
    judge = judge_of(store, cost=0.0)
    row = await Refit(store, judge, team=TEAM, apis=["openai"]).fit()
    assert row is not None
    assert not row.serving
    assert "goes on deciding" in row.reason
    assert judge.knows.router is None


async def question(store: Store, number: int) -> Question:
    known = await store.question_at(TEAM, HELP, f"{number}.000")
    assert known is not None
    return known


async def test_a_router_that_cannot_be_read_leaves_the_threshold(store: Store, tmp_path: Path) -> None:
    """A newer program wrote it."""
    await store.keep_router(TEAM, serving=True, labels=9, parameters={"version": 99}, scores={}, reason="")
    judge = judge_of(store)
    await judge.refresh()
    assert judge.knows.router is None
    desk = office(store, tmp_path, logprob=UNSURE, apis={"openai": Speaker()}, judge=judge)
    answered = await desk.desk.answer(await desk.asked())
    assert answered.answer.route["judgement"]["by"] == "threshold"
    assert answered.candidate.kind == "openai"


async def test_ratings_become_rows_with_their_propensity(ratings: Store) -> None:
    """An API answer carries what was seen of the local one beside it; a correction makes an answer a bad one."""
    answered = await ratings.answer_to((await question(ratings, 2)).id)
    assert answered is not None
    await ratings.correct(answered.answer.id, team=TEAM, author="U5", text="Better.")
    rows = {row.question_id: row for row in rated_answers(await ratings.judged(TEAM))}
    assert len(rows) == 200
    second = rows[(await question(ratings, 2)).id]
    assert (second.kind, second.label, second.propensity) == ("openai", 0.0, 0.5)
    assert second.features["length"] == 3.0
    assert second.topic == HELP


async def test_the_figures_say_what_was_saved_and_how_sure_that_is(ratings: Store) -> None:
    """Half was answered here; the other half tells what an API answer costs."""
    lines = await Figures(ratings, team=TEAM, usual_api_usd=lambda: 0.002).lines()
    assert lines[0].startswith("*Answered without an API:* 50% of 200 answers in 30 days")
    assert "95 % interval" in lines[0]
    assert "threshold" in lines[1]
    assert "local" in lines[2]
    assert "API 100% of 100" in lines[2]
    await Refit(ratings, judge_of(ratings), team=TEAM, apis=["openai"]).fit()
    lines = await Figures(ratings, team=TEAM, usual_api_usd=lambda: 0.002).lines()
    assert f"the router of {date.today():%Y}" in lines[1]


async def test_without_answers_there_are_no_figures(store: Store) -> None:
    """Nothing is made up."""
    assert await Figures(store, team=TEAM, usual_api_usd=lambda: None).lines() == []


def test_neighbours_say_how_such_questions_went() -> None:
    """Near ones weigh more than the mean of all; without ratings nothing is said."""
    rows = [
        RatedAnswer(f"q{number}", text, f"t{number}", kind, label)
        for number, (text, kind, label) in enumerate(
            [
                ("reset the printer on floor two", "local", 0.0),
                ("reset the printer on floor three", "local", 0.0),
                ("reset the printer again", "openai", 1.0),
                ("where is the canteen menu", "local", 1.0),
                ("canteen opening hours", "local", 1.0),
            ]
        )
    ]
    near = Neighbours.of(rows)
    printer, canteen = near.features("reset the printer"), near.features("canteen menu today")
    assert printer["near_local"] < 0.45 < 0.55 < canteen["near_local"]
    assert printer["near_api"] == 1.0
    assert 0 < printer["near_score"] <= 1
    assert Neighbours.of([]).features("anything") == {}
