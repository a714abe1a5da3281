"""Scheduled messages: written now, posted when they are due, kept over a restart.

It refuses times in the past and more than 120 days ahead, as Slack does.
"""

import secrets
from typing import Any, Final

from bot.workspace import payloads
from bot.workspace.chat import Chat
from bot.workspace.clock import Clock, Timer
from bot.workspace.refused import Refused
from bot.workspace.seed import BOT_USER, Channel
from bot.workspace.state import Json, State

FURTHEST_S: Final = 120 * 24 * 3600
# Slack refuses to delete what is about to be posted.
TOO_LATE_S: Final = 60


class Schedule:
    """The messages that are still to be posted."""

    def __init__(self, state: State, chat: Chat, clock: Clock) -> None:
        self._state = state
        self._chat = chat
        self._clock = clock
        self._timers: dict[str, Timer] = {}

    def resume(self) -> None:
        """Wait for what an earlier process accepted; what became due meanwhile is posted at once."""
        for message in self._state.scheduled.values():
            self._wait_for(message)

    def add(
        self,
        channel: Channel,
        post_at: int,
        said: str,
        blocks: list[Json] | None,
        *,
        thread_ts: str | None,
        metadata: Any,
    ) -> Json:
        """The scheduled message. Raises Refused: time_in_past, time_too_far."""
        now = self._clock.now()
        if post_at <= now:
            raise Refused("time_in_past")
        if post_at > now + FURTHEST_S:
            raise Refused("time_too_far")
        message: Json = {
            "id": f"Q{secrets.token_hex(5).upper()}",
            "channel": channel.id,
            "post_at": post_at,
            "date_created": int(now),
            "text": said,
            "blocks": blocks,
            "thread_ts": thread_ts,
            "metadata": metadata,
        }
        self._state.put_scheduled(message)
        self._wait_for(message)
        return message

    def listed(self, channel: str | None) -> list[Json]:
        """As chat.scheduledMessages.list shows them, the next one first."""
        shown = ("id", "post_at", "date_created", "text")
        return [
            {"channel_id": message["channel"], **{key: message[key] for key in shown}}
            for message in sorted(self._state.scheduled.values(), key=lambda one: int(one["post_at"]))
            if channel in (None, message["channel"])
        ]

    def remove(self, channel: str, id_: str) -> None:
        """Raises Refused: invalid_scheduled_message_id."""
        message = self._state.scheduled.get(id_)
        late = message is not None and message["post_at"] - self._clock.now() < TOO_LATE_S
        if message is None or message["channel"] != channel or late:
            raise Refused("invalid_scheduled_message_id")
        self._timers.pop(id_).cancel()
        self._state.drop_scheduled(id_)

    def preview(self, message: Json) -> Json:
        """`message` in the answer of chat.scheduleMessage."""
        made = payloads.bots_message("", message["text"], message["blocks"], thread_ts=message["thread_ts"])
        return {key: value for key, value in made.items() if key not in ("ts", "user")} | {"user": BOT_USER}

    def reset(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _wait_for(self, message: Json) -> None:
        delay_s = message["post_at"] - self._clock.now()
        self._timers[message["id"]] = self._clock.later(delay_s, lambda: self._post(message["id"]))

    def _post(self, id_: str) -> None:
        message = self._state.scheduled[id_]
        self._timers.pop(id_, None)
        with self._state.transaction():
            self._state.drop_scheduled(id_)
            channel = self._state.channels[message["channel"]]
            self._chat.post_as_bot(
                channel,
                message["text"],
                message["blocks"],
                thread_ts=message["thread_ts"],
                metadata=message["metadata"],
            )
