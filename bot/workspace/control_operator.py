"""What no person in Slack can do, but a test or developer needs: trouble, time, a fresh start, what went over the wire."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bot.workspace import payloads
from bot.workspace.faults import Faults, fault_from
from bot.workspace.feed import Feed
from bot.workspace.refused import Refused
from bot.workspace.seed import User
from bot.workspace.services import Services
from bot.workspace.state import Json
from bot.workspace.web_api import WebApi


class Operator:
    """The part of the control API that acts on the workspace itself."""

    def __init__(self, services: Services, web_api: WebApi, feed: Feed, faults: Faults) -> None:
        self._services = services
        self._web_api = web_api
        self._feed = feed
        self._faults = faults

    def posts(self) -> dict[str, Callable[[Json], Awaitable[Json]]]:
        return {
            "fault": self._fault,
            "features": self._features,
            "disconnect": self._disconnect,
            "clock": self._clock,
            "reset": self._reset,
            "uninstall": self._uninstall,
            "member": self._member,
        }

    def calls(self, since: str) -> Json:
        return {"calls": self._web_api.calls(int(since or 0))}

    def frames(self, since: str) -> Json:
        return {"frames": self._services.frames.since(int(since or 0))}

    async def _member(self, body: Json) -> Json:
        """Somebody joins (a new id), has another `real_name` or `name`, or leaves (`deleted`); the app hears of it."""
        state, user_id = self._services.state, str(body.get("user") or "")
        known = state.users.get(user_id)
        if known is None and not (user_id.startswith("U") and body.get("real_name")):
            raise Refused("invalid_arguments", detail="Somebody new has an id (U...) and a real_name.")
        before = known or User(user_id, str(body.get("name") or user_id.lower()), "")
        user = replace(
            before,
            name=str(body.get("name") or before.name),
            real_name=str(body.get("real_name") or before.real_name),
            deleted=bool(body.get("deleted", before.deleted)),
        )
        state.put_user(user)
        kind = "user_change" if known is not None else "team_join"
        email = "users:read.email" in self._services.app.scopes
        event = payloads.member_event(kind, user, state.next_ts(), email=email)
        return {"told": self._services.outbox.emit(event)}

    async def _fault(self, body: Json) -> Json:
        if body.get("clear"):
            self._faults.clear()
        else:
            self._faults.add(fault_from(body))
        return {}

    async def _features(self, body: Json) -> Json:
        features = self._services.features
        features.change(body)
        return {"features": {**vars(features), "outsiders": sorted(features.outsiders)}}

    async def _disconnect(self, body: Json) -> Json:
        hub = self._services.hub
        if body.get("hard"):
            return {"count": hub.drop()}
        return {"count": await hub.disconnect(str(body.get("reason") or "refresh_requested"))}

    async def _clock(self, body: Json) -> Json:
        """Move the clock forward by `advance_s` seconds; without it only tell the time."""
        seconds = body.get("advance_s", 0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise Refused("invalid_arguments", detail="advance_s is a number of seconds, 0 or more.")
        self._services.clock.advance(seconds)
        return {"now": self._services.clock.now(), "ahead_s": self._services.clock.ahead_s}

    async def _reset(self, body: Json) -> Json:
        """As freshly seeded. The app stays connected; nothing of before is delivered or posted any more."""
        services = self._services
        await services.outbox.transport.forget()
        services.streams.close()
        services.schedule.reset()
        services.clock.reset()
        for part in (services.sessions, services.views, services.responses, services.uploads, services.chat):
            part.reset()
        services.features.reset()
        services.state.reset()
        services.frames.clear()
        self._faults.clear()
        self._web_api.reset()
        services.outbox.installed = True
        self._feed.publish({"type": "reset"}, to=None)
        return {}

    async def _uninstall(self, body: Json) -> Json:
        """The app hears app_uninstalled and tokens_revoked; its bot token is refused until a reset."""
        outbox = self._services.outbox
        outbox.emit(payloads.app_uninstalled_event())
        outbox.emit(payloads.tokens_revoked_event())
        outbox.installed = False
        self._feed.publish({"type": "uninstalled"}, to=None)
        return {}
