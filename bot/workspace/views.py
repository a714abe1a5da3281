"""Modals and home tabs: trigger ids, each person's stack of open modals, view objects in Slack's shape.

It refuses a trigger that is too old or used, a fourth modal on the stack and an update based on an outdated hash.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from bot.workspace.blocks import elements_of, view_problems, with_ids
from bot.workspace.clock import Clock
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused, refused_for
from bot.workspace.seed import APP_ID, BOT_ID, TEAM_ID
from bot.workspace.state import Json, State

MAX_STACK: Final = 3


@dataclass
class Trigger:
    """Leave to open one modal for one user, until `until` (seconds of the workspace's clock)."""

    user: str
    until: float
    used: bool = False


class Views:
    """What is open on every person's screen."""

    def __init__(self, state: State, feed: Feed, clock: Clock, *, trigger_ttl_s: float) -> None:
        self._state = state
        self._feed = feed
        self._clock = clock
        self._trigger_ttl_s = trigger_ttl_s
        self._triggers: dict[str, Trigger] = {}
        self._stacks: dict[str, list[Json]] = {}

    def trigger(self, user: str) -> str:
        """A fresh trigger_id."""
        now = self._clock.now()
        if len(self._triggers) > 10_000:
            self._triggers = {id_: held for id_, held in self._triggers.items() if held.until > now}
        trigger_id = f"{secrets.randbelow(10**12)}.{secrets.randbelow(10**10)}.{secrets.token_hex(16)}"
        self._triggers[trigger_id] = Trigger(user, now + self._trigger_ttl_s)
        return trigger_id

    def _exchange(self, trigger_id: str) -> str:
        held = self._triggers.get(trigger_id)
        if held is None:
            raise Refused("invalid_trigger_id" if trigger_id else "invalid_arguments")
        if held.used:
            raise Refused("exchanged_trigger_id")
        if held.until < self._clock.now():
            raise Refused("expired_trigger_id")
        held.used = True
        return held.user

    def stack(self, user: str) -> list[Json]:
        """The user's open modals, the visible one last."""
        return list(self._stacks.get(user, []))

    def open(self, trigger_id: str, view: Any) -> Json:
        """Raises Refused: exchanged_trigger_id, expired_trigger_id, invalid_arguments, ..."""
        self._check(view, "modal")
        user = self._exchange(trigger_id)
        opened = self._fresh(view, previous=None)
        self._stacks[user] = [opened]
        self._tell(user, "view_opened", opened)
        return opened

    def push(self, trigger_id: str, view: Any) -> Json:
        """Raises Refused: push_limit_reached, not_found (no modal is open), and what `open` raises."""
        self._check(view, "modal")
        user = self._exchange(trigger_id)
        return self.push_for(user, view)

    def push_for(self, user: str, view: Any) -> Json:
        self._check(view, "modal")
        stack = self._stacks.get(user, [])
        if not stack:
            raise Refused("not_found")
        if len(stack) >= MAX_STACK:
            raise Refused("push_limit_reached")
        pushed = self._fresh(view, previous=stack[-1])
        stack.append(pushed)
        self._tell(user, "view_opened", pushed)
        return pushed

    def update(self, view: Any, *, view_id: str | None, external_id: str | None, hash_: str | None) -> Json:
        """Raises Refused: not_found, hash_conflict, invalid_arguments."""
        user, index = self._find(view_id, external_id)
        current = self._stacks[user][index]
        if hash_ and hash_ != current["hash"]:
            raise Refused("hash_conflict")
        self._check(view, "modal")
        updated = self._fresh(view, previous=None) | {
            key: current[key] for key in ("id", "root_view_id", "previous_view_id")
        }
        updated["state"] = {"values": _still_there(current["state"]["values"], updated["blocks"])}
        self._stacks[user][index] = updated
        self._tell(user, "view_updated", updated)
        return updated

    def publish(self, user: str, view: Any, *, hash_: str | None) -> Json:
        """Raises Refused: hash_conflict, user_not_found, invalid_arguments."""
        if user not in self._state.users:
            raise Refused("user_not_found")
        current = self._state.homes.get(user)
        if hash_ and current is not None and hash_ != current["hash"]:
            raise Refused("hash_conflict")
        self._check(view, "home")
        published = self._fresh(view, previous=None)
        if current is not None:
            published |= {"id": current["id"], "root_view_id": current["id"]}
        self._state.put_home(user, published)
        self._feed.publish({"type": "home", "view": published}, to={user})
        return published

    def view_of(self, user: str, view_id: str) -> Json:
        """A view on this user's screen. Raises Refused: view_not_found."""
        held = [*self._stacks.get(user, []), *filter(None, [self._state.homes.get(user)])]
        for view in held:
            if view["id"] == view_id:
                return view
        raise Refused("view_not_found")

    def remember_state(self, user: str, view_id: str, values: Json) -> Json:
        """Keep what the person has filled in, and return the view with it."""
        view = self.view_of(user, view_id)
        view["state"] = {"values": values}
        return view

    def close(self, user: str, view_id: str) -> list[Json]:
        """Close one modal (all of them, if it clears on close); what was closed, the visible one first."""
        view = self.view_of(user, view_id)
        stack = self._stacks.get(user, [])
        gone = list(reversed(stack)) if view["clear_on_close"] else [view]
        self._stacks[user] = [kept for kept in stack if kept not in gone]
        for closed in gone:
            self._tell(user, "view_closed", closed)
        return gone

    def close_one(self, user: str, view_id: str) -> None:
        """Close a submitted modal; the one below it is visible again."""
        view = self.view_of(user, view_id)
        self._stacks[user].remove(view)
        self._tell(user, "view_closed", view)

    def clear(self, user: str) -> None:
        for view in reversed(self._stacks.pop(user, [])):
            self._tell(user, "view_closed", view)

    def reset(self) -> None:
        """Close everything without a word to the app."""
        self._stacks.clear()
        self._triggers.clear()

    def tell_errors(self, user: str, view_id: str, errors: dict[str, str]) -> None:
        self._feed.publish({"type": "view_errors", "view_id": view_id, "errors": errors}, to={user})

    def _find(self, view_id: str | None, external_id: str | None) -> tuple[str, int]:
        for user, stack in self._stacks.items():
            for index, view in enumerate(stack):
                if view["id"] == view_id or (external_id and view["external_id"] == external_id):
                    return user, index
        raise Refused("not_found")

    def _check(self, view: Any, kind: str) -> None:
        found = view_problems(view)
        if not found and view["type"] != kind:
            found = [f"must be a {kind} [json-pointer:/view/type]"]
        if found:
            raise refused_for("invalid_arguments", found)

    def _fresh(self, view: Json, *, previous: Json | None) -> Json:
        view_id = f"V{secrets.token_hex(5).upper()}"
        return {
            "id": view_id,
            "team_id": TEAM_ID,
            "type": view["type"],
            "blocks": with_ids(view["blocks"]),
            "private_metadata": view.get("private_metadata") or "",
            "callback_id": view.get("callback_id") or "",
            "state": {"values": {}},
            "hash": f"{int(time.time())}.{secrets.token_hex(4)}",
            "title": view.get("title") or {"type": "plain_text", "text": "View Title", "emoji": True},
            "clear_on_close": bool(view.get("clear_on_close")),
            "notify_on_close": bool(view.get("notify_on_close")),
            "close": view.get("close"),
            "submit": view.get("submit"),
            "previous_view_id": previous["id"] if previous else None,
            "root_view_id": previous["root_view_id"] if previous else view_id,
            "app_id": APP_ID,
            "external_id": view.get("external_id") or "",
            "app_installed_team_id": TEAM_ID,
            "bot_id": BOT_ID,
        }

    def _tell(self, user: str, kind: str, view: Json) -> None:
        self._feed.publish({"type": kind, "view": view}, to={user})


def _still_there(values: Json, blocks: list[Json]) -> Json:
    """What was filled in, for the inputs that an update left in place."""
    inputs = {
        (one.block["block_id"], one.element["action_id"], one.element["type"]) for one in elements_of(blocks)
    }
    kept: Json = {}
    for block_id, actions in values.items():
        for action_id, held in actions.items():
            if (block_id, action_id, held["type"]) in inputs:
                kept.setdefault(block_id, {})[action_id] = held
    return kept
