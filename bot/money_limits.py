"""The budgets for API models: which limits hold when, how much of them is spent, and how that is said.

Days and months begin at midnight in the operator's time zone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from bot.settings import Settings
from storage.spending import Limit, Refused, Spent
from storage.store import Store

WARN_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most that API models may cost, in US dollars; None for no limit, 0 for nothing that costs."""

    day_usd: float | None = None
    month_usd: float | None = None
    channel_month_usd: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say."""
        return cls(settings.budget_day_usd, settings.budget_month_usd, settings.budget_channel_month_usd)

    def for_channel(self, own: float | None) -> float | None:
        """The limit of a channel whose admins decided `own`."""
        return self.channel_month_usd if own is None else own


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where days and months begin."""

    timezone: str = "UTC"

    def day(self, moment: datetime) -> datetime:
        """The midnight before."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)

    def month(self, moment: datetime) -> datetime:
        """The midnight with which the month began."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        return local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)

    def period(self, scope: str, moment: datetime) -> str:
        """The day or the month as it is named."""
        return f"{moment.astimezone(ZoneInfo(self.timezone)):{'%Y-%m-%d' if scope == 'day' else '%Y-%m'}}"

    def anew(self, limit: Limit) -> str:
        """When a limit begins anew, in words."""
        local = limit.since.astimezone(ZoneInfo(self.timezone))
        following = local + timedelta(days=1 if limit.scope == "day" else 32)
        if limit.scope != "day":
            following = following.replace(day=1)
        return f"{following:%-d %B}, 00:00 {self.timezone}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a limit is spent."""

    limit: Limit
    spent: Spent
    anew: str

    @property
    def share(self) -> float:
        """Of the limit, 1.0 where nothing may be spent at all."""
        return self.spent.usd / self.limit.most_usd if self.limit.most_usd > 0 else 1.0


def limits_at(
    moment: datetime,
    budgets: Budgets,
    calendar: Calendar,
    *,
    channel: str = "",
    channel_usd: float | None = None,
) -> list[Limit]:
    """The limits that hold at a moment for a call in `channel`, whose own budget is `channel_usd`."""
    scopes = [("day", budgets.day_usd), ("month", budgets.month_usd)]
    if channel:
        scopes.append((f"channel:{channel}", budgets.for_channel(channel_usd)))
    return [
        Limit(
            scope=scope,
            since=calendar.day(moment) if scope == "day" else calendar.month(moment),
            most_usd=most_usd,
            period=calendar.period(scope, moment),
        )
        for scope, most_usd in scopes
        if most_usd is not None
    ]


async def standing_of(store: Store, team: str, limits: Sequence[Limit], calendar: Calendar) -> list[Standing]:
    """How much of each limit is spent."""
    return [
        Standing(limit, await store.spent(team, limit.since, limit.channel), calendar.anew(limit))
        for limit in limits
    ]


def usd(amount: float) -> str:
    """An amount as people read it; small ones keep the two digits that matter."""
    sign, amount = ("-" if amount < 0 else ""), abs(amount)
    if amount == 0 or amount >= 0.01:
        return f"{sign}${amount:,.2f}"
    places = 1 - math.floor(math.log10(amount))
    return f"{sign}${amount:.{places}f}"


def scope_in_words(limit: Limit) -> str:
    """Which budget: "today's budget", "this month's budget", "this month's budget of <#C1>"."""
    if limit.scope == "day":
        return "today's budget"
    return "this month's budget" + (f" of <#{limit.channel}>" if limit.channel else "")


def refusal(refused: Refused, anew: str) -> str:
    """Why a call was not made, for the asker: which budget, how much of it is spent, when it begins anew."""
    limit = refused.limit
    name = "This channel's budget for the month" if limit.channel else scope_in_words(limit).capitalize()
    if limit.most_usd == 0:
        return f"{name} for API models is $0, so only the local model and memory answer."
    amount = f"{usd(refused.spent.sure_usd)} of {usd(limit.most_usd)}"
    if refused.for_now:
        return (
            f"{name} for API models may be used up by answers that are being written ({amount} are spent), "
            "so the local model and memory answer this time."
        )
    return (
        f"{name} for API models is used up ({amount} are spent), "
        f"so only the local model and memory answer until {anew}."
    )
