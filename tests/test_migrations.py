"""What happens to a database when the program is updated, on SQLite and on PostgreSQL alike."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import DATABASES, TEAM, ask, bare_database, reply, rows
from old_rows import at_revision, fill_tables, live_at, revisions
from sqlalchemy import Connection, DateTime, bindparam, text

import storage.migrate
from storage.database import Database
from storage.errors import PublicError
from storage.migrate import upgrade
from storage.records import Record
from storage.store import Store

# A later version that rebuilds a table which others refer to: SQLite cannot alter one in place.
LATER = '''"""A later version"""

import sqlalchemy as sa
from alembic import op

revision = "9999_later"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    rebuild = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("question", recreate=rebuild) as table:
        table.add_column(sa.Column("mood", sa.String(), nullable=False, server_default="calm"))
{breaks}
'''


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return bare_database(request, tmp_path)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A connection to it, before any migration."""
    opened = Database(url)
    yield opened
    await opened.close()


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """Where a later revision will lie, in a copy of our migrations."""
    folder = tmp_path / "migrations"
    shutil.copytree(storage.migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "versions" / "9999_later.py"


def publish(later: Path, monkeypatch: pytest.MonkeyPatch, *, breaks: str = "") -> None:
    """Update the program: from now on it knows the later revision."""
    later.write_text(LATER.format(head=newest_revision(), breaks=breaks))
    monkeypatch.setattr(storage.migrate, "MIGRATIONS", later.parent.parent)


def copies(folder: Path) -> list[Path]:
    return list(folder.glob("*.before-*"))


def newest_revision() -> str:
    head = ScriptDirectory.from_config(storage.migrate.alembic_config()).get_current_head()
    assert head is not None
    return head


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Record.metadata))


async def revision(database: Database) -> str | None:
    async with database.engine.connect() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def test_the_migrations_make_exactly_the_tables_of_the_records(database: Database) -> None:
    """Whoever changes a record and forgets its migration learns it here."""
    await upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_forgotten_migration_would_be_noticed(database: Database) -> None:
    """The comparison above sees a column that is not there."""
    await upgrade(database)
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE rating DROP COLUMN reason"))
    async with database.engine.connect() as connection:
        (found,) = await connection.run_sync(differences)
    assert "reason" in str(found)


async def test_states_are_checked_by_the_migrated_database(database: Database) -> None:
    """The CHECK constraints, which a comparison does not see, are there."""
    await upgrade(database)
    kind = "sqlite" if database.url.startswith("sqlite") else "postgresql"
    ask_sqlite = "SELECT sql FROM sqlite_master WHERE type = 'table'"
    ask_postgres = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c'"
    async with database.engine.connect() as connection:
        found = await connection.execute(text(ask_sqlite if kind == "sqlite" else ask_postgres))
        said = " ".join(row[0] for row in found)
    for state in ("'dropped'", "'cancelled'", "'evaluating'"):
        assert state in said


async def test_upgrading_again_changes_nothing(url: str) -> None:
    """A restart opens what is there."""
    first = await Store.open(url)
    await ask(first)
    await first.close()
    second = await Store.open(url)
    assert await rows(second, "question") == 1
    await second.close()


async def test_replicas_that_start_together_upgrade_once(url: str) -> None:
    """Whoever comes second waits and finds the tables there."""
    stores = await asyncio.gather(*(Store.open(url) for _ in range(3)))
    assert await revision(stores[0].database) == newest_revision()
    for store in stores:
        await store.close()


