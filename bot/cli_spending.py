"""The terminal's command about money: spending."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from bot import cli_options as options
from bot import cli_show as show
from bot.cli_options import AsJson, DataDir, EnvFile, ExitCode
from bot.cli_show import tell, tell_json
from bot.errors import PublicError

if TYPE_CHECKING:
    from bot.settings import Settings
    from storage.spending import SpendSum


def spending(
    month: Annotated[
        str, typer.Option("--month", metavar="YYYY-MM", help="Which month, such as 2026-11; this one.")
    ] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Show what API models cost in a month, by model and channel, and how much of the budgets is spent.

    \b
    Example: apprentice spending --month 2026-11
    """
    options.carry_out(_spending(options.settings_from(data_dir, env_file), month, as_json))


async def _spending(settings: "Settings", month: str, as_json: bool) -> ExitCode:
    from bot.money_limits import Budgets, Calendar, limits_at, standing_of, usd
    from bot.money_words import standing_line
    from storage.records import now

    begins, ends = _month(month, settings.timezone)
    calendar = Calendar(settings.timezone)
    async with options.opened(settings) as place:
        rows = await place.store.spending(place.team, begins, ends)
        limits = [] if month else limits_at(now(), Budgets.of(settings), calendar)
        places = await standing_of(place.store, place.team, limits, calendar)
    total = sum(row.cost_usd for row in rows)
    if as_json:
        budgets = [
            {"scope": each.limit.scope, "spent_usd": each.spent.usd, "limit_usd": each.limit.most_usd}
            for each in places
        ]
        tell_json(
            {
                "month": f"{begins:%Y-%m}",
                "cost_usd": total,
                "budgets": budgets,
                "rows": [asdict(row) for row in rows],
            }
        )
        return ExitCode.DONE
    if rows:
        tell(show.table(_table(rows)))
    tell(f"Spent on API models in {begins:%Y-%m}: {usd(total)}.")
    for each in places:
        tell(standing_line(each))
    return ExitCode.DONE


def _table(rows: "list[SpendSum]") -> list[list[str]]:
    from bot.money_limits import usd

    head = ["model", "for", "channel", "calls", "tokens in", "cached", "tokens out", "cost"]
    return [
        head,
        *(
            [
                row.model,
                row.purpose,
                row.channel or "none",
                str(row.calls),
                str(row.tokens_in),
                str(row.tokens_cached),
                str(row.tokens_out),
                usd(row.cost_usd),
            ]
            for row in rows
        ),
    ]


def _month(named: str, timezone: str) -> tuple[datetime, datetime]:
    """When a month begins and ends in the operator's time zone. Raises PublicError for what is none."""
    zone = ZoneInfo(timezone)
    try:
        begins = datetime.strptime(named, "%Y-%m") if named else datetime.now(zone)
    except ValueError:
        raise PublicError(f"{named} is no month. Write it as 2026-11.") from None
    begins = begins.replace(day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=zone)
    return begins, (begins + timedelta(days=32)).replace(day=1)
