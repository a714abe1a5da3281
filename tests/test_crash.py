"""kill -9 of the bot at every stage of its work, while "Slack" lives on: nothing is lost, nothing is done twice.

A stage is hit by looking at what is there (rows, files, messages); one too short to be hit is held open from outside, by a
call of Slack's that does not come back, by a stopped child, or by a database that refuses one step.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from bot_process import (
    ADMIN_CHANNEL,
    ANSWER_S,
    HELP,
    BotLives,
    Json,
    Process,
    Team,
    ask,
    bot_in_here,
    eventually,
    is_answer,
    lives,
    lives_of_a_bot,
    ps,
    rate,
    replies,
    reports,
    trainers,
    until,
    worked,
    write_faq,
)

from bot.app import Bot
from storage.records import QuestionState
from training.evaluating import BASE, CHALLENGER, MEMORY

pytestmark = pytest.mark.training

HANGS = {"status": 500, "hang_s": 120.0, "times": 99}
DONE_BUT_NOT_SAID = {"status": 500, "after_work": True, "times": 1}
NO_STREAMS = {"method": "chat.startStream", "error": "channel_type_not_supported", "times": 99}
LET_ONE_PASS = {"hang_s": 0.0, "times": 1}
OPENINGS = ("", "Hello, ", "Please: ", "Hm. ", "Hi! ", "Tell me: ", "Excuse me, ", "Quick one: ")
HELD_OUT = 8 * len(OPENINGS)


# --- Questions ---------------------------------------------------------------------------------------------


async def test_every_question_is_answered_once_however_often_the_bot_is_killed(tmp_path: Path) -> None:
    """Killed before and after a question is recorded, while it is answered, before and after its answer is posted."""
    async with lives_of_a_bot(tmp_path) as (bot, team):
        await bot.start()
        liked = await ask(team.cleo, "Do you sell nails?")
        await rate(team.cleo, liked, +1)
        await team.cleo.wait_for_ephemeral(HELP, lambda message: "Thank you" in message["text"])
        asked = [liked["thread_ts"]]
        for killed in (
            killed_while_the_model_answers,
            killed_with_an_answer_that_is_not_posted,
            killed_before_it_wrote_down_what_it_posted_and_what_it_was_asked,
        ):
            asked += await killed(bot, team)
            await bot.start()
            for ts in asked:
                await team.cleo.wait_for_message(HELP, is_answer, thread_ts=ts, timeout_s=ANSWER_S)
        await nothing_is_owed(bot, len(asked))
        assert [len(await replies(team.cleo, ts)) for ts in asked] == [1] * len(asked)
        assert bot.rows("SELECT rater, value FROM rating") == [("U0CLEO", 1)]


async def killed_while_the_model_answers(bot: BotLives, team: Team) -> list[str]:
    """The local model is at it; it is left behind, and ends by itself."""
    worker = await bot.local_worker()
    worker.suspend()
    ts = await team.cleo.post(HELP, "@apprentice What does a drill cost?")
    await stands(bot, ts, "answering")
    await bot.kill()
    worker.resume()
    await bot.alone()
    return [ts]


async def killed_with_an_answer_that_is_not_posted(bot: BotLives, team: Team) -> list[str]:
    """The answer is in the database, and Slack has not heard of it."""
    await team.fault(**NO_STREAMS)
    await team.fault(method="chat.postMessage", **HANGS)
    ts = await team.cleo.post(HELP, "@apprentice Where do I pay?")
    await until(lambda: bot.rows(UNPOSTED, ts), timeout_s=ANSWER_S, what="the answer is stored")
    await bot.kill()
    await team.all_well()
    assert await replies(team.cleo, ts) == []
    return [ts]


async def killed_before_it_wrote_down_what_it_posted_and_what_it_was_asked(
    bot: BotLives, team: Team
) -> list[str]:
    """Slack shows an answer that the database believes unposted; a question is recorded and not begun; one not even that."""
    await team.fault(**NO_STREAMS)
    await team.fault(method="chat.postMessage", **DONE_BUT_NOT_SAID)
    await team.fault(method="conversations.replies", **HANGS)
    posted = await team.cleo.post(HELP, "@apprentice How do I clean a tool?")
    await team.cleo.wait_for_message(HELP, is_answer, thread_ts=posted, timeout_s=ANSWER_S)
    with bot.no_change_of("question"):
        recorded = await team.cleo.post(HELP, "@apprentice Which card do I need?")
        await stands(bot, recorded, "asked")
        assert bot.life is not None
        assert bot.life.process is not None
        ps.Process(bot.life.process.pid).suspend()
        unheard = await team.cleo.post(HELP, "@apprentice May I book a saw?")
        await bot.kill()
        assert bot.rows(UNPOSTED, posted), "the bot wrote down that it posted"
        assert bot.rows("SELECT state FROM question WHERE ts = ?", unheard) == []
    await team.all_well()
    return [posted, recorded, unheard]


async def test_a_killed_local_model_is_started_again_for_the_question(tmp_path: Path) -> None:
    """Who asked gets the answer, once; the next question is answered; the bot goes on."""
    async with bot_in_here(tmp_path / "data") as (bot, team):
        await ask(team.cleo, "Do you sell nails?")
        worker = next(each for each in ps.Process().children(recursive=True) if is_worker(each))
        worker.suspend()
        ts = await team.cleo.post(HELP, "@apprentice What does a drill cost?")
        await team.cleo.wait_for_message(HELP, lambda each: each["ts"] == ts, thread_ts=ts)
        await eventually(partial(is_being_answered, bot, ts), what="the model is asked")
        worker.kill()
        await team.cleo.wait_for_message(HELP, is_answer, thread_ts=ts, timeout_s=ANSWER_S)
        await ask(team.cleo, "What does a drill cost?")
        assert len(await replies(team.cleo, ts)) == 1


UNPOSTED = """SELECT answer.id FROM answer JOIN question ON question.id = answer.question_id
              WHERE question.ts = ? AND answer.posted_ts IS NULL"""


async def stands(bot: BotLives, ts: str, state: str) -> None:
    """The question is recorded and in this state."""
    await until(
        lambda: bot.rows("SELECT state FROM question WHERE ts = ?", ts) == [(state,)],
        timeout_s=ANSWER_S,
        what=f"the question is {state}",
    )


async def nothing_is_owed(bot: BotLives, answered: int) -> None:
    """Every question is answered, with one answer each."""
    states = "SELECT state, count(*) FROM question GROUP BY state"
    await until(lambda: bot.rows(states) == [("answered", answered)], timeout_s=20, what="nothing is owed")
    assert bot.rows("SELECT count(*), count(DISTINCT question_id) FROM answer") == [(answered, answered)]


async def is_being_answered(bot: Bot, ts: str) -> bool:
    """Whether somebody has claimed the question."""
    question = await bot.workshop.store.question_at(bot.workshop.team, HELP, ts)
    return question is not None and question.state is QuestionState.ANSWERING


def is_worker(process: Process) -> bool:
    return "bot.models.local_worker" in process.cmdline()


# --- A training run ----------------------------------------------------------------------------------------


@pytest.mark.timeout(1200)
async def test_a_run_is_carried_out_once_however_often_the_bot_is_killed(tmp_path: Path) -> None:
    """Killed while freezing, training (the trainer living, and dead), evaluating and reporting: one run, one report."""
    async with lives_of_a_bot(tmp_path, TRAIN_EPOCHS="30") as (bot, team):
        await bot.imported(write_faq(tmp_path / "tools.jsonl", openings=OPENINGS))
        stages: list[Callable[[BotLives, Team], Awaitable[None]]] = [
            killed_while_freezing,
            killed_while_training_before_it_wrote_down_where_the_report_is,
            killed_together_with_the_trainer,
            killed_while_evaluating,
            killed_while_reporting,
        ]
        for killed in stages:
            await killed(bot, team)
            await team.all_well()
        await bot.start()
        report = await team.ann.wait_for_message(ADMIN_CHANNEL, has_buttons, timeout_s=60)
        await until(lambda: state(bot) == "done", timeout_s=20, what="the run is done")
        assert [each["ts"] for each in await reports(team.ann, 1)] == [report["ts"]]
        assert str(report["blocks"]).count("'status': 'complete'") == 5
        everything_happened_once(bot)
        await bot.kill()
        await bot.alone()
        assert trainers(bot.data_dir) == []


async def killed_while_freezing(bot: BotLives, team: Team) -> None:
    """Requested, taken up, and nothing frozen yet."""
    await bot.start()
    await team.fault(method="chat.postMessage", **HANGS)
    await team.ann.command(ADMIN_CHANNEL, "/train")
    await until(lambda: state(bot) == "freezing", timeout_s=30, what="the run is freezing")
    await bot.kill()
    assert bot.rows("SELECT count(*) FROM dataset_version") == [(0,)]
    assert await reports(team.ann, 1) == []


async def killed_while_training_before_it_wrote_down_where_the_report_is(bot: BotLives, team: Team) -> None:
    """The trainer lives on. The report is in the channel, and the database does not know it."""
    await team.fault(method="conversations.history", **LET_ONE_PASS)
    await team.fault(method="conversations.history", **HANGS)
    await team.fault(**NO_STREAMS)
    await team.fault(method="chat.postMessage", **DONE_BUT_NOT_SAID)
    await bot.start()
    await worked(bot.data_dir, lambda: told(bot, "saved"), what="the trainer saved a checkpoint")
    trainer = the_trainer(bot)
    trainer.suspend()
    await bot.kill()
    assert len(await reports(team.ann, 1)) == 1
    assert bot.rows("SELECT state, report_ts FROM training_run") == [("training", "")]
    assert lives(trainer)


async def killed_together_with_the_trainer(bot: BotLives, team: Team) -> None:
    """The next bot goes on with the trainer of the one before; then both are killed."""
    before = the_trainer(bot)
    await bot.start()
    known = step(bot)
    before.resume()
    await worked(bot.data_dir, lambda: step(bot) > known, what="the bot sees the trainer's progress")
    assert the_trainer(bot).pid == before.pid
    await until(
        lambda: bot.rows("SELECT report_ts FROM training_run") != [("",)],
        timeout_s=20,
        what="the report is found again",
    )
    before.suspend()
    await bot.kill()
    before.kill()
    await until(lambda: not lives(before), timeout_s=10, what="the trainer is dead")
    assert state(bot) == "training"
    assert not told(bot, "finished")


async def killed_while_evaluating(bot: BotLives, _team: Team) -> None:
    """The training goes on from its checkpoint; some of the held-out questions are answered when the bot dies."""
    saved = told(bot, "saved")[-1]["step"]
    await bot.start()
    await worked(bot.data_dir, lambda: told(bot, "finished"), what="the trainer is done")
    await until(lambda: answers(bot), timeout_s=240, what="the first held-out question is answered")
    await bot.kill()
    assert state(bot) == "evaluating"
    assert 0 < len(answers(bot)) < 3 * HELD_OUT
    second_life = bot.steps()[[line["event"] for line in bot.steps()].index("started", 1) :]
    assert min(line["step"] for line in second_life if line["event"] == "step") > saved


async def killed_while_reporting(bot: BotLives, team: Team) -> None:
    """The verdict is known, and Slack takes no edit of the report."""
    await team.fault(method="chat.update", status=500, times=999)
    await bot.start()
    await until(lambda: state(bot) == "reporting", timeout_s=240, what="the run is reporting")
    await bot.kill()


def everything_happened_once(bot: BotLives) -> None:
    """One run, one dataset, two launches of its trainer, one model, one evaluation, one answer to each question in it."""
    assert bot.rows("SELECT count(*) FROM training_run") == [(1,)]
    assert bot.rows("SELECT count(*) FROM dataset_version") == [(1,)]
    assert bot.rows("SELECT name FROM model_version") == [("local-1",)]
    assert bot.rows("SELECT count(*) FROM evaluation") == [(1,)]
    ((outcome, launches),) = bot.rows("SELECT outcome, launches FROM training_run")
    assert outcome in {"promote", "keep", "not enough evidence"}
    assert launches == 2
    assert len(told(bot, "started")) == 2
    assert len(told(bot, "finished")) == 1
    given = Counter((line["arm"], line["example"]) for line in answers(bot))
    assert set(given.values()) == {1}
    assert Counter(arm for arm, _ in given) == {BASE: HELD_OUT, CHALLENGER: HELD_OUT, MEMORY: HELD_OUT}


def state(bot: BotLives) -> str:
    """Where the run stands; "" while there is none."""
    found = bot.rows("SELECT state FROM training_run")
    return str(found[0][0]) if found else ""


def step(bot: BotLives) -> int:
    """The step that the database knows of."""
    ((progress,),) = bot.rows("SELECT progress FROM training_run")
    told = (
        json.loads(progress) if isinstance(progress, str) else progress
    )  # PostgreSQL's driver reads JSON by itself
    return int(told.get("step", 0))


def told(bot: BotLives, event: str) -> list[Json]:
    """What the trainer has told of one kind."""
    return [line for line in bot.steps() if line["event"] == event]


def the_trainer(bot: BotLives) -> Process:
    """The one trainer there is."""
    (trainer,) = trainers(bot.data_dir)
    return trainer


def answers(bot: BotLives) -> list[Json]:
    """What the models said to held-out questions so far, whole lines only."""
    files = sorted(
        each for each in (bot.data_dir / "evaluations").glob("*.jsonl") if each.suffixes == [".jsonl"]
    )
    lines = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def has_buttons(message: Json) -> bool:
    return any(block["type"] == "actions" for block in message.get("blocks", []))
