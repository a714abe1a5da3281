"""The terminal's command about the golden set: listed, shown, approved by a second person, retired, frozen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode, Opened
from bot.cli_review import one_line
from bot.cli_show import murmur, say, table, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.records import GoldenItem

SHOWN = 1_000
ACTIONS = ("list", "show", "approve", "retire", "freeze")


def golden(
    action: Annotated[
        str, typer.Argument(metavar="[list|show|approve|retire|freeze]", help="What to do; list.")
    ] = "list",
    item: Annotated[str, typer.Argument(metavar="[ID]", help="Which question, as list shows it.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Look after the golden set: the questions by which every model is measured, and which none is trained on.

    One person proposes a question in a review, a second one approves it. The set is frozen by version at the start of each
    evaluation, and by freeze.

    \b
    Examples:
      apprentice golden
      apprentice golden approve g_4be1
      apprentice golden freeze
    """
    settings = options.settings_from(data_dir, env_file)
    if action not in ACTIONS:
        raise typer.BadParameter(f"{action!r}: write {', '.join(ACTIONS)}.")
    if bool(item) != (action in {"show", "approve", "retire"}):
        raise typer.BadParameter(f"{action} needs an ID." if not item else f"{action} takes no ID.")
    options.carry_out(_golden(settings, action, item, as_json))


async def _golden(settings: "Settings", action: str, item: str, as_json: bool) -> ExitCode:
    async with options.opened(settings) as place:
        match action:
            case "list":
                _tell_items(await place.store.golden_items(place.team), as_json)
            case "show":
                _tell_item(await _item(place, item), as_json)
            case "approve":
                kept = await place.store.approve_golden(place.team, item, options.operator())
                counts = len(kept.approvals) > 1
                words = (
                    "every model is measured by it from now on." if counts else "it needs one more person."
                )
                _tell_state(kept, f"Approved: {words}", as_json)
            case "retire":
                kept = await place.store.retire_golden(place.team, item, options.operator())
                _tell_state(kept, "Retired: it measures nothing any more, and may be learned from.", as_json)
            case _:
                return await _freeze(place, as_json)
    return ExitCode.DONE


async def _item(place: Opened, item_id: str) -> "GoldenItem":
    found = await place.store.golden_item(place.team, item_id)
    if found is None:
        raise PublicError(f"There is no golden question {item_id}. `apprentice golden` lists them.")
    return found


def _tell_items(items: "Sequence[GoldenItem]", as_json: bool) -> None:
    if as_json:
        tell_json([_item_json(each) for each in items])
    elif items:
        rows = [["id", "state", "topic", "people", "question"]]
        rows += [
            [each.id, each.state.value, each.topic, str(len(each.approvals)), one_line(each.question, 70)]
            for each in items[:SHOWN]
        ]
        tell(table(rows))
    else:
        say("The golden set is empty. Propose a question in `/apprentice review`.")


def _item_json(item: "GoldenItem") -> dict[str, Any]:
    names = ("id", "question", "answer", "topic", "source", "approvals", "proposed_at", "settled_at")
    return {"state": item.state.value, **{name: getattr(item, name) for name in names}}


def _tell_item(item: "GoldenItem", as_json: bool) -> None:
    if as_json:
        tell_json(_item_json(item))
        return
    tell(f"{item.question}\n\n{item.answer}\n")
    murmur(f"{item.state.value}; behind it: {', '.join(item.approvals)}; from {item.source or 'a review'}")


def _tell_state(item: "GoldenItem", words: str, as_json: bool) -> None:
    if as_json:
        tell_json(_item_json(item))
    else:
        tell(words)


async def _freeze(place: Opened, as_json: bool) -> ExitCode:
    from training.dataset_difference import Difference
    from training.golden import golden_now

    frozen = await golden_now(place.store, place.team, place.settings.data_dir.resolve())
    if frozen is None:
        say("No golden question has two people behind it yet, so there is nothing to freeze.")
        return ExitCode.NOTHING_DONE
    if as_json:
        tell_json(
            {"id": frozen.id, "path": frozen.path, "rows": frozen.test, "difference": frozen.difference}
        )
        return ExitCode.DONE
    difference = Difference.from_json(frozen.difference)
    tell(
        f"Golden set {frozen.id[:12]}: {frozen.test} questions. {difference.in_words() if difference else ''}".strip()
    )
    return ExitCode.DONE
