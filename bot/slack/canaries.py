"""Canaries in the admin channel: one message while a canary is watched, one when it has ended, and their buttons.

Both are found again by their metadata, so that a bot that died between posting and writing that down posts nothing twice.
Only admins decide, which is checked here for every press.
"""

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.canaries import Canaries
from bot.errors import PublicError
from bot.serving import Fallen
from bot.slack import canary_blocks as blocks
from bot.slack.canary_blocks import Names
from bot.slack.decisions import Decisions
from bot.slack.report_standing import BASE_NAME
from bot.slack.report_text import buttons_for_admins
from bot.slack.report_thread import Place
from bot.slack.reports import Reports
from storage.records import Canary, CanaryState
from storage.store import Store
from training.canary import Tally

EVERY_S = 60.0
GONE = "That canary is no longer there."
OVER = "That canary is over already."

Ack = Callable[..., Awaitable[Any]]
Json = dict[str, Any]


class CanaryReports:
    """Draws canaries and listens to their buttons."""

    def __init__(
        self,
        store: Store,
        reports: Reports,
        canaries: Canaries,
        decisions: Decisions,
        *,
        admins: tuple[str, ...],
    ) -> None:
        self._store = store
        self._reports = reports
        self._canaries = canaries
        self._decisions = decisions
        self._admins = admins
        self._drawn_at = 0.0

    def listen(self, app: AsyncApp) -> None:
        """Register the buttons."""
        app.action(blocks.PROMOTE)(self.promote)
        app.action(blocks.BACK)(self.take_back)
        app.action(blocks.AGAIN)(self.again)

    # --- Telling --------------------------------------------------------------------------------------------

    async def goes_on(self, canary: Canary, tally: Tally) -> None:
        """How a canary stands: at once when it begins or has passed, else at most once a minute."""
        message = blocks.goes_on(canary, tally, await self._names(canary))
        drawing = hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()[:32]
        passed = f"{drawing}{'+' if canary.passed_at else ''}"
        hurry = not canary.report_drawn or passed.endswith("+") != canary.report_drawn.endswith("+")
        if passed == canary.report_drawn or (not hurry and time.monotonic() - self._drawn_at < EVERY_S):
            return
        place = await self._reports.put(message, Place(canary.report_channel, canary.report_ts))
        self._drawn_at = time.monotonic()
        await self._store.note_on_canary(
            canary.id, report_channel=place.channel, report_ts=place.ts, report_drawn=passed
        )

    async def ended(self, canary: Canary, tally: Tally) -> str:
        """Close the message, and tell the end in one of its own; where that stands."""
        names = await self._names(canary)
        if canary.report_ts:
            place = Place(canary.report_channel, canary.report_ts)
            await self._reports.put(blocks.closed(canary, tally, names), place)
        said = await self._reports.put(blocks.ended(canary, tally, names), Place("", ""))
        version = await self._store.model(canary.version_id or "")
        run = await self._store.run(version.run_id or "") if version else None
        if run is not None:
            await self._reports.redraw(run)
        return said.ts or "in the log"

    async def fell(self, fallen: Fallen) -> None:
        """The promoted version cannot answer."""
        await self._reports.notice(blocks.fell(fallen.version.name, fallen.answers, fallen.why))

    async def _names(self, canary: Canary) -> Names:
        version = await self._store.model(canary.version_id or "")
        against = await self._store.model(canary.against_id or "") if canary.against_id else None
        return Names(
            version.name if version else "A model that is gone",
            against.name if against else "A model that is gone" if canary.against_id else BASE_NAME,
            self._admins,
        )

    # --- Buttons --------------------------------------------------------------------------------------------

    async def promote(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """Promote: everywhere."""
        await self._pressed(ack, body, action, respond, self._promote)

    async def take_back(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """Roll back: nowhere."""
        await self._pressed(ack, body, action, respond, self._take_back)

    async def again(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """Canary again: the same version, from the beginning."""
        await self._pressed(ack, body, action, respond, self._again)

    async def _pressed(
        self,
        ack: Ack,
        body: Json,
        action: Json,
        respond: Ack,
        decide: Callable[[str, Canary], Awaitable[str]],
    ) -> None:
        await ack()
        person = str((body.get("user") or {}).get("id") or "")
        canary = await self._store.canary_by_id(str(action.get("value", "")))
        if person not in self._admins:
            said = buttons_for_admins(self._admins)
        elif canary is None:
            said = GONE
        else:
            try:
                said = await decide(person, canary)
                await self._canaries.tick()
            except PublicError as error:
                said = str(error)
        if said:
            await respond(text=said, response_type="ephemeral", replace_original=False)

    async def _promote(self, person: str, canary: Canary) -> str:
        version = await self._store.model(canary.version_id or "")
        if version is None:
            return GONE
        return await self._decisions.promote_named(
            person, version.name, version, reason=canary.reason or "promoted out of its canary"
        )

    async def _take_back(self, person: str, canary: Canary) -> str:
        if canary.state is not CanaryState.WATCHING:
            return OVER
        return "" if await self._canaries.take_back(canary, by=person) else OVER

    async def _again(self, person: str, canary: Canary) -> str:
        version = await self._store.model(canary.version_id or "")
        if version is None:
            return GONE
        await self._canaries.begin(
            version, by=person, share=canary.share, decision=f"again:{canary.id}", reason="once more"
        )
        return ""
