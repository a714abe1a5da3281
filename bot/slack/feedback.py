"""Ratings: the thumbs below an answer and reactions on it mean the same, and the last one of a person counts.

Nobody sees anybody's vote. A thumbs-down opens the window for the better answer at once, beside writing the vote down, so
that neither waits for the other. Reactions are written down before Slack is acknowledged; what is said to them comes after.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import blocks, feedback_blocks, text
from bot.slack.corrections import Corrections
from bot.slack.feedback_blocks import About
from bot.slack.solicit import SOLICITED
from bot.slack.whisper import Place, place_of, whisper
from bot.slack.windows import Ack, fill_window, pressed_at, written
from storage.asking import Answered
from storage.feedback import Press
from storage.store import Store
from storage.values import STOPPED

REACTIONS: Mapping[str, int] = {
    "+1": 1,
    "thumbsup": 1,
    "white_check_mark": 1,
    "-1": -1,
    "thumbsdown": -1,
    "x": -1,
}
ADDED, REMOVED = "reaction_added", "reaction_removed"
JUST_POSTED_S, LOOK_AGAIN_S = 5.0, 0.25


def vote_of(reaction: str) -> int:
    """What a reaction means, in whatever skin tone ("+1::skin-tone-3"): +1, -1, or 0 for nothing."""
    return REACTIONS.get(reaction.split("::")[0], 0)


@dataclass(frozen=True, slots=True)
class Reaction:
    """A reaction that means a vote, given or (`removed`) taken back, on a message that may be an answer of ours."""

    person: str
    value: int
    removed: bool
    channel: str
    ts: str
    at: datetime
    on_our_words: bool

    @classmethod
    def of(cls, event: Mapping[str, Any], bot_user: str) -> "Reaction | None":
        """Read it from an event; None where it is no vote of a person's on a message."""
        value, person, item = vote_of(str(event.get("reaction"))), event.get("user"), event.get("item") or {}
        if not value or not person or person == bot_user or item.get("type") != "message":
            return None
        return cls(
            person=str(person),
            value=value,
            removed=event["type"] == REMOVED,
            channel=str(item["channel"]),
            ts=str(item["ts"]),
            at=datetime.fromtimestamp(float(event["event_ts"]), UTC),
            on_our_words=event.get("item_user") in {None, bot_user},
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a reaction: `answered` is what it was about, None for no answer of ours; `counts` as a vote now."""

    reaction: Reaction
    answered: Answered | None = None
    counts: bool = False


class Feedback:
    """Takes votes, says thank you, takes them back."""

    def __init__(
        self, store: Store, client: AsyncWebClient, corrections: Corrections, *, team: str, bot_user: str
    ) -> None:
        self._store = store
        self._client = client
        self._corrections = corrections
        self._team = team
        self._bot_user = bot_user

    def listen(self, app: AsyncApp) -> None:
        """Register what belongs to ratings."""
        app.use(self.record)
        app.event(ADDED)(self.thank)
        app.event(REMOVED)(self.thank)
        app.action(blocks.RATE)(self.rate)
        app.action(feedback_blocks.TAKE_BACK)(self.take_back)

    async def rate(self, ack: Ack, body: dict[str, Any], action: dict[str, Any]) -> None:
        """A thumb below an answer."""
        answer_id, value, via = (*str(action.get("value", "")).split(":"), "", "")[:3]
        rater, place = body["user"]["id"], place_of(body)
        if value == "1":
            kept = await written(ack, self._keep(answer_id, rater, 1, action, via))
            await self._say(kept, answer_id, place, rater)
            return
        about = About(answer_id, place.channel, place.thread_ts, voted=True)
        opening = asyncio.create_task(self._corrections.open(body, about))
        try:
            kept = await written(ack, self._keep(answer_id, rater, -1, action, via))
        finally:
            window = await opening
        if kept is Press.GONE:
            await fill_window(self._client, window, feedback_blocks.notice_view("Gone", text.GONE))
            await whisper(self._client, place, rater, text.GONE)
        elif window:
            await self._corrections.fill(window, about, rater)
        else:
            await self._ask_what_was_wrong(answer_id, place, rater)

    async def _keep(
        self, answer_id: str, rater: str, value: int, action: Mapping[str, Any], via: str
    ) -> Press:
        return await self._store.rate(
            answer_id,
            team=self._team,
            rater=rater,
            value=value,
            at=pressed_at(action),
            via="solicited" if via == SOLICITED else "button",
        )

    async def _say(self, kept: Press, answer_id: str, place: Place, rater: str) -> None:
        if kept is Press.GONE:
            await whisper(self._client, place, rater, text.GONE)
        elif kept is Press.COUNTS:
            thanks = feedback_blocks.thanks(answer_id)
            await whisper(self._client, place, rater, text.THANKS, blocks=thanks)

    async def _ask_what_was_wrong(self, answer_id: str, place: Place, rater: str) -> None:
        await whisper(
            self._client,
            place,
            rater,
            feedback_blocks.WHAT_WAS_WRONG,
            blocks=feedback_blocks.what_was_wrong(answer_id),
        )

    async def take_back(self, ack: Ack, body: dict[str, Any], action: dict[str, Any], respond: Ack) -> None:
        """The small button below our thanks."""
        withdrawing = self._store.withdraw_rating(
            str(action.get("value", "")), rater=body["user"]["id"], at=pressed_at(action)
        )
        there_was = await written(ack, withdrawing)
        await respond(
            text=feedback_blocks.TAKEN_BACK if there_was else feedback_blocks.NO_VOTE_LEFT,
            replace_original=True,
            response_type="ephemeral",
        )

    async def record(
        self, body: dict[str, Any], context: dict[str, Any], next_: Callable[[], Awaitable[None]]
    ) -> None:
        """Global middleware: a reaction that is a vote is in the database before Slack hears that we have it."""
        event = body.get("event") or {}
        if event.get("type") in {ADDED, REMOVED}:
            reaction = Reaction.of(event, self._bot_user)
            if reaction is not None:
                context["heard"] = await self.hear(reaction)
        await next_()

    async def hear(self, reaction: Reaction) -> Heard:
        """Write a reaction down as the vote that it is."""
        answered = await self._corrections.answer_at(reaction.channel, reaction.ts)
        if answered is None or not await self._wanted(answered, reaction.channel):
            return Heard(reaction, answered)
        answer_id = answered.answer.id
        if reaction.removed:
            await self._store.withdraw_rating(
                answer_id, rater=reaction.person, value=reaction.value, at=reaction.at, via="reaction"
            )
            return Heard(reaction, answered)
        kept = await self._store.rate(
            answer_id,
            team=self._team,
            rater=reaction.person,
            value=reaction.value,
            at=reaction.at,
            via="reaction",
        )
        return Heard(reaction, answered, counts=kept is Press.COUNTS)

    async def _wanted(self, answered: Answered, channel: str) -> bool:
        """Whether people are asked what they think of this answer; nobody has seen the whole of a stopped one."""
        settings = await self._store.channel_settings(self._team, channel)
        return settings.feedback and answered.candidate.finish != STOPPED

    async def thank(self, context: dict[str, Any]) -> None:
        """What is said to a reaction, to the one person who made it."""
        heard: Heard | None = context.get("heard")
        if heard is not None and heard.answered is None and heard.reaction.on_our_words:
            heard = await self._hear_later(heard.reaction)
        if heard is None or heard.answered is None or not heard.counts:
            return
        answer = heard.answered.answer
        place = Place(answer.channel, heard.answered.question.thread_ts)
        if heard.reaction.value > 0:
            await self._say(Press.COUNTS, answer.id, place, heard.reaction.person)
        else:
            await self._ask_what_was_wrong(answer.id, place, heard.reaction.person)

    async def _hear_later(self, reaction: Reaction) -> Heard | None:
        """People see an answer while it is being written; a vote on it waits until the answer is in the database."""
        end = time.monotonic() + JUST_POSTED_S
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_AGAIN_S)
            heard = await self.hear(reaction)
            if heard.answered is not None:
                return heard
            if await self._store.is_draft(self._team, reaction.channel, reaction.ts):
                end = max(end, time.monotonic() + JUST_POSTED_S)
        return None
