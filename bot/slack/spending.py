"""Tells the admin channel when a budget is nearly or wholly spent: once for each budget, period and level.

What cannot be posted is tried again at a later look, also by the next bot after a restart.
"""

import asyncio
from collections.abc import Sequence

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.money import FULL, WARNED, Due, Ledger
from bot.money_limits import Standing, scope_in_words, usd
from bot.slack.blocks import section
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.store import Store

KIND = "apprentice_budget"

log = structlog.get_logger(__name__)


class BudgetNotices:
    """Looks at what the ledger says is due, and posts what nobody posted before."""

    def __init__(
        self, store: Store, client: AsyncWebClient, ledger: Ledger, *, team: str, channel: str
    ) -> None:
        self._store = store
        self._client = client
        self._ledger = ledger
        self._team = team
        self._channel = channel
        self._looking = asyncio.Lock()
        self._done: set[tuple[str, str, int]] = set()

    async def start(self) -> None:
        """After a start every budget is looked at once."""
        await self._ledger.touch_all()

    async def tick(self) -> None:
        """Post what is due. Cheap where nothing was spent since the last look."""
        if not self._channel:
            return
        async with self._looking:
            found = await self._ledger.due()
            left = [due for due in found if _key(due) not in self._done]
            for place, due in enumerate(left):
                try:
                    told = await self._tell(due)
                except BaseException:
                    self._again(left[place:])
                    raise
                if told:
                    self._done.add(_key(due))
                else:
                    self._again([due])

    def _again(self, dues: Sequence[Due]) -> None:
        for due in dues:
            self._ledger.touch(due.standing.limit.channel or "", due.standing.limit.most_usd)

    async def _tell(self, due: Due) -> bool:
        """Whether this is done with: told now or before."""
        limit = due.standing.limit
        key = (self._team, limit.scope, limit.period, due.level)
        if not await self._store.notice(*key):
            return True
        try:
            posted = await self._client.chat_postMessage(
                channel=self._channel,
                text=notice_text(due),
                blocks=[section(notice_text(due))],
                metadata={
                    "event_type": KIND,
                    "event_payload": {"scope": limit.scope, "period": limit.period, "level": due.level},
                },
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("a notice of a budget was not posted", scope=limit.scope, error=reason_of(error))
            await self._store.unnoticed(*key)
            return False
        await self._store.noticed(*key, str(posted["ts"]))
        if due.level == FULL:  # who reads that it is used up need not hear any more that it is nearly so
            await self._store.notice(self._team, limit.scope, limit.period, WARNED)
            await self._store.noticed(self._team, limit.scope, limit.period, WARNED, str(posted["ts"]))
        return True


def _key(due: Due) -> tuple[str, str, int]:
    return (due.standing.limit.scope, due.standing.limit.period, due.level)


def notice_text(due: Due) -> str:
    """What admins read."""
    place, limit = due.standing, due.standing.limit
    name = scope_in_words(limit)
    amount = f"{usd(place.spent.sure_usd)} of {usd(limit.most_usd)}"
    if due.level == WARNED:
        return (
            f":moneybag: {name.capitalize()} for API models is spent to {100 * place.share:.0f} % ({amount}). "
            f"Nothing changes yet. Once it is used up, only the local model and memory answer until {place.anew}. "
            f"{_remedy(place)}"
        )
    return (
        f":moneybag: {name.capitalize()} for API models is used up ({amount}; a further call could have passed it, so it "
        f"was not made). Until {place.anew} only the local model and memory answer. {_remedy(place)}"
    )


def _remedy(place: Standing) -> str:
    if place.limit.channel:
        return "To raise it, change the channel's settings in my Home, or BUDGET_CHANNEL_MONTH_USD."
    name = "BUDGET_DAY_USD" if place.limit.scope == "day" else "BUDGET_MONTH_USD"
    return f"To raise it, set {name} and restart me; `/apprentice spending` shows what it was spent on."
