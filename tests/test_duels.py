"""Duels: two answers shown blind, picks that nobody sees, the end told in the same message, whatever happens on the way."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bot_process import (
    CLEOS_DM,
    HELP,
    Json,
    Team,
    bot_in_here,
    eventually,
    is_answer,
    replies,
    words_of,
)
from people_rig import texts_in
from provider_standins import GeminiServer, OpenAIServer, StandIn, served
from sqlalchemy import text as sql
from tiny_models import make_adapter

from bot import draws
from bot.app import Bot
from bot.dueling import outcome
from bot.settings import STARTER, Policy
from bot.slack import duel_blocks
from storage.duels import DuelShown
from storage.entries import NewEntry
from storage.records import ModelVersion, Question, QuestionState, now

LUNA, FLASH = "gpt-6-luna", "gemini-3.5-flash-lite"
ONE, OTHER = "It opens at nine.", "From nine o'clock on.\n\n- also on Saturdays"
A, B, TIE, BOTH_BAD = duel_blocks.PICK_ACTIONS


def tells_who(message: Any) -> list[str]:
    """What of a message gives away who wrote an answer."""
    return [word for word in (LUNA, FLASH, "openai", "gemini", "memory", "verified") if word in str(message)]


@dataclass
class Arena:
    """A bot with two API models and no local one."""

    bot: Bot
    team: Team
    luna: StandIn
    flash: StandIn

    async def command(self, question: str, channel: str = HELP) -> Json:
        """Cleo asks for a duel; the message with the buttons."""
        await self.team.cleo.command(channel, "/apprentice", f"duel {question}")
        root = await self.root(question, channel)
        return await self.team.cleo.wait_for_message(channel, has_buttons, thread_ts=root["ts"], timeout_s=30)

    async def root(self, question: str, channel: str = HELP) -> Json:
        """The message that shows what was asked by the command."""
        return await self.team.cleo.wait_for_message(
            channel, lambda each: f"asks for two answers: {question}" in each["text"], timeout_s=30
        )

    async def mention(self, question: str, *, expected: Any, channel: str = HELP) -> Json:
        """Cleo asks as always; the message that is `expected`."""
        ts = await self.team.cleo.post(channel, f"@apprentice {question}")
        return await self.team.cleo.wait_for_message(channel, expected, thread_ts=ts, timeout_s=30)

    async def pick(self, who: Any, message: Json, action_id: str, channel: str = HELP) -> None:
        await who.click(channel, message["ts"], action_id)

    async def closed(self, message: Json, channel: str = HELP) -> Json:
        """The same message, told."""
        return await self.team.cleo.wait_for_message(
            channel,
            lambda each: each["ts"] == message["ts"] and "The duel is closed" in each["text"],
            thread_ts=message["thread_ts"],
            timeout_s=30,
        )

    async def duel(self) -> DuelShown:
        """The one duel there is."""
        async with self.bot.workshop.store.database.reading() as session:
            (row,) = (await (await session.connection()).execute(sql("SELECT id FROM duel"))).all()
        shown = await self.bot.workshop.store.duel(row[0])
        assert shown is not None
        return shown

    async def change(self, statement: str, **values: object) -> None:
        """Change the database behind the bot's back."""
        async with self.bot.workshop.store.database.writing() as session:
            await (await session.connection()).execute(sql(statement), values)

    async def heard(self, who: Any, words: str, channel: str = HELP) -> Json:
        """What one person alone was told."""
        found: Json = await who.wait_for_ephemeral(channel, lambda each: words in each["text"], timeout_s=30)
        return found


@asynccontextmanager
async def arena_at(folder: Path, patch: pytest.MonkeyPatch, **chosen: Any) -> AsyncIterator[Arena]:
    patch.setattr("bot.lineup.has_local_extra", lambda: False)
    luna = StandIn(models={LUNA: None}, says=lambda _question: ONE)
    flash = StandIn(keys={"AIza-right"}, models={FLASH: None}, says=lambda _question: OTHER)
    async with (
        served(luna, OpenAIServer(luna).routes()),
        served(flash, GeminiServer(flash).routes()),
        bot_in_here(
            folder / "data",
            **{
                "answer_policy": Policy.API_FIRST,
                "openai_api_key": "sk-right",
                "openai_base_url": f"{luna.url}/v1",
                "openai_model": LUNA,
                "gemini_api_key": "AIza-right",
                "gemini_base_url": flash.url,
                "gemini_model": FLASH,
                **chosen,
            },
        ) as (bot, team),
    ):
        yield Arena(bot, team, luna, flash)


