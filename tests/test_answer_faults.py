"""What the asker sees in Slack while providers fail: one complete answer or one kind sentence, never the half of one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from answer_rig import MODEL, Room, room_at
from bot_process import ADMIN_CHANNEL, Json, eventually, is_answer
from provider_standins import Failure, GeminiServer, StandIn, served

FLASH = "gemini-3.5-flash-lite"
LONG = "Take the blue form to the second floor, sign it there, and bring it back before noon."


@dataclass
class Both:
    """A bot that asks OpenAI first and Gemini next."""

    room: Room
    gemini: StandIn


@asynccontextmanager
async def both_at(folder: Path, **chosen: object) -> AsyncIterator[Both]:
    gemini = StandIn(keys={"g-right"}, models={FLASH: None})
    async with served(gemini, GeminiServer(gemini).routes()) as there:
        settings = {"gemini_api_key": "g-right", "gemini_base_url": there.url, "gemini_model": FLASH}
        async with room_at(folder, **{**settings, **chosen}) as room:
            yield Both(room, gemini)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(cut_after=2),
        Failure(garbage_at=2),
        Failure(status=401, error={"message": "No.", "code": "invalid_api_key", "type": "x", "param": None}),
        Failure(
            status=429, error={"message": "No.", "code": "insufficient_quota", "type": "x", "param": None}
        ),
        Failure(
            status=404, error={"message": "Gone.", "code": "model_not_found", "type": "x", "param": None}
        ),
    ],
    ids=["reset in the middle", "rubbish in the middle", "wrong key", "no quota", "model removed"],
)
async def test_the_next_model_answers_whole_and_once(tmp_path: Path, failure: Failure) -> None:
    """What the first had written is taken back; both calls are on the books, the first at least with what it did."""
    async with both_at(tmp_path) as both:
        both.room.says("Half of something else entirely.")
        both.room.api.fail_next.append(failure)
        both.gemini.says = lambda _question: LONG
        ts = await both.room.asked("Where does the form go?")
        answer = await both.room.answer(ts)
        assert answer["blocks"][0]["text"] == LONG
        said = await both.room.thread(ts)
        assert [each["ts"] for each in said] == [answer["ts"]]
        assert "Half" not in str(said)
        rows = await spent(both.room)
        assert [kind for kind, _, _ in rows if kind == "gemini"] == ["gemini"]
        theirs = sum(row["completion_tokens"] for row in both.room.api.billed)
        assert sum(tokens for kind, _, tokens in rows if kind == "openai") >= theirs


async def test_where_everybody_fails_there_is_one_kind_sentence(tmp_path: Path) -> None:
    """And the next question is answered as if nothing had been."""
    quota = {"message": "No.", "code": "insufficient_quota", "type": "x", "param": None}
    async with room_at(tmp_path, private_channels="api") as room:
        room.bot.workshop.desk.panel._local_available = False
        room.api.fail_next.append(Failure(status=429, error=quota))
        ts = await room.asked("Where does the form go?")

        async def sentence() -> str | None:
            return next((each["text"] for each in await room.thread(ts) if each.get("text")), None)

        assert "No model could answer just now" in str(await eventually(sentence, what="a sentence"))
        assert len(await room.thread(ts)) == 1
        room.says(LONG)
        again = await room.answer(await room.asked("Where does the form go now?"))
        assert again["blocks"][0]["text"] == LONG


async def test_a_private_channel_is_answered_on_this_machine(tmp_path: Path) -> None:
    """Slack's own word for the channel decides; the API is not asked."""
    async with room_at(tmp_path) as room:
        ts = await room.team.ann.post(ADMIN_CHANNEL, "@apprentice Where does the form go?")

        async def look() -> Json | None:
            return next(
                (each for each in await room.team.ann.messages(ADMIN_CHANNEL, ts) if is_answer(each)), None
            )

        answer = await eventually(look, what="an answer in the private channel", timeout_s=60)
        assert MODEL not in str(answer["blocks"])
        assert room.api.requests == []


async def spent(room: Room) -> list[tuple[str, str, int]]:
    """Kind, state and output tokens of every row of spending."""
    from sqlalchemy import text

    await room.bot.workshop.ledger.flush()
    async with room.bot.workshop.store.database.reading() as session:
        rows = await (await session.connection()).execute(text("SELECT kind, state, tokens_out FROM spend"))
        return [(str(kind), str(state), int(tokens)) for kind, state, tokens in rows]
