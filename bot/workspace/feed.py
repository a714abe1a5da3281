"""What the open pages hear: every change of the workspace, each to those who may see it; frames and calls to inspectors.

It refuses to buffer without end: a page that is `QUEUE_LIMIT` changes behind is cut off; it connects again and loads anew.
"""

import asyncio
import json
from collections.abc import Callable, Collection
from typing import Final

from bot.workspace.state import Json

QUEUE_LIMIT: Final = 5000


class Listener:
    """One open page (or test) of one user; `next()` gives the JSON text of the next change, None at the end.

    `inspect`: it also hears of every frame and Web API call.
    """

    def __init__(self, user: str, *, inspect: bool = False) -> None:
        self.user = user
        self.inspect = inspect
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

    def join(self, user: str, *, inspect: bool = False) -> Listener:
        listener = Listener(user, inspect=inspect)
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

    def publish_for_each(self, change_for: Callable[[str], Json], *, to: Collection[str] | None) -> None:
        """As `publish`, where not everybody sees the same: `change_for(user)` is what that user is told."""
        for listener in self._listeners:
            if to is None or listener.user in to:
                listener.push(json.dumps(change_for(listener.user)))

    def trace(self, change: Json) -> None:
        """Tell the inspectors."""
        inspectors = [listener for listener in self._listeners if listener.inspect]
        if inspectors:
            data = json.dumps(change)
            for listener in inspectors:
                listener.push(data)

    def close(self) -> None:
        for listener in self._listeners:
            listener.push(None)
