"""A bot that knows the tool library by heart, for the tests of what people press; no model is loaded."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bot_process import HELP, TOOL_LIBRARY, Json, Team, ask, bot_in_here, eventually

from bot.app import Bot
from storage.entries import NewEntry
from storage.records import Rating

DRILL, DRILL_COSTS = "What does a drill cost?", "A drill costs two coins."


@asynccontextmanager
async def library(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **chosen: Any
) -> AsyncIterator[tuple[Bot, Team]]:
    """A running bot whose memory answers the library's questions at once."""
    monkeypatch.setattr("bot.app.has_local_model", lambda _settings: False)
    async with bot_in_here(folder / "data", **chosen) as (bot, team):
        entries = [
            NewEntry(question, answer, "the library")
            for answer, questions, _ in TOOL_LIBRARY
            for question in questions
        ]
        await bot.workshop.store.add_entries(bot.workshop.team, entries)
        await bot.workshop.remember()
        yield bot, team


async def answered(team: Team, *, channel: str = HELP) -> Json:
    """Cleo asks what a drill costs; the answer's message."""
    return await ask(team.cleo, DRILL, channel=channel)


async def value_of(bot: Bot, answer_id: str, person: str) -> int | None:
    """What a person thinks of an answer; None for nothing."""
    rating = await bot.workshop.store.rating_of(answer_id, rater=person)
    return rating.value if rating is not None else None


async def comes_to(bot: Bot, answer_id: str, person: str, value: int | None) -> None:
    """Wait until this is what a person thinks of an answer."""

    async def same() -> bool:
        return await value_of(bot, answer_id, person) == value

    await eventually(same, timeout_s=30, what=f"{person} rates {value}")


async def rating_of(bot: Bot, answer_id: str, person: str) -> Rating:
    found = await bot.workshop.store.rating_of(answer_id, rater=person)
    assert found is not None
    return found


def texts_in(blocks: Any) -> str:
    """Everything that blocks say, joined: what a person could read there."""
    if isinstance(blocks, Mapping):
        own = blocks.get("text")
        said = own if isinstance(own, str) else ""
        return "\n".join(
            [said, *(texts_in(each) for each in blocks.values() if isinstance(each, Mapping | list))]
        )
    if isinstance(blocks, list):
        return "\n".join(texts_in(each) for each in blocks)
    return ""
