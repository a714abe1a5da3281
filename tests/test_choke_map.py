"""The map of placeholders: one thing has one number all through a conversation, and nobody can read back what it was."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database
from sqlmodel import select
from test_choke import everything

from storage.records import Nomination, Placeholder, Question
from storage.store import Store
from storage.values import Message, Proposal

JANE, JOE = "jane.roe@customer.example.com", "joe.doe@customer.example.com"


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def said(store: Store, question: Question, text: str) -> tuple[str, str]:
    """What is kept of an answer, and its id."""
    answered = await store.answer(
        question, [Proposal(text, "local", "starter")], messages=[Message("user", question.text)]
    )
    return answered.candidate.text, answered.answer.id


async def test_a_conversation_counts_together(either: Store) -> None:
    """Question, answer, reason, better answer and a later question in the thread: the same address, the same number."""
    first = await ask(either, ts="1.0", text=f"May I write to {JOE} or {JANE}?")
    assert first.text == "May I write to <EMAIL_1> or <EMAIL_2>?"
    text, answer_id = await said(either, first, f"Rather to {JANE}, not {JOE}.")
    assert text == "Rather to <EMAIL_2>, not <EMAIL_1>."
    await either.rate(answer_id, team=TEAM, rater="U2", value=-1, reason=f"{JANE} left")
    rating = await either.rating_of(answer_id, rater="U2")
    assert rating is not None
    assert rating.reason == "<EMAIL_2> left"
    better = await either.correct(
        answer_id, team=TEAM, author="U2", text=f"{JOE} and new@customer.example.com"
    )
    assert better.text == "<EMAIL_1> and <EMAIL_3>"
    later = await ask(either, ts="2.0", thread_ts="1.0", text=f"And {JANE.upper()}?")
    assert later.text == "And <EMAIL_2>?", "another spelling is the same address"
    elsewhere = await ask(either, ts="3.0", text=f"Who is {JANE}?")
    assert elsewhere.text == "Who is <EMAIL_1>?"
    proposed = Nomination(
        team=TEAM, channel="C1", ts="2.0", nominator="U2", question=f"Is {JANE} here?", answer="No.",
        authors=["U2"], waiting_for=[],
    )  # fmt: skip
    assert (await either.nominate(proposed, thread_ts="1.0")).question == "Is <EMAIL_2> here?"


async def test_a_model_that_repeats_a_placeholder_means_the_same(either: Store) -> None:
    """What a model says of `<EMAIL_1>` stays that, and an address of its own gets the next number."""
    asked = await ask(either, ts="1.0", text=f"Who reads {JANE}?")
    text, _ = await said(either, asked, f"<EMAIL_1> is read by {JOE}.")
    assert text == "<EMAIL_1> is read by <EMAIL_2>."


async def test_what_is_streamed_has_the_numbers_that_are_kept(either: Store) -> None:
    """Or the answer would change before the reader's eyes when it is complete."""
    asked = await ask(either, ts="1.0", text=f"Who reads {JANE}?")
    strike = await either.striker(asked)
    words = f"{JOE} and {JANE} do, says {JOE}."
    shown = strike(words)
    assert (await said(either, asked, words))[0] == shown == "<EMAIL_2> and <EMAIL_1> do, says <EMAIL_2>."


async def test_a_question_by_command_keeps_its_numbers_when_its_message_stands(either: Store) -> None:
    """It has no thread before."""
    asked = await ask(either, ts="command:1", thread_ts="", text=f"Who is {JOE}, who {JANE}?")
    await either.place_question(asked.id, "7.0")
    later = await ask(either, ts="8.0", thread_ts="7.0", text=f"And where is {JANE}?")
    assert later.text == "And where is <EMAIL_2>?"


async def test_the_map_holds_hashes_and_goes_with_the_conversation(either: Store) -> None:
    """No original lies anywhere, equal things of two workspaces are not equal there, and nothing is left behind."""
    await ask(either, ts="1.0", text=f"Ask <@U777> or {JANE}.")
    await either.ask(team="T2", channel="C1", ts="1.0", thread_ts="1.0", asker="U1", text=f"Ask {JANE}.")
    kept = await everything(either)
    assert JANE not in kept
    async with either.database.reading() as session:
        rows = (await session.exec(select(Placeholder))).all()
    assert len({row.digest for row in rows}) == 3
    assert {row.person for row in rows if row.kind == "PERSON"} == {"U777"}
    await either.delete_question(TEAM, "C1", "1.0")
    async with either.database.reading() as session:
        left = (await session.exec(select(Placeholder))).all()
    assert {row.team for row in left} == {"T2"}
