"""The Home tab: what serves now, my ratings, my consent; for admins also what comes next, what it costs, what channels want.

It is drawn anew when somebody opens it and after each change they make there. What cannot be published is logged.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.money_limits import Budgets, Calendar, limits_at, standing_of
from bot.money_words import standing_line
from bot.schedule import describe, next_times, parse_schedule
from bot.slack import home_blocks, text
from bot.slack.corrections import Corrections
from bot.slack.guards import guards_line
from bot.slack.home_blocks import AdminShown, Shown
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.slack.windows import Ack, pressed_at, written
from storage.records import Schedule, TrainingRun, now
from storage.store import Store

TRAIN = "train"
RATINGS_SHOWN = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HomeRules:
    """Whose Home this is: who is an admin, and what the configuration says. `policies` are those a channel may choose."""

    team: str
    admins: tuple[str, ...]
    base_label: str
    policy: str
    policies: tuple[str, ...]
    budgets: Budgets = field(default_factory=Budgets)
    timezone: str = "UTC"


class Home:
    """Draws the tab and listens to its ratings; consent and channels have listeners of their own."""

    def __init__(
        self, store: Store, client: AsyncWebClient, corrections: Corrections, rules: HomeRules
    ) -> None:
        self._store = store
        self._client = client
        self._corrections = corrections
        self._rules = rules
        self._drawing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to Home."""
        app.event("app_home_opened")(self.opened)
        app.action(home_blocks.HOME_RATING)(self.change_rating)

    async def opened(self, event: dict[str, Any]) -> None:
        """Somebody looks at the app; at its Home, or at their conversation with it."""
        if event.get("tab") == "home":
            await self.refresh(str(event["user"]))

    async def refresh(self, person: str) -> None:
        """Draw a person's Home as things stand now. Trouble is logged, never raised."""
        lock = self._drawing.setdefault(person, asyncio.Lock())
        async with lock:  # a drawing that read earlier must not be published later
            try:
                view = home_blocks.home_view(await self._shown(person), await self._for_admin(person))
                await self._client.views_publish(user_id=person, view=view)
            except (SlackApiError, *UNREACHABLE) as error:
                log.warning("a Home tab was not published", error=reason_of(error))
            except Exception:
                log.exception("a Home tab was not drawn")

    async def _shown(self, person: str) -> Shown:
        team = self._rules.team
        current = await self._store.current(team)
        return Shown(
            serving=f"{self._rules.base_label}{f' + {current.name}' if current else ''}",
            promotion=await self._store.newest_promotion(team),
            ratings=tuple(await self._store.ratings_by(team, person, limit=RATINGS_SHOWN)),
            held=await self._store.holdings(team, person),
        )

    async def _for_admin(self, person: str) -> AdminShown | None:
        if person not in self._rules.admins:
            return None
        team = self._rules.team
        moment, calendar = now(), Calendar(self._rules.timezone)
        limits = limits_at(moment, self._rules.budgets, calendar)
        standings = await standing_of(self._store, team, limits, calendar)
        runs = [run for run in await self._store.runs(team, limit=10) if run.report_ts]
        return AdminShown(
            schedule=_when(await self._store.schedule(team, TRAIN)),
            last_run=runs[0] if runs else None,
            report_link=await self._link_to(runs[0]) if runs else "",
            spent_month=await self._store.spent_since(team, calendar.month(moment)),
            waiting=(await self._store.tally(team)).waiting,
            policy=self._rules.policy,
            channels=tuple(await self._store.channels_with_settings(team)),
            budgets=tuple(map(standing_line, standings)),
            spent_in=await self._store.spent_by_channel(team, calendar.month(moment)),
            channel_usd=self._rules.budgets.channel_month_usd,
            to_review=await self._store.reviews_waiting(team),
            golden=await self._store.golden_tally(team),
            guards=await guards_line(self._store, team),
        )

    async def _link_to(self, run: TrainingRun) -> str:
        try:
            found = await self._client.chat_getPermalink(channel=run.report_channel, message_ts=run.report_ts)
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("no link to a report", run=run.id, error=reason_of(error))
            return ""
        return str(found["permalink"])

    async def change_rating(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """The menu beside one of my ratings."""
        answer_id, _, wish = str((action.get("selected_option") or {}).get("value", "")).rpartition(":")
        person = body["user"]["id"]
        rating = self._rate(answer_id, person, wish, action)
        if wish in {home_blocks.IMPROVE, home_blocks.BAD}:
            voted = wish == home_blocks.BAD
            asking = self._corrections.improve_from_home(body, answer_id, voted=voted)
            await asyncio.gather(asking, written(ack, rating))
        else:
            await written(ack, rating)
        await self.refresh(person)

    async def _rate(self, answer_id: str, person: str, wish: str, action: Mapping[str, Any]) -> None:
        values = {home_blocks.GOOD: 1, home_blocks.BAD: -1, home_blocks.WITHDRAW: 0}
        if wish in values:
            await self._store.rate(
                answer_id,
                team=self._rules.team,
                rater=person,
                value=values[wish],
                at=pressed_at(action),
                via="home",
            )


def _when(row: Schedule | None) -> str:
    """When training happens by itself, in words."""
    if row is None or not row.enabled:
        return text.schedule_line(row, "", "")
    cron = parse_schedule(row.cron, row.timezone)
    following = next_times(cron, row.timezone, now(), 1)
    return text.schedule_line(
        row, describe(cron, row.timezone), f"{following[0]:%a %d %b %H:%M}" if following else ""
    )
