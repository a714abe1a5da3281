"""Who pays: each billed call is reserved before it is made and settled with its bill, within the operator's budgets.

A call counts with the most that it can cost until its bill is known; one that could pass a limit is not made.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

import structlog

from bot.errors import BudgetSpent, ModelUnavailable
from bot.models import Bill, Call
from bot.models.prices import Prices
from bot.money_limits import WARN_SHARE, Budgets, Calendar, Standing, limits_at, refusal, standing_of
from bot.money_words import listing, spent_lines
from bot.settings import Settings
from storage.database import in_words
from storage.records import now
from storage.spending import Limit, Reservation, Reserved
from storage.store import Store

WARNED, FULL = 80, 100
ABANDONED_S = 3600.0
"""No call takes so long; what is still reserved then belonged to a process that is gone."""
SETTLE_TRIES = 5
SETTLE_PAUSE_S = 0.5
FREE = "free"
"""The price version of calls to a server that the operator calls free."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """Somebody should be told: a budget has reached `level` percent. `standing` is how it is now."""

    standing: Standing
    level: int


class Ledger:
    """Reserves, refuses and settles. `free` are the kinds of models that the operator says cost nothing."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        prices: Prices,
        budgets: Budgets = Budgets(),
        timezone: str = "UTC",
        free: frozenset[str] = frozenset(),
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._team = team
        self._prices = prices
        self.free = free
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._touched: dict[str, float | None] = {}
        self._refused: set[tuple[str, str]] = set()
        self.budgets = budgets
        self.calendar = Calendar(timezone)

    @classmethod
    def of(cls, settings: Settings, store: Store, *, team: str) -> Self:
        """As the settings say. Raises PublicError where the file of prices cannot be used."""
        return cls(
            store,
            team=team,
            prices=Prices.chosen(settings.prices_file),
            budgets=Budgets.of(settings),
            timezone=settings.timezone,
            free=frozenset({"openai"}) if settings.openai_free and settings.openai_base_url else frozenset(),
        )

    def meter(
        self,
        *,
        question_id: str | None = None,
        channel: str = "",
        purpose: str = "answer",
        most_usd: float | None = None,
    ) -> "LedgerMeter":
        """Watches the calls of one model for one question; `most_usd` is the channel's own budget for a month."""
        return LedgerMeter(self, question_id, channel, purpose, most_usd)

    async def recover(self) -> int:
        """Calls of a bot that was killed keep counting what was reserved. To be called at the start and now and then."""
        moment = self._clock()
        abandoned = await self._store.estimate_abandoned(moment - timedelta(seconds=ABANDONED_S))
        if abandoned:
            log.warning(
                "billed calls were never settled; they count with the most they can cost", n=abandoned
            )
        return abandoned

    async def recover_all(self) -> int:
        """The same at a start, where no other bot can be on this database: every reserved call is abandoned."""
        return await self._store.estimate_abandoned(self._clock())

    async def standings(self, channel: str = "", most_usd: float | None = None) -> list[Standing]:
        """How much of each limit is spent, also of `channel` whose own budget is `most_usd`."""
        limits = self._limits(self._clock(), channel, most_usd)
        return await standing_of(self._store, self._team, limits, self.calendar)

    async def status_lines(self) -> list[str]:
        """What `status` says of money."""
        moment = self._clock()
        return spent_lines(
            await self._store.spending(self._team, self.calendar.day(moment)),
            await self._store.spending(self._team, self.calendar.month(moment)),
            await self.standings(),
            self._prices,
        )

    async def listing(self) -> str:
        """What was spent this month, by model and channel, for admins."""
        since = self.calendar.month(self._clock())
        rows = await self._store.spending(self._team, since)
        return listing(rows, self.calendar.period("month", self._clock()), await self.standings())

    async def due(self) -> list[Due]:
        """The budgets that reached a level, of those in which something happened since the last look.

        At the first look that is all of them. Whether somebody was told before is for the caller to ask the store.
        """
        touched, self._touched = self._touched, {}
        if not touched:
            return []
        found = []
        try:
            for place in (await self._limits_touched(touched)).values():
                level = self._level(place)
                if level:
                    found.append(Due(place, level))
        except BaseException:
            self._touched = touched | self._touched
            raise
        return found

    def touch(self, channel: str = "", most_usd: float | None = None) -> None:
        """Something was spent or refused: the next look is worth it."""
        self._touched[channel] = most_usd

    async def touch_all(self) -> None:
        """After a start nobody knows what was told: every budget is looked at once."""
        self.touch()
        since = self.calendar.month(self._clock())
        own = {
            row.channel: row.budget_month_usd for row in await self._store.channels_with_settings(self._team)
        }
        for channel in await self._store.spent_by_channel(self._team, since):
            self.touch(channel, own.get(channel))

    async def flush(self) -> None:
        """Wait until every bill is written."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """The same, at the end."""
        await self.flush()

    # --- for the meters ------------------------------------------------------------------------------------

    async def reserve(self, meter: "LedgerMeter", call: Call) -> Reserved:
        """Put the most that a call can cost aside. Raises BudgetSpent, and ModelUnavailable where its price is unknown."""
        moment = self._clock()
        limits = self._limits(moment, meter.channel, meter.most_usd)
        most = self._most(call, limited=bool(limits))
        wanted = Reservation(
            team=self._team,
            question_id=meter.question_id,
            channel=meter.channel,
            purpose=meter.purpose,
            kind=call.kind,
            model=call.model,
            tokens_in=call.tokens_in,
            tokens_out=call.tokens_out,
            cost_usd=most,
            price_version=FREE if call.kind in self.free else self._prices.version(call.model),
        )
        made = await self._store.reserve(wanted, limits, at=moment)
        if isinstance(made, Reserved):
            return made
        if not made.for_now:
            self._refused.add((made.limit.scope, made.limit.period))
            self.touch(meter.channel, meter.most_usd)
        raise BudgetSpent(refusal(made, self.calendar.anew(made.limit)))

    def settle(self, meter: "LedgerMeter", reserved: Reserved, bill: Bill) -> None:
        """Write what a call took, whatever becomes of the task that made it."""
        if bill.kind in self.free:
            bill = _free(bill)
        if bill.cost_usd is not None and bill.cost_usd > reserved.cost_usd + 1e-9 and reserved.cost_usd > 0:
            log.warning(
                "a call cost more than the most it was thought to",
                model=bill.model,
                cost=bill.cost_usd,
                most=reserved.cost_usd,
            )
        self.later(self._settle(meter, reserved, bill))

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in a task of our own, which `flush` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, meter: "LedgerMeter", reserved: Reserved, bill: Bill) -> None:
        for attempt in range(1, SETTLE_TRIES + 1):
            try:
                await self._store.settle(reserved, bill)
                self.touch(meter.channel, meter.most_usd)
                return
            except Exception as error:
                if in_words(error) is None or attempt == SETTLE_TRIES:
                    log.exception(
                        "a bill was not written; its call counts with the most it can cost", spend=reserved.id
                    )
                    return
            await asyncio.sleep(SETTLE_PAUSE_S * attempt)

    def _limits(self, moment: datetime, channel: str, most_usd: float | None) -> list[Limit]:
        return limits_at(moment, self.budgets, self.calendar, channel=channel, channel_usd=most_usd)

    def _most(self, call: Call, *, limited: bool) -> float:
        if call.kind in self.free:
            return 0.0
        most = self._prices.ceiling(call.model, call.tokens_in, call.tokens_out)
        if most is None and limited:
            remedy = "write it into a file of prices and name that in PRICES_FILE"
            if call.kind == "openai":
                remedy += (
                    ", or set OPENAI_FREE=true if OPENAI_BASE_URL is a server of your own that costs nothing"
                )
            raise ModelUnavailable(
                f"The price of {call.model} is not known and there is a budget, so it is not asked: {remedy}.",
                fault=False,
            )
        return most or 0.0

    async def _limits_touched(self, touched: dict[str, float | None]) -> dict[str, Standing]:
        moment = self._clock()
        limits = {
            limit.scope: limit
            for channel, most_usd in touched.items()
            for limit in self._limits(moment, channel, most_usd)
        }
        places = await standing_of(self._store, self._team, list(limits.values()), self.calendar)
        return {place.limit.scope: place for place in places}

    def _level(self, place: Standing) -> int:
        limit = place.limit
        if limit.most_usd == 0:
            return 0  # nothing is to be told of what was never there
        if (limit.scope, limit.period) in self._refused or place.spent.sure_usd >= limit.most_usd:
            return FULL
        return WARNED if place.spent.sure_usd >= WARN_SHARE * limit.most_usd - 1e-9 else 0


class LedgerMeter:
    """The money of one model's attempts at one question."""

    def __init__(
        self, ledger: Ledger, question_id: str | None, channel: str, purpose: str, most_usd: float | None
    ) -> None:
        self.question_id = question_id
        self.channel = channel
        self.purpose = purpose
        self.most_usd = most_usd
        self._ledger = ledger
        self._open: list[Reserved] = []

    async def before(self, call: Call) -> None:
        """Reserve the most that the attempt can cost. Raises BudgetSpent, and ModelUnavailable for an unknown price."""
        reserving = asyncio.ensure_future(self._ledger.reserve(self, call))
        try:
            self._open.append(await asyncio.shield(reserving))
        except asyncio.CancelledError:
            self._ledger.later(self._give_back(reserving, call))
            raise

    def bill(self, bill: Bill) -> None:
        """Settle the oldest attempt that is not settled yet."""
        self._ledger.settle(self, self._open.pop(0), bill)

    async def _give_back(self, reserving: "asyncio.Future[Reserved]", call: Call) -> None:
        """The attempt was cancelled before it began: what was reserved for it is free again."""
        try:
            reserved = await reserving
        except ModelUnavailable:
            return
        self._ledger.settle(self, reserved, Bill(call.kind, call.model, cost_usd=0.0))


def _free(bill: Bill) -> Bill:
    return replace(bill, cost_usd=0.0, price_version=FREE)