@pytest.fixture
async def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Arena]:
    """A bot with two API models."""
    async with arena_at(tmp_path, monkeypatch) as opened:
        yield opened


def has_buttons(message: Json) -> bool:
    return any(
        element.get("action_id") == A
        for block in message.get("blocks", [])
        if block["type"] == "actions"
        for element in block["elements"]
    )


async def under(person: Any, root: str) -> list[Json]:
    """What the bot has said in a thread, without the message it hangs on."""
    return [each for each in await replies(person, root) if each["ts"] != root]


def answers_in(message: Json) -> list[str]:
    return [block["text"] for block in message["blocks"] if block["type"] == "markdown"]


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_duel_from_the_command_to_the_reveal(
    arena: Arena, monkeypatch: pytest.MonkeyPatch, swapped: bool
) -> None:
    """Blind and unmoved by picks, in either order; the third pick closes it, and the winner is the answer."""
    monkeypatch.setattr(draws, "share", lambda *_names: 0.1 if swapped else 0.9)
    message = await arena.command("When do you open?")
    assert tells_who(message) == []
    assert re.search(r"\d\.\d s", str(message["blocks"])) is None
    assert answers_in(message) == ([OTHER, ONE] if swapped else [ONE, OTHER])

    team = arena.team
    await arena.pick(team.cleo, message, TIE)
    await arena.heard(team.cleo, "you picked: it is a tie")
    await arena.pick(team.cleo, message, A)
    await arena.heard(team.cleo, "you picked: A is better. You can change it")
    await arena.pick(team.dan, message, BOTH_BAD)
    await arena.heard(team.dan, "you picked: both are bad")
    (still,) = await under(team.cleo, message["thread_ts"])
    assert still["blocks"] == message["blocks"]
    assert not [each for each in await team.dan.messages(HELP) if "A is better" in each["text"]]

    await arena.pick(team.ben, message, A)
    told = texts_in((await arena.closed(message))["blocks"])
    first, second = (FLASH, LUNA) if swapped else (LUNA, FLASH)
    assert "A won. (A is better: 2, Both bad: 1)" in told
    assert re.search(rf"\*A\* was {re.escape(first)} · \d+\.\d s", told)
    assert re.search(rf"\*B\* was {re.escape(second)} · \d+\.\d s", told)
    shown = await arena.duel()
    assert (shown.duel.origin, shown.duel.swapped, shown.duel.outcome) == ("asked", swapped, "a")
    answered = await arena.bot.workshop.store.answer_to(shown.question.id)
    assert answered is not None
    assert (answered.candidate.model, answered.answer.posted_ts) == (first, message["ts"])
    tally = await arena.bot.workshop.store.duel_tally(arena.bot.workshop.team)
    assert tally.wins == {first: 1}


async def test_long_answers_stand_in_messages_of_their_own(arena: Arena) -> None:
    """Answer A, Answer B, and the question which one is better; the end is told in the last."""
    arena.luna.says = lambda _question: "word " * 1_500
    arena.flash.says = lambda _question: "term " * 1_500
    message = await arena.command("Tell me everything")
    posted = await under(arena.team.cleo, message["thread_ts"])
    assert [each["text"] for each in posted] == ["Answer A", "Answer B", duel_blocks.WHICH]
    assert tells_who([each["blocks"] for each in posted]) == []
    for person in (arena.team.ann, arena.team.ben, arena.team.cleo):
        await arena.pick(person, message, B)
    assert "B won" in (await arena.closed(message))["text"]
    assert len(await under(arena.team.cleo, message["thread_ts"])) == 3


