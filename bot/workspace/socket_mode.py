"""Socket Mode, the server's side: connections of the app, envelopes, acknowledgements, redelivery.

Follows Slack: up to ten connections, any one of them gets an envelope; an event that is not acknowledged in time is sent
again up to three times; interactions and commands are sent once; what happens while nothing is connected is not sent.
Source: facts/slack.md 1.5, 1.7, 3.3. It refuses to know what is inside a payload.
"""

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from bot.workspace.delivery import NotAcknowledged
from bot.workspace.frames import Frames
from bot.workspace.refused import Refused
from bot.workspace.seed import APP_ID
from bot.workspace.state import Json, State, Undelivered

MAX_CONNECTIONS: Final = 10
MAX_RETRIES: Final = 3
TICKET_TTL_S: Final = 60.0
RETIRED_CONNECTION_LIVES_S: Final = 10.0
HEARTBEAT_S: Final = 30.0
SEND_AGAIN_S: Final = 0.05
CLOSE_S: Final = 2.0
MAX_FRAME: Final = 16 * 1024 * 1024
HOST: Final = "local-workspace"
REASONS: Final = ("warning", "refresh_requested", "link_disabled", "too_many_websockets")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Connection:
    """One web socket of the app. A retiring one finishes what it has but gets nothing new."""

    ws: web.WebSocketResponse
    transport: asyncio.Transport | None
    frames: Frames
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    retiring: bool = False

    async def send(self, frame: Json) -> bool:
        """False if the connection is gone."""
        try:
            await self.ws.send_str(json.dumps(frame))
        except (ConnectionError, RuntimeError):
            return False
        self.frames.sent(self.id, frame)
        return True


