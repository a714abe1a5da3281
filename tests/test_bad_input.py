"""What people and the world get wrong: each gets a clear word, nothing is lost, and the next thing works.

Bad files, settings and command lines are told in the tests of the terminal; here everything comes through Slack.
"""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bot_process import (
    ADMIN_CHANNEL,
    ANSWER_S,
    HELP,
    Json,
    Team,
    ask,
    bot_in_here,
    eventually,
    id_of,
    is_from_bot,
    rate,
    replies,
    reports,
    said_to,
    until,
    who_answered,
    words_of,
    write_faq,
)
from provider_standins import GeminiServer, OpenAIServer, StandIn, served

from bot.app import Bot
from bot.desk import NOBODY
from bot.settings import Policy
from bot.slack import blocks, text
from storage.records import RunState, now
from training import rundir
from training.formats.reading import read_faq

MB = 1024 * 1024
TAKEN_BUT_NOT_CONFIRMED: tuple[Json, ...] = (
    {"status": 500, "after_work": True},
    {"status": 0, "after_work": True},
)

NO_WINDOW: tuple[Json, ...] = ({"error": "expired_trigger_id"}, {"status": 0})


@pytest.fixture
def without_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small deployment that never installed the local extra."""
    monkeypatch.setattr("bot.lineup.has_local_extra", lambda: False)


@pytest.fixture
async def openai() -> AsyncIterator[StandIn]:
    """A vendor that repeats what it was asked."""
    stand_in = StandIn(models={"gpt-6-luna": None})
    async with served(stand_in, OpenAIServer(stand_in).routes()) as running:
        yield running


@pytest.fixture
async def google() -> AsyncIterator[StandIn]:
    """Another vendor."""
    stand_in = StandIn(
        keys={"AIza-right"},
        models={"gemini-3.5-flash-lite": None},
        says=lambda question: f"Gemini heard: {question}",
    )
    async with served(stand_in, GeminiServer(stand_in).routes()) as running:
        yield running


@asynccontextmanager
async def small_bot(data_dir: Path, openai: StandIn, **chosen: Any) -> AsyncIterator[tuple[Bot, Team]]:
    """A bot that asks the first vendor."""
    vendor = {"openai_api_key": "sk-right", "openai_base_url": f"{openai.url}/v1"}
    settings = {"answer_policy": Policy.API_FIRST, **vendor, **chosen}
    async with bot_in_here(data_dir, **settings) as running:
        yield running


# --- Questions ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_local")
async def test_a_question_without_words_or_with_too_many_gets_a_kind_sentence(
    tmp_path: Path, openai: StandIn
) -> None:
    """A bare mention, a mention and a space, 120 kB: one sentence each, no model is asked, and the question is kept."""
    long = "語" * 39_900
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        assert "I am listening" in await said_to(team.cleo, "@apprentice")
        assert "I am listening" in await said_to(team.cleo, "  @apprentice   ")
        refused = await said_to(team.cleo, f"@apprentice {long}")
        assert "39,900 characters; I read up to 8,000" in refused
        assert len(refused) < 300
        assert openai.requests == []
        kept = await bot.workshop.store.held_words(bot.workshop.team, "U0CLEO")
        assert max(len(row["text"]) for row in kept["questions"]) == 39_900
        assert words_of(await ask(team.cleo, "And now?")) == "You asked: And now?"


@pytest.mark.usefixtures("without_local")
async def test_an_answer_too_long_for_one_message_arrives_whole(tmp_path: Path, openai: StandIn) -> None:
    """13,000 characters after a short first line: they come in several messages, and are kept as one answer."""
    whole = "Yes:\n" + "word " * 2_600
    openai.says = lambda _question: whole
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        answer = await ask(team.cleo, "Tell me everything.")
        parts = await replies(team.cleo, answer["thread_ts"])
        assert len(parts) > 1
        assert " ".join(words_of(part) for part in parts).split() == whole.split()
        kept = await bot.workshop.store.answered(id_of(answer))
        assert kept is not None
        assert kept.candidate.text == whole.strip()


# --- Ratings and corrections -------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_local")
async def test_an_empty_correction_says_so_in_the_window_and_the_vote_counts(
    tmp_path: Path, openai: StandIn
) -> None:
    """Spaces are no better answer; the window stays open with a word at the field."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        answer = await ask(team.cleo, "Do you sell nails?")
        await rate(team.cleo, answer, -1)
        view = await team.cleo.wait_for_view(lambda each: each["callback_id"] == blocks.CORRECTION_VIEW)
        refused = await team.cleo.submit(view["id"], {blocks.BETTER: "   "})
        assert refused == {"errors": {blocks.BETTER: text.CORRECTION_EMPTY}}
        assert [each["id"] for each in await team.cleo.views()] == [view["id"]]
        await eventually(partial(said, bot, (0, 1)), what="the vote is kept")
        assert (await bot.workshop.store.tally(bot.workshop.team)).corrections == 0


