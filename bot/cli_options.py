"""What the commands of the terminal share: their options and exit codes, and the opened store or workshop they work on.

Importing it is cheap; whatever costs time is imported where it is used. It prints nothing.
"""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from bot.workshop import Workshop
    from storage.records import ModelVersion
    from storage.store import Store

TERMINAL = "terminal"


class ExitCode(IntEnum):
    """How a command ended. `apprentice --help` says the same in words."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    NOTHING_DONE = 3
    FAILED = 4
    INTERRUPTED = 130


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="The data directory, instead of DATA_DIR."),
]
EnvFile = Annotated[
    Path | None,
    typer.Option("--env-file", metavar="FILE", help="The file with the settings, instead of .env here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]


@dataclass(frozen=True, slots=True)
class Opened:
    """The store of an installation, and the workspace that the terminal speaks for."""

    settings: "Settings"
    store: "Store"
    team: str


def settings_from(data_dir: Path | None, env_file: Path | None, **overrides: object) -> "Settings":
    """The settings as the command line changes them, with the log set up for a command that comes to an end.

    Raises PublicError where they cannot be used.
    """
    from bot import logs
    from bot.settings import Settings

    settings = Settings.read(_env_file(env_file), **_overrides(data_dir, overrides))
    logs.set_up("WARNING" if settings.log_level == "INFO" else settings.log_level, settings.log_format)
    return settings


def _env_file(named: Path | None) -> Path:
    if named is not None and not named.exists():
        raise PublicError(f"There is no file {named}. Copy .env.example to it, or leave --env-file out.")
    return named or Path(".env")


def _overrides(data_dir: Path | None, overrides: dict[str, object]) -> dict[str, object]:
    return overrides if data_dir is None else {**overrides, "data_dir": data_dir}


def operator() -> str:
    """Who sits at the terminal, as decisions remember it: "terminal:ann"."""
    try:
        return f"{TERMINAL}:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"{TERMINAL}:{os.getuid()}"


def carry_out(command: Coroutine[Any, Any, ExitCode]) -> NoReturn:
    """Run a command to its end and leave with its exit code."""
    raise typer.Exit(asyncio.run(command))


def _make(folder: Path) -> None:
    """The data directory, which commands work in wherever the database is. Raises PublicError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublicError(
            f"The data directory {folder} cannot be made ({error.strerror}). "
            "Free some space, correct its permissions, or set DATA_DIR."
        ) from None


@asynccontextmanager
async def opened(settings: "Settings") -> AsyncIterator[Opened]:
    """The store, and the workspace that was served last. Raises PublicError where the database cannot be used."""
    from bot.redacting import install_rules
    from storage.names import install_names
    from storage.store import Store

    install_rules(settings)
    _make(settings.data_dir)
    store = await Store.open(settings.database)
    try:
        team = await _team(settings, store)
        await install_names(store, team)
        yield Opened(settings, store, team)
    finally:
        await store.close()


async def _team(settings: "Settings", store: "Store") -> str:
    """The workspace served last; before real Slack was ever served, Slack is asked which one it is."""
    from bot.workshop import LOCAL_TEAM, TEAM

    served = await store.keepsake(TEAM, lambda: LOCAL_TEAM)
    if served != LOCAL_TEAM or not settings.on_slack:
        return served
    from bot.app import who_we_are

    return (await who_we_are(settings)).team


@asynccontextmanager
async def workshop(place: Opened) -> AsyncIterator["Workshop"]:
    """Everything that answers and learns, without Slack. What it reports is read from the store by the command."""
    from bot.workshop import Workshop

    async def unreported(_row: object) -> None:
        return

    shop = await Workshop.open(
        place.settings,
        place.store,
        team=place.team,
        report_run=unreported,
        report_evaluation=unreported,
    )
    try:
        yield shop
    finally:
        await shop.close()


async def version_named(place: Opened, name: str) -> "ModelVersion | None":
    """A model version by its name; None for the base. Raises PublicError that names those there are."""
    if name == "base":
        return None
    version = await place.store.model_named(place.team, name)
    if version is None:
        known = ["base", *(each.name for each in (await place.store.models(place.team))[-10:])]
        raise PublicError(f"There is no model called {name!r}. There are: {', '.join(known)}.")
    return version
