"""Posts the week's digest into the admin channel, with the page and the table in its thread: once, whatever happens.

What is left to do lies in the store, so that the next bot goes on where one was killed; who does a part claims it before.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.digest import Digest, Period, week_named
from bot.digest_page import names_of_files, page
from bot.digest_words import csv_text, lines, title
from bot.errors import PublicError
from bot.figures import Figures
from bot.slack.blocks import section
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.store import Store

DIGEST = "digest"
"""The schedule's name."""
KIND = "apprentice_digest"
MESSAGE, PAGE, TABLE = "message", "page", "table"
PARTS = (MESSAGE, PAGE, TABLE)
AGAIN_S = 60.0
LOOK_BACK = 50
REINSTALL = "The app needs files:write: install it again with deploy/slack-manifest.yaml."

log = structlog.get_logger(__name__)


@dataclass
class Owed:
    """What is left to be posted of a week's digest; `ts` is its message, once it stands."""

    week: str = ""
    ts: str = ""
    left: list[str] = field(default_factory=list)


class Digests:
    """Makes and posts digests."""

    def __init__(
        self,
        store: Store,
        client: AsyncWebClient,
        figures: Figures,
        *,
        team: str,
        channel: str,
        timezone: str,
    ) -> None:
        self._store = store
        self._client = client
        self._figures = figures
        self._team = team
        self._channel = channel
        self._timezone = timezone
        self._owed: Owed | None = None
        self._not_before = 0.0

    async def ask(self) -> None:
        """The week that is over is to be told."""
        if not self._channel:
            log.info("no digest: there is no admin channel")
            return
        week = week_named("last", self._timezone).name
        await self._keep(Owed(week, "", list(PARTS)))

    async def tick(self) -> None:
        """Post what is left; what cannot be posted now is tried again in a minute."""
        if self._owed is None:
            self._owed = Owed(**json.loads(await self._store.keepsake(self._name, lambda: "{}")))
        if not self._owed.left or not self._channel or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + AGAIN_S
        owed = self._owed
        told, before = await self.of(week_named(owed.week, self._timezone))
        for part in list(owed.left):
            if not await self._post(owed, part, told, before):
                return
            owed.left.remove(part)
            await self._keep(owed)
        self._not_before = 0.0

    async def of(self, period: Period) -> tuple[Digest, Digest]:
        """The figures of a time, and those of the time before."""
        told = await self._figures.digest(period, self._timezone)
        return told, await self._figures.digest(period.before, self._timezone)

    async def said(self, week: str) -> str:
        """The digest of a week in words, for who asks. Raises PublicError."""
        told, before = await self.of(week_named(week, self._timezone))
        return "\n".join([f"*{title(told)}*", *lines(told, before)])

    async def _keep(self, owed: Owed) -> None:
        kept = json.dumps(asdict(owed), sort_keys=True)
        if await self._store.keepsake(self._name, lambda: kept) != kept:
            await self._store.change_keepsake(self._name, kept)
        self._owed = owed

    @property
    def _name(self) -> str:
        return f"digest:{self._team}"

    async def _post(self, owed: Owed, part: str, told: Digest, before: Digest) -> bool:
        """Whether this part is done with: posted now or before, or refused for good."""
        key = (self._team, DIGEST, owed.week, PARTS.index(part))
        if not await self._store.notice(*key):
            return part != MESSAGE or bool(owed.ts) or await self._standing(owed)
        try:
            ts = (
                await self._message(owed, told, before)
                if part == MESSAGE
                else await self._file(owed, part, told, before)
            )
        except (SlackApiError, *UNREACHABLE) as error:
            refused = (
                part != MESSAGE and isinstance(error, SlackApiError) and reason_of(error) == "missing_scope"
            )
            log.warning(
                "a digest was not posted",
                part=part,
                error=reason_of(error),
                remedy=REINSTALL if refused else "",
            )
            await self._store.unnoticed(*key)
            return refused
        await self._store.noticed(*key, ts)
        return True

    async def _message(self, owed: Owed, told: Digest, before: Digest) -> str:
        if not await self._standing(owed):
            posted = await self._client.chat_postMessage(channel=self._channel, **message(told, before))
            owed.ts = str(posted["ts"])
        return owed.ts

    async def _standing(self, owed: Owed) -> bool:
        """Whether the message stands already: Slack may have taken it although its answer was lost."""
        found: Any = await self._client.conversations_history(
            channel=self._channel, limit=LOOK_BACK, include_all_metadata=True
        )
        for each in found["messages"]:
            metadata = each.get("metadata") or {}
            if metadata.get("event_type") == KIND and metadata["event_payload"].get("week") == owed.week:
                owed.ts = str(each["ts"])
                return True
        return False

    async def _file(self, owed: Owed, part: str, told: Digest, before: Digest) -> str:
        names = names_of_files(told)
        name, words = (names[0], page(told, before)) if part == PAGE else (names[1], csv_text(told))
        answer = await self._client.files_upload_v2(
            filename=name, title=name, content=words.encode(), channel=self._channel, thread_ts=owed.ts
        )
        return str(answer["files"][0]["id"])


def message(told: Digest, before: Digest | None) -> dict[str, Any]:
    """The digest as Slack takes it."""
    said = lines(told, before)
    heading = title(told)
    return {
        "text": "\n".join([heading, *said]),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": heading}},
            section("\n".join(said)),
        ],
        "metadata": {"event_type": KIND, "event_payload": {"week": told.period.name}},
    }


def week_asked_for(words: str) -> str:
    """What somebody wrote after the command. Raises PublicError."""
    if len(words.split()) > 1:
        raise PublicError("Write one week: this, last, or one such as 2026-W47.")
    return words
