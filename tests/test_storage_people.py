"""What the store keeps of presses and of proposed messages, on SQLite and on PostgreSQL alike."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply, rows

from storage.entries import NewEntry
from storage.feedback import Press
from storage.records import Nomination, now
from storage.store import Store

EARLY, LATE = now() - timedelta(minutes=2), now() - timedelta(minutes=1)


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def test_presses_count_in_the_order_in_which_they_were_made(store: Store) -> None:
    """Whatever order they arrive in; the same one twice is one press, and each is kept."""
    answer = await reply(store, await ask(store))
    press = {"team": TEAM, "rater": "U2"}
    assert await store.rate(answer.id, value=1, at=LATE, **press) is Press.COUNTS
    assert await store.rate(answer.id, value=1, at=LATE, **press) is Press.OVERTAKEN
    assert await store.rate(answer.id, value=-1, at=EARLY, **press) is Press.OVERTAKEN
    assert not await store.withdraw_rating(answer.id, rater="U2", value=1, at=EARLY), (
        "it was given after that"
    )
    assert not await store.withdraw_rating(answer.id, rater="U2", value=-1), "it is no longer that"
    rating = await store.rating_of(answer.id, rater="U2")
    assert rating is not None
    assert (rating.value, rating.rated_at) == (1, LATE)
    assert await rows(store, "rating_event") == 2
    assert await store.withdraw_rating(answer.id, rater="U2", value=1)
    assert not await store.withdraw_rating(answer.id, rater="U2")
    assert await rows(store, "rating_event") == 3


async def test_a_vote_that_arrives_after_its_own_withdrawal_does_not_count(store: Store) -> None:
    """Events overtake one another."""
    answer = await reply(store, await ask(store))
    assert not await store.withdraw_rating(answer.id, rater="U2", value=1, at=LATE)
    assert await store.rate(answer.id, team=TEAM, rater="U2", value=1, at=EARLY) is Press.OVERTAKEN
    assert await store.rating_of(answer.id, rater="U2") is None
    assert await store.rate(answer.id, team=TEAM, rater="U2", value=-1) is Press.COUNTS


async def test_a_nomination_is_taken_once_or_refused_for_good(store: Store) -> None:
    """Only its authors decide; a no deletes the words and is remembered for the message."""
    kept = await store.nominate(nomination("1.0"))
    assert await store.allow_nomination(kept.id, "U9") is None
    allowed = await store.allow_nomination(kept.id, "U1")
    assert allowed is not None
    assert allowed.waiting_for == []
    assert [await store.nomination_taken(kept.id), await store.nomination_taken(kept.id)] == [True, False]
    assert await store.nominated(TEAM) == {kept.id: ("U1",)}
    denied = await store.nominate(nomination("2.0"))
    assert not await store.refused_at(TEAM, "C1", "2.0")
    refused = await store.refuse_nomination(denied.id, "U1")
    assert refused is not None
    assert (refused.state, refused.refused_by, refused.question, refused.answer) == ("refused", "U1", "", "")
    assert await store.refused_at(TEAM, "C1", "2.0")
    assert not await store.nomination_taken(denied.id)


async def test_what_came_of_a_message_goes_with_it(store: Store) -> None:
    """Also what came of the answer to a deleted question; whoever keeps entries in memory is told."""
    question = await ask(store, ts="5.0")
    answer = await reply(store, question)
    for ts in ("1.0", answer.posted_ts or "95.0", "3.0"):
        await verified(store, await store.nominate(nomination(ts)))
    before = await store.entries_stamp(TEAM)
    assert await store.delete_nominations_at(TEAM, "C1", "1.0")
    assert await rows(store, "entry") == 2
    assert await store.entries_stamp(TEAM) != before
    assert await store.delete_nominations_at(TEAM, "C1", "5.0")
    assert await rows(store, "entry") == 1
    assert not await store.delete_nominations_at(TEAM, "C2", "3.0")
    assert not await store.delete_nominations_at(TEAM, "C1", "1.0")


async def test_the_question_before_a_message_and_a_draft_are_found(store: Store) -> None:
    """The last one of the thread; a draft is one only while its question is owed."""
    for ts in ("1.0", "2.0", "4.0"):
        await ask(store, ts=ts, thread_ts="1.0", text=f"Question {ts}")
    found = await store.question_before(TEAM, "C1", "1.0", "3.0")
    assert found is not None
    assert found.text == "Question 2.0"
    assert await store.question_before(TEAM, "C1", "1.0", "1.0") is None
    assert await store.question_before(TEAM, "C1", "9.0", "9.5") is None
    await store.draft_stands(found.id, "2.5")
    assert await store.is_draft(TEAM, "C1", "2.5")
    await reply(store, found)
    assert not await store.is_draft(TEAM, "C1", "2.5")


def nomination(ts: str) -> Nomination:
    return Nomination(
        team=TEAM,
        channel="C1",
        ts=ts,
        nominator="U3",
        question=f"What stands at {ts}?",
        answer="This.",
        authors=["U1"],
        waiting_for=["U1"],
    )


async def verified(store: Store, kept: Nomination) -> None:
    """It becomes an entry."""
    entry = NewEntry(kept.question, kept.answer, "a colleague", nomination_id=kept.id)
    await store.add_entries(TEAM, [entry])
    await store.allow_nomination(kept.id, "U1")
    await store.nomination_taken(kept.id)
