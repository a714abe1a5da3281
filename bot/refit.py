"""The router's daily fit: what people said since, a new router if it is really better, what an API answer costs by now.

It runs by the clock (`ROUTER_CRON`); who wins is decided in `training.router_value`, who is asked in `bot.judge`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from bot import routing
from bot.judge import RouterJudge, rated_answers
from storage.records import RouterVersion, now
from storage.routing import Judged
from storage.store import Store
from training.router_near import Neighbours
from training.router_value import Prices, Replacement, replacement

ROUTE = "route"
"""The name of the schedule."""
COSTS_OF = timedelta(days=30)

log = structlog.get_logger(__name__)


class Refit:
    """Fits, keeps, and tells the judge."""

    def __init__(self, store: Store, judge: RouterJudge, *, team: str, apis: Sequence[str]) -> None:
        self._store = store
        self._judge = judge
        self._team = team
        self._apis = apis

    async def look(self) -> None:
        """At a start and after a fit: the judge learns the router, rated neighbours, and what API answers cost."""
        await self._judge.refresh()
        judged = await self._store.judged(self._team)
        near = await asyncio.to_thread(Neighbours.of, rated_answers(judged))
        self._judge.know(replace(self._judge.knows, near=near, cost_usd=await self._costs()))

    async def fit(self) -> RouterVersion | None:
        """Fit a router on everything that was said; it decides from now on if it is really better. None without ratings."""
        judged = await self._store.judged(self._team)
        incumbent = await self._store.router(self._team)
        await self.look()
        if not judged or not self._apis:
            return None
        before = _known_to(incumbent, judged) if self._judge.knows.router is not None else None
        made = await asyncio.to_thread(_fitted, judged, before, self._judge.prices(self._apis[0]))
        row = await self._keep(made)
        await self._judge.refresh()
        return row

    async def _keep(self, made: Replacement) -> RouterVersion | None:
        if made.router is None:
            log.info("no router was fitted", why=made.reason)
            return None
        log.info("a router was fitted", adopted=made.adopted, why=made.reason)
        return await self._store.keep_router(
            self._team,
            serving=made.adopted,
            labels=made.router.labels,
            parameters=made.router.to_json(),
            scores=made.scores.to_json() if made.scores is not None else {},
            reason=made.reason,
        )

    async def _costs(self) -> dict[str, float]:
        """Dollars for one question by kind of API model, where it was asked in the last weeks."""
        sums: dict[str, tuple[float, int]] = {}
        for row in await self._store.spending(self._team, now() - COSTS_OF):
            if row.kind in routing.APIS and row.purpose == "answer":
                usd, calls = sums.get(row.kind, (0.0, 0))
                sums[row.kind] = (usd + row.cost_usd, calls + row.calls)
        return {kind: usd / calls for kind, (usd, calls) in sums.items() if calls}


def _fitted(judged: Sequence[Judged], before: Sequence[Judged] | None, prices: Prices) -> Replacement:
    # Imported here: it sets a variable of the environment, and importing a module of ours does nothing.
    from threadpoolctl import threadpool_limits

    # One thread of linear algebra: more of them would spin beside the bot and the local model and be no faster.
    with threadpool_limits(1):  # type: ignore[no-untyped-call]
        return replacement(
            rated_answers(judged),
            prices=prices,
            incumbent_rows=None if before is None else rated_answers(before),
        )


def _known_to(incumbent: RouterVersion | None, judged: Sequence[Judged]) -> list[Judged] | None:
    """What had been asked when the last router was fitted."""
    if incumbent is None:
        return None
    return [each for each in judged if each.asked_at <= incumbent.fitted_at]
