"""What routing saved and whether quality held, in words for `/apprentice status` and for reports.

The figures are made in `training.router_estimates`; here they are gathered and said.
"""

from collections.abc import Callable
from datetime import timedelta

from bot.digest import Digest, Period, gather
from bot.money_limits import usd
from storage.records import RouterVersion, now
from storage.routing import PostedAnswer
from storage.store import Store
from training.promotion import Difference
from training.router_estimates import AnsweredQuestion, RouterReport, router_report

LOOKED_AT = timedelta(days=30)
NO_ROUTER = (
    "a fixed threshold on the local model's own certainty; a router is fitted when there are enough ratings"
)


class Figures:
    """Gathers the figures of the last 30 days. `usual_api_usd` is what an API answer costs while none was bought."""

    def __init__(self, store: Store, *, team: str, usual_api_usd: Callable[[], float | None]) -> None:
        self._store = store
        self._team = team
        self._usual_api_usd = usual_api_usd

    async def digest(self, period: Period, timezone: str) -> Digest:
        """The figures of a time; days are those of the zone."""
        usual = self._usual_api_usd()
        return await gather(self._store, self._team, period, timezone=timezone, usual_api_usd=usual)

    async def lines(self) -> list[str]:
        """What people read; nothing where nothing was answered yet."""
        rows = await self._store.posted_since(self._team, now() - LOOKED_AT)
        report = router_report([_answered(row) for row in rows], usual_api_usd=self._usual_api_usd())
        return told(report, await self._store.router(self._team))


def told(report: RouterReport, router: RouterVersion | None) -> list[str]:
    """The figures as lines of mrkdwn. What rests on too little says so instead of giving a number. Pure."""
    if report.questions == 0 or report.local_share is None:
        return []
    lines = [
        f"*Answered without an API:* {report.local_share:.0%} of {report.questions:,} answers in 30 days"
        f"{_saved(report)}"
    ]
    lines.append(f"*Who decides between local and API:* {_decides(router)}{_calibration(report)}")
    quality = [
        f"{name} {_share(good)}"
        for name, good in (("local", report.local_good), ("API", report.api_good))
        if good is not None
    ]
    if quality:
        lines.append(f"*Liked, of the rated answers:* {'; '.join(quality)}")
    return lines


def _saved(report: RouterReport) -> str:
    if report.saved is None or report.saved_usd is None:
        return "; what an API would have cost is not known, because none was asked and no price is set"
    low, high = (each * report.questions for each in (report.saved.interval.low, report.saved.interval.high))
    return (
        f"; spent {usd(report.spent_usd)}, saved about {usd(report.saved_usd)} against asking an API each time "
        f"(95 % interval {usd(low)} to {usd(high)})"
    )


def _decides(router: RouterVersion | None) -> str:
    if router is None:
        return NO_ROUTER
    return f"the router of {router.fitted_at:%Y-%m-%d}, fitted on {router.labels:,} rated answers"


def _calibration(report: RouterReport) -> str:
    if report.calibration_error is None:
        return ""
    return (
        f"; its chances were off by {report.calibration_error:.2f} on {report.calibrated_on:,} rated answers"
    )


def _share(good: Difference) -> str:
    low, high = good.interval.low, good.interval.high
    return f"{good.mean:.0%} of {good.n:,} (95 % interval {low:.0%} to {high:.0%})"


def _answered(row: PostedAnswer) -> AnsweredQuestion:
    return AnsweredQuestion(
        cluster=row.thread,
        kind=row.kind,
        cost_usd=row.cost_usd,
        label=None if row.vote is None else (row.vote + 1) / 2,
        p_good=row.p_good,
    )
