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
from bot.errors import PublicError

HISTORY = 10

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.records import Canary, ModelVersion, Promotion


def models(as_json: AsJson = False, data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """List the models there are, and which of them answers now.

    \b
    Example: apprentice models
    """
    options.carry_out(_models(options.settings_from(data_dir, env_file), as_json))


async def _models(settings: "Settings", as_json: bool) -> ExitCode:
    from bot.model_history import history, names_of

    async with options.opened(settings) as place:
        versions = await place.store.models(place.team)
        current = await place.store.current(place.team)
        promotions = await place.store.promotions(place.team)
        canaries = await place.store.canaries(place.team)
    serving = current.id if current else None
    if as_json:
        base = {"name": "base", "label": settings.base_label, "current": serving is None}
        told: list[dict[str, Any]] = [base, *(_model_json(version, serving) for version in versions)]
        for each in told[1:]:
            each["canaries"] = [_canary_json(one) for one in canaries if one.version_id == each["id"]]
            each["promotions"] = [_promotion_json(one) for one in promotions if one.version_id == each["id"]]
        base["promotions"] = [_promotion_json(one) for one in promotions if one.version_id is None]
        tell_json(told)
        return ExitCode.DONE
    watched = {each.version_id: each for each in canaries if each.ended_at is None}
    rows = [["", "model", "made", "of", "note"]]
    rows.append(["now" if serving is None else "", "base", "", settings.base_label, ""])
    for version in versions:
        canary = watched.get(version.id)
        mark = "now" if version.id == serving else f"{canary.share:.0%}" if canary else ""
        made = f"{version.registered_at:%Y-%m-%d %H:%M}"
        rows.append([mark, version.name, made, Path(version.base_model).name, version.tainted])
    tell(show.table(rows))
    for line in history(promotions, canaries, names_of(versions), limit=HISTORY):
        tell(line)
    return ExitCode.DONE


def _model_json(version: "ModelVersion", serving: str | None) -> dict[str, Any]:
    names = ["id", "name", "base_model", "sha256", "dataset_id", "tainted", "registered_at", "card"]
    return {"current": version.id == serving, **{name: getattr(version, name) for name in names}}


def _canary_json(canary: "Canary") -> dict[str, Any]:
    names = ["share", "started_by", "started_at", "ended_by", "ended_at", "reason", "tally", "specification"]
    return {"state": canary.state.value, **{name: getattr(canary, name) for name in names}}


def _promotion_json(promotion: "Promotion") -> dict[str, Any]:
    rolled_back = promotion.decision.startswith("rollback:")
    names = ["by", "promoted_at", "reason"]
    return {"rollback": rolled_back, **{name: getattr(promotion, name) for name in names}}


def promote(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A model that `apprentice models` lists, or base.")
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="WORDS", help="Why, for those who ask later.")
    ] = "",
    canary: Annotated[
        float | None,
        typer.Option(
            "--canary", metavar="SHARE", help="Only in this share of the threads (0 to 0.5), watched."
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Let a model answer from the next question on; with --canary only in a share of the threads.

    It is loaded first: what cannot answer is not promoted. A running bot takes it over by itself, compares a canary's
    ratings with those of the others, and takes it back where it turns out worse.

    \b
    Example: apprentice promote local-3 --reason "better on held-out questions"
    Example: apprentice promote local-3 --canary 0.2
    """
    settings = options.settings_from(data_dir, env_file)
    if canary is not None:
        options.carry_out(_canary(settings, name, canary, reason, as_json))
    else:
        options.carry_out(_promote(settings, name, reason, as_json))


async def _canary(settings: "Settings", name: str, share: float, reason: str, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        version = await options.version_named(place, name)
        if version is None:
            raise PublicError("The base cannot be a canary. `apprentice promote base` lets it answer again.")
        async with options.workshop(place) as shop:
            canary, _ = await shop.canaries.begin(
                version, by=options.operator(), share=share, reason=reason or "asked for in the terminal"
            )
    if as_json:
        tell_json({"canary": name, **_canary_json(canary)})
    else:
        tell(f"{name} answers {canary.share:.0%} of the threads. `apprentice rollback` ends it.")
    return ExitCode.DONE


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
    """Let the model answer again that did so before the newest promotion; a canary that goes on is ended first.

    \b
    Example: apprentice rollback
    """
    options.carry_out(_rollback(options.settings_from(data_dir, env_file), as_json))


async def _rollback(settings: "Settings", as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        if (watched := await place.store.canary(place.team)) is not None:
            return await _end_canary(place, watched, as_json)
        if await place.store.newest_promotion(place.team) is None:
            say("Nothing was promoted yet, so there is nothing to roll back.")
            return ExitCode.NOTHING_DONE
        async with options.workshop(place) as shop:
            await shop.serving.roll_back(by=options.operator())
        current = await place.store.current(place.team)
    return _tell_serving(current.name if current else "base", as_json)


async def _end_canary(place: Opened, canary: "Canary", as_json: bool) -> ExitCode:
    async with options.workshop(place) as shop:
        await shop.canaries.take_back(canary, by=options.operator())
    ended = await place.store.canary_by_id(canary.id) or canary
    version = await place.store.model(canary.version_id or "")
    if as_json:
        tell_json({"canary": version.name if version else None, **_canary_json(ended)})
    else:
        tell(f"The canary of {version.name if version else 'a model that is gone'} is over.")
    return ExitCode.DONE
