"""The guards in Slack: a finding is shown once, only admins decide, and what they decide holds for the next dataset."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from bot_process import ADMIN_CHANNEL, HELP, Json, Team, eventually, is_from_bot
from people_rig import library, texts_in

from bot.app import Bot
from bot.slack import guard_blocks
from bot.slack.guard_blocks import KEEP_OUT, LEARN
from bot.slack.guards import GUARD
from storage.records import Quarantine, now
from storage.values import Message, Proposal
from training.guards import BURST

DAN = "U0DAN"


async def dan_rates_too_fast(bot: Bot) -> None:
    """Twenty-five answers, each liked by Dan a second after the one before."""
    store, team = bot.workshop.store, bot.workshop.team
    since = now() - timedelta(minutes=5)
    for number in range(25):
        asked = await store.ask(
            team=team,
            channel=HELP,
            ts=f"{number}.1",
            thread_ts=f"{number}.1",
            asker="U0CLEO",
            text=f"Question {number}?",
        )
        answer = await store.answer(
            asked.question, [Proposal("An answer.", "local", "starter")], messages=[Message("user", "?")]
        )
        await store.posted(answer.answer.id, f"{number}.2")
        await store.rate(
            answer.answer.id, team=team, rater=DAN, value=1, at=since + timedelta(seconds=number)
        )


@asynccontextmanager
async def watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bot, Team]]:
    """A running bot whose nightly look has just happened."""
    async with library(folder, monkeypatch) as (bot, team):
        await dan_rates_too_fast(bot)
        await bot.clockwork.guards.look()
        yield bot, team


async def findings(team: Team) -> list[Json]:
    messages = await team.ann.messages(ADMIN_CHANNEL)
    return [each for each in messages if is_from_bot(each) and guard_blocks.TITLES[BURST] in each["text"]]


def actions(message: Json) -> list[str]:
    return [
        element["action_id"]
        for block in message["blocks"]
        if block["type"] == "actions"
        for element in block["elements"]
    ]


async def decided(bot: Bot, *, learn: bool) -> Quarantine:
    async def look() -> Quarantine | None:
        (row,) = await bot.workshop.store.quarantine(bot.workshop.team)
        return row if (row.lifted_by if learn else row.kept_by) else None

    return await eventually(look, what="it is decided")


async def test_a_finding_is_shown_once_and_only_an_admin_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words, numbers, whose it is and two buttons; Ben is refused; Ann lifts it, thinks better of it, and it stays out."""
    async with watched(tmp_path, monkeypatch) as (bot, team):
        store, workspace = bot.workshop.store, bot.workshop.team
        (message,) = await findings(team)
        read = texts_in(message["blocks"])
        assert "25 ratings within one minute" in read
        assert f"<@{DAN}>" in read
        assert "do not count until one of you decides" in read
        assert actions(message) == [LEARN, KEEP_OUT]
        assert await store.quarantined(workspace) == {(BURST, DAN)}

        await team.ben.click(ADMIN_CHANNEL, message["ts"], LEARN)
        await team.ben.wait_for_ephemeral(ADMIN_CHANNEL, lambda each: "<@U0ANN>" in each["text"])
        assert await store.quarantined(workspace) == {(BURST, DAN)}, "nothing was decided"

        await team.ann.click(ADMIN_CHANNEL, message["ts"], LEARN)
        assert (await decided(bot, learn=True)).lifted_by == "U0ANN"
        assert await store.quarantined(workspace) == frozenset()
        lifted = await drawn(team, "Learned from after all, as <@U0ANN> decided.")
        assert actions(lifted) == [KEEP_OUT]

        await team.ann.click(ADMIN_CHANNEL, message["ts"], KEEP_OUT)
        assert (await decided(bot, learn=False)).kept_by == "U0ANN"
        assert await store.quarantined(workspace) == {(BURST, DAN)}
        kept = await drawn(team, "Kept out, as <@U0ANN> decided.")
        assert actions(kept) == [LEARN]
        (row,) = await store.quarantine(workspace)
        written = [
            (each.actor, each.action) for each in await store.decisions(workspace) if each.subject == row.id
        ]
        assert sorted(written) == [("U0ANN", "keep it out"), ("U0ANN", "learn from it")]


