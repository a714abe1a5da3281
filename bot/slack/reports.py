"""Reports in the admin channel: one message for each run and evaluation, edited in place.

Redrawing is harmless: a message is found again by its metadata when the bot died between posting and writing that down.
"""

import asyncio
import hashlib
import json
import time
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.slack import blocks
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Evaluation, RunState, TrainingRun
from storage.store import Store
from training.evaluating import BASE, CHALLENGER, CURRENT

EVERY_S = 5.0
LOOK_BACK = 50

log = structlog.get_logger(__name__)


class Reports:
    """Draws runs and evaluations."""

    def __init__(
        self, store: Store, client: AsyncWebClient, *, team: str, channel: str, base_label: str
    ) -> None:
        self._store = store
        self._client = client
        self._team = team
        self._channel = channel
        self._base_label = base_label
        self._drawn_at: dict[str, float] = {}
        # One drawing at a time: an older one must not overtake a newer one, nor two of them both post the message.
        self._drawing = asyncio.Lock()

    async def run(self, run: TrainingRun) -> None:
        """Draw a run as it stands: at most every 5 s while it runs, always when something is decided.

        Raises PublicError where Slack refuses; the next tick tries again.
        """
        async with self._drawing:
            await self._draw_run(run)

    async def _draw_run(self, run: TrainingRun) -> None:
        run = await self._store.run(run.id) or run
        message = await self.run_message(run)
        drawing = _fingerprint(message)
        if drawing == run.report_drawn:
            return
        settled = run.state in {RunState.REPORTING} or run.state.final
        if not settled and time.monotonic() - self._drawn_at.get(run.id, -EVERY_S) < EVERY_S:
            return
        place = await self._draw(message, run.report_channel, run.report_ts)
        self._drawn_at[run.id] = time.monotonic()
        await self._store.note_on_run(
            run.id, report_channel=place[0], report_ts=place[1], report_drawn=drawing
        )

    async def run_message(self, run: TrainingRun) -> dict[str, Any]:
        """The message of a run as it stands."""
        evaluation = await self._store.evaluation(run.evaluation_id) if run.evaluation_id else None
        promotions = await self._store.promotions(self._team)
        decision = promotion_decision(run)
        promotion = next((row for row in promotions if row.decision == decision), None)
        kept = await self._store.decision_on(self._team, run.id, ("keep",))
        version = await self._store.model(run.version_id) if run.version_id else None
        return blocks.run_report(
            run,
            evaluation=evaluation,
            promotion=promotion,
            kept_by=kept.actor if kept else "",
            challenger=version.name if version else "",
        )

    async def evaluation(self, evaluation: Evaluation) -> None:
        """Draw an evaluation asked for by `/eval`. Raises PublicError where Slack refuses."""
        async with self._drawing:
            await self._draw_evaluation(evaluation)

    async def _draw_evaluation(self, evaluation: Evaluation) -> None:
        evaluation = await self._store.evaluation(evaluation.id) or evaluation
        names = {BASE: self._base_label}
        for arm, version_id in ((CURRENT, evaluation.current_id), (CHALLENGER, evaluation.challenger_id)):
            version = await self._store.model(version_id) if version_id else None
            if version is not None:
                names[arm] = version.name
        message = blocks.evaluation_report(evaluation, names=names)
        place = await self._draw(message, evaluation.report_channel, evaluation.report_ts)
        await self._store.note_on_evaluation(evaluation.id, report_channel=place[0], report_ts=place[1])

    async def notice(self, words: str) -> None:
        """One sentence in the admin channel."""
        if self._channel:
            await self._call("chat_postMessage", channel=self._channel, text=words)

    async def _draw(self, message: dict[str, Any], channel: str, ts: str) -> tuple[str, str]:
        if not self._channel:
            log.warning("no ADMIN_CHANNEL is set, so this report is only in the log", report=message["text"])
            return "", ""
        if not ts:
            channel, ts = await self._posted_before(message) or ("", "")
        if ts:
            updated = await self._call("chat_update", channel=channel, ts=ts, **message)
            if updated is not None:
                return channel, ts
        posted = await self._call("chat_postMessage", channel=self._channel, **message)
        if posted is None:
            raise PublicError("The report's message vanished while it was drawn.")
        return str(posted["channel"]), str(posted["ts"])

    async def _posted_before(self, message: dict[str, Any]) -> tuple[str, str] | None:
        """Where this report already stands, posted by a bot that died before it wrote the place down."""
        wanted = message["metadata"]
        try:
            found = await self._client.conversations_history(
                channel=self._channel, limit=LOOK_BACK, include_all_metadata=True
            )
        except SlackApiError as error:
            log.info("the admin channel's history cannot be read", error=reason_of(error))
            return None
        for posted in found["messages"]:
            metadata = posted.get("metadata") or {}
            if metadata.get("event_payload") == wanted["event_payload"]:
                return self._channel, str(posted["ts"])
        return None

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            answer = await getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            reason = reason_of(error)
            if method == "chat_update" and reason in {"message_not_found", "cant_update_message"}:
                return None  # somebody deleted the report: it is posted anew
            if reason.startswith("HTTP"):
                raise PublicError(f"Slack is out of order ({reason}); the report is tried again.") from None
            raise PublicError(
                f"Slack refused the report in {self._channel} ({reason}). Invite me to that channel, or check ADMIN_CHANNEL."
            ) from None
        except UNREACHABLE as error:
            raise PublicError(f"Slack cannot be reached ({error}).") from None
        return dict(answer.data)


def promotion_decision(run: TrainingRun) -> str:
    """The one decision a run's report can make; pressing Promote twice is the same decision."""
    return f"report:{run.id}"


def _fingerprint(message: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()[:32]