async def test_in_a_direct_message_the_askers_pick_closes_it(arena: Arena) -> None:
    """There is nobody else to wait for."""
    message = await arena.command("When do you open?", CLEOS_DM)
    await arena.pick(arena.team.cleo, message, BOTH_BAD, CLEOS_DM)
    told = await arena.closed(message, CLEOS_DM)
    assert "Both were found bad. (Both bad: 1)" in told["text"]


async def test_a_duel_closes_when_its_time_is_up(arena: Arena) -> None:
    """With the picks there are."""
    message = await arena.command("When do you open?")
    await arena.pick(arena.team.dan, message, B)
    await arena.heard(arena.team.dan, "you picked: B is better")
    await arena.change("UPDATE duel SET closes_at = :past", past=stored(now() - timedelta(minutes=1)))
    assert "B won. (B is better: 1)" in (await arena.closed(message))["text"]
    shown = await arena.duel()
    assert not await arena.bot.workshop.store.pick(shown.duel.id, picker="U0ANN", pick="a")


async def test_a_duel_closed_by_a_bot_that_died_is_told_by_the_next(arena: Arena) -> None:
    """Closing and telling are two steps; Slack's trouble with the second ends too."""
    message = await arena.command("When do you open?")
    await arena.team.fault(method="chat.update", status=500, times=4)
    shown = await arena.duel()
    await arena.bot.workshop.store.pick(shown.duel.id, picker="U0DAN", pick="tie")
    assert await arena.bot.workshop.store.close_duel(shown.duel.id, outcome)
    assert "It is a tie." in (await arena.closed(message))["text"]

    async def told() -> bool:
        return (await arena.duel()).duel.revealed

    await eventually(told, what="the duel is written down as told")


async def test_a_duel_whose_message_is_gone_is_over(arena: Arena) -> None:
    """Nobody can be told, so nobody tries for ever."""
    await arena.command("When do you open?")
    await arena.team.fault(method="chat.update", error="message_not_found")
    shown = await arena.duel()
    assert await arena.bot.workshop.store.close_duel(shown.duel.id, outcome)

    async def over() -> bool:
        return (await arena.duel()).duel.revealed

    await eventually(over, what="the duel is over")
    await arena.team.all_well()
    assert len(await arena.team.calls("chat.update")) == 1


async def test_answers_that_are_alike_are_one_answer(arena: Arena) -> None:
    """There is nothing to compare; the asker is told why, and gets the answer with its thumbs."""
    arena.flash.says = lambda _question: ONE.upper()
    await arena.team.cleo.command(HELP, "/apprentice", "duel When do you open?")
    root = await arena.root("When do you open?")
    answer = await arena.team.cleo.wait_for_message(HELP, is_answer, thread_ts=root["ts"], timeout_s=30)
    assert words_of(answer) == ONE
    await arena.heard(arena.team.cleo, "Both models gave the same answer")
    assert len(arena.luna.requests) == len(arena.flash.requests) == 1
    assert len(await under(arena.team.cleo, root["ts"])) == 1


async def test_the_one_who_can_answer_answers(arena: Arena) -> None:
    """A model that is down makes a duel a plain answer."""
    arena.luna.keys = {"another"}
    await arena.team.cleo.command(HELP, "/apprentice", "duel When do you open?")
    root = await arena.root("When do you open?")
    answer = await arena.team.cleo.wait_for_message(HELP, is_answer, thread_ts=root["ts"], timeout_s=30)
    assert words_of(answer) == OTHER
    await arena.heard(arena.team.cleo, "Only one model could answer")


async def test_where_nobody_can_answer_the_asker_is_told(arena: Arena) -> None:
    """As without a duel."""
    arena.luna.keys = arena.flash.keys = {"another"}
    await arena.team.cleo.command(HELP, "/apprentice", "duel When do you open?")
    root = await arena.root("When do you open?")
    sentence = await arena.team.cleo.wait_for_message(
        HELP, lambda each: "No model could answer" in each["text"], thread_ts=root["ts"], timeout_s=30
    )
    assert not has_buttons(sentence)