@pytest.mark.usefixtures("without_local")
async def test_a_vote_for_an_answer_whose_question_was_deleted_is_told_so(
    tmp_path: Path, openai: StandIn
) -> None:
    """Deleting a question deletes what came of it; a thumb on what is left in the thread counts nowhere."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        store, tenant = bot.workshop.store, bot.workshop.team
        for value in (+1, -1):
            answer = await ask(team.cleo, "Is this a secret?")
            await team.cleo.delete(HELP, answer["thread_ts"])
            await eventually(partial(unknown, bot, answer["thread_ts"]), what="the question is deleted")
            await rate(team.dan, answer, value)
            await team.dan.wait_for_ephemeral(HELP, partial(says_gone, answer["thread_ts"]))
        assert (await store.tally(tenant)).thumbs_up == 0
        (window,) = await team.dan.views()
        assert text.GONE in str(window["blocks"])


@pytest.mark.usefixtures("without_local")
async def test_people_who_press_at_once_have_one_vote_each(tmp_path: Path, openai: StandIn) -> None:
    """Cleo and Dan press both thumbs many times at the same moment: two votes, none lost, none double."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        answer = await ask(team.cleo, "Do you sell nails?")
        presses = [rate(person, answer, +1) for person in (team.cleo, team.dan) for _ in range(5)]
        await asyncio.gather(*presses)
        await rate(team.dan, answer, -1)
        assert await eventually(
            partial(said, bot, (1, 1)), what="Cleo has one vote for it and Dan one against it"
        )


@pytest.mark.usefixtures("without_local")
async def test_a_press_that_was_overtaken_does_not_win(tmp_path: Path, openai: StandIn) -> None:
    """Thumbs up, then down; the first one reaches the database last, and the vote stays down."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        store, tenant = bot.workshop.store, bot.workshop.team
        answer = await ask(team.cleo, "Do you sell nails?")
        up, down = now(), now() + timedelta(milliseconds=200)
        await store.rate(id_of(answer), team=tenant, rater="U0CLEO", value=-1, at=down)
        await store.rate(id_of(answer), team=tenant, rater="U0CLEO", value=+1, at=up)
        kept = await store.rating_of(id_of(answer), rater="U0CLEO")
        assert kept is not None
        assert kept.value == -1


def says_gone(thread_ts: str, message: Json) -> bool:
    """Whether this tells, in that thread, that the answer is no longer there."""
    return bool(message["text"] == text.GONE and message["thread_ts"] == thread_ts)


async def unknown(bot: Bot, ts: str) -> bool:
    """Whether the bot holds no question of this ts."""
    return await bot.workshop.store.question_at(bot.workshop.team, HELP, ts) is None


async def said(bot: Bot, votes: tuple[int, int]) -> bool:
    """Whether these are the thumbs up and down so far."""
    tally = await bot.workshop.store.tally(bot.workshop.team)
    return (tally.thumbs_up, tally.thumbs_down) == votes


# --- Commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("/train", "harder", "I do not understand 'harder'"),
        ("/train", "epochs=many", "epochs=many does not work"),
        ("/train", "epochs=1e9", "between 0 and 200"),
        ("/train", "quantization=int3", "quantization=int3"),
        ("/train", "", "There are 0 examples to learn from so far; 30 are needed."),
        ("/train", "cancel", "No training run is going on."),
        ("/train", "schedule whenever you like", "whenever you like"),
        ("/eval", "", "There are no held-out questions yet. The first `/train` makes them."),
        ("/eval", "local-7", "There is no model called 'local-7'. There are: base."),
        ("/apprentice", "promote local-7", "There is no model called 'local-7'. There are: base."),
        ("/apprentice", "promote", "Which one?"),
        ("/apprentice", "rollback", "nothing to roll back"),
        ("/apprentice", "dance <!channel>", "I do not know `/apprentice dance`"),
    ],
)
@pytest.mark.usefixtures("without_local")
async def test_a_command_that_makes_no_sense_is_answered_with_what_would(
    tmp_path: Path, command: str, words: str, said: str
) -> None:
    """Only who typed sees it; no run and no evaluation is made, nobody is notified."""
    async with bot_in_here(tmp_path / "data") as (bot, team):
        await team.ann.command(ADMIN_CHANNEL, command, words)
        heard = await team.ann.wait_for_ephemeral(ADMIN_CHANNEL, lambda message: said in message["text"])
        assert "<!channel>" not in heard["text"]
        assert await bot.workshop.store.runs(bot.workshop.team) == []
        assert await bot.workshop.store.live_evaluations() == []
        assert not any(is_from_bot(message) for message in await team.ann.messages(ADMIN_CHANNEL))


# --- Providers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["down", "wrong key"])
@pytest.mark.usefixtures("without_local")
async def test_a_provider_that_cannot_answer_gives_way_to_the_next(
    tmp_path: Path, openai: StandIn, google: StandIn, trouble: str
) -> None:
    """Nothing listens there, or the key is refused: people get the next model's answer and no word of the trouble."""
    settings = {"gemini_api_key": "AIza-right", "gemini_base_url": google.url}
    broken = {
        "down": {"openai_base_url": f"http://127.0.0.1:{closed_port()}/v1"},
        "wrong key": {"openai_api_key": "sk-wrong"},
    }[trouble]
    async with small_bot(tmp_path / "data", openai, **settings, **broken) as (_bot, team):
        answer = await ask(team.cleo, "Who is there?")
        assert words_of(answer) == "Gemini heard: Who is there?"
        assert who_answered(answer).startswith("gemini-3.5-flash-lite")
        assert len(await replies(team.cleo, answer["thread_ts"])) == 1


