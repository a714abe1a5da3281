"""What happens by itself: every second, now and then, and at the times that people set."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from bot.errors import PublicError
from bot.eval_wishes import Wishes
from bot.refit import ROUTE
from bot.restriking import Restriking
from bot.retention import CRON as RETAIN_CRON
from bot.retention import RETAIN
from bot.schedule import Clock
from bot.slack.access import Access
from bot.slack.admin import TRAIN
from bot.slack.admin_notes import AdminNotes
from bot.slack.digests import DIGEST, Digests
from bot.slack.distils import Distils
from bot.slack.duels import Duels
from bot.slack.evals import EVAL, kept_words
from bot.slack.guards import GUARD, Guards
from bot.slack.members import Members
from bot.slack.questions import Questions
from bot.slack.reports import Reports
from bot.slack.shutdowns import Shutdowns
from bot.slack.spending import BudgetNotices
from bot.slack.tuning_notices import TuningNotices
from bot.workshop import Workshop

TICK_S = 1.0
REFRESH_TICKS = 5
RECOVER_TICKS = 3600
ENDS_TICKS, ENDS_FIRST = 6 * 3600, 60
"""Providers are asked for the end of their models every six hours, the first time a minute after the start."""

log = structlog.get_logger(__name__)


@dataclass
class Clockwork:
    """Everything that wants to be called again and again."""

    shop: Workshop
    questions: Questions
    duels: Duels
    reports: Reports
    notices: BudgetNotices
    shutdowns: Shutdowns
    tuning: TuningNotices
    members: Members
    restriking: Restriking
    guards: Guards
    digests: Digests
    distils: Distils
    access: Access
    notes: AdminNotes | None = None
    """Set once the admins' buttons are there, before the clock starts."""
    _ticks: "itertools.count[int]" = field(default_factory=itertools.count)

    async def clock(self) -> Clock:
        """The clock, not started yet, with its schedules in the store."""
        shop = self.shop
        await self.notices.start()
        await shop.refit.look()
        settings = shop.settings
        times = (
            (GUARD, settings.guards_cron),
            (ROUTE, settings.router_cron),
            (TRAIN, settings.train_cron),
            (RETAIN, RETAIN_CRON),
            (DIGEST, settings.digest_cron),
        )
        for action, cron in times:
            if cron.strip() and await shop.store.schedule(shop.team, action) is None:
                await shop.store.set_schedule(
                    team=shop.team,
                    action=action,
                    cron=cron,
                    timezone=settings.timezone,
                    enabled=True,
                    by="the settings",
                )
        actions: Mapping[str, Any] = {
            DIGEST: self._digest,
            EVAL: self._evaluate,
            GUARD: self._guard,
            ROUTE: self._route,
            TRAIN: self._train,
            RETAIN: self._retain,
        }
        return Clock(shop.store, actions=actions, tick=self._tick, tick_s=TICK_S)

    async def stop(self) -> None:
        """Leave off what goes on in tasks of its own."""
        await self.shutdowns.stop()
        await self.members.stop()
        await self.restriking.stop()

    async def _tick(self) -> None:
        if self.access.lost is None:
            self.members.tick()
            await self.questions.tick()
            await self.duels.tick()
        await self.shop.runs.tick()
        await self.shop.evaluations.tick()
        await self.shop.privacy.tick()
        await self._now_and_then(next(self._ticks))

    async def _now_and_then(self, count: int) -> None:
        if count % REFRESH_TICKS == 0:
            await self.shop.remember()
            await self.reports.tick()
            await self.shop.canaries.tick()
            await self.notices.tick()
            await self.guards.tick()
            await self.tuning.tick()
            await self.shop.distilling.tick()
            if self.access.lost is None:
                await self.digests.tick()
                await self.distils.tick()
            if self.notes is not None and self.access.lost is None:
                await self.notes.tick()
            await self.shop.judge.refresh()
            self.restriking.tick()
        if count % RECOVER_TICKS == 0:
            await self.shop.ledger.recover()
        if count % ENDS_TICKS == ENDS_FIRST:
            self.shutdowns.tick()

    async def _train(self, occasion: str) -> None:
        asked = await self.shop.runs.request(
            by="the schedule", occasion=f"{self.shop.team}/{occasion}", options={"scheduled": True}
        )
        log.info("scheduled training", occasion=occasion, outcome=str(getattr(asked, "reason", "requested")))

    async def _evaluate(self, occasion: str) -> None:
        """Ask for what `/eval schedule` named; where one is going on already, that one is enough."""
        shop = self.shop
        if await shop.store.live_evaluations():
            log.info("scheduled evaluation left out: one is going on", occasion=occasion)
            return
        words = await shop.store.keepsake(kept_words(shop.team), lambda: "")
        wishes = Wishes(shop.store, shop.evaluations, shop.contenders, team=shop.team)
        try:
            evaluation = await wishes.request(words, by="the schedule")
        except PublicError as error:
            log.warning("scheduled evaluation left out", occasion=occasion, why=str(error))
            await self.reports.notice(f"The scheduled evaluation did not begin. {error}")
            return
        log.info("scheduled evaluation", occasion=occasion, number=evaluation.number)

    async def _digest(self, _occasion: str) -> None:
        await self.digests.ask()

    async def _guard(self, _occasion: str) -> None:
        await self.guards.look()

    async def _route(self, _occasion: str) -> None:
        await self.shop.refit.fit()

    async def _retain(self, _occasion: str) -> None:
        await self.shop.retention.carry_out()
