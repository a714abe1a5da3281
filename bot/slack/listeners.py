"""Which Slack payload goes to whom. Nothing is decided here."""

from collections.abc import Awaitable, Callable
from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.slack import blocks
from bot.slack.admin import Admin
from bot.slack.feedback import Feedback
from bot.slack.questions import Questions

RECORDED = ("app_mention", "message")
"""What the middleware records of. `deploy/slack-manifest.yaml` asks Slack for these events and for no others."""

UNUSED = ("app_home_opened", "reaction_added", "reaction_removed")
"""The local workspace tells every app of these; nothing is done with them, and Slack is not asked for them."""

Next = Callable[[], Awaitable[None]]


def listen(app: AsyncApp, *, questions: Questions, feedback: Feedback, admin: Admin) -> None:
    """Register every listener on a bolt app."""

    @app.use
    async def record(body: dict[str, Any], next_: Next) -> None:
        await questions.record(body, next_)

    for event in (*RECORDED, *UNUSED):
        app.event(event)(_nothing_more)

    app.action(blocks.RATE)(feedback.rate)
    app.view(blocks.CORRECTION_VIEW)(feedback.correct)

    @app.action(f"{blocks.CONSENT}_yes")
    async def agreed(ack: Any, body: dict[str, Any], respond: Any) -> None:
        await feedback.consent(ack, body, respond, granted=True)

    @app.action(f"{blocks.CONSENT}_no")
    async def refused(ack: Any, body: dict[str, Any], respond: Any) -> None:
        await feedback.consent(ack, body, respond, granted=False)

    app.action("forget_me")(feedback.forget_me)
    app.action("export_me")(feedback.export_me)
    app.command("/train")(admin.train)
    app.command("/eval")(admin.evaluate)
    app.command("/apprentice")(admin.apprentice)
    app.action(blocks.PROMOTE)(admin.promote)
    app.action(blocks.KEEP)(admin.keep)


async def _nothing_more(body: dict[str, Any]) -> None:
    """The middleware has recorded what there was to record; Slack is acknowledged by bolt."""
