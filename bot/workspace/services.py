"""What a Web API method is given: the parts of the workspace and the arguments of one call.

It refuses nothing by itself but a missing argument.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.workspace.chat import Chat
from bot.workspace.clock import Clock
from bot.workspace.delivery import Outbox
from bot.workspace.features import Features
from bot.workspace.frames import Frames
from bot.workspace.manifest import App
from bot.workspace.refused import refused_for
from bot.workspace.responses import Responses
from bot.workspace.schedule import Schedule
from bot.workspace.sessions import Sessions
from bot.workspace.socket_mode import SocketHub
from bot.workspace.state import Json, State
from bot.workspace.streams import Streams
from bot.workspace.uploads import Uploads
from bot.workspace.views import Views


@dataclass(frozen=True)
class Services:
    """The parts of one workspace."""

    url: str
    app: App
    clock: Clock
    features: Features
    state: State
    frames: Frames
    hub: SocketHub
    outbox: Outbox
    chat: Chat
    views: Views
    responses: Responses
    streams: Streams
    sessions: Sessions
    schedule: Schedule
    uploads: Uploads


@dataclass(frozen=True)
class Call:
    """The arguments of one Web API call, however they were sent (query, form, JSON)."""

    args: Json

    def text(self, name: str) -> str:
        """ "" if it is absent."""
        value = self.args.get(name)
        return "" if value is None else str(value)

    def required(self, name: str) -> str:
        """Raises Refused: invalid_arguments, naming it."""
        value = self.text(name)
        if not value:
            raise refused_for("invalid_arguments", [f"missing required field: {name}"])
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.args.get(name)
        return default if value is None else str(value).lower() in ("true", "1")

    def number(self, name: str, default: int) -> int:
        value = self.text(name)
        if value and not value.lstrip("-").isdigit():
            raise refused_for("invalid_arguments", [f"must provide an integer [json-pointer:/{name}]"])
        return int(value) if value else default

    def value(self, name: str) -> Any:
        """A nested argument; sent as JSON text in forms and queries. Raises Refused: invalid_arguments."""
        value = self.args.get(name)
        if not isinstance(value, str) or not value:
            return value or None
        try:
            return json.loads(value)
        except ValueError:
            raise refused_for(
                "invalid_arguments", [f"must provide valid JSON [json-pointer:/{name}]"]
            ) from None


Handler = Callable[[Services, Call], Json]
