"""Socket Mode as a service: several connections to Slack at once, watched, and replaced when they fall silent.

Each connection is slack_sdk's own client. It comes again by itself when Slack asks it to (every few hours); everything
else is ours, because on its own it would try a dead address for ever and a refused token every ten seconds. A time in
which no connection gave a sign of life is a gap: what was said then may be lost and has to be read later (`catchup`).
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError

from bot.errors import PublicError
from bot.slack.trouble import UNREACHABLE, reason_of

PING_S, LOOK_S, OPEN_S, CLOSE_S = 10.0, 1.0, 20.0, 5.0
SILENT_S = 60.0
"""So long without a frame or a pong (one is due every `PING_S`), and a connection is replaced."""
COMING_BACK_S = 15.0
"""So long Slack's own client may take to come again after it was asked to."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
FIRST_PAUSE_REFUSED_S, LONGEST_PAUSE_REFUSED_S = 60.0, 1800.0
LINK_DISABLED, TOO_MANY = "link_disabled", "too_many_websockets"

log = structlog.get_logger(__name__)

OnGap = Callable[[datetime], Awaitable[None]]


class Receiver(Protocol):
    """A way in which Slack reaches us."""

    name: str

    @property
    def heard_at(self) -> datetime:
        """When Slack last could reach us."""
        ...

    def trouble(self) -> str:
        """What is wrong, with the remedy; "" for nothing."""
        ...

    async def start(self) -> None:
        """Raises PublicError, naming the thing and the remedy; nothing is left open then."""
        ...

    async def stop(self) -> None: ...


class Refused(Exception):
    """Slack does not let us connect, and will not in a minute either."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a connection is pinged and looked at, and how long it may take to open or be silent, in seconds."""

    ping_s: float = PING_S
    look_s: float = LOOK_S
    silent_s: float = SILENT_S
    open_s: float = OPEN_S


@dataclass(frozen=True, slots=True)
class Dark:
    """A time, in seconds since 1970, in which one connection heard nothing."""

    start: float
    end: float


class Connection:
    """One web socket to Slack; `dark` hears afterwards of each time in which it was down."""

    def __init__(
        self, app: AsyncApp, app_token: str, number: int, pace: Pace, dark: Callable[[Dark], None]
    ) -> None:
        self.number = number
        self.up = False
        self.up_since = 0.0
        self.heard = 0.0
        self._down_since: float | None = None
        self._app, self._app_token, self._pace, self._dark = app, app_token, pace, dark
        self._handler: AsyncSocketModeHandler | None = None
        self._left_at: float | None = None
        self._sent_away = ""
        self._frame_came = asyncio.Event()

    async def open(self) -> None:
        """Connect. Raises SlackApiError where Slack refuses, ClientError, OSError, TimeoutError where it is not reached."""
        self._left_at, self._sent_away = None, ""
        handler = AsyncSocketModeHandler(self._app, self._app_token, ping_interval=self._pace.ping_s)
        client = handler.client
        client.default_auto_reconnect_enabled = False
        client.on_message_listeners.append(self._hear)
        self._handler = handler
        try:
            async with asyncio.timeout(self._pace.open_s):
                client.wss_uri = await client.issue_new_wss_url()
                await client.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self.close()
            raise
        self._come_up()

    async def close(self) -> None:
        """Close it; nothing that goes wrong at that matters."""
        self._go_down()
        handler, self._handler = self._handler, None
        if handler is None:
            return
        client = handler.client
        with suppress(*UNREACHABLE):
            async with asyncio.timeout(CLOSE_S):
                await handler.close_async()  # type: ignore[no-untyped-call]
        for task in (client.message_processor, client.current_session_monitor, client.message_receiver):
            if task is not None:
                task.cancel()
        await client.aiohttp_client_session.close()

    async def broken(self) -> str:
        """Wait until it has to be replaced; why."""
        while True:
            why = await self._why_broken()
            if why:
                return why
            self._frame_came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.look_s):
                    await self._frame_came.wait()

    async def _why_broken(self) -> str:
        client = self._handler.client if self._handler is not None else None
        if client is None:
            return "closed"
        if self._sent_away in {LINK_DISABLED, TOO_MANY}:
            return self._sent_away
        self._note_pong(client.last_ping_pong_time)
        if await client.is_connected() and self._left_at is None:
            silent_s = time.time() - self.heard
            return f"silent for {silent_s:.0f} s" if silent_s > self._pace.silent_s else ""
        if self._left_at is None:
            return "lost"
        return "did not come again" if time.time() - self._left_at > COMING_BACK_S else ""

    def _note_pong(self, pinged_at: float | None) -> None:
        if pinged_at is not None:
            self.heard = max(self.heard, pinged_at)

    async def _hear(self, message: aiohttp.WSMessage) -> None:
        """Every text frame: Slack is there; `disconnect` sends us away and the next `hello` welcomes us again."""
        self.heard = time.time()
        frame = _frame(message.data)
        if frame.get("type") == "disconnect":
            self._left_at, self._sent_away = time.time(), str(frame.get("reason", ""))
            log.info("Slack sends a connection away", connection=self.number, reason=self._sent_away)
            self._go_down()
            self._frame_came.set()
        elif frame.get("type") == "hello":
            self._left_at, self._sent_away = None, ""
            self._come_up()

    def _go_down(self) -> None:
        if self.up:
            self.up, self._down_since = False, self.heard

    def _come_up(self) -> None:
        if self.up:
            return
        self.up, self.up_since, self.heard = True, time.time(), time.time()
        if self._down_since is not None:
            self._dark(Dark(self._down_since, self.up_since))

    def saw(self, dark: Dark) -> bool:
        """Whether it was there all that time."""
        return self.may_have_seen(dark) and self.heard >= dark.end

    def may_have_seen(self, dark: Dark) -> bool:
        """Whether it was there before and is not known to have been lost since."""
        return self.up and self.up_since <= dark.start


