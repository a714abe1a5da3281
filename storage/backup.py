"""Copies of a SQLite database: made while others read and write, checked before one is trusted."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic.script import ScriptDirectory

from storage.errors import PublicError
from storage.migrate import alembic_config


def copy_database(file: Path, target: Path) -> None:
    """A whole, compact copy as of one moment; nobody has to wait for it, and what was deleted is not in it.

    `sqlite3.Connection.backup` would begin anew with every write of another process, and may never end.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as source:
        source.execute("VACUUM INTO ?", (str(target),))


def check_database(file: Path) -> str:
    """The revision of a copy. Raises PublicError where it is damaged, no database of ours, or of a newer program."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as copy:
            said = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            broken = copy.execute("PRAGMA foreign_key_check").fetchone()
            revision = str(copy.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise PublicError(
            f"{file.name} is not a database of Apprentice ({error}). Choose another backup."
        ) from None
    if said != "ok" or broken:
        raise PublicError(f"{file.name} is damaged ({said}). Choose another backup.")
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if revision not in known:
        raise PublicError(
            f"{file.name} was made by a newer Apprentice (revision {revision}). Update the program first."
        )
    return revision