async def test_a_duel_is_posted_once_whatever_the_bot_forgot(arena: Arena) -> None:
    """It died after posting and before writing that down: what stands is found again, and no model is asked twice."""
    message = await arena.command("When do you open?")

    async def written() -> bool:
        found = await arena.duel()
        both = found.answer.posted_ts == found.duel.posted_ts == str(message["ts"])
        return both and found.question.state is QuestionState.ANSWERED

    await eventually(written, what="the duel is written down", timeout_s=30)
    await arena.change("UPDATE duel SET posted_ts = ''")
    await arena.change("UPDATE answer SET posted_ts = NULL, posted_at = NULL")
    await arena.change("DELETE FROM answer_part")
    await arena.change("UPDATE question SET state = 'asked', lease_until = NULL, attempts = 1")
    await eventually(written, what="the duel is found again", timeout_s=30)
    assert len(await under(arena.team.cleo, message["thread_ts"])) == 1
    assert len(arena.luna.requests) == len(arena.flash.requests) == 1


async def test_a_lost_confirmation_posts_no_second_duel(arena: Arena) -> None:
    """Slack took the question's message, then the duel's, and both times its answer was lost."""
    await arena.team.fault(method="chat.postMessage", status=0, after_work=True, times=2)
    await arena.team.cleo.command(HELP, "/apprentice", "duel When do you open?")
    root = await arena.root("When do you open?")
    message = await arena.team.cleo.wait_for_message(HELP, has_buttons, thread_ts=root["ts"], timeout_s=30)

    async def written() -> bool:
        return (await arena.duel()).duel.posted_ts == str(message["ts"])

    await eventually(written, what="the duel is written down", timeout_s=30)
    assert len(await under(arena.team.cleo, root["ts"])) == 1


async def test_a_sampled_question_is_a_duel_with_its_probability(arena: Arena) -> None:
    """Where an admin wants all of them; the question, its thread and its asker are as always."""
    store, workspace = arena.bot.workshop.store, arena.bot.workshop.team
    await store.set_channel(workspace, HELP, by="U0ANN", duel_rate=1.0)
    message = await arena.mention("When do you open?", expected=has_buttons)
    shown = await arena.duel()
    assert (shown.duel.origin, shown.duel.probability) == ("sampled", 1.0)
    assert message["thread_ts"] == shown.question.ts
    await store.set_channel(workspace, HELP, by="U0ANN", duel_rate=0.0)
    plain = await arena.mention("And on Sundays?", expected=is_answer)
    assert words_of(plain) == ONE


async def test_the_same_question_is_drawn_the_same(arena: Arena) -> None:
    """Redelivered or taken up after a crash; over many questions the share is the one that was set."""
    settings = await arena.bot.workshop.store.channel_settings(arena.bot.workshop.team, HELP)
    settings.duel_rate = 0.25
    asked = [
        Question(team="T1", channel=HELP, ts=f"{number}.0", thread_ts="", asker="U1", text="?")
        for number in range(100)
    ]
    first = [await arena.bot.duels.draw(question, settings) for question in asked]
    again = [await arena.bot.duels.draw(question, settings) for question in asked]
    assert first == again
    assert 5 <= sum(draw is not None for draw in first) <= 50
    assert {draw.probability for draw in first if draw is not None} == {0.25}
    settings.feedback = False
    assert [await arena.bot.duels.draw(question, settings) for question in asked[:40]] == [None] * 40


async def test_what_memory_is_sure_of_is_tried_out_on_nobody(arena: Arena) -> None:
    """A sampled question with a verified answer gets that answer; who asks for a duel gets one."""
    shop = arena.bot.workshop
    await shop.store.add_entries(
        shop.team, [NewEntry("When do you open?", "At nine, says the wiki.", "wiki")]
    )
    await shop.remember()
    await shop.store.set_channel(shop.team, HELP, by="U0ANN", duel_rate=1.0)
    answer = await arena.mention("When do you open?", expected=is_answer)
    assert words_of(answer) == "At nine, says the wiki."
    assert arena.luna.requests == []
    assert has_buttons(await arena.command("When do you open?"))