async def test_an_upgrade_keeps_every_row(url: str, later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuilding `question` on SQLite with foreign keys on would silently delete every answer and rating."""
    old = await Store.open(url)
    for number in range(3):
        answer = await reply(old, await ask(old, ts=f"{number}.0"))
        await old.rate(answer.id, team=TEAM, rater="U2", value=1)
    await old.close()

    publish(later, monkeypatch)
    new = await Store.open(url)
    assert [await rows(new, table) for table in ("question", "candidate", "answer", "rating")] == [3, 3, 3, 3]
    assert await rows(new, "question WHERE mood = 'calm'") == 3
    assert await revision(new.database) == "9999_later"
    assert await new.delete_question(TEAM, "C1", "0.0")
    assert await rows(new, "rating") == 2, "foreign keys are on again"
    await new.close()


async def test_an_upgrade_that_fails_leaves_the_old_database(
    url: str, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an upgrade is none: the old program can go on."""
    old = await Store.open(url)
    await reply(old, await ask(old))
    before = await revision(old.database)
    publish(later, monkeypatch, breaks="    raise RuntimeError('the disk is full')")
    with pytest.raises(RuntimeError, match="the disk is full"):
        await upgrade(old.database)
    assert await revision(old.database) == before
    assert await rows(old, "answer") == 1
    assert await old.delete_question(TEAM, "C1", "1.0")
    assert await rows(old, "answer") == 0, "foreign keys are on again"
    await old.close()


@pytest.mark.sqlite("PostgreSQL checks references by itself")
async def test_an_upgrade_that_breaks_references_is_refused(
    tmp_path: Path, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, where foreign keys are off meanwhile, they are checked before anything is kept."""
    old = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    await reply(old, await ask(old))
    publish(later, monkeypatch, breaks="    op.execute('DELETE FROM candidate')")
    with pytest.raises(RuntimeError, match="broke 1 references"):
        await upgrade(old.database)
    assert await rows(old, "candidate") == 1
    await old.close()


@pytest.mark.sqlite("the copy is of its file")
async def test_a_copy_is_made_before_an_upgrade(
    tmp_path: Path, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not like the new version has the file as it was; a restart makes no further copy."""
    file = tmp_path / "apprentice.sqlite"
    old = await Store.open(f"sqlite:///{file}")
    await ask(old)
    await old.close()
    assert copies(tmp_path) == []
    before = newest_revision()
    publish(later, monkeypatch)
    for _ in range(2):
        await (await Store.open(f"sqlite:///{file}")).close()
    (copy,) = copies(tmp_path)
    assert copy.name == f"apprentice.sqlite.before-{before}"
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM question").fetchone() == (1,)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (before,)


async def test_a_database_of_a_newer_program_is_left_alone(url: str) -> None:
    """An older program would not know what the newer one wrote."""
    store = await Store.open(url)
    async with store.database.writing() as session:
        await (await session.connection()).execute(
            text("UPDATE alembic_version SET version_num = 'from_2031'")
        )
    await store.close()
    with pytest.raises(PublicError, match=r"newer Apprentice \(revision from_2031\)\. Update the program"):
        await Store.open(url)


@pytest.mark.sqlite("what else its file may be")
@pytest.mark.parametrize(
    "content",
    [b"Dear diary, today I was no database at all. " * 100, b"SQLite format 3\x00" + b"\xff" * 4000],
)
async def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    """Nothing is overwritten, and the sentence says what to do."""
    file = tmp_path / "apprentice.sqlite"
    file.write_bytes(content)
    with pytest.raises(
        PublicError, match=r"apprentice\.sqlite is not a usable database .*Move the file away"
    ):
        await Store.open(f"sqlite:///{file}")
    assert file.read_bytes() == content


@pytest.mark.parametrize("revision", revisions())
async def test_every_earlier_version_is_brought_up_to_date_with_its_rows(
    database: Database, revision: str
) -> None:
    """Rows in every table that it had; afterwards all of them are there, and every reference holds."""
    there = await live_at(database, revision)
    assert len(there) >= 15
    await upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(at_revision) == newest_revision()
        for table, count in there.items():
            found = (await connection.execute(text(f'SELECT count(*) FROM "{table}"'))).scalar_one()
            assert found >= count, f"{table}: {found} of {count} rows are left"
        if "sqlite" in database.url:
            assert (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all() == []
            assert (await connection.exec_driver_sql("PRAGMA integrity_check")).scalar_one() == "ok"
    store = Store(database)
    assert (await ask(store, ts="after the upgrade")).id


async def test_places_of_earlier_questions_are_learned_from_their_channel(database: Database) -> None:
    """0010: what was kept without one gets that of the newest one in its channel; where nobody knows it stays private."""
    await upgrade(database, "0009_distilling")
    said = {
        "1": ("T1", "C1", ""),
        "2": ("T1", "C1", "group"),
        "3": ("T1", "C1", "channel"),
        "4": ("T1", "C2", ""),
        "5": ("T2", "C1", ""),
        "6": ("T1", "D1", ""),
    }
    async with database.engine.begin() as connection:
        await connection.run_sync(fill_tables)
        copied = {"id", "team", "channel", "place", "ts", "asked_at"}
        columns = ", ".join(
            each.name for each in Record.metadata.tables["question"].columns if each.name not in copied
        )
        for number, (team, channel, place) in said.items():
            await connection.execute(
                text(
                    f"INSERT INTO question (id, team, channel, place, ts, asked_at, {columns}) "
                    f"SELECT :id, :team, :channel, :place, :id, :at, {columns} FROM question WHERE id = 'question-1'"
                ).bindparams(bindparam("at", type_=DateTime(timezone=True))),
                {"id": number, "team": team, "channel": channel, "place": place, "at": _at(number)},
            )
    await upgrade(database)
    async with database.engine.connect() as connection:
        told = (await connection.execute(text("SELECT id, place FROM question"))).tuples().all()
    found: dict[str, str] = {str(number): str(place) for number, place in told}
    assert {number: found[number] for number in said} == {
        "1": "channel",
        "2": "group",
        "3": "channel",
        "4": "",
        "5": "",
        "6": "im",
    }


def _at(number: str) -> datetime:
    return datetime(2026, 11, 20, 12, int(number), tzinfo=UTC)