class SocketHub:
    """All connections of the app, and what it still has to acknowledge."""

    def __init__(
        self, state: State, frames: Frames, *, ack_timeout_s: float, on_count: Callable[[int], None]
    ) -> None:
        self._state = state
        self._frames = frames
        self._ack_timeout_s = ack_timeout_s
        self._on_count = on_count
        self._tickets: dict[str, float] = {}
        self._connections: list[Connection] = []
        self._connected = asyncio.Event()
        self._acks: dict[str, asyncio.Future[Json]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = time.time()

    @property
    def count(self) -> int:
        return len(self._live())

    def resume(self) -> None:
        """Deliver, once the app connects, what an earlier process left unacknowledged."""
        for event in self._state.undelivered():
            self._own(self._deliver(event))

    def ticket(self) -> str:
        """A fresh ticket for one connection, good for a minute."""
        now = time.monotonic()
        self._tickets = {ticket: until for ticket, until in self._tickets.items() if until > now}
        ticket = str(uuid.uuid4())
        self._tickets[ticket] = now + TICKET_TTL_S
        return ticket

    def emit(self, payload: Json) -> bool:
        """Send an event to the app, now and again until acknowledged. False (and nothing sent) if no app is connected."""
        if not self._live():
            return False
        event = Undelivered(str(uuid.uuid4()), payload, 0)
        self._state.remember_undelivered(event)
        self._own(self._deliver(event))
        return True

    async def request(self, kind: str, payload: Json) -> Json:
        """Send an interaction or command once; the payload of the app's acknowledgement, {} if it had none.

        Raises NotAcknowledged.
        """
        live = self._live()
        envelope_id = str(uuid.uuid4())
        frame = {
            "envelope_id": envelope_id,
            "payload": payload,
            "type": kind,
            "accepts_response_payload": True,
        }
        acked = self._expect(envelope_id)
        try:
            if not live or not await random.choice(live).send(frame):
                raise NotAcknowledged("dispatch_failed")
            return await asyncio.wait_for(acked, self._ack_timeout_s)
        except TimeoutError:
            raise NotAcknowledged("operation_timeout") from None
        finally:
            self._acks.pop(envelope_id, None)

    async def disconnect(self, reason: str) -> int:
        """Ask every connection to come again, as Slack does every few hours. Returns how many were asked.

        After `warning` a connection is still used for ten seconds; the other reasons end it for new envelopes at once.
        Raises Refused: invalid_arguments.
        """
        if reason not in REASONS:
            raise Refused("invalid_arguments", detail=f"reason is one of {', '.join(REASONS)}.")
        connections = self._live()
        for connection in connections:
            connection.retiring = reason != "warning"
            await connection.send({"type": "disconnect", "reason": reason, "debug_info": {"host": HOST}})
            self._own(self._close_later(connection))
        self._announce()
        return len(connections)

    def drop(self) -> int:
        """Cut every connection without a word, as a network failure does. Returns how many were cut."""
        connections = list(self._connections)
        for connection in connections:
            connection.retiring = True
            if connection.transport is not None:
                connection.transport.abort()
        return len(connections)

    async def close(self) -> None:
        """Close every connection and stop redelivering; what is unacknowledged stays in the state."""
        await self.forget()
        closing = [one.ws.close(code=WSCloseCode.GOING_AWAY) for one in self._connections]
        await asyncio.gather(*closing, return_exceptions=True)

    async def forget(self) -> None:
        """Stop redelivering; the connections stay."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """`GET /link/?ticket=...`: one connection, from hello to its end."""
        until = self._tickets.pop(request.query.get("ticket", ""), 0.0)
        if until < time.monotonic():
            raise web.HTTPForbidden(
                text="This ticket is used up or unknown. Call apps.connections.open again."
            )
        ws = web.WebSocketResponse(timeout=CLOSE_S, heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME)
        await ws.prepare(request)
        connection = Connection(ws, request.transport, self._frames)
        if len(self._live()) >= MAX_CONNECTIONS:
            await connection.send(
                {"type": "disconnect", "reason": "too_many_websockets", "debug_info": {"host": HOST}}
            )
            await ws.close()
            return ws
        self._connections.append(connection)
        await connection.send(self._hello())
        self._announce()
        try:
            await self._listen(connection)
        finally:
            self._connections.remove(connection)
            self._announce()
        return ws

    async def _listen(self, connection: Connection) -> None:
        async for message in connection.ws:
            if message.type is WSMsgType.TEXT:
                self._acknowledge(connection, message.data)

    def _acknowledge(self, connection: Connection, text: str) -> None:
        try:
            frame: Any = json.loads(text)
            envelope_id = frame["envelope_id"]
        except (ValueError, TypeError, KeyError):
            self._frames.received(connection.id, text, kind="unknown")
            log.warning("The app sent a frame that is no acknowledgement: %.200s", text)
            return
        self._frames.received(connection.id, frame)
        acked = self._acks.get(envelope_id)
        if acked is not None and not acked.done():
            acked.set_result(frame.get("payload") or {})

    async def _deliver(self, event: Undelivered) -> None:
        acked = self._expect(event.envelope_id)
        try:
            for attempt in range(event.attempts, MAX_RETRIES + 1):
                await self._send_event(event, attempt)
                await asyncio.wait({acked}, timeout=self._ack_timeout_s)
                if acked.done():
                    break
            else:
                log.warning("The app never acknowledged event %s; it is given up.", event.envelope_id)
            self._state.forget_undelivered(event.envelope_id)
        finally:
            self._acks.pop(event.envelope_id, None)

    async def _send_event(self, event: Undelivered, attempt: int) -> None:
        frame = {
            "envelope_id": event.envelope_id,
            "payload": event.envelope,
            "type": "events_api",
            "accepts_response_payload": False,
            "retry_attempt": attempt,
            "retry_reason": "timeout" if attempt else "",
        }
        while True:
            await self._connected.wait()
            live = self._live()
            if live and await random.choice(live).send(frame):
                break
            await asyncio.sleep(SEND_AGAIN_S)
        self._state.count_attempt(event.envelope_id, attempt + 1)

    async def _close_later(self, connection: Connection) -> None:
        await asyncio.sleep(RETIRED_CONNECTION_LIVES_S)
        connection.retiring = True
        await connection.ws.close()

    def _hello(self) -> Json:
        return {
            "type": "hello",
            "num_connections": self.count,
            "connection_info": {"app_id": APP_ID},
            "debug_info": {
                "host": HOST,
                "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._started)),
                "build_number": 1,
                "approximate_connection_time": 18060,
            },
        }

    def _live(self) -> list[Connection]:
        return [one for one in self._connections if not one.retiring and not one.ws.closed]

    def _expect(self, envelope_id: str) -> asyncio.Future[Json]:
        acked: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._acks[envelope_id] = acked
        return acked

    def _own(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _announce(self) -> None:
        if self._live():
            self._connected.set()
        else:
            self._connected.clear()
        self._on_count(self.count)
