"""Tells the admin channel, once, where runs cannot be trained although the settings name the place, and until when."""

import asyncio

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack.blocks import section
from bot.slack.trouble import UNREACHABLE, reason_of
from bot.tuning import Capability
from bot.workshop import Workshop

log = structlog.get_logger(__name__)


def news(capability: Capability, said: str, *, nightly: bool) -> str:
    """What admins are to read now that was not said before; "" for nothing. `said`: the words of the last time. Pure."""
    if not capability.wanted or capability.words == said:
        return ""
    if not said and capability.available and not capability.standing.until:
        return ""
    head = f"Training with {capability.name} is {capability.words}"
    if capability.available:
        return f":mortar_board: {head}"
    return f":no_entry: {head}" + (" Nightly runs do not ask there before." if nightly else "")


class TuningNotices:
    """Looks at what is known and posts what is new."""

    def __init__(self, shop: Workshop, client: AsyncWebClient, *, channel: str) -> None:
        self._shop = shop
        self._client = client
        self._channel = channel
        self._looking = asyncio.Lock()

    async def tick(self) -> None:
        """Cheap where nothing changed; no provider is asked."""
        if not self._channel:
            return
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        for capability in await self._shop.capabilities():
            key = f"tuning said:{self._shop.team}:{capability.place}"
            said = await self._shop.store.keepsake(key, str)
            nightly = capability.place == self._shop.settings.train_with
            if told := news(capability, said, nightly=nightly):
                await self._shop.store.change_keepsake(key, capability.words)  # before: twice is worse
                if not await self._post(told):
                    await self._shop.store.change_keepsake(key, said)

    async def _post(self, told: str) -> bool:
        try:
            await self._client.chat_postMessage(channel=self._channel, text=told, blocks=[section(told)])
        except (SlackApiError, *UNREACHABLE) as error:
            log.warning("where runs can be trained was not told", error=reason_of(error))
            return False
        return True
