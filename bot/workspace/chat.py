"""What happens in channels: messages, edits, deletions, reactions, ephemerals; told to the app and to the open pages.

One object for people (through the control API) and for the bot (through the Web API); who may do what is decided here.
It refuses to know about HTTP.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bot.workspace import payloads, text
from bot.workspace.blocks import has_private_parts, random_id, seen_blocks, with_ids
from bot.workspace.clock import Clock, Timer
from bot.workspace.delivery import Outbox
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused
from bot.workspace.seed import BOT_USER, Channel, ChannelKind, User
from bot.workspace.state import Json, State

MAX_TEXT: Final = 40_000
STATUS_TTL_S: Final = 120.0
# Slack tells it only to apps that ask for it by name, even where our app without a manifest hears everything else.
METADATA_EVENT: Final = "message_metadata_posted"


class Chat:
    """The conversations of the workspace."""

    def __init__(self, state: State, feed: Feed, outbox: Outbox, clock: Clock) -> None:
        self.state = state
        self._feed = feed
        self._outbox = outbox
        self._clock = clock
        self._ephemerals: dict[tuple[str, str], dict[str, Json]] = {}
        self._statuses: dict[tuple[str, str], tuple[Timer, Json]] = {}
        self.prompts: dict[str, Json] = {}

    def user(self, user_id: str) -> User:
        """Raises Refused: user_not_found."""
        if user_id not in self.state.users:
            raise Refused("user_not_found")
        return self.state.users[user_id]

    def channel_for(self, user_id: str, channel_id: str) -> Channel:
        """The channel, if this user (or the bot) is in it. Raises Refused: channel_not_found, not_in_channel."""
        channel = self.state.channels.get(channel_id)
        if channel is None or (channel.kind is not ChannelKind.PUBLIC and user_id not in channel.members):
            raise Refused("channel_not_found")
        if user_id not in channel.members:
            raise Refused("not_in_channel")
        return channel

    def message(self, channel: Channel, ts: str) -> Json:
        """Raises Refused: message_not_found."""
        message = self.state.message(channel.id, ts)
        if message is None:
            raise Refused("message_not_found")
        return message

    def shown(self, channel: Channel, message: Json) -> Json:
        """The message with what its thread adds to it."""
        room, root = self.state.rooms[channel.id], message.get("thread_ts")
        if root and root != message["ts"]:
            return payloads.with_thread(message, [], room.messages.get(root))
        return payloads.with_thread(message, room.replies(message["ts"]))

    def post_as_person(self, user: str, channel_id: str, typed: str, *, thread_ts: str | None = None) -> Json:
        """Raises Refused: no_text, msg_too_long, thread_not_found, and what `channel_for` raises."""
        channel = self.channel_for(self.user(user).id, channel_id)
        if not typed.strip():
            raise Refused("no_text")
        if len(typed) > MAX_TEXT:
            raise Refused(
                "msg_too_long", detail=f"A message has at most {MAX_TEXT} characters; this has {len(typed)}."
            )
        sent = text.as_sent(typed, self._names())
        block = text.rich_text(sent, block_id=random_id())
        root = self.thread_root(channel, thread_ts)
        message = payloads.persons_message(user, self.state.next_ts(), sent, [block], thread_ts=root)
        return self._add(channel, message)

    def share_as_person(
        self, user: str, channel: Channel, typed: str, files: list[Json], *, thread_ts: str | None
    ) -> Json:
        """A message with files; the text may be empty."""
        sent = text.as_sent(typed, self._names())
        blocks = [text.rich_text(sent, block_id=random_id())] if sent.strip() else []
        message = payloads.persons_message(user, self.state.next_ts(), sent, blocks, thread_ts=thread_ts)
        if not blocks:
            del message["blocks"]
        for name in ("client_msg_id", "team"):
            del message[name]
        shared = {"subtype": "file_share", "files": files, "upload": True, "display_as_bot": False}
        return self._add(channel, {**message, **shared})

    def post_as_bot(
        self, channel: Channel, said: str, blocks: list[Json] | None, *, thread_ts: str | None, **more: Any
    ) -> Json:
        """`more` are further keys of the message (metadata, files, subtype, streaming).

        A reply to a thread that is gone becomes a message of the channel, as in Slack (slack-go/slack#1571).
        """
        stored = with_ids(blocks) if blocks else None
        try:
            root = self.thread_root(channel, thread_ts)
        except Refused:
            root = None
        message = payloads.bots_message(
            self.state.next_ts(), said, stored, thread_ts=root, name=self._bot_name()
        )
        message |= {key: value for key, value in more.items() if value is not None}
        self.clear_status(channel.id, root)
        if message.get("metadata") and METADATA_EVENT in (self._outbox.app.events or ()):
            event_ts = self.state.next_ts()
            self._outbox.emit(payloads.metadata_posted_event(channel.id, message, event_ts))
        return self._add(channel, message)

    def thread_root(self, channel: Channel, thread_ts: str | None) -> str | None:
        """The thread a reply belongs to: a reply's own root where `thread_ts` names a reply. Raises thread_not_found."""
        if not thread_ts:
            return None
        named = self.state.message(channel.id, thread_ts)
        if named is None:
            if thread_ts in self.state.rooms[channel.id].threads:
                return thread_ts
            raise Refused("thread_not_found")
        return str(named.get("thread_ts") or thread_ts)

    def _add(self, channel: Channel, message: Json) -> Json:
        with self.state.transaction():
            self.state.put_message(channel.id, message)
            self._tell_app_of(channel, message)
        self._tell_pages("message", channel, message)
        root = message.get("thread_ts")
        if root and root != message["ts"] and (first := self.state.message(channel.id, root)):
            self._tell_pages("message_changed", channel, first)
        return message

    def _tell_app_of(self, channel: Channel, message: Json) -> None:
        if BOT_USER not in channel.members:
            return
        seen = self.shown(channel, message)
        self._outbox.emit(payloads.message_event(channel, seen))
        mentioned = f"<@{BOT_USER}" in message["text"] and message["user"] != BOT_USER
        if mentioned and channel.kind is not ChannelKind.IM:
            self._outbox.emit(payloads.mention_event(channel, seen))

    def edit_as_person(self, user: str, channel_id: str, ts: str, typed: str) -> Json:
        """Raises Refused: message_not_found, cant_update_message, no_text."""
        channel = self.channel_for(self.user(user).id, channel_id)
        before = self.message(channel, ts)
        if before["user"] != user:
            raise Refused("cant_update_message")
        if not typed.strip():
            raise Refused("no_text")
        sent = text.as_sent(typed, self._names())
        blocks = [text.rich_text(sent, block_id=random_id())]
        return self.rewrite(channel, {**before, "text": sent, "blocks": blocks}, editor=user)

    def rewrite(self, channel: Channel, message: Json, *, editor: str | None) -> Json:
        """Put `message` in the place of the one with its ts. `editor` marks it as edited; a stream has none."""
        before = self.message(channel, message["ts"])
        event_ts = self.state.next_ts()
        if editor:
            message = {**message, "edited": {"user": editor, "ts": f"{event_ts.split('.')[0]}.000000"}}
        with self.state.transaction():
            self.state.put_message(channel.id, message)
            if BOT_USER in channel.members:
                event = payloads.message_changed_event(
                    channel, event_ts, self.shown(channel, message), self.shown(channel, before)
                )
                self._outbox.emit(event)
        self._tell_pages("message_changed", channel, message)
        return message

    def delete(self, user: str, channel_id: str, ts: str) -> None:
        """A message with replies leaves a tombstone, as in Slack. Raises Refused: cant_delete_message, ..."""
        channel = self.channel_for(user, channel_id)
        before = self.message(channel, ts)
        if before["user"] != user:
            raise Refused("cant_delete_message")
        if self.state.rooms[channel.id].replies(ts):
            self.rewrite(channel, payloads.tombstone(ts), editor=None)
            return
        with self.state.transaction():
            self.state.drop_message(channel.id, ts)
            if BOT_USER in channel.members:
                self._outbox.emit(payloads.message_deleted_event(channel, self.state.next_ts(), before))
        self._tell_pages("message_deleted", channel, before)
        root = before.get("thread_ts")
        if root and root != ts and (first := self.state.message(channel.id, root)):
            self._tell_pages("message_changed", channel, first)

    def react(self, user: str, channel_id: str, ts: str, name: str, *, remove: bool = False) -> None:
        """Raises Refused: already_reacted, no_reaction, invalid_name, message_not_found, ..."""
        channel = self.channel_for(user, channel_id)
        message = self.message(channel, ts)
        name = name.strip(":")
        if not name:
            raise Refused("invalid_name")
        message = {**message, "reactions": _reacted(message.get("reactions", []), user, name, remove=remove)}
        if not message["reactions"]:
            del message["reactions"]
        with self.state.transaction():
            self.state.put_message(channel.id, message)
            if BOT_USER in channel.members:
                kind = "reaction_removed" if remove else "reaction_added"
                where = {"channel": channel.id, "ts": ts, "item_user": message["user"]}
                self._outbox.emit(
                    payloads.reaction_event(kind, user, name, **where, event_ts=self.state.next_ts())
                )
        change = {
            "type": "reactions",
            "channel": channel.id,
            "ts": ts,
            "reactions": message.get("reactions", []),
        }
        self._feed.publish(change, to=self.audience(channel))

    def pin(self, user: str, channel: Channel, ts: str, *, remove: bool = False) -> None:
        """Raises Refused: already_pinned, no_pin, message_not_found."""
        message = self.message(channel, ts)
        pinned = channel.id in message.get("pinned_to", [])
        if pinned is not remove:
            raise Refused("no_pin" if remove else "already_pinned")
        message = {**message, "pinned_to": [channel.id]}
        if remove:
            del message["pinned_to"]
        with self.state.transaction():
            self.state.put_message(channel.id, message)
            kind = "pin_removed" if remove else "pin_added"
            self._outbox.emit(payloads.pin_event(kind, user, channel.id, message, self.state.next_ts()))
        self._tell_pages("message_changed", channel, message)

    def join(self, user: str, channel: Channel, *, inviter: str | None) -> None:
        """Add a member and tell the app, if it is in the channel by then."""
        if user in channel.members:
            return
        joined = replace(channel, members=[*channel.members, user])
        with self.state.transaction():
            self.state.put_channel(joined)
            if BOT_USER in joined.members:
                self._outbox.emit(payloads.member_joined_event(user, joined, inviter, self.state.next_ts()))
        self.tell_of(joined)

    def leave(self, user: str, channel: Channel) -> None:
        left = replace(channel, members=[member for member in channel.members if member != user])
        self.state.put_channel(left)
        self.tell_of(left)

    def tell_of(self, channel: Channel) -> None:
        """A conversation is new, or other people are in it."""
        self._feed.publish({"type": "channel", "channel": channel.id}, to=None)

    def whisper(
        self, user: str, channel: Channel, said: str, blocks: list[Json] | None, *, thread_ts: str | None
    ) -> Json:
        """An ephemeral message of the bot to one user; it lives as long as this process."""
        stored = with_ids(blocks) if blocks else None
        ts = self.state.next_ts()
        message = payloads.bots_message(ts, said, stored, thread_ts=thread_ts, name=self._bot_name())
        message["ephemeral"] = True
        return self.replace_whisper(user, channel, message, kind="ephemeral")

    def replace_whisper(
        self, user: str, channel: Channel, message: Json, *, kind: str = "message_changed"
    ) -> Json:
        self._ephemerals.setdefault((user, channel.id), {})[message["ts"]] = message
        change = {"type": kind, "channel": channel.id, "message": seen_message(message, user)}
        self._feed.publish(change, to={user})
        return message

    def forget_whisper(self, user: str, channel: Channel, ts: str) -> None:
        message = self._ephemerals.get((user, channel.id), {}).pop(ts, None)
        if message is not None:
            change = {"type": "message_deleted", "channel": channel.id, "message": message}
            self._feed.publish(change, to={user})

    def whispers(self, user: str, channel_id: str) -> list[Json]:
        return list(self._ephemerals.get((user, channel_id), {}).values())

    def whisper_at(self, user: str, channel_id: str, ts: str) -> Json | None:
        return self._ephemerals.get((user, channel_id), {}).get(ts)

    def set_status(self, channel: Channel, thread_ts: str, status: str, loading_messages: list[str]) -> None:
        """Show that the bot is at work in a thread; an empty status ends it. It ends by itself after two minutes."""
        change = {
            "type": "status",
            "channel": channel.id,
            "thread_ts": thread_ts,
            "status": status,
            "loading_messages": loading_messages,
        }
        if held := self._statuses.pop((channel.id, thread_ts), None):
            held[0].cancel()
        if status:
            end = self._clock.later(STATUS_TTL_S, lambda: self.clear_status(channel.id, thread_ts))
            self._statuses[(channel.id, thread_ts)] = (end, change)
        self._feed.publish(change, to=self.audience(channel))

    def clear_status(self, channel_id: str, thread_ts: str | None) -> None:
        if thread_ts and (channel_id, thread_ts) in self._statuses:
            self.set_status(self.state.channels[channel_id], thread_ts, "", [])

    def statuses(self, user: str) -> list[Json]:
        seen = [change for _, change in self._statuses.values()]
        return [change for change in seen if user in self.state.channels[change["channel"]].members]

    def set_title(self, channel: Channel, thread_ts: str, title: str) -> None:
        """Name a thread of a direct message."""
        change = {"type": "title", "channel": channel.id, "thread_ts": thread_ts, "title": title}
        self._feed.publish(change, to=self.audience(channel))

    def set_prompts(
        self, channel: Channel, prompts: list[Json], *, title: str, thread_ts: str | None
    ) -> None:
        """Offer prompts in a thread, or on top of the direct message when there is no thread."""
        change = {
            "type": "prompts",
            "channel": channel.id,
            "thread_ts": thread_ts,
            "title": title,
            "prompts": prompts,
        }
        self.prompts[channel.id] = change
        self._feed.publish(change, to=self.audience(channel))

    def audience(self, channel: Channel) -> list[str] | None:
        """Who may see the channel; None is everybody."""
        return None if channel.kind is ChannelKind.PUBLIC else channel.members

    def _tell_pages(self, kind: str, channel: Channel, message: Json) -> None:
        seen = self.shown(channel, message) if kind != "message_deleted" else message
        change = {"type": kind, "channel": channel.id}
        if has_private_parts(seen.get("blocks", [])):
            self._feed.publish_for_each(
                lambda user: {**change, "message": seen_message(seen, user)}, to=self.audience(channel)
            )
        else:
            self._feed.publish({**change, "message": seen}, to=self.audience(channel))

    def reset(self) -> None:
        """Forget what is not in the state: ephemerals, statuses, prompts."""
        self._ephemerals.clear()
        self._statuses.clear()
        self.prompts.clear()

    def _bot_name(self) -> str:
        return self.state.users[BOT_USER].name

    def _names(self) -> text.Names:
        users: Mapping[str, str] = {user.name: user.id for user in self.state.users.values()}
        named = [channel for channel in self.state.channels.values() if channel.kind is not ChannelKind.IM]
        return text.Names(users, {channel.name: channel.id for channel in named})


def seen_message(message: Json, user: str) -> Json:
    """The message as this person sees it: without the buttons that are meant for others (`visible_to_user_ids`)."""
    blocks = message.get("blocks", [])
    return {**message, "blocks": seen_blocks(blocks, user)} if has_private_parts(blocks) else message


def _reacted(reactions: list[Json], user: str, name: str, *, remove: bool) -> list[Json]:
    users = {reaction["name"]: list(reaction["users"]) for reaction in reactions}
    if remove:
        if user not in users.get(name, []):
            raise Refused("no_reaction")
        users[name].remove(user)
    else:
        if user in users.get(name, []):
            raise Refused("already_reacted")
        users.setdefault(name, []).append(user)
    return [{"name": name, "users": who, "count": len(who)} for name, who in users.items() if who]
