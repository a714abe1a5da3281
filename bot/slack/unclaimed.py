"""What nobody here listens to: acknowledged all the same, so that Slack neither sends it again nor shows a warning sign.

A button of an older version, a command of another manifest, an event of a new kind. It refuses to hide a fault of ours:
what a listener raises is logged, and an event that was not recorded stays unacknowledged, so that Slack sends it again.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from slack_bolt import BoltResponse
from slack_bolt.async_app import AsyncApp
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.middleware.async_middleware import AsyncMiddleware
from slack_bolt.request.async_request import AsyncBoltRequest

from bot.slack import text

SUGGESTIONS = frozenset({"block_suggestion", "dialog_suggestion"})
RETIRED = frozenset(
    {
        "interactive_message",
        "dialog_cancellation",
        "dialog_submission",
        "dialog_suggestion",
        "workflow_step_edit",
    }
)
"""What only the attachments, dialogs and steps of old apps send; bolt 1.30 raises KeyError on some of their shapes."""

log = structlog.get_logger(__name__)


def listen(app: AsyncApp) -> None:
    """The app must have been made with `raise_error_for_unhandled_request=True`."""

    app.use(Retired())

    @app.error
    async def unclaimed(error: Exception, body: dict[str, Any]) -> BoltResponse | None:
        if not isinstance(error, BoltUnhandledRequestError):
            log.error("a listener failed", kind=kind_of(body), exc_info=error)
            return None
        log.info("nobody listens to this", kind=kind_of(body))
        return polite_answer(body)


class Retired(AsyncMiddleware):
    """Answers what is retired before bolt looks into it."""

    async def async_process(
        self,
        *,
        req: AsyncBoltRequest,
        resp: BoltResponse,
        next: Callable[[], Awaitable[BoltResponse]],  # noqa: A002
    ) -> BoltResponse | None:
        if is_retired(req.body):
            log.info("nobody listens to this", kind=kind_of(req.body))
            return polite_answer(req.body)
        return await next()


def is_retired(body: Mapping[str, Any]) -> bool:
    """Whether only an app of long ago could be meant."""
    view = body.get("view")
    of_a_step = isinstance(view, Mapping) and view.get("type") == "workflow_step"
    return body.get("type") in RETIRED or of_a_step


def kind_of(body: Mapping[str, Any]) -> str:
    """What a payload is, without a word of a person: `view_submission`, `event pin_added`, `/hello`."""
    event = body.get("event")
    if isinstance(event, Mapping):
        return f"event {event.get('type')}"
    return str(body.get("type") or body.get("command") or "unknown")


def polite_answer(body: Mapping[str, Any]) -> BoltResponse:
    """An acknowledgement; a command also gets a sentence, a menu that asks for its options has none."""
    said: dict[str, Any] = {}
    if "command" in body:
        said = {"response_type": "ephemeral", "text": text.unknown_command(str(body["command"]))}
    elif body.get("type") in SUGGESTIONS:
        said = {"options": []}
    if not said:
        return BoltResponse(status=200, body="")
    return BoltResponse(status=200, body=json.dumps(said), headers={"Content-Type": "application/json"})
