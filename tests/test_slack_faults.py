"""What goes wrong between Slack and a bot: all the same each question gets exactly one complete answer, and no vote is lost.

Answers come from an API that the test holds in its hand, so that trouble comes while one is being written.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from answer_rig import Gate, Room, room_at
from bot_process import (
    ADMIN_CHANNEL,
    APPRENTICE,
    CLEOS_DM,
    HELP,
    Json,
    eventually,
    id_of,
    is_answer,
    is_from_bot,
    rate,
    words_of,
)

from bot.slack import blocks, text
from bot.slack.questions import Questions
from bot.workspace import LocalWorkspace
from storage.records import QuestionState

WAIT_S = 60.0
LONG = " ".join(f"word{number}" for number in range(300))
HALF = 100


@asynccontextmanager
async def room_in(folder: Path, **options: Any) -> AsyncIterator[Room]:
    """A bot in a workspace with these ways."""
    workspace = LocalWorkspace(port=0, **options)
    await workspace.start()
    try:
        async with room_at(folder, slack_api_url=f"{workspace.url}/api/") as room:
            yield room
    finally:
        await workspace.stop()


async def control(room: Room, route: str, **body: Any) -> Json:
    async with room.team.http.post(f"{room.team.url}/_control/{route}", json=body) as response:
        answer: Json = await response.json()
    assert answer["ok"], answer
    return answer


async def frames(room: Room) -> list[Json]:
    async with room.team.http.get(f"{room.team.url}/_control/frames") as response:
        found: list[Json] = (await response.json())["frames"]
    return found


async def happens(look: Callable[[], Awaitable[Any]], what: str) -> Any:
    return await eventually(look, timeout_s=WAIT_S, what=what)


async def exactly_one_answer(room: Room, ts: str, says: str, *, channel: str = HELP) -> Json:
    """The question is done with, and its thread holds one message of the bot: this answer, complete, as it is stored."""
    store, team = room.bot.workshop.store, room.bot.workshop.team

    async def done() -> bool:
        question = await store.question_at(team, channel, ts)
        return question is not None and question.state is QuestionState.ANSWERED

    await happens(done, f"the question {ts} is answered")
    said = [each for each in await room.team.cleo.messages(channel, ts) if is_from_bot(each)]
    assert len(said) == 1, [each["text"] for each in said]
    (answer,) = said
    assert is_answer(answer)
    assert "streaming" not in answer
    assert words_of(answer) == says
    stored = await store.answer_at(team, channel, answer["ts"])
    assert stored is not None
    assert stored.answer.id == id_of(answer)
    return answer


async def votes(room: Room) -> tuple[int, int]:
    tally = await room.bot.workshop.store.tally(room.bot.workshop.team)
    return tally.thumbs_up, tally.thumbs_down


async def voted(room: Room, wanted: tuple[int, int]) -> None:
    async def counted() -> bool:
        return await votes(room) == wanted

    await happens(counted, f"the votes are {wanted}")


# --- While an answer is being written ---------------------------------------------------------------------------


async def test_a_stream_that_expires_in_the_middle(tmp_path: Path) -> None:
    """Slack ends a stream after five minutes and says nothing; the rest of the answer still comes, in the same message."""
    async with room_at(tmp_path) as room:
        room.says(LONG)
        gate = room.hold_at(HALF)
        ts = await room.asked("Tell me everything.")
        begun = await room.begun(ts)
        await control(room, "clock", advance_s=301)
        gate.opened.set()
        answer = await exactly_one_answer(room, ts, LONG)
        assert answer["ts"] == begun["ts"]
        await rate(room.team.cleo, answer, 1)
        await voted(room, (1, 0))


async def test_connections_cut_in_the_middle(tmp_path: Path) -> None:
    """The answer goes on over the Web API; a vote given afterwards arrives over the new connections."""
    async with room_at(tmp_path) as room:
        room.says(LONG)
        gate = room.hold_at(HALF)
        ts = await room.asked("Tell me everything.")
        await room.begun(ts)
        await control(room, "disconnect", hard=True)
        gate.opened.set()
        answer = await exactly_one_answer(room, ts, LONG)

        async def connected() -> bool:
            return int((await room.team.cleo.state())["connected"]) == 2

        await happens(connected, "both connections are back")
        await rate(room.team.cleo, answer, 1)
        await voted(room, (1, 0))
        assert len(room.api.requests) == 1


async def test_a_question_deleted_in_the_middle(tmp_path: Path) -> None:
    """Nobody is answered who took the question back; the next question is."""
    async with room_at(tmp_path) as room:
        room.says(LONG)
        gate = room.hold_at(HALF)
        ts = await room.asked("Forget this.")
        await room.begun(ts)
        await room.team.cleo.delete(HELP, ts)

        async def gone() -> bool:
            store, team = room.bot.workshop.store, room.bot.workshop.team
            return await store.question_at(team, HELP, ts) is None

        await happens(gone, "the question is deleted")
        gate.opened.set()

        async def silent() -> bool:
            return not [
                each for each in await room.team.cleo.messages(HELP, ts) if each["user"] == APPRENTICE
            ]

        await happens(silent, "what was written of its answer is taken away")
        await exactly_one_answer(room, await room.asked("And this?"), LONG)


# --- Calls that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["chat.startStream", "chat.appendStream", "chat.stopStream", "chat.update", "chat.postMessage"],
)
async def test_a_confirmation_that_is_lost_after_the_work_was_done(tmp_path: Path, method: str) -> None:
    """A server error, or no answer at all: what Slack did is found again, and not done a second time."""
    async with room_at(tmp_path) as room:
        room.says(LONG)
        for status in (500, 0):
            await room.team.all_well()
            await room.team.fault(method=method, status=status, after_work=True, times=1)
            if method == "chat.postMessage":
                await room.team.fault(method="chat.startStream", error="channel_type_not_supported", times=9)
            gate = room.hold_at(HALF)
            ts = await room.asked(f"Tell me everything in spite of {status}.")
            if method == "chat.startStream":
                await room.begun(ts)
            elif method != "chat.postMessage":
                gate = await more_is_shown(room, ts, gate)
            if method == "chat.update":
                await control(room, "clock", advance_s=301)
            gate.opened.set()
            answer = await exactly_one_answer(room, ts, LONG)
            await rate(room.team.cleo, answer, -1)
        await voted(room, (0, 2))
        assert len(room.api.requests) == 2
        assert len([call for call in await all_calls(room) if is_lost(call, method)]) == 2


def is_lost(call: Json, method: str) -> bool:
    """Whether a call met the fault."""
    return bool(call["method"] == method and "fault" in call["answer"])


IN_SOME_ORDERS = {"conversations.info", "assistant.threads.setStatus"}
"""Called or not, depending on which of a mention's two events comes first, and on how long the first word takes."""


