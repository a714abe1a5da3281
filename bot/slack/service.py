"""Slack as a service: the way in, the right to speak, and what was missed, started, watched and stopped together."""

import asyncio

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.access import Access
from bot.slack.catchup import CatchUp
from bot.slack.connection import Receiver
from storage.database import in_words
from storage.store import Store

LOOK_S = 1.0

log = structlog.get_logger(__name__)


class SlackService:
    """Keeps the bot reachable for as long as it runs."""

    def __init__(
        self, store: Store, client: AsyncWebClient, *, receiver: Receiver, access: Access, catch_up: CatchUp
    ) -> None:
        self.receiver = receiver
        self.access = access
        self.catch_up = catch_up
        self._store = store
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Let Slack reach us, and look back to when it last could. Raises PublicError; nothing is left open then."""
        await self.access.remember(self._store)
        await self.receiver.start()
        self._tasks = [asyncio.create_task(self._look_back()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """Slack cannot reach us any more; the next start looks back to now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            if self._tasks:
                await self.catch_up.note(self.receiver.heard_at, always=True)
        except Exception as error:
            # Nothing is lost: the next start looks back further, to the note before, and knows what it has seen.
            if in_words(error) is None:
                raise
            log.warning("not noted until when Slack was heard", error=in_words(error))
        finally:
            await self.receiver.stop()

    def trouble(self) -> str:
        """What is wrong between Slack and us, with the remedy; "" for nothing."""
        lost = self.access.lost
        return lost.words() if lost is not None else self.receiver.trouble()

    async def _look_back(self) -> None:
        try:
            await self.catch_up.after_start()
        except Exception:
            log.exception("what was missed before the start could not be read")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.access.tick(self._store, self._client)
                if self.access.lost is None:
                    await self.catch_up.note(self.receiver.heard_at)
            except Exception:
                log.exception("the watch over Slack could not look")