async def drawn(team: Team, words: str) -> Json:
    async def look() -> Json | None:
        (message,) = await findings(team)
        return message if words in texts_in(message["blocks"]) else None

    return await eventually(look, what=f"the message says {words!r}")


async def test_a_finding_is_told_once_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another look and another bot tell nothing anew; what Slack refused is told by the next bot."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        await dan_rates_too_fast(bot)
        await team.fault(method="chat.postMessage", error="channel_not_found", times=1)
        await bot.clockwork.guards.look()
        assert await findings(team) == []
    async with library(tmp_path, monkeypatch) as (bot, team):

        async def told() -> list[Json]:
            return await findings(team)

        (message,) = await eventually(told, what="the next bot tells it")
        await bot.clockwork.guards.look()
        await bot.clockwork.guards.look()
        assert len(await findings(team)) == 1
    async with library(tmp_path, monkeypatch) as (bot, team):
        assert await bot.workshop.store.schedule(bot.workshop.team, GUARD) is not None
        await bot.clockwork.guards.look()
        (same,) = await findings(team)
        assert same["ts"] == message["ts"]
        await team.ann.click(ADMIN_CHANNEL, same["ts"], LEARN)
        assert (await decided(bot, learn=True)).lifted_by == "U0ANN"


async def test_a_press_on_what_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person was forgotten meanwhile: the admin is told so."""
    async with watched(tmp_path, monkeypatch) as (bot, team):
        (message,) = await findings(team)
        (row,) = await bot.workshop.store.quarantine(bot.workshop.team)
        async with bot.workshop.store.database.writing() as session:
            await session.delete(row)
        await team.ann.click(ADMIN_CHANNEL, message["ts"], LEARN)
        await team.ann.wait_for_ephemeral(ADMIN_CHANNEL, lambda each: each["text"] == guard_blocks.GONE)


async def test_experts_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Admins name experts by mention, id or name; others may not; `status` counts them."""
    async with library(tmp_path, monkeypatch) as (bot, team):
        store, workspace = bot.workshop.store, bot.workshop.team

        async def says(person: str, words: str) -> str:
            said = f"experts {words}".strip()
            before = len(await whispers(team, person))
            await getattr(team, person).command(HELP, "/apprentice", said)

            async def answer() -> str | None:
                now_there = await whispers(team, person)
                return str(now_there[-1]["text"]) if len(now_there) > before else None

            return await eventually(answer, what=f"an answer to {said}")

        assert "Nobody is an expert yet" in await says("ann", "")
        assert "<@U0BEN> is an expert now" in await says("ann", "add <@U0BEN|ben>")
        assert await store.experts(workspace) == {"U0BEN"}
        assert "is an expert already" in await says("ann", "add U0BEN")
        assert "<@U0CLEO> is an expert now" in await says("ann", "add @cleo")
        assert "is no expert" in await says("ann", "remove @dan")
        assert "cannot tell who @nobody is" in await says("ann", "add @nobody")
        assert "`/apprentice experts add" in await says("ann", "what")
        assert "<@U0BEN>, by <@U0ANN>" in await says("ann", "")
        assert "is no expert any more" in await says("ann", "remove <@U0CLEO>")
        assert "is for admins" in await says("ben", "add U0BEN")
        assert "U0CLEO" not in await store.experts(workspace)
        await team.ann.command(HELP, "/apprentice", "status")
        await team.ann.wait_for_ephemeral(HELP, lambda each: "*Guards:* 1 expert" in each["text"])


async def whispers(team: Team, person: str) -> list[Json]:
    return [each for each in await getattr(team, person).messages(HELP) if each.get("ephemeral")]


def test_blocks_are_small_and_escape_what_people_wrote() -> None:
    """A topic is named by people: it cannot mention anybody, and the message stays within Slack's limits."""
    row = Quarantine(
        team="T1", kind="topic", subject="x", person="U1", detail="“<!channel> & co” " + "x" * 9000
    )
    read = json.dumps(guard_blocks.finding_blocks(row))
    assert "<!channel>" not in read
    assert (
        max(len(block.get("text", {}).get("text", "")) for block in guard_blocks.finding_blocks(row)) < 3000
    )
