"""The terminal's commands against loss: backup and restore."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.restoring import Forgotten


def backup(
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUT]", help="A new .tar file; one named by the time in DATA_DIR/backups without it."
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Back up the database, the models and the datasets into one file, while the bot goes on.

    With PostgreSQL the file holds models and datasets only; the database is backed up with pg_dump (deploy/backup.md).
    A backup holds people's words: who is forgotten later is still in it. Restoring it forgets them again.

    \b
    Example: apprentice backup /mnt/backups/apprentice.tar
    """
    from bot import backups

    settings = options.settings_from(data_dir, env_file)
    file = out or backups.default_name(settings.data_dir)
    contents = backups.back_up(settings.data_dir, _database_file(settings), file)
    if as_json:
        tell_json(
            {
                "file": str(file),
                "made_at": contents.made_at,
                "bytes": contents.size,
                "files": len(contents.files),
            }
        )
    else:
        tell(backups.in_words(contents, file))
    if _database_file(settings) is None:
        say(
            "The database is on a server and not in this file: back it up with pg_dump, see deploy/backup.md."
        )
    raise typer.Exit(ExitCode.DONE)


def restore(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `apprentice backup` made.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether I am sure.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Put back what a backup holds. The bot must be stopped; what is there now is kept beside it under another name.

    The file is unpacked and checked whole before anything is replaced. People who were forgotten since the backup are
    forgotten again.

    \b
    Example: apprentice restore apprentice-20261123-040000.tar
    """
    from bot import backups
    from bot.workshop import DataLock

    settings = options.settings_from(data_dir, env_file)
    lock = DataLock(settings.data_dir)
    if not lock.take():
        raise PublicError(f"A bot is running on {settings.data_dir}. Stop it, then restore.")
    try:
        if not yes and not _sure(settings.data_dir):
            say("Nothing was changed.")
            raise typer.Exit(ExitCode.NOTHING_DONE)
        forgotten = asyncio.run(_forgotten_since(settings))
        contents, aside = backups.restore(archive, settings.data_dir, _database_file(settings))
        again = asyncio.run(_settle(settings, forgotten))
    finally:
        lock.release()
    if as_json:
        tell_json(
            {
                "file": str(archive),
                "made_at": contents.made_at,
                "kept": [str(each) for each in aside],
                "forgotten": again,
            }
        )
    else:
        tell(f"Restored from {archive}, made at {contents.made_at}.")
        for each in aside:
            say(f"What was there before is {each}; delete it when all is well.")
        if again:
            say(f"{again} people asked to be forgotten since: they are forgotten again when the bot starts.")
    raise typer.Exit(ExitCode.DONE)


def _sure(data_dir: Path) -> bool:
    if not sys.stdin.isatty():
        raise PublicError(
            f"The database and the models in {data_dir} would be replaced. Add --yes if you are sure."
        )
    return typer.confirm(f"Replace the database and the models in {data_dir}?", err=True)


def _database_file(settings: "Settings") -> Path | None:
    from storage.database import sqlite_file

    return sqlite_file(settings.database)


async def _forgotten_since(settings: "Settings") -> "list[Forgotten]":
    """Who was forgotten so far; none where there is no database or it cannot be read any more."""
    from storage.store import Store

    file = _database_file(settings)
    if file is not None and not file.exists():
        return []
    try:
        store = await Store.open(settings.database)
    except PublicError:
        return []
    try:
        return await store.forgotten()
    finally:
        await store.close()


async def _settle(settings: "Settings", forgotten: "list[Forgotten]") -> int:
    """Bring the restored tables up to date, tell them where the files lie now, and forget again who was forgotten since."""
    from storage.store import Store

    store = await Store.open(settings.database)
    try:
        await store.relocate(settings.data_dir.resolve())
        return await store.forget_again(forgotten)
    finally:
        await store.close()
