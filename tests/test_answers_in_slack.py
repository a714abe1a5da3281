"""How an answer comes to stand in a thread: streamed, stopped, split, and always whole in the end."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from answer_rig import MODEL, Room, room_at
from bot_process import (
    APPRENTICE,
    CLEOS_DM,
    HELP,
    Json,
    ask,
    eventually,
    is_answer,
    thumbs,
    who_answered,
    words_of,
    write_faq,
)

from storage.asking import Answered
from storage.records import QuestionState
from storage.values import STOPPED


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A bot with an API model."""
    async with room_at(tmp_path) as opened:
        yield opened


async def test_an_answer_is_seen_while_it_is_written(room: Room) -> None:
    """A long answer appears in pieces, in the message in which it then stands, with its thumbs only at the end."""
    words = [f"word{number}" for number in range(300)]
    room.says(" ".join(words))
    gate = room.hold_at(100)
    ts = await room.asked("Tell me everything.")
    begun = await room.begun(ts)
    assert begun["text"].startswith("word0 word1")
    assert "word200" not in begun["text"]
    assert not is_answer(begun)
    gate.opened.set()
    answer = await room.answer(ts)
    assert answer["ts"] == begun["ts"]
    assert words_of(answer) == " ".join(words)
    assert who_answered(answer).startswith(MODEL)
    assert len(await room.thread(ts)) == 1
    assert await room.team.calls("chat.startStream")


async def test_stop_keeps_what_was_written_and_it_cannot_be_rated(room: Room) -> None:
    """Slack's own Stop ends the generation; the partial answer stays, says that it is one, and has no thumbs."""
    room.says(" ".join(f"word{number}" for number in range(300)))
    gate = room.hold_at(100)
    ts = await room.asked("Tell me everything.", CLEOS_DM)
    begun = await room.begun(ts, CLEOS_DM)
    await room.team.cleo.stop(CLEOS_DM, ts)

    async def stopped() -> Json | None:
        (message,) = await room.thread(ts, CLEOS_DM)
        return message if len(message.get("blocks", [])) > 1 else None

    message = await eventually(stopped, what="the answer is ended", timeout_s=30)
    assert message is not None
    assert message["ts"] == begun["ts"]
    assert words_of(message).startswith("word0")
    assert "stopped before it was complete" in who_answered(message)
    assert not is_answer(message)
    await asyncio.wait_for(room.api.hung_up.wait(), 30)

    async def stored() -> Answered | None:
        return await room.bot.workshop.store.answer_at(room.bot.workshop.team, CLEOS_DM, begun["ts"])

    kept = await eventually(stored, what="the partial answer is kept")
    assert kept is not None
    assert kept.candidate.finish == STOPPED
    assert gate.reached.is_set()


async def test_stopped_before_a_word_leaves_one_kind_sentence(room: Room) -> None:
    """Nothing was written, so nothing is kept; the person reads that it was heard."""
    gate = room.hold_at(0)
    ts = await room.asked("Tell me everything.", CLEOS_DM)
    await asyncio.wait_for(gate.reached.wait(), 30)

    async def pressed() -> bool:
        (session,) = (await room.team.cleo.state())["sessions"] or [{}]
        return bool(session.get("status") == "processing")

    await eventually(pressed, what="the Stop button is there", timeout_s=30)
    await room.team.cleo.stop(CLEOS_DM, ts)

    async def said() -> list[Json]:
        return await room.thread(ts, CLEOS_DM)

    (message,) = await eventually(said, what="the bot says something", timeout_s=30)
    assert message["text"].startswith("Stopped")


async def test_a_model_that_fails_in_the_middle_is_replaced_in_the_same_message(room: Room) -> None:
    """What the first model wrote does not stay; the thread has one answer, the second model's."""
    from provider_standins import Failure

    room.says(" ".join(f"word{number}" for number in range(300)))
    gate = room.hold_at(100)
    room.api.fail_next.extend([Failure(cut_after=110)] * 3)
    ts = await room.asked("Tell me everything.")
    begun = await room.begun(ts)
    gate.opened.set()
    answer = await room.answer(ts)
    assert answer["ts"] == begun["ts"]
    assert "word0" not in words_of(answer)
    assert who_answered(answer).startswith(room.bot.workshop.engine.label)
    assert len(await room.thread(ts)) == 1


