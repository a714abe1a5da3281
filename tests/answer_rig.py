"""A bot whose answers come from an API that the test holds in its hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bot_process import HELP, Json, Team, bot_in_here, eventually, is_answer, is_from_bot
from provider_standins import OpenAIServer, StandIn, served

from bot.app import Bot
from bot.settings import Policy
from storage.asking import OWED

MODEL = "gpt-6-luna"


@dataclass
class Gate:
    """Holds a model's writing at a piece until it is opened."""

    at: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, number: int) -> None:
        if number >= self.at:
            self.reached.set()
            await self.opened.wait()


@dataclass
class Room:
    """A bot whose answers come from an API that the test holds in its hand."""

    bot: Bot
    team: Team
    api: StandIn

    def says(self, text: str) -> None:
        self.api.says = lambda _question: text

    def hold_at(self, piece: int) -> Gate:
        gate = Gate(piece)
        self.api.gate = gate
        return gate

    async def thread(self, ts: str, channel: str = HELP) -> list[Json]:
        """What the bot has in a thread, whether it is complete or not."""
        return [each for each in await self.team.cleo.messages(channel, ts) if is_from_bot(each)]

    async def asked(self, words: str, channel: str = HELP) -> str:
        said = words if channel.startswith("D") else f"@apprentice {words}"
        return await self.team.cleo.post(channel, said)

    async def begun(self, ts: str, channel: str = HELP) -> Json:
        """The message of an answer of which something is to be seen."""

        async def look() -> Json | None:
            return next((each for each in await self.thread(ts, channel) if each.get("text")), None)

        return await eventually(look, what="an answer begins", timeout_s=30)

    async def answer(self, ts: str, channel: str = HELP) -> Json:
        """The one complete answer in a thread, once the bot has written down that it stands there."""

        async def look() -> Json | None:
            return next((each for each in await self.thread(ts, channel) if is_answer(each)), None)

        async def done() -> bool:
            question = await self.bot.workshop.store.question_at(self.bot.workshop.team, channel, ts)
            return question is None or question.state not in OWED

        complete = await eventually(look, what="an answer is complete", timeout_s=30)
        await eventually(done, what="the bot knows that it is", timeout_s=30)
        return complete


@asynccontextmanager
async def room_at(folder: Path, **chosen: object) -> AsyncIterator[Room]:
    stand_in = StandIn(models={MODEL: None})
    async with served(stand_in, OpenAIServer(stand_in).routes()) as api:
        settings = {
            "answer_policy": Policy.API_FIRST,
            "openai_api_key": "sk-right",
            "openai_base_url": f"{api.url}/v1",
            "openai_model": MODEL,
        }
        async with bot_in_here(folder / "data", **{**settings, **chosen}) as (bot, team):
            yield Room(bot, team, api)
