"""Streamed answers: start, append, stop, and their end after five minutes.

A stream that is not stopped in time ends by itself; what was appended stays, and later appends are refused with
`message_not_in_streaming_state` (facts/slack.md 0.2). It refuses to know who may write where.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bot.workspace.blocks import message_problems, random_id, with_ids
from bot.workspace.chat import Chat
from bot.workspace.clock import Clock, Timer
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import BOT_USER, Channel
from bot.workspace.state import Json

MAX_MARKDOWN: Final = 12_000


@dataclass(frozen=True)
class Content:
    """What was streamed so far: Markdown, a plan's title, tasks by id, blocks sent on the way."""

    markdown: str = ""
    plan_title: str = ""
    tasks: Mapping[str, Json] = field(default_factory=dict)
    blocks: tuple[Json, ...] = ()


@dataclass
class Stream:
    """A message that is being written, and the timer that ends it."""

    channel: Channel
    ts: str
    end: Timer
    content: Content


class Streams:
    """The messages that are being written now."""

    def __init__(self, chat: Chat, clock: Clock, *, ttl_s: float) -> None:
        self._chat = chat
        self._clock = clock
        self._ttl_s = ttl_s
        self._open: dict[tuple[str, str], Stream] = {}

    def start(self, channel: Channel, thread_ts: str, chunks: list[Json]) -> str:
        """The ts of the new message. Raises Refused: invalid_blocks, msg_too_long, invalid_chunks."""
        content = _with(Content(), chunks)
        message = self._chat.post_as_bot(
            channel, "", None, thread_ts=thread_ts, streaming=True, streaming_state="in_progress"
        )
        ts = str(message["ts"])
        end = self._clock.later(self._ttl_s, lambda: self._expire(channel.id, ts))
        stream = self._open[(channel.id, ts)] = Stream(channel, ts, end, content)
        if chunks:
            self._show(stream, streaming=True)
        return ts

    def append(self, channel: Channel, ts: str, chunks: list[Json]) -> None:
        """Raises Refused: message_not_in_streaming_state, message_not_found, invalid_blocks, ..."""
        stream = self._stream(channel, ts)
        stream.content = _with(stream.content, chunks)
        self._show(stream, streaming=True)

    def stop(
        self, channel: Channel, ts: str, chunks: list[Json], blocks: list[Json] | None, metadata: Any
    ) -> Json:
        """The finished message."""
        stream = self._stream(channel, ts)
        content = _with(stream.content, chunks)
        stream.content = replace(content, blocks=(*content.blocks, *with_ids(blocks or [])))
        self._close(stream)
        return self._show(stream, streaming=False, metadata=metadata)

    def is_open(self, channel_id: str, ts: str) -> bool:
        return (channel_id, ts) in self._open

    def halt(self, channel: Channel, thread_ts: str) -> list[str]:
        """End the streams of one thread because a person pressed Stop; the ts of each. What was written stays."""
        halted = []
        for stream in list(self._open.values()):
            message = self._chat.message(stream.channel, stream.ts)
            if stream.channel.id == channel.id and message.get("thread_ts", stream.ts) == thread_ts:
                self._expire(channel.id, stream.ts)
                halted.append(stream.ts)
        return halted

    def close(self) -> None:
        for stream in list(self._open.values()):
            self._close(stream)

    def _stream(self, channel: Channel, ts: str) -> Stream:
        message = self._chat.message(channel, ts)
        if message["user"] != BOT_USER:
            raise Refused("message_not_owned_by_app")
        if (channel.id, ts) not in self._open:
            raise Refused("message_not_in_streaming_state")
        return self._open[(channel.id, ts)]

    def _expire(self, channel_id: str, ts: str) -> None:
        stream = self._open[(channel_id, ts)]
        self._close(stream)
        self._show(stream, streaming=False)

    def _close(self, stream: Stream) -> None:
        stream.end.cancel()
        self._open.pop((stream.channel.id, stream.ts), None)

    def _show(self, stream: Stream, *, streaming: bool, metadata: Any = None) -> Json:
        before = self._chat.message(stream.channel, stream.ts)
        kept = {key: value for key, value in before.items() if key not in ("streaming", "blocks")}
        after = {**kept, "text": stream.content.markdown}
        if blocks := _blocks(stream.content, before):
            after["blocks"] = blocks
        if streaming:
            after["streaming"] = True
        after["streaming_state"] = "in_progress" if streaming else "completed"
        if metadata:
            after["metadata"] = metadata
        return self._chat.rewrite(stream.channel, after, editor=None)


def _blocks(content: Content, before: Json) -> list[Json]:
    known = (block["block_id"] for block in before.get("blocks", []) if block["type"] == "markdown")
    written = {"type": "markdown", "block_id": next(known, random_id()), "text": content.markdown}
    tasks = list(content.tasks.values())
    if content.plan_title and tasks:
        shown = [{"type": "plan", "block_id": "plan", "title": content.plan_title, "tasks": tasks}]
    else:
        shown = [{"type": "task_card", "block_id": f"task-{task['task_id']}", **task} for task in tasks]
    return [*shown, *([written] if content.markdown else []), *content.blocks]


def _with(content: Content, chunks: list[Json]) -> Content:
    for chunk in chunks:
        content = _added(content, chunk)
    return content


def _added(content: Content, chunk: Json) -> Content:
    match chunk:
        case {"type": "markdown_text", "text": str(words)}:
            if len(words) > MAX_MARKDOWN:
                raise Refused("msg_too_long")
            return replace(content, markdown=content.markdown + words)
        case {"type": "task_update", "id": str(id_), "title": str(title), **rest}:
            task = {"task_id": id_, "title": title, "status": rest.get("status", "pending")}
            task |= {key: rest[key] for key in ("details", "output", "sources") if rest.get(key)}
            return replace(content, tasks={**content.tasks, id_: task})
        case {"type": "plan_update", "title": str(title)}:
            return replace(content, plan_title=title)
        case {"type": "blocks", "blocks": list(blocks)}:
            if found := message_problems(blocks):
                raise refused_for("invalid_blocks", found)
            return replace(content, blocks=(*content.blocks, *with_ids(blocks)))
    raise refused_for("invalid_chunks", ["unsupported chunk [json-pointer:/chunks]"])


def chunks_of(markdown_text: str | None, chunks: Any) -> list[Json]:
    """One list of chunks from the two ways an app may send text. Raises Refused: markdown_text_conflict."""
    if markdown_text and chunks:
        raise Refused("markdown_text_conflict")
    if markdown_text:
        return [{"type": "markdown_text", "text": markdown_text}]
    return list(chunks or [])