async def test_too_many_requests_once_for_every_method(tmp_path: Path) -> None:
    """Whatever the bot calls in a whole conversation is refused once with Retry-After; people notice nothing but time."""
    async with room_at(tmp_path / "dry") as room:
        await whole_conversation(room)
        methods = {call["method"] for call in await all_calls(room)} - {"apps.connections.open", "auth.test"}
    assert {
        "chat.startStream",
        "chat.appendStream",
        "chat.stopStream",
        "views.open",
        "chat.postEphemeral",
    } <= methods
    async with room_at(tmp_path / "limited") as room:
        for method in methods:
            await room.team.fault(method=method, status=429, retry_after=1, times=1)
        await whole_conversation(room)
        refused = [call["method"] for call in await all_calls(room) if "fault" in call["answer"]]
        assert set(refused) - IN_SOME_ORDERS == methods - IN_SOME_ORDERS


async def more_is_shown(room: Room, ts: str, gate: Gate) -> Gate:
    """Let the answer begin, and then grow; the gate at which it is held now."""
    begun = await room.begun(ts)
    following = room.hold_at(2 * HALF)
    gate.opened.set()

    async def grown() -> bool:
        return any(len(each["text"]) > len(begun["text"]) for each in await room.thread(ts))

    await happens(grown, "more of the answer is shown")
    return following


async def whole_conversation(room: Room) -> None:
    """Asked, streamed, answered, voted down, corrected; asked again in a direct message, voted up; a command."""
    room.says(LONG)
    gate = room.hold_at(HALF)
    ts = await room.asked("Tell me everything.")
    gate = await more_is_shown(room, ts, gate)
    gate.opened.set()
    answer = await exactly_one_answer(room, ts, LONG)
    await rate(room.team.cleo, answer, -1)
    view = await room.team.cleo.wait_for_view(
        lambda each: each["callback_id"] == blocks.CORRECTION_VIEW and blocks.BETTER in json.dumps(each),
        timeout_s=WAIT_S,
    )
    given = {blocks.BETTER: "Less.", blocks.REASON: "wrong"}
    assert await room.team.cleo.submit(view["id"], given) == {"ok": True}
    await room.team.cleo.wait_for_ephemeral(
        HELP, lambda each: each["text"] == text.CORRECTED_NOT_TRAINED, timeout_s=WAIT_S
    )
    direct = await exactly_one_answer(room, await room.asked("And here?", CLEOS_DM), LONG, channel=CLEOS_DM)
    await rate(room.team.cleo, direct, 1, channel=CLEOS_DM)
    await voted(room, (1, 1))


