"""Small transactions go together and stay apart: each is kept or not by itself, and nobody hears of it too early."""

import asyncio
import gc
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply, rows
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

import storage.database
from storage.records import Answer, Candidate, Consent, Keepsake, Question, Rating, RatingEvent
from storage.rows import first_row, insert_rows, new_row
from storage.store import Store

unshaken = pytest.mark.unshaken
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
MAIL = "jane.roe@customer.example.com"


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


def keep(name: str, connection: Connection, *, value: str = "v") -> str:
    insert_rows(connection, Keepsake(name=name, value=value))
    return name


async def kept(store: Store) -> set[str]:
    async with store.database.reading() as session:
        found = await (await session.connection()).execute(
            text("SELECT name FROM keepsake WHERE name LIKE 'w%'")
        )
        return set(found.scalars())


async def test_one_that_fails_takes_no_other_along(store: Store) -> None:
    """Of a hundred that wait together, those that are refused hear why; all the others are kept."""
    names = [f"w{number % 80}" for number in range(100)]
    heard = await asyncio.gather(
        *(store.database.at_once(partial(keep, name)) for name in names), return_exceptions=True
    )
    assert [type(each) for each in heard if not isinstance(each, str)] == [IntegrityError] * 20
    assert {each for each in heard if isinstance(each, str)} == set(names)
    assert await kept(store) == set(names)


async def test_a_question_delivered_often_at_once_is_one(store: Store) -> None:
    """Among many others; who came later gets the first row."""
    asked = await asyncio.gather(
        *(
            store.ask(team=TEAM, channel="C1", ts=f"{n % 5}.0", thread_ts=f"{n % 5}.0", asker="U1", text=MAIL)
            for n in range(40)
        )
    )
    assert sum(each.new for each in asked) == 5
    assert len({each.question.id for each in asked}) == 5
    assert {each.question.text for each in asked} == {"<EMAIL_1>"}
    assert await rows(store, "question") == 5


@on_sqlite
async def test_on_a_full_disk_what_was_acknowledged_is_there_and_nothing_else(store: Store) -> None:
    """SQLite takes back all that go together; each of those hears it, and there is room again the next time."""

    def limit(pages: int, connection: Connection) -> None:
        there = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={there + pages}")

    await store.database.at_once(partial(limit, 4))
    long = "x y " * 10_000
    heard = await asyncio.gather(
        *(
            store.database.at_once(partial(keep, f"w{number}", value=long if number % 3 == 1 else "v"))
            for number in range(30)
        ),
        return_exceptions=True,
    )
    failed = [each for each in heard if not isinstance(each, str)]
    assert failed
    assert {type(each) for each in failed} == {OperationalError}
    assert "full" in str(failed[0])
    assert await kept(store) == {each for each in heard if isinstance(each, str)}
    await store.database.at_once(partial(limit, 10_000))
    assert await store.database.at_once(partial(keep, "w again", value=long)) == "w again"


@unshaken
@on_sqlite
async def test_what_slack_waits_for_goes_first(store: Store) -> None:
    """However many wait already, and however long their line is."""
    order: list[str] = []

    def note(name: str, _connection: Connection) -> None:
        order.append(name)

    async with store.database.writing():
        waiting = [asyncio.create_task(store.database.at_once(partial(note, "other"))) for _ in range(3)]
        await asyncio.sleep(0)
        late = asyncio.create_task(store.database.at_once(partial(note, "urgent"), urgent=True))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, late)
    assert order == ["urgent", "other", "other", "other"]


