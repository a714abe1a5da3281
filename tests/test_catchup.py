"""What was said while the bot was away is found once, and nothing else is read or kept."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from answer_rig import MODEL
from bot_process import CLEOS_DM, HELP, eventually, is_answer, quick_settings, replies, team_at
from provider_standins import OpenAIServer, StandIn, served
from workspace_rig import Rig, running

from bot.app import start
from bot.settings import Policy
from bot.slack.catchup import CatchUp
from bot.workspace import LocalWorkspace
from bot.workspace.faults import Fault, Faults
from bot.workspace.seed import BOT_USER
from storage.records import now
from storage.store import Store

TEAM = "T0LOCAL"
HOUR = 3600.0
MENTION = f"<@{BOT_USER}>"

Json = dict[str, Any]


@dataclass
class Away:
    """A workspace in which people go on talking while no app is connected, and the bot that comes back."""

    rig: Rig
    store: Store
    taken: list[Json] = field(default_factory=list)

    async def take(self, event: Mapping[str, Any]) -> None:
        self.taken.append(dict(event))

    def catch_up(self, *, late_limit_s: float = HOUR) -> CatchUp:
        return CatchUp(
            self.store,
            self.rig.client,
            team=TEAM,
            bot_user=BOT_USER,
            late_limit_s=late_limit_s,
            take=self.take,
            pace_s=0.01,
        )

    async def says(
        self, text: str, *, user: str = "U0CLEO", at: str = HELP, thread: str | None = None
    ) -> str:
        return await self.rig.person(user).post(at, text, thread)

    async def asked(self, text: str, *, at: str = HELP) -> str:
        """A question that the bot knows."""
        ts = await self.says(text, at=at)
        await self.store.ask(team=TEAM, channel=at, ts=ts, thread_ts=ts, asker="U0CLEO", text=text)
        return ts

    def texts(self) -> list[str]:
        return [each["text"] for each in self.taken]

    async def reads(self) -> list[Json]:
        """The calls that read conversations."""
        async with self.rig.session.get(f"{self.rig.workspace.url}/_control/calls") as response:
            calls: list[Json] = (await response.json())["calls"]
        return [call for call in calls if call["method"].startswith("conversations.")]


@asynccontextmanager
async def away(store: Store, **options: Any) -> AsyncIterator[Away]:
    async with running(connect=False, listen=False, **options) as rig:
        yield Away(rig, store)


async def test_mentions_replies_and_direct_messages_are_found_in_their_order(store: Store) -> None:
    """As the events that they would have been; what is not said to the bot is handed on only from its own threads."""
    async with away(store) as gone:
        root = await gone.asked(f"{MENTION} first")
        direct = await gone.asked("hello", at=CLEOS_DM)
        since = now()
        await gone.says("chatter that asks nobody")
        await gone.says(f"{MENTION} missed", user="U0DAN")
        await gone.says(f"{MENTION} and again?", thread=root)
        await gone.says("thanks, and on Sundays?", thread=root)
        await gone.says("missed directly", at=CLEOS_DM)
        await gone.says("missed in its thread", at=CLEOS_DM, thread=direct)
        caught = await gone.catch_up().look_back(since + timedelta(seconds=5))
        known = {f"{MENTION} first", "hello"}
        found = [each for each in gone.taken if each["text"] not in known]
        assert [(each["text"], each["type"], each.get("channel_type")) for each in found] == [
            (f"{MENTION} missed", "app_mention", None),
            (f"{MENTION} and again?", "app_mention", None),
            ("thanks, and on Sundays?", "message", "channel"),
            ("missed directly", "message", "im"),
            ("missed in its thread", "message", "im"),
        ]
        assert {each["channel"] for each in found} == {HELP, CLEOS_DM}
        assert caught.taken == len(gone.taken)


async def test_a_thread_that_began_while_we_were_away_is_read_to_its_end(store: Store) -> None:
    """A missed question and the missed question in its thread."""
    async with away(store) as gone:
        await gone.asked(f"{MENTION} first")
        missed = await gone.says(f"{MENTION} missed")
        await gone.says(f"{MENTION} still there?", thread=missed)
        await gone.catch_up().look_back(now() - timedelta(minutes=1))
        assert {f"{MENTION} missed", f"{MENTION} still there?"} <= set(gone.texts())


async def test_only_the_time_away_is_read_and_never_more_than_late_answers_allow(store: Store) -> None:
    """What was deleted on request a while ago is not found again, and an old question is nobody's any more."""
    async with away(store) as gone:
        await gone.asked(f"{MENTION} first")
        await gone.catch_up().look_back(now() - timedelta(minutes=3))
        await gone.catch_up(late_limit_s=60).look_back(now() - timedelta(days=3))
        oldest = [float(call["args"]["oldest"]) for call in await gone.reads()]
        ago = [now().timestamp() - each for each in oldest]
        assert all(180 <= each < 240 for each in ago[: len(ago) // 2]), ago
        assert all(60 <= each < 120 for each in ago[len(ago) // 2 :]), ago


async def test_the_bots_own_words_are_no_questions(store: Store) -> None:
    """Answers stand in the same threads."""
    async with away(store) as gone:
        root = await gone.asked(f"{MENTION} first")
        await gone.rig.client.chat_postMessage(channel=HELP, thread_ts=root, text=f"{MENTION} is my name")
        await gone.rig.client.chat_postMessage(channel=CLEOS_DM, text="a whisper")
        await gone.catch_up().look_back(now() - timedelta(minutes=1))
        assert gone.texts() == [f"{MENTION} first"]


async def test_where_nobody_asked_nothing_is_read(store: Store) -> None:
    """Channels are not read along: without a question of the last day there is no call."""
    async with away(store) as gone:
        await gone.says(f"{MENTION} before we knew this channel")
        assert (await gone.catch_up().look_back(now() - timedelta(minutes=1))).read == 0
        assert await gone.reads() == []


async def test_pages_are_followed(store: Store) -> None:
    """A busy hour does not hide a question behind the first two hundred messages."""
    async with away(store) as gone:
        await gone.asked(f"{MENTION} first")
        await gone.says(f"{MENTION} early", user="U0DAN")
        for number in range(205):
            await gone.rig.client.chat_postMessage(channel=HELP, text=f"noise {number}")
        await gone.catch_up().look_back(now() - timedelta(minutes=10))
        assert f"{MENTION} early" in gone.texts()


async def test_a_conversation_that_cannot_be_read_does_not_hide_the_others(store: Store) -> None:
    """The bot was removed from a channel, or lacks a scope: the rest is read all the same."""
    async with away(store) as gone:
        await store.ask(team=TEAM, channel="C0GONE", ts="1.1", thread_ts="1.1", asker="U0CLEO", text="there")
        await gone.asked(f"{MENTION} first")
        await gone.says(f"{MENTION} missed")
        await gone.catch_up().look_back(now() - timedelta(minutes=1))
        assert f"{MENTION} missed" in gone.texts()


async def test_slacks_limit_is_waited_for(store: Store) -> None:
    """429 with Retry-After: later, not never."""
    faults = Faults(
        Fault("conversations.history", status=429, retry_after=1),
        Fault("conversations.replies", status=429, retry_after=1),
    )
    async with away(store, faults=faults) as gone:
        await gone.asked(f"{MENTION} first")
        await gone.says(f"{MENTION} missed")
        await gone.catch_up().look_back(now() - timedelta(minutes=1))
        assert f"{MENTION} missed" in gone.texts()


async def test_the_first_start_looks_at_nothing_and_the_next_at_the_time_between(store: Store) -> None:
    """When Slack could last reach us is kept, a few times a minute."""
    async with away(store) as gone:
        await gone.asked(f"{MENTION} first")
        await gone.catch_up().after_start()
        assert await gone.reads() == []
        catch_up = gone.catch_up()
        heard = datetime(2026, 1, 1, tzinfo=UTC)
        await catch_up.note(now() - timedelta(seconds=30))
        await catch_up.note(now() - timedelta(seconds=29))
        await gone.catch_up().after_start()
        asked = float((await gone.reads())[0]["args"]["oldest"])
        assert 30 <= now().timestamp() - asked < 90
        await catch_up.note(heard, always=True)
        await gone.catch_up(late_limit_s=10).after_start()
        assert now().timestamp() - float((await gone.reads())[-1]["args"]["oldest"]) < 60


async def test_after_a_restart_the_missed_question_is_answered_once(tmp_path: Path) -> None:
    """Through the front door: asked while the bot was stopped, answered when it is back, not again at the third start."""
    stand_in = StandIn(models={MODEL: None})
    workspace = LocalWorkspace(port=0)
    await workspace.start()
    try:
        async with served(stand_in, OpenAIServer(stand_in).routes()) as api, team_at(workspace.url) as team:
            settings = quick_settings(
                tmp_path / "data",
                slack_api_url=f"{workspace.url}/api/",
                answer_policy=Policy.API_FIRST,
                openai_api_key="sk-right",
                openai_base_url=f"{api.url}/v1",
                openai_model=MODEL,
            )
            bot = await start(settings)
            first = await team.cleo.post(HELP, "@apprentice Are you there?")
            await eventually(lambda: answered(team.cleo, first), timeout_s=60, what="the first is answered")
            await bot.stop()
            missed = await team.cleo.post(HELP, "@apprentice Do you sell nails?")
            for _ in range(2):
                bot = await start(settings)
                await eventually(lambda: answered(team.cleo, missed), timeout_s=60, what="it is answered")
                await bot.stop()
            assert len(await replies(team.cleo, missed)) == 1
            assert len(await replies(team.cleo, first)) == 1
            asked = [str(each["messages"][-1]["content"]) for each in stand_in.requests]
            assert [each for each in asked if "nails" in each] == ["Do you sell nails?"]
    finally:
        await workspace.stop()


async def answered(person: Any, ts: str) -> list[Json]:
    return [each for each in await replies(person, ts) if is_answer(each)]
