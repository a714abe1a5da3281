"""What people do with the app: commands, buttons, modals, shortcuts, the Home tab; sent to it, and its answer shown.

It refuses what Slack's client would not send (an unknown command, a missing required input) before the app hears of it.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from bot.workspace import interactive, payloads
from bot.workspace.blocks import Interactive, elements_of, seen_blocks
from bot.workspace.delivery import NotAcknowledged
from bot.workspace.element_rules import OPTION, OPTION_GROUP
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused
from bot.workspace.responses import checked_blocks
from bot.workspace.rules import array
from bot.workspace.seed import Channel, User
from bot.workspace.services import Services
from bot.workspace.state import Json

MAX_OFFERED: Final = 100
TROUBLE: Final = "We had some trouble connecting. Try again?"


class Interactions:
    """Sends interactions to the app and does what it answers."""

    def __init__(self, services: Services, feed: Feed) -> None:
        self._services = services
        self._chat = services.chat
        self._views = services.views
        self._feed = feed
        self._commands = {command.command: command for command in services.app.commands}

    async def command(self, body: Json) -> Json:
        """A slash command; `response` is the ephemeral (or public) message of its acknowledgement, if it has one."""
        user = self._chat.user(str(body.get("user") or ""))
        channel = self._chat.channel_for(user.id, str(body.get("channel") or ""))
        name = str(body.get("command") or "")
        if name not in self._commands:
            self._notice(user, f"{name} is not a valid command.")
            raise Refused("unknown_command", detail=f"The app registered {', '.join(self._commands)}.")
        payload = payloads.slash_command(
            self._commands[name],
            str(body.get("text") or ""),
            user,
            channel,
            response_url=self._url(self._services.responses.issue(user.id, channel)),
            trigger_id=self._views.trigger(user.id),
        )
        try:
            answer = await self._services.outbox.request("slash_commands", payload)
            return self._shown_answer(user, channel, answer)
        except (NotAcknowledged, Refused) as problem:
            code = str(problem) if isinstance(problem, NotAcknowledged) else "invalid_command_response"
            self._notice(user, f"{name} failed: {code}")
            raise Refused(code) from problem

    def _shown_answer(self, user: User, channel: Channel, answer: Json) -> Json:
        if not answer.get("text") and not answer.get("blocks"):
            return {}
        message = self._services.responses.say(user.id, channel, answer, checked_blocks(answer))
        return {"response": message}

    async def action(self, body: Json) -> Json:
        """A click or choice in a message, a modal or the Home tab."""
        user = self._chat.user(str(body.get("user") or ""))
        container = body.get("container")
        kind = container.get("type") if isinstance(container, dict) else None
        if kind == "message":
            payload = self._message_action(user, body)
        elif kind == "view":
            payload = self._view_action(user, body)
        else:
            raise Refused(
                "invalid_arguments",
                detail="container is {type: message, channel, ts} or {type: view, view_id}.",
            )
        await self._send(user, payload)
        return {}

    def _message_action(self, user: User, body: Json) -> Json:
        where = body["container"]
        channel = self._chat.channel_for(user.id, str(where.get("channel") or ""))
        whispered = self._chat.whisper_at(user.id, channel.id, str(where.get("ts") or ""))
        message = whispered or self._chat.message(channel, str(where.get("ts") or ""))
        done = self._done(seen_blocks(message.get("blocks", []), user.id), body)
        thread_ts = message.get("thread_ts")
        container = {
            "type": "message",
            "message_ts": message["ts"],
            "channel_id": channel.id,
            "is_ephemeral": whispered is not None,
        }
        path = self._services.responses.issue(
            user.id, channel, original_ts=message["ts"], ephemeral=whispered is not None, thread_ts=thread_ts
        )
        payload = payloads.interaction("block_actions", user, trigger_id=self._views.trigger(user.id)) | {
            "container": {**container, **({"thread_ts": thread_ts} if thread_ts else {})},
            "channel": payloads.interaction_channel(channel),
            "state": {"values": interactive.state(message.get("blocks", []), _with(done, body))},
            "response_url": self._url(path),
            "actions": [done],
        }
        if whispered is None:
            payload["message"] = payloads.for_app(self._chat.shown(channel, message))
        return payload

    def _view_action(self, user: User, body: Json) -> Json:
        view = self._views.view_of(user.id, str(body["container"].get("view_id") or ""))
        done = self._done(view["blocks"], body)
        values = interactive.state(view["blocks"], _with(done, body, before=view["state"]["values"]))
        view = self._views.remember_state(user.id, view["id"], values)
        return payloads.interaction("block_actions", user, trigger_id=self._views.trigger(user.id)) | {
            "container": {"type": "view", "view_id": view["id"]},
            "view": view,
            "actions": [done],
        }

    def _done(self, blocks: list[Json], body: Json) -> Json:
        action_id, block_id = str(body.get("action_id") or ""), body.get("block_id") or None
        found = interactive.find(blocks, action_id, block_id=block_id, value=body.get("value"))
        return interactive.action(found, body, action_ts=f"{time.time():.6f}")

    async def submit(self, body: Json) -> Json:
        """Submit a modal; `errors` (block_id -> sentence) if the client or the app refuses it."""
        user = self._chat.user(str(body.get("user") or ""))
        view = self._views.view_of(user.id, str(body.get("view_id") or ""))
        if view["type"] != "modal" or view not in self._views.stack(user.id)[-1:]:
            raise Refused("view_not_found", detail="Only the modal on top can be submitted.")
        values = interactive.state(view["blocks"], {**view["state"]["values"], **_given(body.get("values"))})
        if errors := interactive.input_errors(view["blocks"], values):
            return self._with_errors(user, view, errors)
        view = self._views.remember_state(user.id, view["id"], values)
        payload = payloads.interaction("view_submission", user, trigger_id=self._views.trigger(user.id)) | {
            "view": view,
            "response_urls": self._response_urls(user, view),
        }
        return self._follow(user, view, await self._send(user, payload))

    def _follow(self, user: User, view: Json, answer: Json) -> Json:
        """Do what the acknowledgement of a submission asks for."""
        match answer.get("response_action"):
            case "errors":
                return self._with_errors(user, view, _errors_of(view, answer.get("errors")))
            case "update":
                self._views.update(answer.get("view"), view_id=view["id"], external_id=None, hash_=None)
            case "push":
                self._views.push_for(user.id, answer.get("view"))
            case "clear":
                self._views.clear(user.id)
            case None:
                if any(one["id"] == view["id"] for one in self._views.stack(user.id)):
                    self._views.close_one(user.id, view["id"])
            case other:
                raise Refused(
                    "invalid_response_action", detail=f"The app answered response_action {other!r}."
                )
        return {}

    def _with_errors(self, user: User, view: Json, errors: dict[str, str]) -> Json:
        self._views.tell_errors(user.id, view["id"], errors)
        return {"errors": errors}

    def _response_urls(self, user: User, view: Json) -> list[Json]:
        urls = []
        for block_id, actions in view["state"]["values"].items():
            for action_id, held in actions.items():
                chosen = held.get("selected_conversation") or held.get("selected_channel")
                element = next(
                    one.element
                    for one in elements_of(view["blocks"])
                    if one.block["block_id"] == block_id and one.element["action_id"] == action_id
                )
                if chosen in self._services.state.channels and element.get("response_url_enabled"):
                    path = self._services.responses.issue(user.id, self._services.state.channels[chosen])
                    one_url = {"block_id": block_id, "action_id": action_id, "channel_id": chosen}
                    urls.append({**one_url, "response_url": self._url(path)})
        return urls

    async def close(self, body: Json) -> Json:
        """Close a modal; the app hears of it only where it asked to (`notify_on_close`)."""
        user = self._chat.user(str(body.get("user") or ""))
        closed = self._views.close(user.id, str(body.get("view_id") or ""))
        for view in closed:
            if view["notify_on_close"]:
                payload = payloads.interaction("view_closed", user) | {
                    "view": view,
                    "is_cleared": len(closed) > 1,
                }
                try:
                    await self._services.outbox.request("interactive", payload)
                except NotAcknowledged as problem:
                    self._notice(user, f"{TROUBLE} ({problem})")
        return {}

    async def shortcut(self, body: Json) -> Json:
        """A message shortcut from a message's menu."""
        user = self._chat.user(str(body.get("user") or ""))
        channel = self._chat.channel_for(user.id, str(body.get("channel") or ""))
        message = self._chat.message(channel, str(body.get("ts") or ""))
        callback_id = str(body.get("callback_id") or "")
        _registered(callback_id, [one.callback_id for one in self._services.app.shortcuts])
        path = self._services.responses.issue(user.id, channel, thread_ts=message.get("thread_ts"))
        payload = payloads.interaction("message_action", user, trigger_id=self._views.trigger(user.id)) | {
            "action_ts": f"{time.time():.6f}",
            "callback_id": callback_id,
            "channel": payloads.interaction_channel(channel),
            "message_ts": message["ts"],
            "message": payloads.for_app(self._chat.shown(channel, message)),
            "response_url": self._url(path),
        }
        await self._send(user, payload)
        return {}

    async def global_shortcut(self, body: Json) -> Json:
        """A shortcut from the workspace's menu; it belongs to no message and no channel."""
        user = self._chat.user(str(body.get("user") or ""))
        callback_id = str(body.get("callback_id") or "")
        _registered(callback_id, [one.callback_id for one in self._services.app.global_shortcuts])
        payload = payloads.interaction("shortcut", user, trigger_id=self._views.trigger(user.id))
        payload |= {"callback_id": callback_id, "action_ts": f"{time.time():.6f}"}
        await self._send(user, {key: value for key, value in payload.items() if key != "api_app_id"})
        return {}

    async def suggest(self, body: Json) -> Json:
        """What the app offers in an external select: `options` or `option_groups`."""
        user = self._chat.user(str(body.get("user") or ""))
        value = str(body.get("value") or "")
        payload = payloads.interaction("block_suggestion", user) | {"value": value}
        if body.get("view_id"):
            view = self._views.view_of(user.id, str(body["view_id"]))
            blocks = view["blocks"]
            payload |= {"view": view, "container": {"type": "view", "view_id": view["id"]}}
        else:
            channel = self._chat.channel_for(user.id, str(body.get("channel") or ""))
            ts = str(body.get("ts") or "")
            whispered = self._chat.whisper_at(user.id, channel.id, ts)
            message = whispered or self._chat.message(channel, ts)
            blocks = message.get("blocks", [])
            payload |= {
                "container": {
                    "type": "message",
                    "message_ts": ts,
                    "channel_id": channel.id,
                    "is_ephemeral": whispered is not None,
                },
                "channel": payloads.interaction_channel(channel),
                "message": payloads.for_app(self._chat.shown(channel, message)),
            }
        found = _searched(blocks, body, value)
        payload |= {"action_id": found.element["action_id"], "block_id": found.block["block_id"]}
        return _offered(await self._send(user, payload))

    def open_tab(self, user_id: str, tab: str) -> Json:
        """The person opens the app's Home or Messages tab; the app hears `app_home_opened`."""
        user = self._chat.user(user_id)
        if tab == "home" and not self._services.app.home_tab:
            raise Refused(
                "not_enabled", detail="The app has no Home tab (features.app_home.home_tab_enabled)."
            )
        channel = self._services.state.direct_message_with(user.id)
        view = self._services.state.homes.get(user.id)
        event = payloads.app_home_opened_event(user.id, channel.id, tab, view, self._services.state.next_ts())
        self._services.outbox.emit(event)
        return {}

    async def _send(self, user: User, payload: Json) -> Json:
        """Send an interaction; the app's answer. Raises Refused, after telling the person, if it does not take it."""
        try:
            return await self._services.outbox.request("interactive", payload)
        except NotAcknowledged as problem:
            self._notice(user, f"{TROUBLE} ({problem})")
            raise Refused(str(problem)) from problem

    def _notice(self, user: User, text: str) -> None:
        self._feed.publish({"type": "notice", "text": text}, to={user.id})

    def _url(self, path: str) -> str:
        return self._services.url + path