def _frame(text: str) -> dict[str, Any]:
    """A frame without its payload; {} for what is none. Only the control frames are looked into."""
    if '"hello"' not in text and '"disconnect"' not in text:
        return {}
    with suppress(ValueError):
        read = json.loads(text)
        if isinstance(read, dict):
            return read
    return {}


class SocketMode:
    """Several connections; `on_gap` hears, with the moment since when, after a time in which there was none."""

    name = "Socket Mode"

    def __init__(
        self,
        app: AsyncApp,
        app_token: str,
        *,
        count: int,
        on_gap: OnGap,
        may_call: Callable[[], bool] = lambda: True,
        pace: Pace | None = None,
    ) -> None:
        pace = pace or Pace()
        self._dark_times: list[Dark] = []
        self.connections = [
            Connection(app, app_token, number, pace, self._dark_times.append)
            for number in range(1, count + 1)
        ]
        self._on_gap = on_gap
        self._may_call = may_call
        self._pace = pace
        self._refused = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def heard_at(self) -> datetime:
        """When Slack last gave a sign on any connection."""
        return datetime.fromtimestamp(max(each.heard for each in self.connections), UTC)

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return sum(each.up for each in self.connections)

    def trouble(self) -> str:
        """What is wrong, with the remedy; "" where every connection is open."""
        if self._refused:
            return f"Slack refuses connections. {self._refused}"
        if self.open < len(self.connections):
            return f"{self.open} of {len(self.connections)} connections to Slack are open; the others are tried again."
        return ""

    async def start(self) -> None:
        """Open the first connection, or raise PublicError; the others as they come. All are watched from now on."""
        first, *others = self.connections
        try:
            await first.open()
        except SlackApiError as error:
            raise PublicError(remedy(reason_of(error))) from None
        except UNREACHABLE as error:
            raise PublicError(
                f"Slack cannot be reached by Socket Mode ({reason_of(error)}). Check the network, and that outgoing "
                "WebSockets (wss://) are let through."
            ) from None
        self._own(self._look_for_gaps())
        self._own(self._keep(first))
        for other in others:
            self._own(self._join(other))

    async def stop(self) -> None:
        """Close every connection; what Slack sends from now on it sends again later."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self.connections))

    async def _join(self, connection: Connection) -> None:
        await self._open_at_last(connection)
        await self._keep(connection)

    async def _keep(self, connection: Connection) -> None:
        """Replace it whenever it breaks, for ever."""
        while True:
            why = await connection.broken()
            log.warning("a connection to Slack is replaced", connection=connection.number, why=why)
            await connection.close()
            if why == LINK_DISABLED:
                self._refuse(LINK_DISABLED)
            if why in {LINK_DISABLED, TOO_MANY}:
                await asyncio.sleep(FIRST_PAUSE_REFUSED_S)
            await self._open_at_last(connection)

    async def _open_at_last(self, connection: Connection) -> None:
        """Try until it is open: soon again where Slack is not reached, rarely where it refuses."""
        quick_s, slow_s = FIRST_PAUSE_S, FIRST_PAUSE_REFUSED_S
        while True:
            if not self._may_call():
                await asyncio.sleep(self._pace.look_s)
                continue
            try:
                await self._open(connection)
                return
            except Refused as refused:
                self._refuse(str(refused))
                pause_s, slow_s = slow_s, min(LONGEST_PAUSE_REFUSED_S, slow_s * 2)
            except (SlackApiError, *UNREACHABLE) as error:
                log.warning("no connection to Slack", connection=connection.number, error=reason_of(error))
                pause_s, quick_s = quick_s, min(LONGEST_PAUSE_S, quick_s * 2)
            await asyncio.sleep(pause_s)

    async def _open(self, connection: Connection) -> None:
        try:
            await connection.open()
        except SlackApiError as error:
            reason = reason_of(error)
            if reason in REMEDIES:
                raise Refused(reason) from None
            raise
        self._refused = ""
        log.info("a connection to Slack is open", connection=connection.number)

    def _refuse(self, reason: str) -> None:
        if self._refused != remedy(reason):
            self._refused = remedy(reason)
            log.error("Slack refuses connections", reason=reason, remedy=self._refused)

    async def _look_for_gaps(self) -> None:
        while True:
            await asyncio.sleep(self._pace.look_s)
            gaps = self._gaps()
            if gaps:
                since = datetime.fromtimestamp(min(gap.start for gap in gaps), UTC)
                log.warning("there was no connection to Slack for a while", since=since.isoformat())
                self._own(self._tell(since))

    def _gaps(self) -> list[Dark]:
        """Times that no connection saw the whole of. One that may have is waited for: its next pong tells."""
        open_questions, gaps = [], []
        for dark in self._dark_times:
            if any(each.may_have_seen(dark) for each in self.connections):
                open_questions.append(dark)
            else:
                gaps.append(dark)
        self._dark_times[:] = [
            dark for dark in open_questions if not any(each.saw(dark) for each in self.connections)
        ]
        return gaps

    async def _tell(self, since: datetime) -> None:
        await self._on_gap(since)

    def _own(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the watch over Slack's connections failed", exc_info=task.exception())


TOKEN_REMEDY = "Create an app-level token with the scope connections:write and set SLACK_APP_TOKEN; it starts with xapp-."
REMEDIES = {
    "invalid_auth": TOKEN_REMEDY,
    "not_authed": TOKEN_REMEDY,
    "not_allowed_token_type": TOKEN_REMEDY,
    "token_revoked": TOKEN_REMEDY,
    "token_expired": TOKEN_REMEDY,
    "missing_scope": TOKEN_REMEDY,
    "no_permission": TOKEN_REMEDY,
    "account_inactive": "The app is not installed any more. Install it again and copy both tokens.",
    "access_denied": "Ask an admin of the workspace to allow the app.",
    "forbidden_team": "Ask an admin of the workspace to allow the app.",
    LINK_DISABLED: "Socket Mode is switched off for this app. Switch it on under Socket Mode, then restart.",
}


def remedy(reason: str) -> str:
    """A refused connection in words for the operator."""
    if reason == LINK_DISABLED:
        return REMEDIES[reason]
    return f"Slack refused SLACK_APP_TOKEN ({reason}). {REMEDIES.get(reason, TOKEN_REMEDY)}"
