"""Both kinds of database for the tests of the store, and the first steps of every story told about it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from postgres import RUNNING, migrated_url, postgres_url
from sqlalchemy import text

from storage.records import Answer, Question
from storage.store import Store
from storage.values import Message, Proposal

TEAM = "T1"
DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))


def empty_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new database of the kind that `request.param` names; on PostgreSQL its tables are there already."""
    if request.param == "sqlite":
        return _file_in(folder)
    url = migrated_url(request.config)
    request.addfinalizer(lambda: request.config.stash[RUNNING].give_back(url))
    return url


def bare_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a new database of the kind that `request.param` names, without tables."""
    return _file_in(folder) if request.param == "sqlite" else postgres_url(request.config)


def _file_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'apprentice.sqlite'}"


async def ask(store: Store, *, asker: str = "U1", ts: str = "1.0", **more: str) -> Question:
    values = {"team": TEAM, "channel": "C1", "thread_ts": ts, "text": "How do I reset my password?"} | more
    return (await store.ask(asker=asker, ts=ts, **values)).question


async def reply(store: Store, question: Question, *, history: tuple[Message, ...] = ()) -> Answer:
    """An answer that stands in Slack."""
    messages = [*history, Message("user", question.text)]
    press = [Proposal("Press Forgot.", "local", "starter")]
    answer = (await store.answer(question, press, messages=messages)).answer
    await store.posted(answer.id, f"9{question.ts}")
    return answer


async def rows(store: Store, table: str) -> int:
    async with store.database.reading() as session:
        return int(
            (await (await session.connection()).execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        )


async def lease_runs_out(store: Store, table: str, row_id: str) -> None:
    async with store.database.writing() as session:
        await (await session.connection()).execute(
            text(f"UPDATE {table} SET lease_until = :past WHERE id = :id"),
            {
                "past": "2020-01-01 00:00:00+00:00"
                if "sqlite" in store.database.url
                else datetime(2020, 1, 1, tzinfo=UTC),
                "id": row_id,
            },
        )
