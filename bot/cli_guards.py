"""The terminal's commands about the guards: experts, quarantine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import cli_options as options
from bot import cli_show as show
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode, Opened
from bot.cli_show import say, tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.records import Quarantine

ADD, REMOVE = "add", "remove"
LOOK, LEARN, KEEP = "look", "learn", "keep"


def experts(
    action: Annotated[
        str, typer.Argument(metavar="[add|remove]", help="What to change; nothing: list.")
    ] = "",
    person: Annotated[str, typer.Argument(metavar="[PERSON]", help="A member ID of Slack: U0123ABC.")] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """List the experts, whose ratings count twice, or say who is one.

    \b
    Example: apprentice experts add U0123ABC
    """
    options.carry_out(_experts(options.settings_from(data_dir, env_file), action, person, as_json))


async def _experts(settings: "Settings", action: str, person: str, as_json: bool) -> ExitCode:
    from bot.slack.guard_blocks import person_in

    if action not in {"", ADD, REMOVE}:
        raise PublicError(
            f"{action} is not known. Write add or remove and a member ID, or nothing to list them."
        )
    whom = person_in(person)
    if action and not whom:
        raise PublicError("Write the member ID from the person's profile in Slack, such as U0123ABC.")
    async with options.opened(settings) as place:
        if action:
            return await _change_expert(place, action, whom)
        rows = await place.store.expert_rows(place.team)
    if as_json:
        tell_json([{"person": row.person, "by": row.granted_by, "since": row.granted_at} for row in rows])
    elif rows:
        head = ["expert", "by", "since"]
        tell(
            show.table([head, *([row.person, row.granted_by, f"{row.granted_at:%Y-%m-%d}"] for row in rows)])
        )
    else:
        tell("Nobody is an expert yet.")
    return ExitCode.DONE


async def _change_expert(place: Opened, action: str, person: str) -> ExitCode:
    change = place.store.grant_expert if action == ADD else place.store.revoke_expert
    if not await change(place.team, person, by=options.operator()):
        say(f"{person} is {'an expert already' if action == ADD else 'no expert'}.")
        return ExitCode.NOTHING_DONE
    tell(f"{person} is {'an expert now' if action == ADD else 'no expert any more'}.")
    return ExitCode.DONE


def quarantine(
    action: Annotated[
        str, typer.Argument(metavar="[look|learn|keep]", help="Look now, or decide; nothing: list.")
    ] = "",
    finding: Annotated[
        str, typer.Argument(metavar="[FINDING]", help="The finding, as the list names it.")
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """List what is odd in ratings and topics, and what of it is kept out of learning; look now, or decide.

    \b
    Example: apprentice quarantine learn qu_5f0c
    """
    options.carry_out(_quarantine(options.settings_from(data_dir, env_file), action, finding, as_json))


async def _quarantine(settings: "Settings", action: str, finding: str, as_json: bool) -> ExitCode:
    if action not in {"", LOOK, LEARN, KEEP}:
        raise PublicError(
            f"{action} is not known. Write look, learn or keep, or nothing to list what was found."
        )
    async with options.opened(settings) as place:
        if action == LOOK:
            await _look(place)
        rows = await place.store.quarantine(place.team)
        if action in {LEARN, KEEP}:
            return await _decide(place, rows, finding, learn=action == LEARN)
    if as_json:
        tell_json([_as_json(row) for row in rows])
    elif rows:
        tell(
            show.table([["finding", "since", "what", "person", "rows", "now"], *(_line(row) for row in rows)])
        )
        for row in rows:
            tell(f"{_short(row)}: {row.detail}")
    else:
        tell("Nothing is odd, and nothing is kept out of learning.")
    return ExitCode.DONE


async def _look(place: Opened) -> None:
    from training.watching import look

    looked = await look(place.store, place.team)
    found = len(looked.findings)
    say(f"Found {found} odd thing{'' if found == 1 else 's'}, {looked.new} of them new.")
    agreement = looked.weights.agreement
    if agreement.alpha is not None:
        say(
            f"Raters agree on {agreement.share:.0%} of what {agreement.answers:,} answers got several ratings for "
            f"(Krippendorff's alpha {agreement.alpha:.2f})."
        )


async def _decide(place: Opened, rows: "list[Quarantine]", finding: str, *, learn: bool) -> ExitCode:
    meant = [row for row in rows if finding and row.id.startswith(finding)]
    if len(meant) != 1:
        raise PublicError(
            f"{'No' if not meant else 'More than one'} finding is called {finding or 'that'}. "
            "`apprentice quarantine` lists them."
        )
    row = await place.store.decide_quarantine(place.team, meant[0].id, by=options.operator(), learn=learn)
    if row is None:
        raise PublicError(f"{finding} is not there any more.")
    tell(
        f"{_short(row)} is {'learned from again' if learn else 'kept out of learning'}, from the next dataset on."
    )
    return ExitCode.DONE


def _line(row: "Quarantine") -> list[str]:
    from bot.slack.guard_blocks import title

    return [_short(row), f"{row.since:%Y-%m-%d}", title(row), row.person, str(row.rows), _now(row)]


def _short(row: "Quarantine") -> str:
    return row.id[:11]


def _now(row: "Quarantine") -> str:
    if row.lifted_by:
        return f"learned from, by {row.lifted_by}"
    if row.kept_by:
        return f"kept out, by {row.kept_by}"
    return "kept out until decided" if row.holds else "told only"


def _as_json(row: "Quarantine") -> dict[str, Any]:
    names = ["id", "kind", "subject", "person", "rows", "detail", "since", "holds", "kept_by", "lifted_by"]
    return {name: getattr(row, name) for name in names}
