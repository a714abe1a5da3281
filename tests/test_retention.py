"""What is kept how long: each class goes at its time, in small pieces, and what people value stays, on both databases."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply, rows
from sqlmodel import col, select, update

from bot.retention import Retention, RetentionRules
from storage.entries import NewEntry
from storage.records import Answer, Placeholder, Question, RatingEvent, now
from storage.retention import AT_ONCE
from storage.store import Store
from storage.values import Message

YEARS = timedelta(days=500)


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def grown_old(store: Store) -> None:
    """Everything that is there happened 500 days ago."""
    async with store.database.writing() as session:
        for record, column in (
            (Question, "asked_at"),
            (Answer, "created_at"),
            (RatingEvent, "pressed_at"),
            (Placeholder, "made_at"),
        ):
            await session.exec(update(record).values(**{column: now() - YEARS}))


def retention(store: Store, folder: Path, **rules: int) -> Retention:
    return Retention(store, team=TEAM, folder=folder, rules=RetentionRules(**rules))


HISTORY = (
    Message("system", "Verified: the till is blue."),
    Message("user", "Where is the till?", True),
    Message("assistant", "It is blue.", True),
    Message("user", "Hello?"),
    Message("assistant", "Hello."),
)


async def two_conversations(store: Store) -> None:
    """One that somebody rated, one that nobody did; both with all that a model was shown."""
    for number, ts in enumerate(("1.0", "2.0")):
        answer = await reply(store, await ask(store, asker="U1", ts=ts), history=HISTORY)
        if number == 0:
            await store.rate(answer.id, team=TEAM, rater="U2", value=1)


async def messages(store: Store, ts: str) -> list[str]:
    async with store.database.reading() as session:
        wanted = select(Answer).join(Question).where(col(Question.ts) == ts)
        found = (await session.exec(wanted)).one()
    return [turn["content"] for turn in found.messages]


async def test_raw_goes_first_and_a_rated_conversation_keeps_what_its_example_is_made_of(
    store: Store, tmp_path: Path
) -> None:
    """Prompts and verified turns go everywhere, what was said before only where nobody rated; presses and the map go."""
    await two_conversations(store)
    async with store.database.writing() as session:
        session.add(Placeholder(team=TEAM, scope="C1/1.0", digest="d", kind="EMAIL", number=1))
    await grown_old(store)
    gone = await retention(store, tmp_path, days=0).carry_out()
    assert (gone["presses"], gone["placeholders"], gone["contexts"]) == (1, 1, 2)
    asked = "How do I reset my password?"
    assert await messages(store, "1.0") == ["Hello?", "Hello.", asked]
    assert await messages(store, "2.0") == [asked]
    assert await rows(store, "question") == 2
    assert await rows(store, "rating") == 1
    assert not await retention(store, tmp_path, days=0).carry_out(), "nothing is left for the next night"


async def test_unrated_conversations_go_after_their_time_and_rated_ones_stay(
    store: Store, tmp_path: Path
) -> None:
    """By default for ever; with RETAIN_RATED_DAYS they go, too, and verified answers still stay."""
    await two_conversations(store)
    corrected = await reply(store, await ask(store, asker="U1", ts="3.0"))
    await store.correct(corrected.id, team=TEAM, author="U2", text="Better.")
    await store.add_entries(TEAM, [NewEntry("q", "a", "a correction", answer_id=corrected.id)])
    waiting = await ask(store, asker="U1", ts="4.0")
    await grown_old(store)
    fresh = await ask(store, asker="U1", ts="5.0")
    gone = await retention(store, tmp_path).carry_out()
    assert gone["conversations"] == 1
    async with store.database.reading() as session:
        kept = {each.ts for each in (await session.exec(select(Question))).all()}
    assert kept == {"1.0", "3.0", waiting.ts, fresh.ts}, (
        "a question that is still owed is answered or dropped first"
    )
    gone = await retention(store, tmp_path, rated_days=30).carry_out()
    assert gone["rated conversations"] == 2
    assert await rows(store, "entry") == 1


async def test_it_goes_in_small_pieces_and_what_went_is_written_down(store: Store, tmp_path: Path) -> None:
    """No transaction deletes more than 1,000 rows, so that others can write; admins read what went."""
    answer = await reply(store, await ask(store))
    old = now() - YEARS
    async with store.database.writing() as session:
        session.add_all(
            RatingEvent(answer_id=answer.id, team=TEAM, rater=f"U{n}", value=1, via="button", pressed_at=old)
            for n in range(AT_ONCE + 5)
        )
    assert await store.retire_some(TEAM, "presses", now() - timedelta(days=30)) == AT_ONCE
    gone = await retention(store, tmp_path).carry_out()
    assert gone == {"presses": 5}
    last = await store.last_retention(TEAM)
    assert last is not None
    assert last.detail == "5 presses"


async def test_zero_days_keep_for_ever(store: Store, tmp_path: Path) -> None:
    """0 switches a class off."""
    await two_conversations(store)
    await grown_old(store)
    assert not await retention(store, tmp_path, raw_days=0, days=0, datasets=0).carry_out()
    assert await rows(store, "rating_event") == 1


async def test_old_datasets_go_and_those_that_a_model_stands_on_stay(store: Store, tmp_path: Path) -> None:
    """The newest stay, and what served once; our own old logs go."""
    for number in range(4):
        path = tmp_path / "datasets" / f"d{number}"
        path.mkdir(parents=True)
        counts = {"train": 1, "validation": 1, "test": 1}
        await store.save_dataset(
            dataset_id=f"d{number}", path=str(path), counts=counts, manifest={}, team=TEAM
        )
    version = await store.register_model(
        team=TEAM, name="local-1", base_model="b", path="p", sha256="s", run_id=None, dataset_id="d1", card={}
    )
    await store.promote(team=TEAM, decision="d", version_id=version.id, by="U1", reason="")
    answers = tmp_path / "evaluations" / "ev_old.jsonl"
    answers.parent.mkdir()
    answers.write_text("{}\n", encoding="utf-8")
    os.utime(answers, (0, 0))
    gone = await retention(store, tmp_path, datasets=1).carry_out()
    assert (gone["datasets"], gone["logs"]) == (2, 1)
    assert sorted(each.name for each in (tmp_path / "datasets").iterdir()) == ["d1", "d3"]
