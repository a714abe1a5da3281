"""Connections to Slack: two of them, replaced when they die or fall silent, and no storm of calls where Slack refuses."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from answer_rig import room_at
from bot_process import CLEOS_DM, ELSEWHERE, HELP, Team, eventually, quick_settings, replies, until
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.app import Bot, start
from bot.doctor import examine
from bot.errors import PublicError
from bot.slack.access import KEEPSAKE, access_lost
from bot.slack.connection import Connection, Pace, SocketMode
from bot.slack.trouble import retry_handlers
from bot.workspace.seed import APP_TOKEN, BOT_TOKEN
from storage.asking import OWED

WAIT_S = 45.0
HOW_IT_WAS_LOST = re.compile("uninstalled|revoked")
QUICK = Pace(ping_s=0.3, look_s=0.05, silent_s=2.0, open_s=2.0)

Json = dict[str, Any]


@dataclass
class MoodySlack:
    """Slack's end of Socket Mode with what networks and admins do to it: silence, refusals, dead addresses."""

    refusal: str = ""
    dead_addresses: set[int] = field(default_factory=set)
    opened: int = 0
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    deaf: set[int] = field(default_factory=set)
    acknowledged: list[str] = field(default_factory=list)
    url: str = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/api/{method}", self._call), web.get("/link/{n}", self._link)]

    async def _call(self, request: web.Request) -> web.Response:
        if request.match_info["method"] == "auth.test":
            return web.json_response({"ok": True, "team_id": "T1", "user_id": "U1", "bot_id": "B1"})
        self.opened += 1
        if self.refusal:
            return web.json_response({"ok": False, "error": self.refusal})
        return web.json_response({"ok": True, "url": f"{self.url.replace('http', 'ws')}/link/{self.opened}"})

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if int(request.match_info["n"]) in self.dead_addresses:
            raise web.HTTPForbidden
        ws = web.WebSocketResponse(autoping=False, timeout=0.1)
        await ws.prepare(request)
        number = len(self.sockets)
        self.sockets.append(ws)
        await ws.send_json({"type": "hello", "num_connections": 1})
        while True:
            message = await ws.receive()
            if message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
                return ws
            if message.type is aiohttp.WSMsgType.TEXT:
                self.acknowledged.append(json.loads(message.data)["envelope_id"])
            elif message.type is aiohttp.WSMsgType.PING and number not in self.deaf:
                await ws.pong(message.data)

    async def send_away(self, number: int, reason: str) -> None:
        await self.sockets[number].send_json({"type": "disconnect", "reason": reason, "debug_info": {}})

    def living(self) -> int:
        return sum(not socket.closed for socket in self.sockets)