@pytest.mark.usefixtures("without_local")
async def test_where_nobody_can_answer_one_kind_sentence_says_so(tmp_path: Path, openai: StandIn) -> None:
    """No stack trace and no key; and when the provider takes the key again, the next question is answered."""
    openai.keys = {"sk-changed"}
    async with small_bot(tmp_path / "data", openai) as (_bot, team):
        ts = await team.cleo.post(HELP, "@apprentice Who is there?")
        said = await team.cleo.wait_for_message(HELP, is_from_bot, thread_ts=ts, timeout_s=ANSWER_S)
        assert said["text"] == NOBODY
        openai.keys = {"sk-right"}
        assert words_of(await ask(team.cleo, "And now?")) == "You asked: And now?"
        assert len(await replies(team.cleo, ts)) == 1


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# --- Slack -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", TAKEN_BUT_NOT_CONFIRMED, ids=["error 500", "cut off"])
@pytest.mark.usefixtures("without_local")
async def test_an_answer_that_slack_took_and_did_not_confirm_stands_once(
    tmp_path: Path, openai: StandIn, trouble: Json
) -> None:
    """The post was done and its confirmation lost: the bot finds its message again and does not post another."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        await team.fault(method="chat.postMessage", times=1, **trouble)
        answer = await ask(team.cleo, "Did you hear me?")
        await eventually(partial(posted, bot, id_of(answer)), what="the bot knows its answer")
        assert len(await replies(team.cleo, answer["thread_ts"])) == 1


@pytest.mark.usefixtures("without_local")
async def test_a_sentence_that_slack_took_and_did_not_confirm_stands_once(
    tmp_path: Path, openai: StandIn
) -> None:
    """So does a sentence in place of an answer."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        await team.fault(method="chat.postMessage", **TAKEN_BUT_NOT_CONFIRMED[0])
        ts = await team.cleo.post(HELP, "@apprentice")
        await team.cleo.wait_for_message(HELP, is_from_bot, thread_ts=ts)
        await eventually(partial(nothing_waits, bot), what="the question is done with")
        assert len(await replies(team.cleo, ts)) == 1