@unshaken
async def test_who_is_cancelled_leaves_nothing_half_done(store: Store) -> None:
    """The transaction ends before they hear of it, and the next one goes on."""
    task = asyncio.create_task(store.database.at_once(partial(keep, "w1")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kept(store) == {"w1"}
    assert await store.database.at_once(partial(keep, "w2")) == "w2"


async def test_a_rating_counts_once_and_the_last_one_wins(store: Store) -> None:
    """Pressed by many at once and by one many times: one vote each, every press kept."""
    answer = await reply(store, await ask(store))
    presses = [(f"U{n % 4}", 1 if n < 16 else -1) for n in range(20)]
    for at_once in (presses[:16], presses[16:]):
        await asyncio.gather(
            *(store.rate(answer.id, team=TEAM, rater=rater, value=value) for rater, value in at_once)
        )
    assert (await rows(store, "rating"), await rows(store, "rating_event")) == (4, 20)
    for rater in ("U0", "U1", "U2", "U3"):
        said = await store.rating_of(answer.id, rater=rater)
        assert said is not None
        assert said.value == -1


@on_sqlite
async def test_what_was_written_leaves_the_log_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second after a write it lies in the file itself, where no power cut undoes it; nobody has to close it first."""
    monkeypatch.setattr(storage.database, "CHECKPOINT_S", 0.01)
    await ask(store, text="Where is the zebrawood?")
    file = Path(store.database.url.removeprefix("sqlite+aiosqlite:///"))
    there = False
    for _ in range(2000):
        there = there or b"zebrawood" in await asyncio.to_thread(file.read_bytes)
        if there:
            break
        await asyncio.sleep(0.01)
    assert there, "it lies in the log only"


GIVEN: dict[type[Any], dict[str, Any]] = {
    Question: {"team": TEAM, "channel": "C", "ts": "1", "thread_ts": "1", "asker": "U1", "text": "?"},
    Candidate: {"question_id": "q", "kind": "local", "model": "m", "text": "!", "cost_usd": 0.5},
    Answer: {"question_id": "q", "candidate_id": "c", "team": TEAM, "channel": "C", "messages": []},
    Rating: {"answer_id": "a", "team": TEAM, "rater": "U1", "value": 1},
    RatingEvent: {"answer_id": "a", "team": TEAM, "rater": "U1", "value": 1, "via": "home"},
    Consent: {"team": TEAM, "person": "U1", "granted": True},
}


@pytest.mark.parametrize("record", GIVEN, ids=lambda record: record.__name__)
def test_a_row_made_quickly_is_the_same_row(record: type[Any]) -> None:
    """Every default, each its own; what is missing is said."""
    made: dict[str, Any] = {
        name: "made" for name, field in record.model_fields.items() if field.default_factory is not None
    }
    given = {**made, **GIVEN[record]}
    assert new_row(record, **given).model_dump(warnings=False) == record(**given).model_dump(warnings=False)
    quick = [new_row(record, **GIVEN[record]) for _ in range(2)]
    assert quick[0].id != quick[1].id
    assert set(quick[0].model_dump()) == set(record(**GIVEN[record]).model_dump())
    with pytest.raises(TypeError, match=f"{record.__name__} needs"):
        new_row(record)


async def test_a_row_read_and_written_by_a_statement_is_struck_out_as_any_other(store: Store) -> None:
    """The object holds what lies in the table."""
    row = new_row(Question, **{**GIVEN[Question], "text": f"Ask {MAIL}", "reason": MAIL})
    await store.database.at_once(lambda connection: insert_rows(connection, row))
    assert (row.text, row.reason) == ("Ask <EMAIL_1>", "<EMAIL_1>")
    read = await store.database.at_once(lambda connection: first_row(connection, Question))
    assert read is not None
    assert read.model_dump() == row.model_dump()
    again = await store.question(row.id)
    assert again is not None
    assert again.model_dump() == row.model_dump()


async def read_and_write_on(store: Store, begun: asyncio.Event) -> None:
    async with store.database.writing() as session:
        connection = await session.connection()
        while True:
            await connection.execute(text("INSERT INTO clock_of_writers DEFAULT VALUES"))
            begun.set()
            await connection.execute(text("SELECT number FROM clock_of_writers"))


async def cancelled(store: Store, after_s: float) -> asyncio.Task[None]:
    begun = asyncio.Event()
    going = asyncio.create_task(read_and_write_on(store, begun))
    await begun.wait()
    await asyncio.sleep(after_s)
    going.cancel()
    await asyncio.wait([going])
    return going


@on_sqlite
async def test_who_is_cancelled_while_they_write_keeps_nobody_waiting(store: Store) -> None:
    """Neither a task that is kept nor a traceback nor a late garbage collection holds SQLite's lock."""
    async with store.database.writing() as session:
        make = text("CREATE TABLE clock_of_writers (number INTEGER PRIMARY KEY)")
        await (await session.connection()).execute(make)
    gc.disable()
    try:
        held = [await cancelled(store, number / 20_000) for number in range(60)]
        assert all(task.cancelled() for task in held)
        async with asyncio.timeout(20):  # SQLite itself would wait for 30 s
            await store.database.at_once(partial(keep, "w"))
    finally:
        gc.enable()
    assert await kept(store) == {"w"}
