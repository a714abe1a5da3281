"""An answer while it is being written: a stream of Slack's, and what takes its place where there is none.

However it went on the way, `finish` leaves the whole answer in the thread exactly once. What is shown meanwhile is a
beginning of it. A stream lives about five minutes and may be refused (Slack Connect, old clients): then the message is
edited in place, or posted when it is complete.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.slack import markdown, text
from bot.slack.showable import showable
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Question
from storage.words import clean

EVERY_S = 0.7
PEN_S = 10.0
EDIT_EVERY_S = 3.0  # chat.update is allowed 50 times a minute
STREAM_LIMIT = 11_000  # characters of markdown that are shown before the answer is complete
READ_LIMIT = 2 * STREAM_LIMIT  # ... and that are looked at for it
EDITABLE = ("text", "blocks", "metadata")
GONE = {"message_not_found", "cant_update_message", "message_not_owned_by_app"}
FINISHED = {"message_not_in_streaming_state"}
STILL_OPEN = {"streaming_state_conflict"}

log = structlog.get_logger(__name__)

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Posted:
    """Where an answer stands: its last message, and the ones before it where it is long."""

    ts: str
    before: tuple[str, ...] = ()


@dataclass
class Draft:
    """The message of one answer. `stands` is told its ts as soon as there is one; `draft_ts` is one that a dead bot left.

    `striker` gives what takes out of the model's words what nobody shall read, as the store does with the whole answer.
    """

    client: AsyncWebClient
    question: Question
    team: str
    stands: Callable[[str], Awaitable[None]]
    look: Callable[[Mapping[str, Any] | None], Awaitable[str | None]]
    ts: str = ""
    looks_first: bool = False
    striker: Callable[[], Awaitable[Callable[[str], str]]] | None = None
    ended_session: bool = False
    _raw: str = ""
    _sent: str = ""
    _open: bool = False
    _streams: bool = True
    _whole: bool = True  # what was sent is known to be what stands there
    _edited_at: float = field(default=0.0)
    _writer: "asyncio.Task[None] | None" = None
    _complete: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if self.ts:
            self._streams, self._whole = False, False

    @property
    def begun(self) -> bool:
        """Whether people see text of this answer."""
        return bool(self._sent)

    async def write(self, piece: str) -> None:
        """The next piece of the answer; it is shown soon, not at once."""
        self._raw += piece
        if self._writer is None:
            self._writer = asyncio.create_task(self._keep_writing(), name=f"draft-{self.question.id}")

    async def restart(self) -> None:
        """What was written so far is not the answer; another one begins."""
        self._raw = ""
        if self._sent:
            self._whole = False

    async def finish(self, messages: Sequence[Message], *, session_status: str = "") -> Posted:
        """Leave the whole answer, one message for each part. Raises what the client raises where Slack refuses."""
        await self._put_down_pen()
        first, *more = messages
        if not self.ts and (self.looks_first or not self._whole):
            self.ts = await self.look(first["metadata"]["event_payload"]) or await self.look(None) or ""
            self._whole = False if self.ts else self._whole
        places = [await self._finish_first(first, session_status if not more else "")]
        for message in more:
            places.append(await self._post(message))
        return Posted(places[-1], tuple(places[:-1]))

    async def abandon(self) -> None:
        """Nobody wants the answer any more: take away what stands of it."""
        await self._put_down_pen()
        if not self.ts:
            return
        place: dict[str, Any] = {"channel": self.question.channel, "ts": self.ts}
        for end in (
            self.client.chat_stopStream,
            self.client.chat_delete,
        ):  # a stream cannot be deleted while it runs
            with suppress(SlackApiError, *UNREACHABLE):
                await end(**place)

    async def _put_down_pen(self) -> None:
        """Let a call under way come to its end, for a while: a cancelled one leaves it open whether its text arrived."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._complete.set()
            await asyncio.wait([writer], timeout=PEN_S)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _keep_writing(self) -> None:
        strike = await self.striker() if self.striker is not None else clean
        while not self._complete.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), EVERY_S)
                return
            begun = showable(self._raw[:READ_LIMIT], strike)
            shown = text.without_mentions(markdown.settled(begun))[:STREAM_LIMIT]
            held_back = self._whole and self._sent.startswith(shown)
            if not shown.strip() or shown == self._sent or held_back:
                continue
            certain, self._whole = self._whole, False
            try:
                self._whole = await self._show(shown) and certain
            except SlackApiError as error:
                self._whole = certain and not reason_of(error).startswith("HTTP")
                self._refused(reason_of(error))
            except UNREACHABLE as error:
                log.info("a piece of an answer may be lost", question=self.question.id, error=str(error))
                self._streams = self._streams and bool(self.ts)
                self._open = False

    async def _show(self, shown: str) -> bool:
        """True if what stands there is exactly what was sent."""
        channel = self.question.channel
        if not self.ts and self._streams:
            begun = await self.client.chat_startStream(
                channel=channel,
                thread_ts=self.question.thread_ts,
                recipient_team_id=self.team,
                recipient_user_id=self.question.asker,
                markdown_text=shown,
            )
            self.ts, self._open, self._sent = str(begun["ts"]), True, shown
            await self.stands(self.ts)
            return True
        if self._open and shown.startswith(self._sent):
            await self.client.chat_appendStream(
                channel=channel, ts=self.ts, markdown_text=shown[len(self._sent) :]
            )
            self._sent = shown
            return True
        if self.ts and not self._open and time.monotonic() - self._edited_at >= EDIT_EVERY_S:
            self._edited_at = time.monotonic()
            block = {"type": "markdown", "text": f"{shown} …"}
            await self.client.chat_update(
                channel=channel, ts=self.ts, text=text.preview(shown), blocks=[block]
            )
            self._sent = shown
        return False

    def _refused(self, reason: str) -> None:
        log.info("an answer cannot be shown while it is written", question=self.question.id, error=reason)
        if reason in FINISHED or reason.startswith("HTTP"):
            self._open = False
        if reason in GONE:
            self.ts, self._open = "", False
        if not self.ts:
            self._streams = False

    async def _finish_first(self, message: Message, session_status: str) -> str:
        if not self.ts:
            return await self._post(message, looked=True)
        if self._open and await self._stopped_as(message, session_status):
            return self.ts
        try:
            await self._edit({name: message[name] for name in EDITABLE})
        except SlackApiError as error:
            if reason_of(error) not in GONE:
                raise
            return await self._post(message, looked=True)
        return self.ts

    async def _edit(self, message: Message) -> None:
        """Let the message stand like this; a stream that is still open without our knowing is ended first."""
        place: dict[str, Any] = {"channel": self.question.channel, "ts": self.ts}
        try:
            await self.client.chat_update(**place, **message)
        except SlackApiError as error:
            if reason_of(error) not in STILL_OPEN:
                raise
            await self.client.chat_stopStream(**place)
            await self.client.chat_update(**place, **message)

    async def _stopped_as(self, message: Message, session_status: str) -> bool:
        """Whether ending the stream alone gave the message its final form."""
        final = str(message["blocks"][0]["text"])
        fits = self._whole and final.startswith(self._sent)
        extra: dict[str, Any] = {"session_status": session_status} if session_status else {}
        if fits:
            extra |= {"blocks": message["blocks"][1:], "metadata": message["metadata"]}
            if rest := final[len(self._sent) :]:
                extra["markdown_text"] = rest
        try:
            await self.client.chat_stopStream(channel=self.question.channel, ts=self.ts, **extra)
        except (SlackApiError, *UNREACHABLE) as error:
            log.info("a stream did not end well", question=self.question.id, error=reason_of(error))
            return False
        self.ended_session = bool(session_status)
        return fits

    async def _post(self, message: Message, *, looked: bool = False) -> str:
        """Post in the thread, unless an earlier attempt did and could not write that down."""
        if self.looks_first and not looked:
            standing = await self.look(message["metadata"]["event_payload"])
            if standing is not None:
                return standing
        sent = await self.client.chat_postMessage(
            channel=self.question.channel, thread_ts=self.question.thread_ts, **message
        )
        return str(sent["ts"])
