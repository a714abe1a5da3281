"""The terminal's commands about what models learn from: datasets, what changed between two of them, and lineage."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import say, table, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from storage.records import DatasetVersion

SHOWN = 12
ACTIONS = "nothing, show or diff"


def datasets(
    action: Annotated[
        str, typer.Argument(metavar="[show ID | diff A B]", help="What to do; without it, list.")
    ] = "",
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="", help="Ids, or their first digits.", hidden=True)
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """List the frozen datasets, show one, or say what changed from one to another.

    A dataset is named by the hash of its content; its first digits are enough. "newest" is the one frozen last.

    \b
    Examples:
      apprentice datasets
      apprentice datasets show newest
      apprentice datasets diff 3f2a9c 81d07e
    """
    settings = options.settings_from(data_dir, env_file)
    named = ids or []
    match action, len(named):
        case "", 0:
            options.carry_out(_list(settings, as_json))
        case "show", 1:
            options.carry_out(_show(settings, named[0], as_json))
        case "diff", 2:
            options.carry_out(_diff(settings, named, as_json))
        case _:
            words = f"write {ACTIONS}: `apprentice datasets show ID`, `apprentice datasets diff A B`."
            raise typer.BadParameter(words)


async def _list(settings: Any, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        found = await _of_team(place)
    if as_json:
        tell_json([_row_json(each) for each in found])
        return ExitCode.DONE
    if not found:
        say("Nothing was frozen yet: `apprentice train` freezes the first dataset.")
        return ExitCode.NOTHING_DONE
    rows = [["dataset", "kind", "frozen", "train", "validation", "test", "erased"]]
    for each in found:
        counts = (each.train, each.validation, each.test, each.erased)
        rows.append([each.id[:SHOWN], each.kind, f"{each.frozen_at:%Y-%m-%d %H:%M}", *map(str, counts)])
    tell(table(rows))
    return ExitCode.DONE


async def _show(settings: Any, name: str, as_json: bool) -> ExitCode:
    from training.dataset_difference import Difference
    from training.datasets import verify

    async with options.opened(settings) as place:
        found = _named(await _of_team(place), name)
    wrong = await asyncio.to_thread(verify, Path(found.path))
    if as_json:
        tell_json(
            {**_row_json(found), "manifest": found.manifest, "difference": found.difference, "wrong": wrong}
        )
        return ExitCode.ERROR if wrong else ExitCode.DONE
    tell(f"Dataset {found.id}, {found.kind}, frozen {found.frozen_at:%Y-%m-%d %H:%M} in {found.path}")
    tell(f"{found.train:,} rows to train on, {found.validation:,} to watch it, {found.test:,} held out")
    preferences = found.manifest.get("preferences")
    if preferences:
        tell(f"{preferences:,} preferences")
    if disliked := found.manifest.get("unpaired"):
        tell(f"{disliked:,} disliked answers")
    for title in ("origins", "dropped"):
        for what, count in (found.manifest.get(title) or {}).items():
            tell(f"  {'left out: ' if title == 'dropped' else 'from '}{what}: {count:,}")
    difference = Difference.from_json(found.difference)
    if difference is not None:
        tell(difference.in_words())
    if found.erased:
        tell(f"{found.erased:,} rows were taken out again, because somebody was forgotten.")
    for each in wrong:
        say(f"It is not what was frozen: {each}.")
    if not wrong:
        tell("Every byte of it is as it was frozen.")
    return ExitCode.ERROR if wrong else ExitCode.DONE


async def _diff(settings: Any, names: Sequence[str], as_json: bool) -> ExitCode:
    from training.dataset_difference import CHANGES, changes, summed
    from training.dataset_files import rows_of

    async with options.opened(settings) as place:
        known = await _of_team(place)
    old, new = (_named(known, name) for name in names)
    found = changes(rows_of(Path(old.path)), rows_of(Path(new.path)))
    if as_json:
        ids: dict[str, list[str]] = {kind: [] for kind in CHANGES}
        for kind, row in found:
            ids.get(kind, []).append(row)
        tell_json(
            {"from": old.id, "to": new.id, **{kind: len(rows) for kind, rows in ids.items()}, "ids": ids}
        )
        return ExitCode.DONE
    difference = summed(found, old.id)
    tell(difference.in_words())
    for kind, first in difference.ids.items():
        for row in first:
            tell(f"  {kind}: {row}")
        if difference.counts[kind] > len(first):
            tell(f"  ... and {difference.counts[kind] - len(first):,} more {kind}")
    return ExitCode.DONE


async def _of_team(place: options.Opened) -> "list[DatasetVersion]":
    return [each for each in await place.store.datasets() if each.team in {"", place.team}]


def _named(known: "Sequence[DatasetVersion]", name: str) -> "DatasetVersion":
    """The one dataset whose id begins so. Raises PublicError where it is none, or more than one."""
    if name == "newest" and known:
        return known[-1]
    found = [each for each in known if each.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} datasets begin with" if found else "There is no dataset"
    raise PublicError(f"{what} {name!r}. `apprentice datasets` lists them.")


def _row_json(row: "DatasetVersion") -> dict[str, Any]:
    names = ("id", "kind", "path", "train", "validation", "test", "parent_id", "erased", "frozen_at")
    return {name: getattr(row, name) for name in names}


def lineage(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="An answer, an entry, a question, a link to a message, a dataset's row, or a model.",
        ),
    ],
    people: Annotated[bool, typer.Option("--people", help="Name people by their Slack ids.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Say where something came from, and which datasets, models and provider files learned from it.

    People are pseudonyms unless --people is given.

    \b
    Examples:
      apprentice lineage https://example.slack.com/archives/C012ABCDEF/p1700000000123456
      apprentice lineage local-3
    """
    options.carry_out(_lineage(options.settings_from(data_dir, env_file), ref, people, as_json))


async def _lineage(settings: Any, ref: str, people: bool, as_json: bool) -> ExitCode:
    from training.lineage import Names, in_words, to_json
    from training.lineage import lineage as follow

    async with options.opened(settings) as place:
        found = await follow(place.store, place.team, ref)
        names = Names(await place.store.identity_key(place.team), people=people)
    if found.empty:
        say(
            f"Nothing is known of {ref!r}. Give the id of an answer or an entry, a link to a message, or a model's name."
        )
        return ExitCode.NOTHING_DONE
    if as_json:
        tell_json({"ref": ref, **to_json(found, names)})
        return ExitCode.DONE
    for line in in_words(found, names):
        tell(line)
    return ExitCode.DONE
