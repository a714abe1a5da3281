"""What the app is told, whichever way it is reached: only what it subscribed to, and nothing once it is uninstalled.

The ways are Socket Mode (`socket_mode`) and signed requests (`http_delivery`). It refuses to know either.
"""

from typing import Protocol

from bot.workspace.manifest import App
from bot.workspace.state import Json


class NotAcknowledged(Exception):
    """The app did not take it: `dispatch_failed` (not reached), `operation_timeout` (too slow), `http_..._error`."""


class Transport(Protocol):
    """A way to the app."""

    @property
    def count(self) -> int:
        """How many ways in there are now; 0 means the app is not there."""
        ...

    def resume(self) -> None:
        """Deliver, once the app is there, what an earlier process left unacknowledged."""
        ...

    def emit(self, payload: Json) -> bool:
        """Send an event, now and again until acknowledged. False (and nothing sent) if the app is not there."""
        ...

    async def request(self, kind: str, payload: Json) -> Json:
        """Send an interaction or command once; what the app answered, {} for nothing. Raises NotAcknowledged."""
        ...

    async def forget(self) -> None:
        """Stop redelivering."""
        ...

    async def close(self) -> None: ...


class Outbox:
    """Everything that goes to the app."""

    def __init__(self, app: App, transport: Transport) -> None:
        self.app = app
        self.transport = transport
        self.installed = True

    @property
    def count(self) -> int:
        return self.transport.count

    def emit(self, payload: Json) -> bool:
        """False if the app does not hear of it: not subscribed, not installed, not there."""
        if not self.installed or not self.app.hears(subscription(payload["event"])):
            return False
        return self.transport.emit(payload)

    async def request(self, kind: str, payload: Json) -> Json:
        """Raises NotAcknowledged."""
        if not self.installed or (kind == "interactive" and not self.app.interactive):
            raise NotAcknowledged("dispatch_failed")
        return await self.transport.request(kind, payload)


CHANNEL_SUBSCRIPTIONS = {
    "channel": "message.channels",
    "group": "message.groups",
    "im": "message.im",
    "mpim": "message.mpim",
}


def subscription(event: Json) -> str:
    """The name in `settings.event_subscriptions.bot_events` under which an app asks for this event."""
    if event["type"] == "message":
        return CHANNEL_SUBSCRIPTIONS[event["channel_type"]]
    return str(event["type"])
