"""The guards in Slack: the nightly look, one message for each finding in the admin channel, its buttons, and the experts.

A finding is told once, also after a restart; what cannot be posted is tried again at a later look. Only admins decide,
which is checked here for every press; the last decision counts, and every one is written down.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import guard_blocks as words
from bot.slack.members import names_of
from bot.slack.report_text import buttons_for_admins
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Quarantine
from storage.store import Store
from training.raters import EXPERT
from training.watching import Looked, look

GUARD = "guards"
"""The name of the schedule."""
KIND = "apprentice_finding"
A_LOOK = 10
"""So many findings are told at once; the others at the next look of the clock."""
AGAIN_S = 60.0
PAGES = 50

Ack = Callable[..., Awaitable[Any]]
Json = dict[str, Any]

log = structlog.get_logger(__name__)


class Guards:
    """Looks, tells, and listens to what admins decide."""

    def __init__(
        self, store: Store, client: AsyncWebClient, *, team: str, channel: str, admins: tuple[str, ...]
    ) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._channel = channel
        self._admins = admins
        self._telling = asyncio.Lock()
        self._due = 0.0

    def listen(self, app: AsyncApp) -> None:
        """Register the buttons."""
        app.action(words.LEARN)(self.learn)
        app.action(words.KEEP_OUT)(self.keep_out)

    # --- The nightly look --------------------------------------------------------------------------------------

    async def look(self) -> Looked:
        """Look at what people feed, and tell the admins what is odd."""
        looked = await look(self._store, self._team)
        log.info("the guards looked", findings=len(looked.findings), new=looked.new)
        self._due = 0.0
        await self.tick()
        return looked

    async def tick(self) -> None:
        """Tell what nobody told yet; at most once a minute, because there hardly ever is anything."""
        if not self._channel or self._telling.locked() or time.monotonic() < self._due:
            return
        async with self._telling:
            self._due = time.monotonic() + AGAIN_S
            for _ in range(A_LOOK):
                row = await self._store.to_tell(self._team)
                if row is None or not await self._tell(row):
                    return
            self._due = 0.0

    async def _tell(self, row: Quarantine) -> bool:
        try:
            posted = await self._client.chat_postMessage(
                channel=self._channel,
                text=words.finding_text(row),
                blocks=words.finding_blocks(row),
                metadata={"event_type": KIND, "event_payload": {"finding": row.id}},
                unfurl_links=False,
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("a finding was not posted", finding=row.id, error=reason_of(error))
            await self._store.untold(row.id)
            return False
        await self._store.told(row.id, str(posted["ts"]))
        return True

    # --- Buttons -----------------------------------------------------------------------------------------------

    async def learn(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The button *Learn from it after all*."""
        await self._pressed(ack, body, action, respond, learn=True)

    async def keep_out(self, ack: Ack, body: Json, action: Json, respond: Ack) -> None:
        """The button *Keep out*."""
        await self._pressed(ack, body, action, respond, learn=False)

    async def _pressed(self, ack: Ack, body: Json, action: Json, respond: Ack, *, learn: bool) -> None:
        await ack()
        person = str((body.get("user") or {}).get("id") or "")
        if person not in self._admins:
            await _whisper(respond, buttons_for_admins(self._admins))
            return
        row_id = str(action.get("value", ""))
        row = await self._store.decide_quarantine(self._team, row_id, by=person, learn=learn)
        if row is None:
            await _whisper(respond, words.GONE)
            return
        await self._redraw(body, row)

    async def _redraw(self, body: Json, row: Quarantine) -> None:
        place = body.get("container") or {}
        channel, ts = str(place.get("channel_id") or ""), str(place.get("message_ts") or "")
        if not channel or not ts:
            return
        try:
            await self._client.chat_update(
                channel=channel, ts=ts, text=words.finding_text(row), blocks=words.finding_blocks(row)
            )
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("a finding was not drawn anew", finding=row.id, error=reason_of(error))

    # --- Experts -----------------------------------------------------------------------------------------------

    async def experts(self, admin: str, said: str) -> str:
        """`/apprentice experts [add | remove @user]` by an admin; the answer."""
        verb, _, name = said.strip().partition(" ")
        if not verb:
            return words.experts_text(await self._store.expert_rows(self._team), EXPERT)
        if verb.lower() not in {"add", "remove"} or not name.strip():
            return words.EXPERTS_HELP
        person = words.person_in(name) or await self._called(name.strip())
        if not person:
            return words.nobody_called(name.strip())
        if verb.lower() == "add":
            new = await self._store.grant_expert(self._team, person, by=admin)
            return words.expert_added(person, EXPERT, new=new)
        return words.expert_removed(person, was=await self._store.revoke_expert(self._team, person, by=admin))

    async def _called(self, name: str) -> str:
        """The one member of this name; Slack does not say whom a name in a command means."""
        wanted, cursor, found = name.removeprefix("@").casefold(), "", set()
        try:
            for _ in range(PAGES):
                page = await self._client.users_list(limit=200, cursor=cursor)
                for user in page["members"]:
                    called = (str(user.get("name") or ""), *names_of(user))
                    if names_of(user) and wanted in {each.casefold() for each in called}:
                        found.add(str(user["id"]))
                cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
                if not cursor:
                    break
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("members could not be listed", error=reason_of(error))
        return found.pop() if len(found) == 1 else ""

    async def status_line(self) -> str:
        """What `/apprentice status` says of the guards; "" where there is nothing to say."""
        return await guards_line(self._store, self._team)


async def guards_line(store: Store, team: str) -> str:
    """What admins are told of experts and findings, in `status` and in Home; "" where there is nothing to say."""
    rows = await store.quarantine(team)
    waiting = sum(not row.kept_by and not row.lifted_by for row in rows)
    return words.status_line(len(await store.experts(team)), waiting, sum(row.holds for row in rows))


async def _whisper(respond: Ack, said: str) -> None:
    await respond(text=said, response_type="ephemeral", replace_original=False)
