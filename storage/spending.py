"""What the store keeps of money: billed calls, the limits that they may not pass, and who was told of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, func, text, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.records import BudgetNotice, Spend, SpendState, SpendTotal, now
from storage.values import Bill

ROUNDING_USD = 1e-9
"""What adding many small numbers may be wrong by; a call that fits exactly is made."""
QUARTER_S = 900
NANO = 1_000_000_000
TELLING_S = 600.0
"""So long somebody who took it upon them to tell of a budget has for it; then somebody else does."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be spent since then. `scope` is "day", "month" or "channel:<id>", `period` such as "2026-11-23"."""

    scope: str
    since: datetime
    most_usd: float
    period: str

    @property
    def channel(self) -> str | None:
        """The channel that it is about; None for the whole workspace."""
        kind, _, channel = self.scope.partition(":")
        return channel if kind == "channel" else None


@dataclass(frozen=True, slots=True)
class Spent:
    """US dollars: all that counts, and how much of that is only `held` for calls that are under way."""

    usd: float = 0.0
    held_usd: float = 0.0

    @property
    def sure_usd(self) -> float:
        """What calls took that are over."""
        return self.usd - self.held_usd


@dataclass(frozen=True, slots=True)
class Reservation:
    """A billed call that is about to be made, and the most that it can take and cost."""

    team: str
    question_id: str | None
    channel: str
    purpose: str
    kind: str
    model: str
    tokens_in: int
    tokens_out: int
    cost_usd: float
    price_version: str = ""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The money is put aside: `settle` says what it became."""

    id: str
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The call could pass this limit, so it must not be made. `spent` is what counted before it, `wanted_usd` its most."""

    limit: Limit
    spent: Spent
    wanted_usd: float

    @property
    def for_now(self) -> bool:
        """Whether the call would fit if those under way cost nothing: it may be let through in a moment."""
        return self.spent.sure_usd + self.wanted_usd <= self.limit.most_usd + ROUNDING_USD


@dataclass(frozen=True, slots=True)
class SpendSum:
    """Billed calls of one model for one purpose in one channel ("" for none), added up."""

    kind: str
    model: str
    purpose: str
    channel: str
    calls: int
    estimated: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_usd: float
    price_version: str