@pytest.mark.usefixtures("without_local")
async def test_slack_out_of_order_for_a_moment_delays_an_answer_by_seconds(
    tmp_path: Path, openai: StandIn
) -> None:
    """A post that Slack did not take is made again soon, and the model is not asked twice."""
    async with small_bot(tmp_path / "data", openai) as (_bot, team):
        await team.fault(method="chat.postMessage", status=500, times=2)
        answer = await ask(team.cleo, "Did you hear me?", timeout_s=30)
        assert words_of(answer) == "You asked: Did you hear me?"
        assert len(openai.requests) == 1


@pytest.mark.usefixtures("without_local")
async def test_a_vote_counts_where_the_window_does_not_open(tmp_path: Path, openai: StandIn) -> None:
    """Slack refuses the window, or is not reached with it: the thumb is kept all the same."""
    async with small_bot(tmp_path / "data", openai) as (bot, team):
        for number, trouble in enumerate(NO_WINDOW):
            answer = await ask(team.cleo, f"Question {number}?")
            await team.fault(method="views.open", times=5, **trouble)
            await rate(team.cleo, answer, -1)
            assert await eventually(partial(said, bot, (0, number + 1)), what="the vote is kept")
            await team.all_well()


async def posted(bot: Bot, answer_id: str) -> bool:
    """Whether the bot has written down where the answer stands."""
    kept = await bot.workshop.store.answered(answer_id)
    return kept is not None and kept.answer.posted_ts is not None


async def nothing_waits(bot: Bot) -> bool:
    """Whether no question is owed an answer."""
    return (await bot.workshop.store.tally(bot.workshop.team)).waiting == 0


# --- The disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose training runs lie on a disk of their own, of 64 MB. Only root may mount one."""
    runs = tmp_path / "data" / "runs"
    runs.mkdir(parents=True)
    options = ("-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(runs))
    mounting = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounting.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounting.stderr.strip()}")
    try:
        yield runs
    finally:
        subprocess.run(["umount", "--lazy", str(runs)], check=True)


@pytest.mark.training
@pytest.mark.usefixtures("without_local")
async def test_a_disk_that_fills_up_during_training_fails_the_run_and_keeps_the_checkpoint(
    tmp_path: Path, small_disk: Path
) -> None:
    """The report says that the disk is full and what to do; the last whole checkpoint stays; the next /train is taken."""
    faq = read_faq(write_faq(tmp_path / "tools.jsonl"))
    async with bot_in_here(tmp_path / "data", train_epochs=60.0) as (bot, team):
        await bot.workshop.store.add_entries(bot.workshop.team, faq.entries)
        await team.ann.command(ADMIN_CHANNEL, "/train")
        saved = await until(lambda: saved_in(small_disk), timeout_s=90, what="a checkpoint is saved")
        leave_room(small_disk, MB)
        report = await team.ann.wait_for_message(
            ADMIN_CHANNEL, lambda message: "The run failed." in str(message.get("blocks")), timeout_s=60
        )
        assert "The disk is full" in str(report["blocks"])
        assert "is kept" in str(report["blocks"])
        assert "Free some space" in str(report["blocks"])
        assert len(await reports(team.ann, 1)) == 1
        (run,) = await bot.workshop.store.runs(bot.workshop.team)
        assert run.state in {RunState.REPORTING, RunState.FAILED}
        assert saved is not None
        kept = list((saved / rundir.CHECKPOINTS).glob("checkpoint-*/trainer_state.json"))
        assert len(kept) >= 1
        assert await bot.workshop.store.models(bot.workshop.team) == []
        await eventually(partial(over, bot), what="the run is over")
        resize(small_disk, 64 * MB)
        await team.ann.command(ADMIN_CHANNEL, "/train", "epochs=1")
        await team.ann.wait_for_ephemeral(
            ADMIN_CHANNEL, lambda message: "Training run #2 starts" in message["text"]
        )


def saved_in(runs: Path) -> Path | None:
    """The run's directory, once its trainer has saved a checkpoint."""
    for run in runs.iterdir():
        if any(line["event"] == "saved" for line in rundir.read_progress(run)):
            return run
    return None


def leave_room(disk: Path, left: int) -> None:
    """Make the disk smaller, so that only this many bytes are free."""
    here = os.statvfs(disk)
    used = (here.f_blocks - here.f_bfree) * here.f_frsize
    resize(disk, used + left)


def resize(disk: Path, size: int) -> None:
    """Bytes that the disk holds from now on."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


async def over(bot: Bot) -> bool:
    """Whether no run is going on."""
    return not await bot.workshop.store.live_runs()
