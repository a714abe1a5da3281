"""Who belongs to the workspace, so that members' names are struck out of what is kept.

Slack's list is read at the start and once a day; a change of a profile and a new member are heard of at once. Only keyed
hashes of names are kept (`storage.names`). Bots keep their names, ours among them: nothing personal is in "@apprentice".
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of
from storage.names import install_names
from storage.store import Store

PAGE = 200  # what Slack recommends
PAGES = 1000
UNPACED = 15  # pages; Slack lets us read twenty a minute
PACE_S = 3.0
EVERY_S = 24 * 3600.0
AGAIN_S = 600.0
CALLED = ("real_name", "display_name", "real_name_normalized", "display_name_normalized")
SLACKBOT = "USLACKBOT"

Json = Mapping[str, Any]

log = structlog.get_logger(__name__)


def names_of(user: Json) -> tuple[str, ...]:
    """What people call a member; nothing of a bot, and nothing of somebody who left. Pure."""
    if user.get("deleted") or user.get("is_bot") or user.get("id") == SLACKBOT:
        return ()
    profile = user.get("profile") or {}
    first_and_last = f"{profile.get('first_name') or ''} {profile.get('last_name') or ''}"
    called = [
        *(profile.get(name) for name in CALLED),
        user.get("real_name"),
        user.get("name"),
        first_and_last,
    ]
    return tuple(dict.fromkeys(str(name).strip() for name in called if name and str(name).strip()))


class Members:
    """Keeps the book of names."""

    def __init__(self, store: Store, client: AsyncWebClient, *, team: str) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._due = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._heard: dict[str, tuple[str, ...]] = {}  # what changed while the list is being read
        self._looking: asyncio.Task[None] | None = None

    def listen(self, app: AsyncApp) -> None:
        """Hear of changes."""
        app.event("team_join")(self.changed)
        app.event("user_change")(self.changed)

    async def changed(self, event: dict[str, Any]) -> None:
        """Somebody joined, left, or has another name."""
        user = event.get("user") or {}
        if user.get("id"):
            heard = {str(user["id"]): names_of(user)}
            self._heard |= heard
            await self._keep(heard, all_of_them=False)

    def tick(self) -> None:
        """Read Slack's list where that is due, in a task of our own: it may have many pages."""
        idle = self._looking is None or self._looking.done()
        if idle and time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_S
            self._looking = asyncio.create_task(self._look(), name="members")

    async def stop(self) -> None:
        """Leave off."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        try:
            await self.look()
        except (SlackApiError, *UNREACHABLE) as error:
            self._due = time.monotonic() + AGAIN_S
            log.warning("the members of the workspace cannot be read", error=reason_of(error))

    async def look(self) -> None:
        """Read the whole list and keep it. Raises what the client raises; nothing is kept then."""
        names: dict[str, tuple[str, ...]] = {}
        cursor, self._heard = "", {}
        for number in range(PAGES):
            if number >= UNPACED:
                await asyncio.sleep(PACE_S)
            page = await self._client.users_list(limit=PAGE, cursor=cursor or None)
            names |= {str(user["id"]): names_of(user) for user in page["members"]}
            cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                break
        await self._keep(names, all_of_them=not cursor)

    async def _keep(self, names: Mapping[str, tuple[str, ...]], *, all_of_them: bool) -> None:
        async with self._one_at_a_time:  # or an older book could be installed after a newer one
            known = {**names, **self._heard} if all_of_them else names
            if not await self._store.keep_names(self._team, known, all_of_them=all_of_them):
                return
            await install_names(self._store, self._team)
        log.info("names of members are known", members=sum(map(bool, names.values())))
