"""What was stored before a rule was known is struck out again, a page at a time, and stays where it belongs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply
from sqlalchemy import text
from sqlmodel import col, select

from bot.restriking import Restriking
from storage.entries import NewEntry, question_hash
from storage.records import Answer, Entry, Review, SplitPlace
from storage.redaction import Rules, install
from storage.restriking import tables_of_words
from storage.store import Store
from storage.words import clean

MAIL = "jane.roe@customer.example.com"


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def put(store: Store, statement: str, **values: Any) -> None:
    """Write past every type of ours, as an older version did."""
    async with store.database.writing() as session:
        await (await session.connection()).execute(text(statement), values)


async def strike_all(store: Store, *, page: int = 2) -> int:
    """Page by page until all is done; how many rows changed."""
    changed = 0
    for _ in range(500):
        step = await store.strike_again(page=page)
        changed += step.changed
        if step.done:
            return changed
    raise AssertionError("it does not come to an end")


async def test_old_rows_are_struck_out_page_by_page(either: Store) -> None:
    """Texts and JSON alike, whatever page they lie on; a second round finds nothing to do."""
    answers = []
    for number in range(5):
        answers.append(await reply(either, await ask(either, ts=f"{number}.0", text=f"Question {number}?")))
    assert not await either.struck_with()
    await put(either, "UPDATE question SET text = text || :mail WHERE ts <> '2.0'", mail=f" {MAIL}")
    messages = f'[{{"role": "user", "content": "ask {MAIL}"}}]'
    cast = "CAST(:messages AS JSONB)" if "postgresql" in either.database.url else ":messages"
    await put(
        either, f"UPDATE answer SET messages = {cast} WHERE id = :id", id=answers[3].id, messages=messages
    )
    assert await strike_all(either) == 5
    assert await either.struck_with()
    found = [(await either.question(answer.question_id)) for answer in answers]
    assert [row.text for row in found if row] == [
        f"Question {n}?" + (" <EMAIL_1>" if n != 2 else "") for n in range(5)
    ]
    async with either.database.reading() as session:
        kept = await session.get(Answer, answers[3].id)
    assert kept is not None
    assert kept.messages == [{"role": "user", "content": "ask <EMAIL_1>"}]
    assert await strike_all(either) == 0


async def test_a_restart_goes_on_where_the_last_one_stopped(either: Store) -> None:
    """How far it went is written down after each page; the same page is not gone over again and again."""
    for number in range(6):
        await ask(either, ts=f"{number}.0", text=f"Question {number}?")
    names = [table.name for table in tables_of_words()]
    looked = 0
    for _ in range(2000):
        again = Store(either.database)
        step = await again.strike_again(page=2)
        looked += step.rows
        if step.done:
            break
    assert looked == 6
    assert "question" in names


async def test_a_question_that_changes_takes_its_hash_and_its_place_along(either: Store) -> None:
    """An entry is found by its new words, what was held out stays held out, and a decision about it stays one."""
    await either.add_entries(
        TEAM, [NewEntry("Who is it?", "Nobody.", "faq"), NewEntry("Other?", "Yes.", "faq")]
    )
    raw = f"Who is {MAIL}?"
    old, new = question_hash(raw), question_hash(clean(raw))
    await put(
        either,
        "UPDATE entry SET question = :raw, question_hash = :hash WHERE question = 'Who is it?'",
        raw=raw,
        hash=old,
    )
    async with either.database.writing() as session:
        session.add(SplitPlace(team=TEAM, key=old[:32], split="test", cluster="c"))
        session.add(Review(team=TEAM, subject="e_x", key=old[:32], state="approved", by="U1"))
    before = await either.entries_stamp(TEAM)
    assert await strike_all(either) == 1
    entry = await either.entry(TEAM, raw)
    assert entry is not None
    assert (entry.question, entry.question_hash) == ("Who is <EMAIL_1>?", new)
    assert (await either.entries_stamp(TEAM)).change > before.change, "memory follows"
    async with either.database.reading() as session:
        place = await session.get(SplitPlace, (TEAM, new[:32]))
        review = (await session.exec(select(Review).where(col(Review.team) == TEAM))).one()
    assert place is not None
    assert place.split == "test"
    assert review.key == new[:32]


@pytest.mark.parametrize("newer_is_old_row", [True, False])
async def test_two_entries_that_become_one_question_are_merged(either: Store, newer_is_old_row: bool) -> None:
    """The newer answer counts, as when a question is imported twice; one that was held out stays so."""
    first, second = NewEntry("Who is A?", "Old.", "faq", split="test"), NewEntry("Who is B?", "New.", "faq")
    await either.add_entries(TEAM, [first])
    await either.add_entries(TEAM, [second])
    raw, struck = f"Who is {MAIL}?", "Who is <EMAIL_1>?"
    to_be_struck, clean_one = ("Who is B?", "Who is A?") if newer_is_old_row else ("Who is A?", "Who is B?")
    change = "UPDATE entry SET question = :q, question_hash = :hash WHERE question = :was"
    await put(either, change, q=raw, hash=question_hash(raw), was=to_be_struck)
    await put(either, change, q=struck, hash=question_hash(struck), was=clean_one)
    await strike_all(either)
    async with either.database.reading() as session:
        entries = (await session.exec(select(Entry))).all()
    assert [(row.question, row.answer, row.split) for row in entries] == [(struck, "New.", "test")]
    assert entries[0].question_hash == question_hash(struck)


@pytest.mark.sqlite("its file is what is copied")
async def test_copies_from_before_an_update_go_once_everything_is_struck_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would keep for ever what was struck out. While no rule changes they stay; a restore's always do."""
    store = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    restored = tmp_path / "apprentice.sqlite.before-restore-20261123"
    old = tmp_path / "apprentice.sqlite.before-0004_memory"
    await ask(store)
    await Restriking(store).go_over()
    for file in (restored, old):
        file.write_bytes(f"ask {MAIL}".encode())
    await Restriking(store).go_over()
    assert old.exists(), "no rule changed: whoever wants the version of before back has it"
    await put(store, "UPDATE question SET text = :mail", mail=f"ask {MAIL}")
    install(Rules(keep=frozenset({"phone"})))
    capsys.readouterr()
    await Restriking(store).go_over()
    assert (await store.struck_with(), old.exists(), restored.exists()) == (True, False, True)
    assert old.name in capsys.readouterr().out
    await store.close()
    assert MAIL.encode() not in (tmp_path / "apprentice.sqlite").read_bytes()
