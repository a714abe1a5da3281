"""What the page and the tests use: `/_control/...`, people acting in the workspace. JSON in, JSON out, `user` in every call.

A person can do here what Slack's client lets them do, nothing more. It refuses with Slack's error codes, and `detail`
where a code alone does not tell.
"""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

from aiohttp import web

from bot.workspace import payloads
from bot.workspace.chat import seen_message
from bot.workspace.control_events import LiveEvents
from bot.workspace.control_interactions import Interactions
from bot.workspace.control_operator import Operator
from bot.workspace.faults import Faults
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused
from bot.workspace.seed import BOT_USER, TEAM_ID, TEAM_NAME, Channel, ChannelKind, User
from bot.workspace.services import Services
from bot.workspace.state import Json
from bot.workspace.web_api import WebApi

BASE: Final = "/_control"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """The control API of one workspace."""

    def __init__(self, services: Services, web_api: WebApi, feed: Feed, faults: Faults) -> None:
        self._services = services
        self._app = services.app
        self._interactions = Interactions(services, feed)
        self._operator = Operator(services, web_api, feed, faults)
        self._live = LiveEvents(services, feed)

    def routes(self) -> list[web.RouteDef]:
        act, operator = self._interactions, self._operator
        posts: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "post": _soon(lambda body: {"ts": self._post(body)["ts"]}),
            "edit": _soon(self._edit),
            "delete": _soon(self._delete),
            "react": _soon(self._react),
            "invite": _soon(self._invite),
            "dismiss": _soon(self._dismiss),
            "command": act.command,
            "action": act.action,
            "submit": act.submit,
            "close": act.close,
            "shortcut": act.shortcut,
            "global_shortcut": act.global_shortcut,
            "suggest": act.suggest,
            "stop": _soon(self._stop),
            "context": _soon(self._context),
            "home": _soon(lambda body: act.open_tab(_user(body), "home")),
            "messages_tab": _soon(lambda body: act.open_tab(_user(body), "messages")),
            **operator.posts(),
        }
        gets: dict[str, Callable[[web.Request], Json]] = {
            "state": self._state,
            "messages": self._messages,
            "views": lambda request: {"views": self._services.views.stack(self._asker(request).id)},
            "home": lambda request: {"view": self._services.state.homes.get(self._asker(request).id)},
            "calls": lambda request: operator.calls(request.query.get("since", "0")),
            "frames": lambda request: operator.frames(request.query.get("since", "0")),
        }
        return [
            *(web.post(f"{BASE}/{name}", _posted(act_on)) for name, act_on in posts.items()),
            *(web.get(f"{BASE}/{name}", _got(answer)) for name, answer in gets.items()),
            web.post(f"{BASE}/upload", self._upload),
            web.get(f"{BASE}/events", self._live.by_stream),
            web.get(f"{BASE}/ws", self._live.by_socket),
        ]

    def _asker(self, request: web.Request) -> User:
        return self._services.chat.user(request.query.get("user", ""))

    def _state(self, request: web.Request) -> Json:
        me = self._asker(request)
        state = self._services.state
        channels = [
            one for one in state.channels.values() if me.id in one.members or one.kind is ChannelKind.PUBLIC
        ]
        return {
            "team": {"id": TEAM_ID, "name": TEAM_NAME},
            "me": {"id": me.id, "name": me.name, "real_name": me.real_name, "is_admin": me.is_admin},
            "users": [
                {
                    "id": one.id,
                    "name": one.name,
                    "real_name": one.real_name,
                    "is_bot": one.is_bot,
                    "is_admin": one.is_admin,
                }
                for one in state.users.values()
            ],
            "channels": [_shown_channel(channel, me) for channel in channels],
            "commands": [asdict(command) for command in self._app.commands],
            "shortcuts": [asdict(shortcut) for shortcut in self._app.shortcuts],
            "global_shortcuts": [asdict(shortcut) for shortcut in self._app.global_shortcuts],
            "app": {"bot_user": BOT_USER, "name": self._app.bot_name},
            "agent": {
                "description": self._app.description,
                "prompts": [asdict(prompt) for prompt in self._app.prompts],
            },
            "home_tab": self._app.home_tab,
            "scopes": list(self._app.scopes),
            "installed": self._services.outbox.installed,
            "sessions": self._services.sessions.seen_by(me.id),
            "can_stop": self._services.sessions.can_stop,
            "statuses": self._services.chat.statuses(me.id),
            "prompts": [
                prompts
                for channel, prompts in self._services.chat.prompts.items()
                if me.id in state.channels[channel].members
            ],
            "connected": self._services.outbox.count,
        }

    def _messages(self, request: web.Request) -> Json:
        me, chat = self._asker(request), self._services.chat
        channel = self._readable(me, request.query.get("channel", ""))
        whispers = chat.whispers(me.id, channel.id)
        if request.query.get("ephemerals") == "only":
            return {"messages": whispers}
        thread_ts = request.query.get("thread_ts")
        mine = [one for one in whispers if one.get("thread_ts") == thread_ts]
        said = [chat.shown(channel, message) for message in self._said(channel, thread_ts)]
        shown = [seen_message(message, me.id) for message in (*said, *mine)]
        return {"messages": sorted(shown, key=lambda message: str(message["ts"]))}

    def _said(self, channel: Channel, thread_ts: str | None) -> list[Json]:
        room = self._services.state.rooms[channel.id]
        if thread_ts:
            first = room.messages.get(thread_ts)
            return [*([first] if first else []), *room.replies(thread_ts)]
        return [
            one
            for one in room.messages.values()
            if one.get("thread_ts") in (None, one["ts"]) or _broadcast(one)
        ]

    def _readable(self, me: User, channel_id: str) -> Channel:
        channel = self._services.state.channels.get(channel_id)
        if channel is None or (channel.kind is not ChannelKind.PUBLIC and me.id not in channel.members):
            raise Refused("channel_not_found")
        return channel

    def _post(self, body: Json) -> Json:
        thread_ts = body.get("thread_ts") or None
        return self._services.chat.post_as_person(_user(body), _at(body), _text(body), thread_ts=thread_ts)

    def _edit(self, body: Json) -> Json:
        self._services.chat.edit_as_person(_user(body), _at(body), _ts(body), _text(body))
        return {}

    def _delete(self, body: Json) -> Json:
        self._services.chat.delete(_user(body), _at(body), _ts(body))
        return {}

    def _react(self, body: Json) -> Json:
        name, remove = str(body.get("name") or ""), bool(body.get("remove"))
        self._services.chat.react(_user(body), _at(body), _ts(body), name, remove=remove)
        return {}

    def _invite(self, body: Json) -> Json:
        inviter = self._services.chat.user(_user(body))
        channel = self._services.chat.channel_for(inviter.id, _at(body))
        invited = self._services.chat.user(str(body.get("invited") or ""))
        if channel.kind in (ChannelKind.IM, ChannelKind.MPIM):
            raise Refused("method_not_supported_for_channel_type")
        self._services.chat.join(invited.id, channel, inviter=inviter.id)
        return {}

    def _dismiss(self, body: Json) -> Json:
        """Take an ephemeral message off this person's screen for good."""
        user = self._services.chat.user(_user(body))
        channel = self._readable(user, _at(body))
        if self._services.chat.whisper_at(user.id, channel.id, _ts(body)) is None:
            raise Refused("message_not_found", detail="Only messages that nobody else sees can be dismissed.")
        self._services.chat.forget_whisper(user.id, channel, _ts(body))
        return {}

    def _stop(self, body: Json) -> Json:
        user = self._services.chat.user(_user(body))
        channel = self._services.chat.channel_for(user.id, _at(body))
        self._services.sessions.stop(user.id, channel, str(body.get("thread_ts") or ""))
        return {}

    def _context(self, body: Json) -> Json:
        """The person looks at a channel beside the agent; none (`channel` absent) is told as an empty context."""
        user = self._services.chat.user(_user(body))
        viewed = self._services.chat.channel_for(user.id, _at(body)).id if _at(body) else None
        agent = self._services.state.direct_message_with(user.id)
        event_ts = self._services.state.next_ts()
        event = payloads.app_context_changed_event(user.id, agent.id, viewed, event_ts)
        return {"told": self._services.outbox.emit(event)}

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        """A multipart form: user, channel?, thread_ts?, text?, and any number of files.

        Without a channel nothing is shared: the files are kept for a form's file_input, and `kept` describes them.
        """
        form = await request.post()
        files = [
            (field.filename, await asyncio.to_thread(field.file.read))
            for field in form.values()
            if isinstance(field, web.FileField)
        ]
        said = {name: str(form.get(name) or "") for name in ("user", "channel", "thread_ts", "text")}
        try:
            user = self._services.chat.user(said["user"])
            if not said["channel"]:
                kept = self._services.uploads.keep_as_person(user.id, files)
                return web.json_response({"ok": True, "files": [one["id"] for one in kept], "kept": kept})
            channel = self._services.chat.channel_for(user.id, said["channel"])
            ids = self._services.uploads.share_as_person(
                user.id, channel, said["text"], files, said["thread_ts"] or None
            )
        except Refused as refused:
            return _refusal(refused)
        return web.json_response({"ok": True, "files": ids}, headers={"Cache-Control": "no-store"})


