"""What the open pages hear: every change of the workspace, as Server-Sent Events, each to those who may see it.

It refuses to buffer without end: a page that is `QUEUE_LIMIT` changes behind is cut off; it connects again and loads anew.
"""

import asyncio
import json
from collections.abc import Collection
from typing import Final

from bot.workspace.state import Json

QUEUE_LIMIT: Final = 5000


class Listener:
    """One open page (or test) of one user; `next()` gives the JSON text of the next change, None at the end."""

    def __init__(self, user: str) -> None:
        self.user = user
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    def push(self, data: str | None) -> None:
        if self._queue.qsize() < QUEUE_LIMIT:
            self._queue.put_nowait(data)
            return
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def next(self, timeout_s: float) -> str | None:
        """Raises TimeoutError when nothing happened for `timeout_s`."""
        return await asyncio.wait_for(self._queue.get(), timeout_s)


class Feed:
    """The pages that are open now."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def join(self, user: str) -> Listener:
        listener = Listener(user)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def publish(self, change: Json, *, to: Collection[str] | None) -> None:
        """Tell the users in `to`, or everybody when it is None."""
        audience = [listener for listener in self._listeners if to is None or listener.user in to]
        if audience:
            data = json.dumps(change)
            for listener in audience:
                listener.push(data)

    def close(self) -> None:
        for listener in self._listeners:
            listener.push(None)