class SpendingStore:
    """Billed calls and budgets."""

    database: Database

    async def reserve(
        self, wanted: Reservation, limits: Sequence[Limit] = (), *, at: datetime | None = None
    ) -> Reserved | Refused:
        """Put aside the most that a call can cost, or say which limit it could pass; then nothing is written.

        One at a time for a team, over all processes on the database: what is let through never passes a limit together.
        `at` is the moment for which the limits were made. What costs nothing passes no limit.
        """
        alone = f"spend {wanted.team}" if limits and wanted.cost_usd > 0 else ""
        async with self.database.writing(alone=alone) as session:
            for limit in limits if alone else ():
                spent = await _spent(session, wanted.team, limit.since, limit.channel)
                if spent.usd + wanted.cost_usd > limit.most_usd + ROUNDING_USD:
                    return Refused(limit, spent, wanted.cost_usd)
            row = Spend(
                team=wanted.team,
                question_id=wanted.question_id,
                channel=wanted.channel,
                purpose=wanted.purpose,
                kind=wanted.kind,
                model=wanted.model,
                state=SpendState.RESERVED,
                tokens_in=wanted.tokens_in,
                tokens_out=wanted.tokens_out,
                cost_usd=wanted.cost_usd,
                price_version=wanted.price_version,
                spent_at=at or now(),
            )
            session.add(row)
            await _count(session, wanted.team, wanted.channel, row.spent_at, wanted.cost_usd)
        return Reserved(row.id, wanted.cost_usd)

    async def settle(self, reserved: Reserved, bill: Bill) -> None:
        """What a reserved call took in the end. One without a price costs what was reserved; one that did no work is no
        billed call, and its row goes."""
        async with self.database.writing() as session:
            row = (
                await session.exec(select(Spend).where(col(Spend.id) == reserved.id).with_for_update())
            ).first()
            if row is None:
                return
            cost = reserved.cost_usd if bill.cost_usd is None else bill.cost_usd
            await _count(session, row.team, row.channel, row.spent_at, cost, before=row.cost_usd)
            if not (bill.tokens_in or bill.tokens_out or bill.cost_usd or bill.estimated):
                await session.delete(row)
                return
            row.state = SpendState.ESTIMATED if bill.estimated else SpendState.SETTLED
            row.tokens_in, row.tokens_out = bill.tokens_in, bill.tokens_out
            row.tokens_cached, row.tokens_cache_written = bill.tokens_cached, bill.tokens_cache_written
            row.tokens_reasoning, row.price_version = bill.tokens_reasoning, bill.price_version
            row.cost_usd = cost
            session.add(row)

    async def estimate_abandoned(self, older_than: datetime) -> int:
        """Calls that nobody settled since count on with what was reserved, as estimated; how many they were."""
        where = (col(Spend.state) == SpendState.RESERVED, col(Spend.spent_at) < older_than)
        async with self.database.writing() as session:
            done = await session.exec(update(Spend).where(*where).values(state=SpendState.ESTIMATED))
        return int(getattr(done, "rowcount", 0) or 0)

    async def spent(self, team: str, since: datetime, channel: str | None = None) -> Spent:
        """What billed calls cost since then, in all channels or in one."""
        async with self.database.reading() as session:
            return await _spent(session, team, since, channel)

    async def spent_since(self, team: str, since: datetime) -> float:
        """US dollars for billed calls since then."""
        return (await self.spent(team, since)).usd

    async def spent_by_channel(self, team: str, since: datetime) -> dict[str, float]:
        """US dollars by channel since the beginning of a day, for the channels in which something was billed."""
        wanted = (
            select(SpendTotal.channel, func.sum(SpendTotal.nano_usd))
            .where(
                col(SpendTotal.team) == team,
                col(SpendTotal.quarter) >= _first_whole(since),
                col(SpendTotal.channel) != "",
            )
            .group_by(col(SpendTotal.channel))
        )
        async with self.database.reading() as session:
            return {channel: int(nano) / NANO for channel, nano in (await session.exec(wanted)).all()}

    async def spending(self, team: str, since: datetime, until: datetime | None = None) -> list[SpendSum]:
        """Billed calls between two moments, added up by model, purpose and channel, the dearest first."""
        estimated = case((col(Spend.state) == SpendState.SETTLED, 0), else_=1)
        by = (col(Spend.kind), col(Spend.model), col(Spend.purpose), col(Spend.channel))
        sums: tuple[Any, ...] = (
            func.count(),
            func.sum(estimated),
            func.sum(Spend.tokens_in),
            func.sum(Spend.tokens_cached),
            func.sum(Spend.tokens_out),
            func.sum(Spend.cost_usd),
            func.max(Spend.price_version),
        )
        where = [col(Spend.team) == team, col(Spend.spent_at) >= since]
        if until is not None:
            where.append(col(Spend.spent_at) < until)
        wanted: Any = select(*by, *sums).where(*where).group_by(*by)
        async with self.database.reading() as session:
            rows = (await session.exec(wanted)).all()
        return sorted((_sum(row) for row in rows), key=lambda each: (-each.cost_usd, each.model))

    async def notice(self, team: str, scope: str, period: str, level: int) -> bool:
        """Whether the caller is to tell of this, and nobody else: True for exactly one.

        It says `noticed` when that is done, or `unnoticed` where it failed; who does neither was killed in it.
        """
        try:
            async with self.database.writing() as session:
                session.add(BudgetNotice(team=team, scope=scope, period=period, level=level))
            return True
        except IntegrityError:
            pass
        stale = (col(BudgetNotice.told_ts) == "", col(BudgetNotice.noticed_at) < _telling_since())
        again = update(BudgetNotice).where(*_notice(team, scope, period, level), *stale)
        async with self.database.writing() as session:
            taken = await session.exec(again.values(noticed_at=now()))
        return bool(getattr(taken, "rowcount", 0))

    async def noticed(self, team: str, scope: str, period: str, level: int, ts: str) -> None:
        """It was told, in the message `ts`."""
        where = _notice(team, scope, period, level)
        async with self.database.writing() as session:
            await session.exec(update(BudgetNotice).where(*where).values(told_ts=ts))

    async def unnoticed(self, team: str, scope: str, period: str, level: int) -> None:
        """It could not be told; the next who tries may."""
        where = (*_notice(team, scope, period, level), col(BudgetNotice.told_ts) == "")
        async with self.database.writing() as session:
            await session.exec(delete(BudgetNotice).where(*where))


