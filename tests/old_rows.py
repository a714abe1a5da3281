"""Rows as an older version of the program would have left them: two in every table of its revision, whatever its columns."""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from storage.database import Database
from storage.migrate import alembic_config, upgrade

NEVER_WRITTEN = {"0001_baseline": {"duel"}}
"""Tables that a version had and did not use: what made them anew says so."""
AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def revisions() -> list[str]:
    """Every revision that was ever released, the oldest first, without the newest."""
    script = ScriptDirectory.from_config(alembic_config())
    return [each.revision for each in script.walk_revisions()][::-1][:-1]


async def live_at(database: Database, revision: str) -> dict[str, int]:
    """Make the tables of a revision and put rows into each; how many there are by table."""
    await upgrade(database, revision)
    async with database.engine.begin() as connection:
        return await connection.run_sync(fill_tables, NEVER_WRITTEN.get(revision, set()))


def at_revision(connection: Connection) -> str | None:
    """Where a database stands."""
    return MigrationContext.configure(connection).get_current_revision()


def fill_tables(connection: Connection, without: Collection[str] = ()) -> dict[str, int]:
    """Two rows for every table there is but these; how many there are by table."""
    metadata = MetaData()
    metadata.reflect(connection)
    counts: dict[str, int] = {}
    for table in metadata.sorted_tables:
        if table.name == "alembic_version" or table.name in without:
            continue
        allowed = _allowed(connection, table)
        made = [_row(table, number, allowed) for number in (1, 2)]
        connection.execute(table.insert(), made)
        counts[table.name] = len(made)
    return counts


def _row(table: sa.Table, number: int, allowed: dict[str, str]) -> dict[str, Any]:
    """Every column gets a value of its kind; references go to the row of the same number."""
    return {column.name: _value(column, number, allowed) for column in table.columns}


def _value(column: sa.Column[Any], number: int, allowed: dict[str, str]) -> Any:
    if column.name in allowed:
        return allowed[column.name]
    if column.foreign_keys:
        (reference,) = column.foreign_keys
        return f"{reference.column.table.name}-{number}"
    if column.primary_key and isinstance(column.type, sa.String):
        return f"{column.table.name}-{number}" if column.name == "id" else f"{column.name}-{number}"
    kinds: Sequence[tuple[type[sa.types.TypeEngine[Any]], Any]] = (
        (sa.Boolean, True),
        (sa.Integer, number),
        (sa.Float, 0.25),
        (sa.DateTime, AT),
        (sa.JSON, {"number": number}),
        (sa.LargeBinary, b"\x00\x01"),
        (sa.String, f"{column.name} {number}"),
    )
    return next(value for kind, value in kinds if isinstance(column.type, kind))


def _allowed(connection: Connection, table: sa.Table) -> dict[str, str]:
    """A value for each column that a CHECK constraint guards: its first."""
    found: dict[str, str] = {}
    for check in sa.inspect(connection).get_check_constraints(table.name):
        said = check["sqltext"]
        names = set(re.findall(r"\w+", re.sub(r"'[^']*'|::[\w ]+", " ", said)))
        column = next((each.name for each in table.columns if each.name in names), "")
        values = said.split("'")
        if column and len(values) > 1:
            found[column] = values[1]
    return found