def _shown_channel(channel: Channel, me: User) -> Json:
    shown = {
        "id": channel.id,
        "name": channel.name,
        "kind": channel.kind.value,
        "topic": channel.topic,
        "members": channel.members,
        "is_member": me.id in channel.members,
    }
    return {**shown, "with_user": BOT_USER} if channel.kind is ChannelKind.IM else shown


def _broadcast(message: Json) -> bool:
    return message.get("subtype") == "thread_broadcast"


def _user(body: Json) -> str:
    return str(body.get("user") or "")


def _at(body: Json) -> str:
    return str(body.get("channel") or "")


def _ts(body: Json) -> str:
    return str(body.get("ts") or "")


def _text(body: Json) -> str:
    return str(body.get("text") or "")


def _soon(work: Callable[[Json], Json]) -> Callable[[Json], Awaitable[Json]]:
    async def done(body: Json) -> Json:
        return work(body)

    return done


def _posted(work: Callable[[Json], Awaitable[Json]]) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body = json.loads(await request.text() or "{}")
        except ValueError:
            return _refusal(Refused("invalid_json"))
        if not isinstance(body, dict):
            return _refusal(Refused("json_not_object"))
        try:
            return web.json_response({"ok": True, **await work(body)}, headers={"Cache-Control": "no-store"})
        except Refused as refused:
            return _refusal(refused)
        except sqlite3.OperationalError as problem:
            return _refusal(
                Refused("internal_error", detail=f"The workspace file cannot be written ({problem}).")
            )

    return answer


def _got(work: Callable[[web.Request], Json]) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response({"ok": True, **work(request)}, headers={"Cache-Control": "no-store"})
        except Refused as refused:
            return _refusal(refused)
        except ValueError:
            return _refusal(Refused("invalid_arguments", detail="A number in the query is not a number."))

    return answer


def _refusal(refused: Refused) -> web.Response:
    return web.json_response(
        {"ok": False, "error": refused.code, **refused.more}, headers={"Cache-Control": "no-store"}
    )
