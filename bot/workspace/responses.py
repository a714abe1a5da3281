"""response_url: five answers within half an hour to the person who clicked or typed a command.

It refuses a sixth answer (`used_url`) and a late one (`expired_url`), as Slack does.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Final

from bot.workspace.blocks import message_problems, with_ids
from bot.workspace.chat import Chat
from bot.workspace.clock import Clock
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import Channel
from bot.workspace.state import Json

USES: Final = 5
TTL_S: Final = 30 * 60.0


@dataclass
class Ticket:
    """Leave to answer `user` in `channel`; `original_ts` is the message that was clicked, if one was."""

    user: str
    channel: Channel
    original_ts: str | None
    ephemeral: bool
    thread_ts: str | None
    until: float
    uses: int = 0


class Responses:
    """All response_urls that were given out."""

    def __init__(self, chat: Chat, clock: Clock) -> None:
        self._chat = chat
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}

    def issue(
        self,
        user: str,
        channel: Channel,
        *,
        original_ts: str | None = None,
        ephemeral: bool = False,
        thread_ts: str | None = None,
    ) -> str:
        """The path of a fresh response_url: `/response/...`."""
        token = secrets.token_urlsafe(18)
        self._tickets[token] = Ticket(
            user, channel, original_ts, ephemeral, thread_ts, self._clock.now() + TTL_S
        )
        return f"/response/{token}"

    def reset(self) -> None:
        self._tickets.clear()

    def answer(self, token: str, body: Json) -> None:
        """Raises Refused: expired_url, used_url, no_text, invalid_blocks, message_not_found."""
        ticket = self._tickets.get(token)
        if ticket is None or ticket.until < self._clock.now():
            raise Refused("expired_url")
        if ticket.uses >= USES:
            raise Refused("used_url")
        ticket.uses += 1
        if body.get("delete_original"):
            self._delete(ticket)
            return
        blocks = checked_blocks(body)
        if body.get("replace_original"):
            self._replace(ticket, body, blocks)
        else:
            self.say(
                ticket.user, ticket.channel, body, blocks, thread_ts=body.get("thread_ts") or ticket.thread_ts
            )

    def say(
        self,
        user: str,
        channel: Channel,
        body: Json,
        blocks: list[Json] | None,
        *,
        thread_ts: str | None = None,
    ) -> Json:
        """Post what a command or an interaction answered: for everybody if `in_channel`, else only for `user`."""
        said = str(body.get("text") or "")
        if body.get("response_type") == "in_channel":
            return self._chat.post_as_bot(channel, said, blocks, thread_ts=thread_ts)
        return self._chat.whisper(user, channel, said, blocks, thread_ts=thread_ts)

    def _replace(self, ticket: Ticket, body: Json, blocks: list[Json] | None) -> None:
        before = self._original(ticket)
        after = {**before, "text": str(body.get("text") or ""), "blocks": with_ids(blocks or [])}
        if not after["blocks"]:
            del after["blocks"]
        if ticket.ephemeral:
            self._chat.replace_whisper(ticket.user, ticket.channel, after)
        else:
            self._chat.rewrite(ticket.channel, after, editor=before["user"])

    def _delete(self, ticket: Ticket) -> None:
        before = self._original(ticket)
        if ticket.ephemeral:
            self._chat.forget_whisper(ticket.user, ticket.channel, before["ts"])
        else:
            self._chat.delete(before["user"], ticket.channel.id, before["ts"])

    def _original(self, ticket: Ticket) -> Json:
        if ticket.original_ts is None:
            raise Refused("message_not_found")
        if not ticket.ephemeral:
            return self._chat.message(ticket.channel, ticket.original_ts)
        whispered = self._chat.whisper_at(ticket.user, ticket.channel.id, ticket.original_ts)
        if whispered is None:
            raise Refused("message_not_found")
        return whispered


def checked_blocks(body: Json) -> list[Json] | None:
    """The blocks of an answer, None if it has none. Raises Refused: no_text, invalid_blocks."""
    blocks: Any = body.get("blocks")
    if not blocks and not body.get("text") and not body.get("attachments"):
        raise Refused("no_text")
    if blocks and (found := message_problems(blocks)):
        raise refused_for("invalid_blocks", found)
    return blocks or None
