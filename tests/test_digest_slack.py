"""The weekly digest in the admin channel: posted once, with its files, whatever happens in between; and on demand."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bot_process import ADMIN_CHANNEL, HELP, Team, ask, bot_in_here, eventually
from sqlalchemy import delete, update
from terminal import Terminal
from test_doctor import terminal  # noqa: F401

from bot.app import Bot
from bot.slack import digests as slack_digests
from bot.slack.digests import DIGEST, KIND
from bot.workspace.people import Person
from storage.records import Answer, BudgetNotice, Question, now


async def digests(team: Team) -> list[dict[str, Any]]:
    """What stands in the admin channel."""
    messages = await team.ann.messages(ADMIN_CHANNEL)
    return [each for each in messages if (each.get("metadata") or {}).get("event_type") == KIND]


async def a_week_ago(bot: Bot) -> None:
    """Everything was asked last week."""
    week_ago = now() - timedelta(days=7)
    async with bot.workshop.store.database.writing() as session:
        connection = await session.connection()
        await connection.execute(update(Question).values(asked_at=week_ago))
        await connection.execute(update(Answer).values(posted_at=week_ago + timedelta(seconds=1)))


async def posted(team: Team) -> dict[str, Any]:
    """The one digest, with both files in its thread."""

    async def look() -> dict[str, Any] | None:
        found = await digests(team)
        if not found:
            return None
        replies = await team.ann.messages(ADMIN_CHANNEL, found[0]["ts"])
        names = [file["name"] for reply in replies for file in reply.get("files") or ()]
        return found[0] if {name.rpartition(".")[2] for name in names} == {"html", "csv"} else None

    return await eventually(look, what="a digest with its files", timeout_s=40)


async def test_a_week_is_told_once_over_restarts_and_lost_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock asks; the message and its files come; a new bot says nothing again, even unaware that it did."""
    monkeypatch.setattr(slack_digests, "AGAIN_S", 0.5)
    async with bot_in_here(tmp_path / "data") as (bot, team):
        await ask(team.cleo, "What can you do?")
        await a_week_ago(bot)
        await team.fault(method="chat.postMessage", status=500, after_work=True, times=1)
        await bot.clockwork._digest("digest@now")
        said = await posted(team)
        assert "*Asked:* 1 question by 1 person. 1 answered." in said["text"]
        schedule = await bot.workshop.store.schedule(bot.workshop.team, DIGEST)
        assert schedule is not None
        assert schedule.cron == "0 9 * * 1"
    async with bot_in_here(tmp_path / "data") as (bot, team):
        await bot.clockwork.digests.tick()
        async with (
            bot.workshop.store.database.writing() as session
        ):  # as if the answer of Slack had been lost
            await (await session.connection()).execute(delete(BudgetNotice))
        await bot.clockwork.digests.ask()
        await eventually(lambda: nothing_left(bot), what="the digest is done with", timeout_s=40)
        assert len(await digests(team)) == 1


async def nothing_left(bot: Bot) -> bool | None:
    """Whether all of it is posted."""
    owed = bot.clockwork.digests._owed
    return True if owed is not None and not owed.left else None


async def test_an_admin_reads_any_week_and_sets_when_it_is_told(tmp_path: Path) -> None:
    """This week and others, a refusal with its remedy; off and on."""
    async with bot_in_here(tmp_path / "data") as (_bot, team):
        await ask(team.cleo, "What can you do?")
        for words, said in (
            ("report this", "*Asked:* 1 question by 1 person"),
            ("report this", "*Content with their answer:*"),
            ("report 2026-W01", "Nobody asked anything."),
            ("report tomorrow", "or one such as 2026-W47"),
            ("report schedule every friday at 16", "every Friday at 16:00"),
            ("report schedule off", "when somebody types"),
        ):
            await heard(team.ann, words, said)
        await heard(team.cleo, "report", "admins")


async def heard(person: Person, words: str, said: str) -> None:
    await person.command(ADMIN_CHANNEL if person.user == "U0ANN" else HELP, "/apprentice", words)
    channel = ADMIN_CHANNEL if person.user == "U0ANN" else HELP
    await person.wait_for_ephemeral(channel, lambda message: said in message["text"])


async def test_the_terminal_writes_it_in_three_forms(terminal: Terminal, tmp_path: Path) -> None:  # noqa: F811
    """Text, a table and a page; what cannot be is said."""
    await (await terminal.store()).close()

    def run(*arguments: str) -> Any:
        return terminal.run("report", *arguments)

    told = await asyncio.to_thread(run, "--week", "2026-W01")
    assert "Nobody asked anything." in told.out
    out = tmp_path / "week.html"
    assert (await asyncio.to_thread(run, "--format", "html", "--out", str(out))).code == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (
        "period,figure,of" in (await asyncio.to_thread(run, "--format", "csv", "--since", "2026-11-01")).out
    )
    for wrong, remedy in (
        (("--week", "soon"), "2026-W47"),
        (("--until", "2026-11-01"), "--until needs --since"),
        (("--out", str(tmp_path / "no" / "folder.txt")), "cannot be written"),
    ):
        ended = await asyncio.to_thread(run, *wrong)
        assert ended.code != 0
        assert remedy in ended.err + ended.out