def _notice(team: str, scope: str, period: str, level: int) -> tuple[Any, ...]:
    return (
        col(BudgetNotice.team) == team,
        col(BudgetNotice.scope) == scope,
        col(BudgetNotice.period) == period,
        col(BudgetNotice.level) == level,
    )


def _telling_since() -> datetime:
    return now() - timedelta(seconds=TELLING_S)


async def _spent(session: AsyncSession, team: str, since: datetime, channel: str | None) -> Spent:
    """The whole quarters as they were counted, what lies before the first of them, and what is held of all that."""
    whole = [col(SpendTotal.team) == team, col(SpendTotal.quarter) >= _first_whole(since)]
    whole.append(col(SpendTotal.channel) == (channel or ""))
    nano_usd = (await session.exec(select(func.sum(SpendTotal.nano_usd)).where(*whole))).one()
    usd = float(nano_usd or 0) / NANO + await _rows(session, team, channel, _before_the_whole(since))
    held = (col(Spend.state) == SpendState.RESERVED, col(Spend.spent_at) >= since)
    return Spent(usd, await _rows(session, team, channel, held))


async def _rows(session: AsyncSession, team: str, channel: str | None, where: Sequence[Any]) -> float:
    if not where:
        return 0.0
    ours = [col(Spend.team) == team, *where]
    if channel is not None:
        ours.append(col(Spend.channel) == channel)
    return float((await session.exec(select(func.sum(Spend.cost_usd)).where(*ours))).one() or 0.0)


async def _count(
    session: AsyncSession, team: str, channel: str, at: datetime, usd: float, *, before: float = 0.0
) -> None:
    """Let the totals follow a row that is written. The workspace's comes first, always: nobody waits in a circle."""
    change = _nano(usd) - _nano(before)
    if not change:
        return
    count = text(
        "INSERT INTO spend_total (team, channel, quarter, nano_usd) VALUES (:team, :channel, :quarter, :change) "
        "ON CONFLICT (team, channel, quarter) DO UPDATE SET nano_usd = spend_total.nano_usd + excluded.nano_usd"
    )
    values = {"team": team, "quarter": int(at.timestamp() // QUARTER_S), "change": change}
    connection = await session.connection()
    for place in dict.fromkeys(["", channel]):
        await connection.execute(count, {**values, "channel": place})


def _nano(usd: float) -> int:
    return round(usd * NANO)


def _first_whole(since: datetime) -> int:
    return math.ceil(since.timestamp() / QUARTER_S)


def _before_the_whole(since: datetime) -> tuple[Any, ...]:
    """Rows since then that no whole quarter has; none where a quarter begins then, as days and months do."""
    ends = datetime.fromtimestamp(_first_whole(since) * QUARTER_S, UTC)
    return (col(Spend.spent_at) >= since, col(Spend.spent_at) < ends) if since < ends else ()


def _sum(row: Any) -> SpendSum:
    kind, model, purpose, channel, calls, estimated, tokens_in, cached, tokens_out, usd, version = row
    return SpendSum(
        kind=kind,
        model=model,
        purpose=purpose,
        channel=channel,
        calls=int(calls),
        estimated=int(estimated),
        tokens_in=int(tokens_in),
        tokens_cached=int(cached),
        tokens_out=int(tokens_out),
        cost_usd=float(usd),
        price_version=version,
    )
