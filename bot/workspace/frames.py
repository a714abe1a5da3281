"""What went over the wire between the workspace and the app: envelopes, acknowledgements, signed requests, answers.

The last `KEPT` frames are kept for `/_control/frames` and shown to pages whose inspector is open. It refuses to judge.
"""

import time
from collections import deque
from typing import Any, Final

from bot.workspace.feed import Feed
from bot.workspace.state import Json

KEPT: Final = 2000


class Frames:
    """The frames of one workspace, numbered from 1."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._frames: deque[Json] = deque(maxlen=KEPT)
        self._count = 0

    def sent(self, connection: str, body: Json, *, transport: str = "socket", **more: Any) -> None:
        self._keep("out", transport, connection, body, more)

    def received(self, connection: str, body: Any, *, transport: str = "socket", **more: Any) -> None:
        self._keep("in", transport, connection, body, more)

    def since(self, number: int) -> list[Json]:
        """The frames after `number`, newest last."""
        return [frame for frame in self._frames if frame["n"] > number]

    def clear(self) -> None:
        """Forget them; the numbers go on."""
        self._frames.clear()

    def _keep(self, direction: str, transport: str, connection: str, body: Any, more: Json) -> None:
        self._count += 1
        told = body if isinstance(body, dict) else {}
        frame: Json = {
            "n": self._count,
            "at": time.time(),
            "direction": direction,
            "transport": transport,
            "connection": connection,
            "kind": str(told.get("type") or ("ack" if direction == "in" else "frame")),
            "envelope_id": told.get("envelope_id"),
            "body": body,
            **more,
        }
        if told.get("retry_attempt"):
            frame.setdefault("retry_attempt", told["retry_attempt"])
        self._frames.append(frame)
        self._feed.trace({**frame, "type": "frame"})