@pytest.mark.parametrize(
    "error", ["user_not_found", "missing_recipient_team_id", "channel_type_not_supported"]
)
async def test_where_streams_are_refused_the_answer_is_posted(room: Room, error: str) -> None:
    """Slack Connect and old conversations know no streams; the answer comes as one message."""
    await room.team.fault(method="chat.startStream", error=error, times=5)
    room.says(" ".join(f"word{number}" for number in range(300)))
    gate = room.hold_at(200)
    ts = await room.asked("Tell me everything.")

    async def refused() -> list[Json]:
        return await room.team.calls("chat.startStream")

    await eventually(refused, what="a stream is tried", timeout_s=30)
    gate.opened.set()
    answer = await room.answer(ts)
    assert words_of(answer).endswith("word299")
    assert len(await room.thread(ts)) == 1


async def test_a_very_long_answer_is_split_and_rated_once(room: Room) -> None:
    """Every word arrives in order; the code block is a block in each part; thumbs stand below the last part only."""
    lines = [f"line {number} of a long program" for number in range(500)]
    room.says("Here it is:\n\n```python\n" + "\n".join(lines) + "\n```\n\nThat is all.")
    ts = await room.asked("Show me the program.")
    answer = await room.answer(ts)
    parts = await room.thread(ts)
    assert len(parts) > 1
    assert [is_answer(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    texts = [words_of(part) for part in parts]
    assert all(len(text) <= 12_000 and text.count("```") % 2 == 0 for text in texts)
    assert re.findall(r"line \d+", " ".join(texts)) == re.findall(r"line \d+", " ".join(lines))
    store, team = room.bot.workshop.store, room.bot.workshop.team
    for part in parts:

        async def known(ts: str = part["ts"]) -> Answered | None:
            return await store.answer_at(team, HELP, ts)

        found = await eventually(known, what="each part is known as the answer's")
        assert found.answer.id == thumbs(answer)["positive_button"]["value"][:-2]


async def test_nobody_is_called_by_what_a_model_says(room: Room) -> None:
    """Neither the final message nor anything that was shown on the way can notify a channel or a person."""
    room.says("Hey <!channel> and @here, ask <@U0ANN> or <!subteam^S1|@ops>. " * 40)
    ts = await room.asked("Wake everybody.")
    answer = await room.answer(ts)
    sent = await room.team.calls("chat.startStream", "chat.appendStream", "chat.stopStream", "chat.update")
    shown = str([call["args"] for call in sent]) + str(answer["blocks"]) + answer["text"]
    assert not re.search(
        r"<!channel|<!subteam|<@U0ANN>|(?<!\u200b)@here|@channel\b", shown.replace("\\u200b", "\u200b")
    )


async def test_a_follow_up_needs_no_mention_where_the_channel_wants_it_so(room: Room) -> None:
    """A reply in our thread is a question where an admin switched it on, unless it speaks to somebody else."""
    store, team = room.bot.workshop.store, room.bot.workshop.team
    ts = (await ask(room.team.cleo, "What is a mortise?"))["thread_ts"]
    await room.team.dan.post(HELP, "thanks, and a tenon?", ts)
    await ask(room.team.cleo, "What is a chisel?")  # answered after the bot has looked at what came before it
    await store.set_channel(team, HELP, by="U0ANN", follow_ups=True)
    await room.team.dan.post(HELP, "@ben do you know?", ts)
    asked = await room.team.dan.post(HELP, "and a dovetail?", ts)

    async def second() -> bool:
        return len([each for each in await room.thread(ts) if is_answer(each)]) == 2

    await eventually(second, what="the follow-up is answered", timeout_s=30)
    question = await store.question_at(team, HELP, asked)
    assert question is not None
    assert question.surface == "follow-up"
    assert room.api.requests[-1]["messages"][-1]["content"] == "and a dovetail?"
    assert len(room.api.requests) == 3


async def test_a_question_by_command_is_shown_and_answered_in_its_thread(room: Room) -> None:
    """`/apprentice ask` works in a channel as a mention does; everybody sees what was asked."""
    await room.team.cleo.command(HELP, "/apprentice", "ask What is a <mortise>?")

    async def shown() -> Json | None:
        messages = await room.team.dan.messages(HELP)
        return next(
            (each for each in messages if each["user"] == APPRENTICE and "asks:" in each["text"]), None
        )

    root = await eventually(shown, what="the question is shown", timeout_s=30)
    assert root is not None
    assert root["text"] == "<@U0CLEO> asks: What is a &lt;mortise&gt;?"
    answer = await room.answer(root["ts"])
    assert words_of(answer).endswith("What is a <mortise>?")
    question = await room.bot.workshop.store.question_at(room.bot.workshop.team, HELP, root["ts"])
    assert question is not None
    assert (question.surface, question.asker) == ("command", "U0CLEO")


async def test_a_command_where_the_bot_is_not_says_what_to_do(room: Room) -> None:
    """The person reads how to invite it, nobody else reads anything, and nothing is owed any more."""
    await room.team.fault(method="chat.postMessage", error="not_in_channel", times=1)
    await room.team.cleo.command(HELP, "/apprentice", "ask Hello?")
    told = await room.team.cleo.wait_for_ephemeral(HELP, lambda message: "Invite me" in message["text"])
    assert told
    store = room.bot.workshop.store

    async def dropped() -> bool:
        return not await store.owed_questions()

    await eventually(dropped, what="the question is given up", timeout_s=30)


async def test_a_channels_instructions_policy_and_feedback_hold(room: Room) -> None:
    """What an admin sets for a channel holds there and nowhere else."""
    store, team = room.bot.workshop.store, room.bot.workshop.team
    await store.set_channel(team, HELP, by="U0ANN", instructions="Answer in rhymes.", feedback=False)
    ts = await room.asked("What is a mortise?")

    async def posted() -> Json | None:
        return next((each for each in await room.thread(ts) if len(each.get("blocks", [])) > 1), None)

    message = await eventually(posted, what="the answer stands", timeout_s=30)
    assert message is not None
    assert not is_answer(message), "there are no thumbs where feedback is off"
    assert "Answer in rhymes." in room.api.requests[-1]["messages"][0]["content"]
    await room.answer(await room.asked("And here?", CLEOS_DM), CLEOS_DM)
    assert "Answer in rhymes." not in room.api.requests[-1]["messages"][0]["content"]
    asked = len(room.api.requests)
    await store.set_channel(team, HELP, by="U0ANN", policy="local-only", feedback=True)
    answer = await room.answer(await room.asked("Who answers?"))
    assert who_answered(answer).startswith(room.bot.workshop.engine.label)
    assert len(room.api.requests) == asked


async def test_the_line_says_how_many_are_ahead(room: Room) -> None:
    """Whoever waits behind others reads how long the queue is."""
    gate = room.hold_at(0)
    await room.asked("First?")
    await asyncio.wait_for(gate.reached.wait(), 30)
    second = await room.asked("Second?")

    async def told() -> list[Json]:
        calls = await room.team.calls("assistant.threads.setStatus")
        return [call for call in calls if "1 ahead of you" in str(call["args"].get("status"))]

    first = (await eventually(told, what="the second reads that one is ahead", timeout_s=30))[0]
    assert first["args"]["thread_ts"] == second
    gate.opened.set()


async def test_a_deleted_question_takes_its_unfinished_answer_with_it(room: Room) -> None:
    """Nothing is said to a message that is not there any more, and nothing is kept of it."""
    room.says(" ".join(f"word{number}" for number in range(300)))
    gate = room.hold_at(100)
    ts = await room.asked("Forget this.")
    await room.begun(ts)
    await room.team.cleo.delete(HELP, ts)
    store, team = room.bot.workshop.store, room.bot.workshop.team

    async def gone() -> bool:
        return await store.question_at(team, HELP, ts) is None

    await eventually(gone, what="the question is deleted", timeout_s=30)
    gate.opened.set()

    async def silent() -> bool:
        return not await room.thread(ts)

    await eventually(silent, what="the unfinished answer is taken away", timeout_s=30)
    assert (await store.tally(team)).questions == 0


async def test_a_memory_answer_needs_no_stream_and_no_status(tmp_path: Path) -> None:
    """What is known is said at once, in one call."""
    async with room_at(tmp_path) as room:
        faq = write_faq(tmp_path / "tools.jsonl")
        from training.formats.reading import read_faq

        await room.bot.workshop.store.add_entries(room.bot.workshop.team, read_faq(faq, source="faq").entries)
        await room.bot.workshop.remember()
        entry = next(iter(read_faq(faq, source="faq").entries))
        answer = await ask(room.team.cleo, entry.question)
        assert who_answered(answer).startswith("memory")
        assert await room.team.calls("chat.startStream", "agents.sessions.setStatus") == []

        async def done() -> bool:
            store, team = room.bot.workshop.store, room.bot.workshop.team
            question = await store.question_at(team, HELP, answer["thread_ts"])
            return question is not None and question.state is QuestionState.ANSWERED

        await eventually(done, what="the question is done")
