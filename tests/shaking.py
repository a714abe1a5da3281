"""Finds tests that pass only where everything is in time: `pytest --shake SEED` lets databases, calls and events dawdle.

Each access to a database, each HTTP call and each Slack event of this process waits for as long as a busy machine might let
it wait, drawn from the seed. What a test then finds unfinished it should have waited for. Processes of their own are not
shaken; for those, run other work beside the tests.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import aiohttp
import pytest

from bot.workspace.socket_mode import SocketHub
from storage.database import Database

NAME = "shaking"
OFTEN, MEAN_S = 0.3, 0.04
RARELY, LONG_S = 0.02, 0.6


class Shaking:
    """Puts pauses before what a test does not control."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._still = False
        for owner, name in (
            (Database, "at_once"),
            (aiohttp.ClientSession, "_request"),
            (SocketHub, "_send_event"),
        ):
            setattr(owner, name, self._late(getattr(owner, name)))
        for name in ("reading", "writing"):
            setattr(Database, name, self._late_block(getattr(Database, name)))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Who tells of an order within one call says so."""
        self._still = item.get_closest_marker("unshaken") is not None

    async def _dawdle(self) -> None:
        drawn = self._random.random()
        if self._still:
            return
        if drawn < RARELY:
            await asyncio.sleep(LONG_S)
        elif drawn < RARELY + OFTEN:
            await asyncio.sleep(self._random.expovariate(1 / MEAN_S))

    def _late(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(call)
        async def late(*args: Any, **kwargs: Any) -> Any:
            await self._dawdle()
            return await call(*args, **kwargs)

        return late

    def _late_block(self, block: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def late(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await self._dawdle()
            async with block(*args, **kwargs) as given:
                yield given

        return late
