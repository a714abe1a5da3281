"""The workspace's control API for tests in Python: what was called and sent, trouble on order, time, a fresh start.

People are `bot.workspace.Person`; this is everything that no person can do. It raises PublicError with the workspace's
own words when that refuses.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import aiohttp

from bot.errors import PublicError
from bot.workspace.faults import Fault
from bot.workspace.people import Person, Predicate
from bot.workspace.state import Json

LOOK_AGAIN_S: Final = 0.05


class Workspace:
    """The running local workspace at `url`, in this process or another."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    def person(self, user: str) -> Person:
        """Somebody who types and clicks: U0ANN (an admin), U0BEN, U0CLEO, U0DAN."""
        return Person(self.url, user, self._session)

    async def calls(self, method: str | None = None, *, since: int = 0) -> list[Json]:
        """The Web API calls after number `since`, oldest first: {n, method, args, answer, at}."""
        calls: list[Json] = (await self._get("calls", since))["calls"]
        return [call for call in calls if method in (None, call["method"])]

    async def frames(self, *, since: int = 0) -> list[Json]:
        """What went over the wire after frame `since`: {n, at, direction, transport, connection, kind, body, ...}."""
        frames: list[Json] = (await self._get("frames", since))["frames"]
        return frames

    async def inject_fault(self, fault: Fault) -> None:
        """The next `fault.times` calls of its method fail."""
        await self._post("fault", **{key: value for key, value in asdict(fault).items() if value is not None})

    async def clear_faults(self) -> None:
        await self._post("fault", clear=True)

    async def set_features(self, **features: Any) -> Json:
        """Change what this workspace has (`bot.workspace.features`); how it is now."""
        now: Json = (await self._post("features", **features))["features"]
        return now

    async def advance(self, seconds: float) -> None:
        """Move the workspace's clock: streams, triggers, response_urls, statuses, scheduled messages, retries by HTTP."""
        await self._post("clock", advance_s=seconds)

    async def disconnect(self, reason: str = "refresh_requested", *, hard: bool = False) -> int:
        """Ask the app's connections to come again, or cut them (`hard`); how many there were."""
        answer = await self._post("disconnect", reason=reason, hard=hard)
        return int(answer["count"])

    async def uninstall(self) -> None:
        """The app is removed: it is told, and its token is refused until `reset`."""
        await self._post("uninstall")

    async def reset(self) -> None:
        """As freshly started: no messages, no faults, the machine's time."""
        await self._post("reset")

    async def wait_for_message(
        self,
        channel: str,
        predicate: Predicate,
        *,
        thread_ts: str | None = None,
        timeout_s: float = 30,
        seen_by: str = "U0ANN",
    ) -> Json:
        """As `Person.wait_for_message`, with the eyes of `seen_by`. Raises TimeoutError."""
        return await self.person(seen_by).wait_for_message(channel, predicate, thread_ts, timeout_s)

    async def wait_for_call(
        self, method: str, fits: Callable[[Json], bool] = lambda call: True, *, timeout_s: float = 30
    ) -> Json:
        """The first call of this method (made already, or still to come) that fits. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for call in await self.calls(method):
                        if fits(call):
                            return call
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            raise TimeoutError(f"The app did not call {method} as expected in {timeout_s} s.") from None

    async def _get(self, route: str, since: int) -> Json:
        async with self._session.get(f"{self.url}/_control/{route}", params={"since": since}) as response:
            return _checked(route, await response.json())

    async def _post(self, route: str, **body: Any) -> Json:
        async with self._session.post(f"{self.url}/_control/{route}", json=body) as response:
            return _checked(route, await response.json())


def _checked(route: str, answer: Json) -> Json:
    if answer.get("ok"):
        return answer
    detail = f" {answer['detail']}" if answer.get("detail") else ""
    raise PublicError(f"The workspace refused {route}: {answer.get('error')}.{detail}")
