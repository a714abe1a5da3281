"""Which Slack payload goes to whom. Nothing is decided here."""

from collections.abc import Awaitable, Callable
from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.slack import report_blocks
from bot.slack.admin import Admin
from bot.slack.questions import Questions

RECORDED = ("app_mention", "message")
"""What the middleware records of."""

STOPPED = "agent_session_stopped"

ASKING = {"ask": "command", "duel": "duel"}
"""What follows `/apprentice` before a question, and the surface on which it is then asked."""

Next = Callable[[], Awaitable[None]]


def hear(app: AsyncApp, questions: Questions) -> None:
    """Register what records questions. To be called first: bolt asks its listeners in turn, and most events are messages."""

    @app.use
    async def record(body: dict[str, Any], next_: Next) -> None:
        await questions.record(body, next_)

    for event in RECORDED:
        app.event(event)(_nothing_more)

    @app.event(STOPPED)
    async def stopped(event: dict[str, Any]) -> None:
        await questions.stopped(event)


def listen(app: AsyncApp, *, questions: Questions, admin: Admin) -> None:
    """Register commands and the buttons of reports."""
    app.command("/train")(admin.train)
    app.command("/eval")(admin.evaluate)

    @app.command("/apprentice")
    async def apprentice(ack: Any, body: dict[str, Any], respond: Any) -> None:
        verb, _, words = (body.get("text") or "").strip().partition(" ")
        if verb.lower() in ASKING:
            await questions.command(ack, body, respond, words, surface=ASKING[verb.lower()])
        else:
            await admin.apprentice(ack, body, respond)

    app.action(report_blocks.PROMOTE)(admin.decisions.promote)
    app.action(report_blocks.CANARY)(admin.decisions.canary)
    app.action(report_blocks.KEEP)(admin.decisions.keep)
    app.action(report_blocks.ROLL_BACK)(admin.decisions.roll_back)


async def _nothing_more(body: dict[str, Any]) -> None:
    """The middleware has recorded what there was to record; Slack is acknowledged by bolt."""
