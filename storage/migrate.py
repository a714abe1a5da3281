"""Bring the tables up to date (Alembic), from code: no ini file to find, works from a wheel.

On SQLite foreign keys are off while tables are rebuilt (batch mode would otherwise delete the rows that refer to them) and
checked afterwards; a file with rows is copied first with VACUUM INTO.
"""

import asyncio
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, OperationalError

from storage.database import Database, sqlite_file
from storage.errors import PublicError

MIGRATIONS = Path(__file__).parent / "migrations"
BEFORE = ".before-"


def alembic_config() -> Config:
    """Alembic's configuration for our migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """Upgrade to the newest revision. Raises PublicError where the file is no database or newer than this program."""
    try:
        async with database.engine.connect() as connection:
            if await connection.run_sync(_is_current) and revision == "head":
                return
    except (DatabaseError, OperationalError) as error:
        raise PublicError(
            f"{database.engine.url.render_as_string(hide_password=True)} is not a usable database "
            f"({str(getattr(error, 'orig', error)).strip()}). Move the file away or restore a backup."
        ) from None
    await asyncio.to_thread(_back_up, database)
    async with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            await driver.execute("PRAGMA foreign_keys=OFF")
            try:
                await (
                    connection.begin()
                )  # ours, so that Alembic does not commit before the references are checked
                await connection.run_sync(_upgrade, revision)
                await connection.commit()
            finally:
                await connection.rollback()  # inside a transaction the pragma would do nothing
                await driver.execute("PRAGMA foreign_keys=ON")
        else:
            await connection.execute(text("SELECT pg_advisory_xact_lock(72617461)"))
            await connection.run_sync(_upgrade, revision)
            await connection.commit()


async def is_current(database: Database) -> bool:
    """Whether the tables are those of this program; changes nothing. Raises PublicError where a newer program made them."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(_is_current)


def _is_current(connection: Connection) -> bool:
    at = MigrationContext.configure(connection).get_current_revision()
    known = _revisions(MIGRATIONS)
    if at is not None and at not in known:
        raise PublicError(
            f"The database was made by a newer Apprentice (revision {at}). Update the program, or use the backup."
        )
    return at == known[0]


@cache
def _revisions(_folder: Path) -> tuple[str, ...]:
    """Those of a folder of migrations, the newest first; Alembic compiles every file each time it is asked."""
    return tuple(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def _upgrade(connection: Connection, revision: str) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RuntimeError(f"migration broke {len(broken)} references, first: {broken[0]}")


def delete_copies(url: str) -> list[str]:
    """Delete the files as they were before updates, where what they hold is struck out by now; their names.

    What a restore put aside is somebody's own decision and stays.
    """
    file = sqlite_file(url)
    if file is None:
        return []
    restored = f"{file.name}{BEFORE}restore-"
    found = sorted(file.parent.glob(f"{file.name}{BEFORE}*"))
    copies = [each for each in found if each.is_file() and not each.name.startswith(restored)]
    for each in copies:
        each.unlink(missing_ok=True)
    return [each.name for each in copies]


def _back_up(database: Database) -> None:
    file = sqlite_file(database.url)
    if file is None or not file.exists() or file.stat().st_size == 0:
        return
    with closing(sqlite3.connect(file)) as source:
        versioned = source.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = source.execute("SELECT version_num FROM alembic_version").fetchone() if versioned else None
        if row is None:
            return
        copy = file.with_name(f"{file.name}{BEFORE}{row[0]}")
        copy.unlink(missing_ok=True)
        source.execute("VACUUM INTO ?", (str(copy),))
