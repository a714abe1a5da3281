"""The terminal's commands about which model answers: models, promote, rollback."""

import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot import cli_show as show
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode, Opened
from bot.cli_show import say, tell, tell_json

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.records import ModelVersion


def models(as_json: AsJson = False, data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """List the models there are, and which of them answers now.

    \b
    Example: apprentice models
    """
    options.carry_out(_models(options.settings_from(data_dir, env_file), as_json))


async def _models(settings: "Settings", as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        versions = await place.store.models(place.team)
        current = await place.store.current(place.team)
    serving = current.id if current else None
    if as_json:
        base = {"name": "base", "label": settings.base_label, "current": serving is None}
        tell_json([base, *(_model_json(version, serving) for version in versions)])
        return ExitCode.DONE
    rows = [["", "model", "made", "of", "note"]]
    rows.append(["now" if serving is None else "", "base", "", settings.base_label, ""])
    for version in versions:
        mark = "now" if version.id == serving else ""
        made = f"{version.registered_at:%Y-%m-%d %H:%M}"
        rows.append([mark, version.name, made, Path(version.base_model).name, version.tainted])
    tell(show.table(rows))
    return ExitCode.DONE


def _model_json(version: "ModelVersion", serving: str | None) -> dict[str, Any]:
    names = ["name", "base_model", "sha256", "dataset_id", "tainted", "registered_at", "card"]
    return {"current": version.id == serving, **{name: getattr(version, name) for name in names}}


def promote(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model that `apprentice models` lists, or base.")
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="WORDS", help="Why, for those who ask later.")
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Let a model answer from the next question on.

    It is loaded first: what cannot answer is not promoted. A running bot takes it over by itself.

    \b
    Example: apprentice promote local-3 --reason "better on held-out questions"
    """
    options.carry_out(_promote(options.settings_from(data_dir, env_file), name, reason, as_json))


async def _promote(settings: "Settings", name: str, reason: str, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        version = await options.version_named(place, name)
        if await _serves(place, version):
            say(f"{name} answers already.")
            return ExitCode.NOTHING_DONE
        if version is not None and version.tainted:
            say(f"Note that {name} {version.tainted}.")
        async with options.workshop(place) as shop:
            await shop.serving.promote(
                version,
                by=options.operator(),
                decision=f"promote:{uuid.uuid4().hex}",
                reason=reason or "asked for in the terminal",
            )
    return _tell_serving(name, as_json)


async def _serves(place: Opened, version: "ModelVersion | None") -> bool:
    current = await place.store.current(place.team)
    return (current.id if current else None) == (version.id if version else None)


def _tell_serving(name: str, as_json: bool) -> ExitCode:
    if as_json:
        tell_json({"current": name, "at": datetime.now().astimezone()})
    else:
        tell(f"{name} answers from the next question on. `apprentice rollback` takes it back.")
    return ExitCode.DONE


def rollback(as_json: AsJson = False, data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """Let the model answer again that did so before the newest promotion.

    \b
    Example: apprentice rollback
    """
    options.carry_out(_rollback(options.settings_from(data_dir, env_file), as_json))


async def _rollback(settings: "Settings", as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        if await place.store.newest_promotion(place.team) is None:
            say("Nothing was promoted yet, so there is nothing to roll back.")
            return ExitCode.NOTHING_DONE
        async with options.workshop(place) as shop:
            await shop.serving.roll_back(by=options.operator())
        current = await place.store.current(place.team)
    return _tell_serving(current.name if current else "base", as_json)