def _registered(callback_id: str, known: list[str]) -> None:
    if callback_id not in known:
        raise Refused("shortcut_not_found", detail=f"The app registered {', '.join(known) or 'no shortcut'}.")


def _searched(blocks: list[Json], body: Json, value: str) -> Interactive:
    """The external select people type into. Raises Refused: action_not_found, invalid_arguments."""
    found = interactive.find(
        blocks, str(body.get("action_id") or ""), block_id=body.get("block_id") or None, value=None
    )
    if not found.element["type"].endswith("external_select"):
        raise Refused("invalid_arguments", detail="Only an external select asks the app for options.")
    least = int(found.element.get("min_query_length", 3))
    if len(value) < least:
        raise Refused("query_too_short", detail=f"Type at least {least} characters.")
    return found


def _offered(answer: Json) -> Json:
    """The app's options, checked as Slack checks them. Raises Refused: invalid_options."""
    key = "option_groups" if "option_groups" in answer else "options"
    rule = OPTION_GROUP if key == "option_groups" else OPTION
    offered = answer.get(key, [])
    if problems := list(array(rule, 0, MAX_OFFERED)(offered, f"/{key}")):
        raise Refused("invalid_options", detail=problems[0])
    return {key: offered}


def _with(done: Json, body: Json, *, before: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """What was filled in before, what the page knows beyond that, and this action."""
    known = body.get("state")
    values = {block: dict(actions) for block, actions in (before or {}).items()}
    for block, actions in _given(known.get("values") if isinstance(known, dict) else None).items():
        values.setdefault(block, {}).update(actions)
    if done["type"] in interactive.VALUE_KEYS:
        values.setdefault(done["block_id"], {})[done["action_id"]] = done
    return values


def _given(values: Any) -> dict[str, dict[str, Any]]:
    if values is None:
        return {}
    blocks = list(values.values()) if isinstance(values, dict) else [None]
    if not all(
        isinstance(one, dict) and all(isinstance(held, dict) for held in one.values()) for one in blocks
    ):
        raise Refused("invalid_arguments", detail="values is {block_id: {action_id: {type, value}}}.")
    return dict(values)


def _errors_of(view: Json, errors: Any) -> dict[str, str]:
    """The app's errors, if each names an input block of this view, as Slack demands."""
    inputs = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
    if not isinstance(errors, dict) or not errors or not set(errors) <= inputs:
        raise Refused(
            "invalid_errors", detail=f"The app named blocks {errors!r}; the inputs are {sorted(inputs)}."
        )
    return {block: str(sentence) for block, sentence in errors.items()}