@asynccontextmanager
async def moody_slack() -> AsyncIterator[MoodySlack]:
    slack = MoodySlack()
    served = web.Application()
    served.add_routes(slack.routes())
    runner = web.AppRunner(served, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield slack
    finally:
        await runner.cleanup()


@dataclass
class Watched:
    """Socket Mode at work, the gaps it told of, and the mentions that its app heard."""

    mode: SocketMode
    gaps: list[datetime]
    heard: list[str]


@asynccontextmanager
async def watched(slack: MoodySlack, *, count: int = 2, pace: Pace = QUICK) -> AsyncIterator[Watched]:
    async with aiohttp.ClientSession() as session:
        client = AsyncWebClient(
            token=BOT_TOKEN, base_url=f"{slack.url}/api/", session=session, retry_handlers=retry_handlers()
        )
        app = AsyncApp(client=client, signing_secret="unused", request_verification_enabled=False)
        gaps: list[datetime] = []
        heard: list[str] = []

        async def on_gap(since: datetime) -> None:
            gaps.append(since)

        async def mentioned(event: Json) -> None:
            heard.append(event["ts"])

        app.event("app_mention")(mentioned)
        mode = SocketMode(app, APP_TOKEN, count=count, on_gap=on_gap, pace=pace)
        await mode.start()
        try:
            await until(lambda: mode.open == count, timeout_s=WAIT_S, what="every connection is open")
            opened = max(each.up_since for each in mode.connections)
            for each in mode.connections:
                await until(partial(heard_since, each, opened), timeout_s=WAIT_S, what="each was pinged")
            yield Watched(mode, gaps, heard)
        finally:
            await mode.stop()


def heard_since(connection: Connection, moment: float) -> bool:
    """Whether it is known to have been there beside the others: of a time before, nobody could tell."""
    return connection.heard > moment


async def happens(look: Callable[[], object], what: str) -> None:
    await until(look, timeout_s=WAIT_S, what=what)


async def test_a_silent_connection_is_replaced() -> None:
    """Nothing is closed and nothing answers: half-open, as after a network change. The other one carries on."""
    async with moody_slack() as slack, watched(slack) as watch:
        slack.deaf.add(0)
        await happens(lambda: len(slack.sockets) == 3, "another connection is opened")
        await happens(lambda: watch.mode.open == 2, "two are open again")
        assert watch.gaps == []
        assert watch.mode.trouble() == ""


async def test_when_every_connection_falls_silent_the_gap_begins_at_the_last_sign_of_life() -> None:
    """What was sent since the last pong may be lost, so it is read from there on; that they are replaced one after the
    other hides nothing."""
    async with moody_slack() as slack, watched(slack) as watch:
        before = datetime.now(UTC)
        slack.deaf |= {0, 1}
        await happens(lambda: watch.gaps, "the gap is told")
        await happens(lambda: watch.mode.open == 2, "two are open again")
        assert watch.gaps[0] - before < timedelta(seconds=2 * QUICK.ping_s)


async def test_a_connection_that_slack_renews_leaves_no_gap_where_there_is_another() -> None:
    """Slack recycles each connection every few hours; with a second one nothing is missed meanwhile."""
    async with moody_slack() as slack, watched(slack) as watch:
        await slack.send_away(0, "refresh_requested")
        await happens(lambda: len(slack.sockets) == 3 and watch.mode.open == 2, "it comes again")
        assert watch.gaps == []
        assert slack.living() == 2


async def test_the_only_connection_leaves_a_gap_when_slack_renews_it() -> None:
    """With one connection Slack has nowhere to send to for a moment; what was said then is looked for."""
    async with moody_slack() as slack, watched(slack, count=1) as watch:
        await slack.send_away(0, "warning")
        await happens(lambda: len(watch.gaps) == 1 and watch.mode.open == 1, "it comes again and says so")
        assert slack.living() == 1


async def test_a_dead_address_is_not_tried_for_ever() -> None:
    """Slack's client alone would knock at the used-up address until somebody restarts it; a new one is asked for."""
    async with moody_slack() as slack, watched(slack) as watch:
        slack.dead_addresses = {3}
        await slack.sockets[0].close()
        await happens(lambda: slack.opened == 4 and watch.mode.open == 2, "a new address works")
        assert slack.living() == 2


async def test_when_socket_mode_is_switched_off_nobody_knocks_on() -> None:
    """`link_disabled`: said once, with the remedy, and tried again after a minute at the earliest."""
    async with moody_slack() as slack, watched(slack) as watch:
        slack.refusal = "link_disabled"
        for number in range(2):
            await slack.send_away(number, "link_disabled")
        await happens(lambda: watch.mode.open == 0 and slack.living() == 0, "both are closed")
        await happens(lambda: "Switch it on" in watch.mode.trouble(), "the remedy is known")
        await asyncio.sleep(20 * QUICK.look_s)
        assert slack.opened <= 4, "Slack's own client asks once more for each"


async def test_a_refused_token_is_not_tried_every_second() -> None:
    """A revoked app-level token cannot come right by itself, so it is tried rarely and named."""
    async with moody_slack() as slack, watched(slack) as watch:
        slack.refusal = "token_revoked"
        for socket in list(slack.sockets):
            await socket.close()
        await happens(
            lambda: "SLACK_APP_TOKEN (token_revoked)" in watch.mode.trouble(), "the remedy is known"
        )
        await happens(lambda: slack.opened == 4, "both were tried")
        await asyncio.sleep(20 * QUICK.look_s)
        assert slack.opened == 4
        assert "xapp-" in watch.mode.trouble()


@pytest.mark.parametrize("refusal", ["invalid_auth", "not_allowed_token_type", "missing_scope"])
async def test_a_wrong_app_token_ends_the_start_with_its_remedy(refusal: str) -> None:
    """At once, in words, instead of a bot that knocks in silence."""
    async with moody_slack() as slack:
        slack.refusal = refusal
        with pytest.raises(PublicError, match=rf"SLACK_APP_TOKEN \({refusal}\).*connections:write.*xapp-"):
            async with watched(slack):
                pass
        assert slack.opened == 1


async def test_a_cut_network_is_survived_and_what_was_said_meanwhile_is_answered(tmp_path: Path) -> None:
    """Every connection is lost at once; a mention, a reply and a direct message of that time are found by looking back."""
    async with room_at(tmp_path) as room:
        bot, cleo = room.bot, room.team.cleo
        first = await room.answer(await room.asked("Are you there?"))
        await room.answer(await room.asked("And here?", CLEOS_DM), CLEOS_DM)
        await happens(lambda: bot.service.receiver.trouble() == "", "both connections are open")
        await room.team.fault(method="apps.connections.open", error="internal_error", times=1000)
        await post(room.team.http, f"{bot.url}/_control/disconnect", {"hard": True})
        missed = await room.asked("Do you sell nails?")
        follow_up = await cleo.post(HELP, "@apprentice And screws?", first["thread_ts"])
        direct = await room.asked("Do you sell saws?", CLEOS_DM)
        await happens(lambda: "0 of 2" in bot.service.receiver.trouble(), "the bot notices")
        await room.team.all_well()
        await happens(lambda: bot.service.receiver.trouble() == "", "both connections are back")
        assert await room.answer(missed)
        assert await room.answer(direct, CLEOS_DM)
        await eventually(
            lambda: replies_after(room.team, first["thread_ts"], follow_up),
            timeout_s=WAIT_S,
            what="the missed reply is answered",
        )
        assert len(await replies(cleo, missed)) == 1
        assert len(await replies(cleo, direct, CLEOS_DM)) == 1


async def test_status_names_a_connection_that_is_missing(tmp_path: Path) -> None:
    """One of two is lost and does not come again: it can be read over the other."""
    async with room_at(tmp_path) as room:
        receiver = room.bot.service.receiver
        assert isinstance(receiver, SocketMode)
        await happens(lambda: receiver.open == 2, "both connections are open")
        await room.team.fault(method="apps.connections.open", error="internal_error", times=1000)
        await receiver.connections[1].close()
        await room.team.ann.command(HELP, "/apprentice", "status")
        await room.team.ann.wait_for_ephemeral(
            HELP, lambda message: "1 of 2 connections to Slack" in message["text"]
        )
        assert receiver.open == 1


async def replies_after(team: Team, root: str, ts: str) -> list[Json]:
    return [each for each in await replies(team.cleo, root) if each["ts"] > ts]


# --- Slack does not let us in any more ------------------------------------------------------------------------


async def test_an_uninstalled_app_falls_silent_and_keeps_everything(tmp_path: Path) -> None:
    """No call is made any more; the terminal and the doctor say what happened; after a reinstallation it goes on."""
    said: list[str] = []
    settings = quick_settings(tmp_path / "data")
    bot = await start(settings, say=said.append)
    try:
        await happens(lambda: bot.service.receiver.trouble() == "", "the bot is connected")
        async with aiohttp.ClientSession() as http:
            await post(http, f"{bot.url}/_control/uninstall", {})
            await happens(lambda: bot.service.access.lost is not None, "the bot has heard of it")
            lost = bot.service.access.lost
            assert lost is not None
            assert lost.final
            before = len(await calls(http, bot.url))
            owed = await bot.workshop.store.ask(
                team=bot.workshop.team,
                channel=HELP,
                ts="1.000001",
                thread_ts="1.000001",
                asker="U0CLEO",
                text="?",
            )
            await eventually(lambda: kept(bot), timeout_s=WAIT_S, what="it is written down")
            assert len(await calls(http, bot.url)) == before
            assert await bot.workshop.store.question(owed.question.id) is not None
    finally:
        await bot.stop()
    # Slack tells it in two events, in any order; whichever comes first is what is said.
    assert any(HOW_IT_WAS_LOST.search(words) and "SLACK_BOT_TOKEN" in words for words in said)
    there = quick_settings(tmp_path / "data", database_url=ELSEWHERE.url(settings.database))
    findings = await examine(lambda: there)
    assert any(HOW_IT_WAS_LOST.search(each.words) and each.mark.value == "PROBLEM" for each in findings)
    again = await start(settings)
    try:
        await until(lambda: again.service.trouble() == "", timeout_s=30, what="both connections are open")
        assert await access_lost(again.workshop.store) is None
        assert await again.workshop.store.question(owed.question.id) is not None
    finally:
        await again.stop()


async def kept(bot: Bot) -> str:
    return await bot.workshop.store.keepsake(KEEPSAKE, lambda: "")


async def post(http: aiohttp.ClientSession, url: str, body: Json) -> None:
    async with http.post(url, json=body) as response:
        answer = await response.json()
    assert answer["ok"], answer


async def calls(http: aiohttp.ClientSession, url: str) -> list[Json]:
    async with http.get(f"{url}/_control/calls") as response:
        found: list[Json] = (await response.json())["calls"]
    return found


async def test_a_token_that_slack_refuses_puts_questions_off(tmp_path: Path) -> None:
    """The question waits; one refusal is enough to stop asking; when Slack lets us in again it is answered, once."""
    async with room_at(tmp_path) as room:
        await room.answer(await room.asked("Are you there?"))
        access, store = room.bot.service.access, room.bot.workshop.store
        await room.team.fault(method="*", error="token_expired", times=100_000)
        ts = await room.asked("Do you sell nails?")
        await happens(lambda: access.lost is not None, "the refusal is noticed")
        assert access.lost is not None
        assert not access.lost.final
        assert "token_expired" in room.bot.service.trouble()
        question = await eventually(
            lambda: store.question_at(room.bot.workshop.team, HELP, ts),
            timeout_s=WAIT_S,
            what="it is recorded",
        )
        assert question.state in OWED
        await room.team.all_well()
        access.check_soon()
        await room.answer(ts)
        assert len(await replies(room.team.cleo, ts)) == 1
        assert room.bot.service.trouble() == ""