async def all_calls(room: Room) -> list[Json]:
    async with room.team.http.get(f"{room.team.url}/_control/calls") as response:
        found: list[Json] = (await response.json())["calls"]
    return found


# --- Events that come more than once, and on more than one way ---------------------------------------------------------


@pytest.mark.sqlite("its one writer at a time")
async def test_an_event_that_is_delivered_four_times(tmp_path: Path) -> None:
    """The database is busy for so long that Slack sends the mention again three times; it is one question."""
    async with room_in(tmp_path, ack_timeout_s=0.3) as room:
        room.says("Once.")
        await exactly_one_answer(room, await room.asked("Are you there?"), "Once.")
        async with busy_database(room):
            ts = await room.asked("How often?")

            async def thrice() -> bool:
                return any(
                    each.get("retry_attempt") == 3 and ts in json.dumps(each["body"])
                    for each in await frames(room)
                )

            await happens(thrice, "Slack has sent it again three times")
        answer = await exactly_one_answer(room, ts, "Once.")
        await rate(room.team.cleo, answer, 1)
        await voted(room, (1, 0))
        assert len(room.api.requests) == 2


@asynccontextmanager
async def busy_database(room: Room) -> AsyncIterator[None]:
    """Somebody else writes and does not come to an end."""
    file = room.bot.workshop.settings.data_dir / "apprentice.sqlite"
    connected = sqlite3.connect(file, isolation_level=None, timeout=30, check_same_thread=False)
    with closing(connected) as writer:
        await asyncio.to_thread(writer.execute, "BEGIN IMMEDIATE")
        try:
            yield
        finally:
            writer.execute("ROLLBACK")


async def test_a_mention_that_is_an_app_mention_and_a_message(tmp_path: Path) -> None:
    """Slack tells of the same words twice, under two names; they are one question. Both connections carry envelopes."""
    async with room_at(tmp_path) as room:
        room.says("Once.")
        used: set[str] = set()
        asked = 0

        async def ask_until_both_were_used() -> bool:
            nonlocal asked
            asked += 1
            ts = await room.asked(f"Question {asked}?")
            await exactly_one_answer(room, ts, "Once.")

            async def told_twice() -> list[Json]:
                told = [each for each in await frames(room) if each["kind"] == "events_api"]
                bodies = [each["body"]["payload"]["event"] for each in told if ts in json.dumps(each["body"])]
                return told if {"app_mention", "message"} <= {each["type"] for each in bodies} else []

            told = await eventually(told_twice, what="Slack tells of it under both names")
            used.update(each["connection"] for each in told)
            return len(used) == 2

        async def connected() -> bool:
            return not room.bot.service.trouble()

        await happens(connected, "both connections are open")
        await happens(ask_until_both_were_used, "both connections carried an event")
        assert len(room.api.requests) == asked


async def test_a_mention_that_only_an_app_mention_tells_of_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say whether the channel is public; distilling, judging and the digest have to know, for good."""
    take = Questions.take

    async def heard(questions: Questions, event: Mapping[str, Any]) -> bool:
        return event.get("type") == "app_mention" and await take(questions, event)

    monkeypatch.setattr(Questions, "take", heard)
    async with room_at(tmp_path) as room:
        shop = room.bot.workshop
        for channel, kind in ((HELP, "channel"), (ADMIN_CHANNEL, "group")):
            ts = await room.team.ann.post(channel, "@apprentice Where is the ladder?")
            asked = partial(shop.store.question_at, shop.team, channel, ts)
            question = await eventually(asked, what="it is recorded")

            async def placed(asked: Any = asked, kind: str = kind) -> bool:
                return bool((await asked()).place == kind)

            await eventually(placed, what=f"its place is known to be {kind}")
            assert question.surface == "mention"


# --- Presses ----------------------------------------------------------------------------------------------------------


async def test_a_window_that_opens_too_late(tmp_path: Path) -> None:
    """The trigger has expired when the bot comes to open the window: the vote counts all the same, and can be changed."""
    async with room_in(tmp_path, trigger_ttl_s=1e-6) as room:
        room.says("Once.")
        answer = await exactly_one_answer(room, await room.asked("How often?"), "Once.")
        await rate(room.team.cleo, answer, -1)
        await voted(room, (0, 1))
        assert await room.team.cleo.views() == []
        opened = [call for call in await all_calls(room) if call["method"] == "views.open"]
        assert [call["answer"]["ok"] for call in opened] == [False]
        await rate(room.team.cleo, answer, 1)
        await voted(room, (1, 0))
