"""Whether Slack lets us in: told by Slack's events and by what it refuses; while it does not, nobody calls it.

An uninstalled app or a revoked token would otherwise be answered with one refused call a second. What people asked stays
where it is and is answered when Slack lets us in again: after a restart with new tokens, or as soon as one of the rare
`auth.test` calls that are still made succeeds. The data is never touched.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import structlog
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import now
from storage.store import Store

AUTH_ERRORS = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "org_login_required"}
)
"""What Slack answers to a bot token that is worth nothing (any more)."""

UNINSTALLED, REVOKED = "app_uninstalled", "tokens_revoked"
CHECK = "auth.test"
APP_TOKENS_OWN = ("apps.connections.open",)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 1800.0
KEEPSAKE = "slack access"

log = structlog.get_logger(__name__)


class AccessLost(aiohttp.ClientError):
    """A call that was not made, because Slack would refuse it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Why Slack does not let us in, and since when."""

    reason: str
    since: datetime

    @property
    def final(self) -> bool:
        """Whether only new tokens help: the app was uninstalled, or its token revoked."""
        return self.reason in {UNINSTALLED, REVOKED}

    def words(self) -> str:
        """What happened and the remedy, for an operator."""
        happened = {
            UNINSTALLED: "The app was uninstalled from the workspace",
            REVOKED: "The bot's token was revoked",
        }.get(self.reason, f"Slack refuses SLACK_BOT_TOKEN ({self.reason})")
        return (
            f"{happened} on {self.since:%d %b at %H:%M} UTC. Nothing is sent to Slack until it works again; questions and "
            "ratings are kept. Install the app again, copy the bot token from OAuth & Permissions into SLACK_BOT_TOKEN, "
            "and restart."
        )

    def to_text(self) -> str:
        """As it is kept in the database."""
        return json.dumps({"reason": self.reason, "since": self.since.isoformat()})


async def access_lost(store: Store) -> Lost | None:
    """What the last bot on this database knew about it; None where Slack let it in."""
    kept = await store.keepsake(KEEPSAKE, lambda: "")
    if not kept:
        return None
    read = json.loads(kept)
    return Lost(str(read["reason"]), datetime.fromisoformat(read["since"]))


class Access:
    """One for each bot. `guard` goes into the HTTP session of everything that calls Slack's Web API."""

    def __init__(self, *, tell: Callable[[str], None] = lambda _words: None) -> None:
        self.lost: Lost | None = None
        self._tell = tell
        self._written: Lost | None = None
        self._check_at = now()
        self._pause_s = FIRST_PAUSE_S

    async def guard(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """aiohttp's client middleware: no call while access is lost, and an eye on each refusal."""
        method = request.url.path.rpartition("/")[2]
        if method in APP_TOKENS_OWN:
            return await handler(request)
        if self.lost is not None and (self.lost.final or method != CHECK):
            raise AccessLost(f"{method} was not called: {self.lost.reason}")
        response = await handler(request)
        if response.content_type == "application/json":
            self._look(method, await response.read())
        return response

    def _look(self, method: str, body: bytes) -> None:
        if b'"error"' not in body:
            return
        try:
            answer = json.loads(body)
        except ValueError:
            return
        if isinstance(answer, dict) and answer.get("error") in AUTH_ERRORS:
            self.lose(str(answer["error"]), seen_by=method)

    def lose(self, reason: str, *, seen_by: str) -> None:
        """Slack does not let us in any more."""
        lost = Lost(reason, now())
        if self.lost is not None and (self.lost.final or not lost.final):
            return
        self.lost = lost
        self._pause_s = FIRST_PAUSE_S
        self._check_at = now() + timedelta(seconds=self._pause_s)
        log.error("Slack does not let us in any more", reason=reason, seen_by=seen_by)
        self._tell(self.lost.words())

    def check_soon(self) -> None:
        """Ask Slack again at the next look instead of after the pause."""
        self._check_at = now()

    async def tick(self, store: Store, client: AsyncWebClient) -> None:
        """Write down what changed, and rarely ask whether Slack lets us in again."""
        if self.lost is not None and not self.lost.final and now() >= self._check_at:
            await self._check(client)
        if self.lost != self._written:
            await self.remember(store)

    async def remember(self, store: Store) -> None:
        """Let `apprentice doctor` know, in another process and after this one."""
        kept = self.lost
        await store.keepsake(KEEPSAKE, lambda: "")
        await store.change_keepsake(KEEPSAKE, kept.to_text() if kept else "")
        self._written = kept

    async def _check(self, client: AsyncWebClient) -> None:
        try:
            await client.auth_test()
        except (SlackApiError, *UNREACHABLE) as error:
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
            self._check_at = now() + timedelta(seconds=self._pause_s)
            log.warning("Slack still does not let us in", error=reason_of(error), again_in_s=self._pause_s)
            return
        self.lost = None
        log.info("Slack lets us in again")
        self._tell("Slack lets us in again. What was asked meanwhile is answered now.")

    def listen(self, app: AsyncApp, *, team: str, bot_user: str) -> None:
        """Hear of it from Slack itself, where it is about our workspace and our own token."""

        @app.event(UNINSTALLED)
        async def uninstalled(body: Mapping[str, Any]) -> None:
            if body.get("team_id") == team:
                self.lose(UNINSTALLED, seen_by="an event")

        @app.event(REVOKED)
        async def revoked(body: Mapping[str, Any], event: Mapping[str, Any]) -> None:
            if body.get("team_id") == team and bot_user in ((event.get("tokens") or {}).get("bot") or ()):
                self.lose(REVOKED, seen_by="an event")
