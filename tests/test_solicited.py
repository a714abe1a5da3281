"""Asking for ratings: a random share of answers, the chance written down, nobody twice a day, never where unwanted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bot_process import CLEOS_DM, HELP, Json, Team, ask, eventually, id_of, rate
from databases import rows
from people_rig import DRILL, answered, comes_to, library, rating_of
from slack_sdk.web.async_client import AsyncWebClient
from sqlalchemy import text as sql

from bot import draws
from bot.app import Bot
from bot.slack import solicit

OTHERS = ("What must I bring?", "Where do I pay?", "May I book a saw?")


def solicitor_of(bot: Bot) -> solicit.Solicitor:
    """One that asks whenever it may."""
    client = AsyncWebClient(token=bot.place.bot_token, base_url=bot.place.api_url)
    return solicit.Solicitor(bot.workshop.store, client, team=bot.workshop.team, rate=1.0, timezone="UTC")


async def drawn(bot: Bot, answer_id: str) -> float | None:
    """The chance that was written down with an answer, once somebody drew."""
    found = await bot.workshop.store.answered(answer_id)
    assert found is not None
    return found.answer.solicit_probability


async def has_drawn(bot: Bot, answer_id: str) -> float:
    async def look() -> float | None:
        return await drawn(bot, answer_id)

    chance = await eventually(look, timeout_s=30, what="the draw is written down")
    assert chance is not None
    return chance


async def requests_to(team: Team, person: str) -> list[Mapping[str, Any]]:
    """What a person was asked so far, as Slack was told."""
    whispers = await team.calls("chat.postEphemeral")
    return [
        call["args"]
        for call in whispers
        if call["args"]["text"] == solicit.ASK and call["args"]["user"] == person
    ]


async def request_to(person: Any, channel: str = HELP) -> Json:
    found: Json = await person.wait_for_ephemeral(
        channel, lambda each: each["text"] == solicit.ASK, timeout_s=30
    )
    return found


async def test_an_asker_is_asked_once_a_day_and_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate of 1 the first answer of the day asks, in its thread, and the vote says where it comes from."""
    async with library(tmp_path, monkeypatch, solicit_rate=1.0) as (bot, team):
        answer = await answered(team)
        request = await request_to(team.cleo)
        assert request["thread_ts"] == answer["thread_ts"]
        assert await has_drawn(bot, id_of(answer)) == 1.0
        await team.cleo.click(HELP, request["ts"], "rate", value=f"{id_of(answer)}:1:{solicit.SOLICITED}")
        await comes_to(bot, id_of(answer), "U0CLEO", 1)
        assert (await rating_of(bot, id_of(answer), "U0CLEO")).via == "solicited"
        for question in OTHERS:
            assert await has_drawn(bot, id_of(await ask(team.cleo, question))) == 1.0
        dans = await ask(team.dan, DRILL)
        assert (await request_to(team.dan))["thread_ts"] == dans["thread_ts"]
        assert len(await requests_to(team, "U0CLEO")) == 1
        assert await rows(bot.workshop.store, "solicitation") == 2


async def test_another_day_is_another_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day is that of the workspace's time zone; in a direct message the request has no thread."""
    async with library(tmp_path, monkeypatch, solicit_rate=1.0, timezone="Pacific/Auckland") as (bot, team):
        await answered(team)
        await request_to(team.cleo)
        await yesterday(bot)
        await ask(team.cleo, "Where do I pay?", channel=CLEOS_DM)
        assert "thread_ts" not in await request_to(team.cleo, CLEOS_DM)
        assert await rows(bot.workshop.store, "solicitation") == 2


async def yesterday(bot: Bot) -> None:
    """What was asked today was asked the day before."""
    async with bot.workshop.store.database.writing() as session:
        await (await session.connection()).execute(sql("UPDATE solicitation SET day = '2026-01-01'"))


async def test_a_draw_that_says_no_is_written_down_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody could tell later whom the votes stand for."""
    monkeypatch.setattr(draws, "share", lambda *_names: 0.3)
    async with library(tmp_path, monkeypatch, solicit_rate=0.3) as (bot, team):
        assert await has_drawn(bot, id_of(await answered(team))) == 0.3
        assert await requests_to(team, "U0CLEO") == []
        assert await rows(bot.workshop.store, "solicitation") == 0


async def test_a_draw_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is told of again, after a crash, is drawn the same and asked about once."""
    async with library(tmp_path, monkeypatch, solicit_rate=1.0) as (bot, team):
        answer = await answered(team)
        await request_to(team.cleo)
        solicitor = solicitor_of(bot)
        known = await bot.workshop.store.answered(id_of(answer))
        assert known is not None
        for _ in range(3):
            await solicitor.after(known, 1.0)
        assert len(await requests_to(team, "U0CLEO")) == 1


async def test_who_has_rated_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their vote is there already."""
    async with library(tmp_path, monkeypatch, solicit_rate=0.0) as (bot, team):
        answer = await answered(team)
        await rate(team.cleo, answer, 1)
        await comes_to(bot, id_of(answer), "U0CLEO", 1)
        known = await bot.workshop.store.answered(id_of(answer))
        assert known is not None
        solicitor = solicitor_of(bot)
        await solicitor.after(known, 1.0)
        assert await requests_to(team, "U0CLEO") == []


async def test_nobody_is_asked_where_it_is_unwanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a channel without feedback nothing is drawn at all."""
    async with library(tmp_path, monkeypatch, solicit_rate=1.0) as (bot, team):
        shop = bot.workshop
        await shop.store.set_channel(shop.team, HELP, by="U0ANN", feedback=False)
        ts = await team.cleo.post(HELP, f"@apprentice {DRILL}")
        await team.cleo.wait_for_message(
            HELP, lambda each: "two coins" in each["text"], thread_ts=ts, timeout_s=30
        )
        await ask(team.dan, DRILL, channel="D0DAN")
        await request_to(team.dan, "D0DAN")
        question = await shop.store.question_at(shop.team, HELP, ts)
        assert question is not None
        quiet = await shop.store.answer_to(question.id)
        assert quiet is not None
        assert quiet.answer.solicit_probability is None
        assert await requests_to(team, "U0CLEO") == []


async def test_a_rate_of_nothing_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned off means that nothing is drawn."""
    async with library(tmp_path, monkeypatch, solicit_rate=0.0) as (bot, team):
        first = await answered(team)
        await ask(team.cleo, "Where do I pay?")
        assert await drawn(bot, id_of(first)) is None
        assert await requests_to(team, "U0CLEO") == []


def test_the_request_carries_no_text_of_the_answer() -> None:
    """Two thumbs with an opaque id, and where they were pressed."""
    said, below = solicit.request_blocks("a_1")
    assert said["text"]["text"] == solicit.ASK
    thumbs = below["elements"][0]
    assert thumbs["positive_button"]["value"] == "a_1:1:s"
    assert thumbs["negative_button"]["value"] == "a_1:-1:s"
