"""Whoever acted in every role there is, is found nowhere afterwards: every column of every table is looked at."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, empty_database
from forget_rig import traces_in_tables
from old_rows import fill_tables
from sqlalchemy import JSON, Column, Enum, String, Table
from sqlalchemy.types import TypeDecorator

from storage.record import Record
from storage.store import Store

TEAM, MIRA = "team 2", "U0MIRA77"
LISTS = {"authors", "waiting_for", "approvals"}
NOBODY_IN_IT = {
    "embedding model": "entry_embedding.model",
    "the work of forgetting itself, until it is done": "forgetting.person",
    "the hash that means a person": "forgetting.digest",
    "the workspace": "team",
}


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with two rows in every table, on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    async with opened.database.engine.begin() as connection:
        await connection.run_sync(fill_tables)
    yield opened
    await opened.close()


async def test_every_column_that_can_hold_a_person_is_cleared(store: Store) -> None:
    """Asked, rated, decided, granted, kept, lifted, approved, cancelled, promoted: nothing of it names them any more."""
    written = await written_everywhere(store)
    assert {"decision.actor", "expert.granted_by", "forgetting.asked_by", "quarantine.lifted_by"} <= written
    found = {trace.partition(":")[0] for trace in await traces_in_tables(store, [MIRA])}
    assert found == written, "the search sees each of them"
    await store.forget(TEAM, MIRA)
    assert await traces_in_tables(store, [MIRA]) == []


async def test_another_workspace_keeps_its_person_of_that_id(store: Store) -> None:
    """Ids of Slack mean somebody within one workspace."""
    written = await written_everywhere(store)
    await store.forget("team 1", MIRA)
    assert {trace.partition(":")[0] for trace in await traces_in_tables(store, [MIRA])} == written


async def written_everywhere(store: Store) -> set[str]:
    """Their id, in the rows of one workspace, wherever a text or a value can lie that is no key and no state."""
    written: set[str] = set()
    async with store.database.engine.begin() as connection:
        for table in Record.metadata.sorted_tables:
            values = {column.name: named(column) for column in table.columns if can_name(table, column)}
            if values:
                of_team = {"team": TEAM} if "team" in table.columns else {}
                change = table.update().where(last_row(table)).values(**values, **of_team)
                assert (await connection.execute(change)).rowcount == 1, table.name
                written.update(f"{table.name}.{name}" for name in values)
    return written


def can_name(table: Table, column: Column[Any]) -> bool:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    text = isinstance(kind, String | JSON) and not isinstance(kind, Enum)
    left_out = {column.name, f"{table.name}.{column.name}"} & set(NOBODY_IN_IT.values())
    keeps = table.name == "keepsake"  # those are found by their names
    return text and not (column.primary_key or column.foreign_keys or left_out or keeps)


def named(column: Column[Any]) -> Any:
    if column.name == "messages":
        return [{"role": "system", "content": f"as {MIRA} said"}, {"role": "user", "content": MIRA}]
    if isinstance(column.type, JSON) or getattr(column.type, "impl", None).__class__ is JSON:
        return [MIRA] if column.name in LISTS else {"by": MIRA, MIRA: [1]}
    return MIRA


def last_row(table: Table) -> Any:
    first, *_ = table.primary_key.columns
    if "team" in table.columns:
        return table.columns["team"].in_([TEAM, TEAM.replace(" ", "-")])
    return first == (2 if first.type.python_type is int else f"{table.name}-2")
