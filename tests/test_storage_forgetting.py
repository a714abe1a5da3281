"""What goes when a person is forgotten or a message deleted, and what stays, on SQLite and on PostgreSQL alike."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply, rows
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage.entries import NewEntry
from storage.feedback import Press
from storage.forgetting import Quotes, without_words
from storage.records import Rating
from storage.store import Store
from storage.values import Message


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(url)
    yield opened
    await opened.close()


async def held_by_two(store: Store) -> None:
    """Ada (U1) and Ben (U2) ask, rate, correct and consent, each about the other."""
    for asker, other, ts in (("U1", "U2", "1.0"), ("U2", "U1", "2.0")):
        answer = await reply(
            store, await ask(store, asker=asker, ts=ts, text=f"The secret question of {asker}?")
        )
        await store.rate(answer.id, team=TEAM, rater=other, value=1)
        await store.correct(answer.id, team=TEAM, author=other, text=f"The better answer by {other}.")
        await store.set_consent(TEAM, asker, True)
    await store.add_entries(
        TEAM, [NewEntry(f"Fact {who}?", f"Fact by {who}", "wiki", author=who) for who in ("U1", "U2")]
    )


async def test_a_person_is_forgotten_and_nobody_else(store: Store) -> None:
    """Every word and vote of a person goes; what others said about other things stays."""
    await held_by_two(store)
    before = await store.holdings(TEAM, "U1")
    assert await store.forget(TEAM, "U1") == before
    assert (before.questions, before.ratings, before.corrections, before.entries, before.consent) == (
        1,
        1,
        1,
        1,
        True,
    )
    gone = await store.holdings(TEAM, "U1")
    assert (gone.questions, gone.ratings, gone.corrections, gone.entries, gone.consent) == (0, 0, 0, 0, None)
    assert all(not held for held in (await store.held_words(TEAM, "U1")).values())
    kept = await store.holdings(TEAM, "U2")
    # Ben's rating and correction were about Ada's answer and went with her question.
    assert (kept.questions, kept.ratings, kept.corrections, kept.entries, kept.consent) == (1, 0, 0, 1, True)
    assert await rows(store, "answer") == await rows(store, "candidate") == 1


async def test_the_same_id_in_another_workspace_is_another_person(store: Store) -> None:
    """Forgetting never crosses workspaces."""
    await ask(store, asker="U1", team="T2")
    await store.set_consent("T2", "U1", True)
    await store.forget(TEAM, "U1")
    kept = await store.holdings("T2", "U1")
    assert (kept.questions, kept.consent) == (1, True)


async def test_a_verified_entry_goes_with_the_question_it_came_from(store: Store) -> None:
    """An expert's correction carries the asker's words into memory; the asker can take them back."""
    answer = await reply(store, await ask(store, asker="U1", text="My secret question?"))
    await store.add_entries(
        TEAM, [NewEntry("My secret question?", "So.", "correction", author="U9", answer_id=answer.id)]
    )
    assert (await store.forget(TEAM, "U1")).entries == 1
    assert await rows(store, "entry") == 0


async def test_others_answers_do_not_quote_a_forgotten_person(store: Store) -> None:
    """What the model was shown for the next asker in a thread held the first one's words."""
    first = await ask(store, asker="U1", ts="1.0", text="My secret question?")
    await reply(store, first)
    second = await ask(store, asker="U2", ts="2.0", thread_ts="1.0", text="And on a phone?")
    history = (Message("user", first.text), Message("assistant", "Press Forgot."))
    await reply(store, second, history=history)
    await store.forget(TEAM, "U1")
    found = await store.answer_to(second.id)
    assert found is not None
    assert found.answer.messages == [{"role": "user", "content": "And on a phone?"}]


WORDS = {"hi", "How do I fold the flag of Nepal?"}
USER, BOT, SYSTEM = "user", "assistant", "system"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(USER, "this")], [(USER, "this")]),
        ([(USER, "hi")], [(USER, "hi")]),
        ([(USER, "hi"), (BOT, "hello"), (USER, "and?")], [(USER, "and?")]),
        ([(SYSTEM, "Be kind."), (USER, "this"), (BOT, "ok"), (USER, "and?")],) * 2,
        ([(SYSTEM, "Known: How do I fold the flag of Nepal? So."), (USER, "and?")], [(USER, "and?")]),
    ],
)
def test_only_what_quotes_is_cut(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    """History goes as a whole or not at all, short words count only by themselves, and the question stays."""

    def turns(said: list[tuple[str, str]]) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in said]

    assert without_words(turns(before), WORDS) == turns(after)


@pytest.mark.parametrize("count", [3, 500])
def test_many_texts_are_looked_for_in_one_walk(count: int) -> None:
    """However many there are and wherever they stand, also behind a quotation mark; the beginning alone is no quote."""
    words = [f"Word{n} is how the {n}th of many answers begins." for n in range(count)]
    quotes = Quotes(words)
    for said in (words[0], words[-1], f'He said "{words[1]}" and left.', f"Q: x\nA: {words[2]}\n"):
        assert quotes.are_in(said)
    for said in ("", "Nothing of it.", words[1][:-1]):
        assert not quotes.are_in(said)


async def test_a_deleted_message_takes_its_answer_along(url: str) -> None:
    """Foreign keys are on, in every later start too: nothing that came of a question outlives it."""
    await (await Store.open(url)).close()
    store = await Store.open(url)
    answer = await reply(store, await ask(store))
    await store.rate(answer.id, team=TEAM, rater="U2", value=1)
    await store.add_entries(TEAM, [NewEntry("q", "a", "correction", answer_id=answer.id)])
    assert await store.delete_question(TEAM, "C1", "1.0")
    assert not await store.delete_question(TEAM, "C1", "1.0")
    assert [await rows(store, table) for table in ("candidate", "answer", "rating", "entry")] == [0, 0, 0, 1]
    await store.close()


async def test_a_rating_of_no_answer_is_refused(store: Store) -> None:
    """Who presses too late is told so, and the database guards what belongs together."""
    assert await store.rate("a_unknown", team=TEAM, rater="U1", value=1) is Press.GONE
    with pytest.raises(IntegrityError):
        async with store.database.writing() as session:
            session.add(Rating(answer_id="a_unknown", team=TEAM, rater="U1", value=1))


async def test_a_state_nobody_knows_is_refused(store: Store) -> None:
    """A misspelt state would be work that nobody ever does."""
    await ask(store)
    with pytest.raises(IntegrityError):
        async with store.database.writing() as session:
            await (await session.connection()).execute(text("UPDATE question SET state = 'lost'"))
