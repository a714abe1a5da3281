"""The changes of the workspace, live: `/_control/ws` for pages, `/_control/events` (Server-Sent Events) for curl and tests.

Both tell the same. A page uses the web socket because browsers allow only six event streams to one host. It refuses to
take orders: what a client sends here is ignored.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from bot.workspace.feed import Feed, Listener
from bot.workspace.refused import Refused
from bot.workspace.services import Services

HEARTBEAT_S: Final = 15.0
CLOSE_S: Final = 2.0


class LiveEvents:
    """The two ways to listen. The query names the `user`; `inspect=1` adds frames and Web API calls."""

    def __init__(self, services: Services, feed: Feed) -> None:
        self._services = services
        self._feed = feed

    async def by_socket(self, request: web.Request) -> web.StreamResponse:
        try:
            listener = self._listener(request)
        except Refused as refused:
            return _refusal(refused)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=CLOSE_S)
        try:
            await socket.prepare(request)
            await socket.send_str(self._connected())
            await _until_either_ends(_ignore(socket), _tell(socket, listener))
        except ConnectionError:
            pass
        finally:
            self._feed.leave(listener)
        return socket

    async def by_stream(self, request: web.Request) -> web.StreamResponse:
        try:
            listener = self._listener(request)
        except Refused as refused:
            return _refusal(refused)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await response.write(f"retry: 1000\ndata: {self._connected()}\n\n".encode())
            while await _forward(listener.next, response):
                pass
        except ConnectionError:
            pass
        finally:
            self._feed.leave(listener)
        return response

    def _listener(self, request: web.Request) -> Listener:
        user = self._services.chat.user(request.query.get("user", ""))
        return self._feed.join(user.id, inspect=request.query.get("inspect") == "1")

    def _connected(self) -> str:
        return json.dumps({"type": "connected", "count": self._services.outbox.count})


async def _ignore(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass


async def _tell(socket: web.WebSocketResponse, listener: Listener) -> None:
    while True:
        try:
            data = await listener.next(HEARTBEAT_S)
        except TimeoutError:
            continue
        if data is None:
            await socket.close()
            return
        await socket.send_str(data)


async def _until_either_ends(*works: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(next_: Callable[[float], Awaitable[str | None]], response: web.StreamResponse) -> bool:
    try:
        data = await next_(HEARTBEAT_S)
    except TimeoutError:
        await response.write(b": still here\n\n")
        return True
    if data is None:
        return False
    await response.write(f"data: {data}\n\n".encode())
    return True


def _refusal(refused: Refused) -> web.Response:
    return web.json_response({"ok": False, "error": refused.code, **refused.more})