async def test_a_duel_asks_no_api_where_the_channel_wants_none(arena: Arena) -> None:
    """Local-only holds for duels too."""
    shop = arena.bot.workshop
    await shop.store.set_channel(shop.team, HELP, by="U0ANN", policy=Policy.LOCAL_ONLY.value)
    await arena.team.cleo.command(HELP, "/apprentice", "duel When do you open?")
    root = await arena.root("When do you open?")
    await arena.team.cleo.wait_for_message(
        HELP, lambda each: "No model could answer" in each["text"], thread_ts=root["ts"], timeout_s=30
    )
    assert arena.luna.requests == arena.flash.requests == []


async def test_a_deleted_question_takes_its_duel_along(arena: Arena) -> None:
    """Who still presses a button is told so kindly."""
    shop = arena.bot.workshop
    await shop.store.set_channel(shop.team, HELP, by="U0ANN", duel_rate=1.0)
    message = await arena.mention("When do you open?", expected=has_buttons)
    shown = await arena.duel()
    await arena.team.cleo.delete(HELP, message["thread_ts"])

    async def gone() -> bool:
        return await shop.store.duel(shown.duel.id) is None

    await eventually(gone, what="the duel is deleted")
    await arena.pick(arena.team.dan, message, A)
    await arena.heard(arena.team.dan, "This duel is no longer there")


async def test_who_picks_too_late_is_told_so(arena: Arena) -> None:
    """The message still shows buttons where its end could not be told yet."""
    message = await arena.command("When do you open?")
    await arena.team.fault(method="chat.update", status=500, times=10_000)
    shown = await arena.duel()
    assert await arena.bot.workshop.store.close_duel(shown.duel.id, outcome)
    await arena.pick(arena.team.dan, message, A)
    await arena.heard(arena.team.dan, "This duel is closed already")
    assert (await arena.duel()).picks == ()


async def test_a_duel_survives_the_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Picked in one life, closed by time in the next."""
    async with arena_at(tmp_path, monkeypatch) as arena:
        message = await arena.command("When do you open?")
        await arena.pick(arena.team.dan, message, A)
        await arena.heard(arena.team.dan, "you picked: A is better")
        await arena.change("UPDATE duel SET closes_at = :past", past=stored(now() + timedelta(seconds=1)))
    async with arena_at(tmp_path, monkeypatch) as again:
        assert "A won." in (await again.closed(message))["text"]


async def test_the_base_fights_a_challenger_on_this_machine(tmp_path: Path) -> None:
    """Without any API, what serves is compared with the newest version that nobody has promoted yet."""
    async with bot_in_here(tmp_path / "data") as (bot, team):
        shop = bot.workshop
        adapter = await asyncio.to_thread(make_adapter, STARTER, tmp_path / "local-1", rank=16)
        await register(bot, speaking_otherwise(adapter))
        await team.cleo.command(HELP, "/apprentice", "duel Do you sell nails?")
        root = await team.cleo.wait_for_message(HELP, lambda each: "asks for two answers" in each["text"])
        message = await team.cleo.wait_for_message(
            HELP, lambda each: has_buttons(each) or is_answer(each), thread_ts=root["ts"], timeout_s=60
        )
        assert has_buttons(message)
        assert "local-1" not in str(message)
        question = await shop.store.question_at(shop.team, HELP, root["ts"])
        assert question is not None
        shown = await shop.store.duel_of(question.id)
        assert shown is not None
        assert {shown.a.version_id, shown.b.version_id} == {None, "m_challenger"}


def speaking_otherwise(adapter: Path) -> Path:
    """Random weights, so strong that the answer is another one than the base's."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "lora_alpha": 160}), "utf-8")
    return adapter


async def register(bot: Bot, adapter: Path) -> None:
    challenger = ModelVersion(
        id="m_challenger",
        team=bot.workshop.team,
        name="local-1",
        base_model=bot.workshop.settings.base_model,
        path=str(adapter),
        sha256="",
        card={},
    )
    async with bot.workshop.store.database.writing() as session:
        session.add(challenger)


def stored(moment: datetime) -> str:
    """A moment as SQLite keeps it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00:00")
