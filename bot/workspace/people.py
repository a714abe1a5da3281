"""A person in the local workspace, for tests and rehearsals: types, clicks, submits and waits, over the control API.

It can do what the page can, nothing more, and raises PublicError with the workspace's own words when that refuses.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bot.errors import PublicError
from bot.workspace.blocks import elements_of
from bot.workspace.interactive import VALUE_KEYS
from bot.workspace.state import Json

Predicate = Callable[[Json], bool]
FOREVER = aiohttp.ClientTimeout(total=None, sock_connect=10)


class Person:
    """One user (`U0CLEO`) of the workspace at `url`."""

    def __init__(self, url: str, user: str, session: aiohttp.ClientSession) -> None:
        self.user = user
        self._url = f"{url}/_control"
        self._session = session

    async def post(self, channel: str, text: str, thread_ts: str | None = None) -> str:
        """Send a message; its ts. `@apprentice` becomes a mention."""
        answer = await self._act("post", channel=channel, text=text, thread_ts=thread_ts)
        return str(answer["ts"])

    async def edit(self, channel: str, ts: str, text: str) -> None:
        await self._act("edit", channel=channel, ts=ts, text=text)

    async def delete(self, channel: str, ts: str) -> None:
        await self._act("delete", channel=channel, ts=ts)

    async def react(self, channel: str, ts: str, name: str, remove: bool = False) -> None:
        await self._act("react", channel=channel, ts=ts, name=name, remove=remove)

    async def command(self, channel: str, command: str, text: str = "") -> Json:
        """Run a slash command; the message its acknowledgement shows, {} if it shows none."""
        answer = await self._act("command", channel=channel, command=command, text=text)
        response: Json = answer.get("response") or {}
        return response

    async def click(
        self, channel: str, ts: str, action_id: str, value: Any = None, block_id: str | None = None
    ) -> None:
        """Use an element of a message: a button, one of two feedback buttons (`value`), an option (`value`)."""
        container = {"type": "message", "channel": channel, "ts": ts}
        await self._act("action", container=container, action_id=action_id, value=value, block_id=block_id)

    async def click_view(
        self, view_id: str, action_id: str, value: Any = None, block_id: str | None = None
    ) -> None:
        """Use an element of a modal or of the Home tab."""
        container = {"type": "view", "view_id": view_id}
        await self._act("action", container=container, action_id=action_id, value=value, block_id=block_id)

    async def shortcut(self, channel: str, ts: str, callback_id: str) -> None:
        await self._act("shortcut", channel=channel, ts=ts, callback_id=callback_id)

    async def global_shortcut(self, callback_id: str) -> None:
        """A shortcut of the workspace's own menu."""
        await self._act("global_shortcut", callback_id=callback_id)

    async def stop(self, channel: str, thread_ts: str) -> None:
        """Press Stop while the app is at work in a thread."""
        await self._act("stop", channel=channel, thread_ts=thread_ts)

    async def upload(
        self, channel: str, files: Mapping[str, bytes], text: str = "", thread_ts: str | None = None
    ) -> list[str]:
        """Send files by name; their ids. The message comes a moment later."""
        form = aiohttp.FormData({"user": self.user, "channel": channel, "text": text})
        if thread_ts:
            form.add_field("thread_ts", thread_ts)
        for name, content in files.items():
            form.add_field("file", content, filename=name)
        async with self._session.post(f"{self._url}/upload", data=form) as response:
            ids: list[str] = self._checked("upload", await response.json())["files"]
            return ids

    async def dismiss(self, channel: str, ts: str) -> None:
        """Take an ephemeral message off the screen."""
        await self._act("dismiss", channel=channel, ts=ts)

    async def suggest(
        self, action_id: str, typed: str, *, channel: str = "", ts: str = "", view_id: str = ""
    ) -> Json:
        """Type into an external select of a message or modal: {"options": [...]} or {"option_groups": [...]}."""
        where = {"view_id": view_id} if view_id else {"channel": channel, "ts": ts}
        answer = await self._act("suggest", action_id=action_id, value=typed, **where)
        return {key: answer[key] for key in ("options", "option_groups") if key in answer}

    async def look_at(self, channel: str | None) -> None:
        """Look at a channel with the agent beside it; None is nothing in particular."""
        await self._act("context", channel=channel)

    async def invite(self, channel: str, invited: str) -> None:
        await self._act("invite", channel=channel, invited=invited)

    async def submit(self, view_id: str, values: Mapping[str, Any]) -> Json:
        """Fill in a modal by action_id and submit it: {"ok": True}, or {"errors": {block_id: sentence}}.

        Text for text inputs, an option's value for menus and radio buttons, a list of values for checkboxes.
        """
        view = next((one for one in await self.views() if one["id"] == view_id), None)
        if view is None:
            raise PublicError(f"{self.user} has no open modal {view_id}.")
        answer = await self._act("submit", view_id=view_id, values=_filled_in(view, values))
        return {"errors": answer["errors"]} if answer.get("errors") else {"ok": True}

    async def close_view(self, view_id: str) -> None:
        await self._act("close", view_id=view_id)

    async def open_home(self) -> None:
        await self._act("home")

    async def open_messages_tab(self) -> None:
        await self._act("messages_tab")

    async def state(self) -> Json:
        return await self._ask("state")

    async def messages(self, channel: str, thread_ts: str | None = None) -> list[Json]:
        """Roots of the channel (or a whole thread) and this person's ephemerals, oldest first."""
        query = {"channel": channel, **({"thread_ts": thread_ts} if thread_ts else {})}
        messages: list[Json] = (await self._ask("messages", **query))["messages"]
        return messages

    async def views(self) -> list[Json]:
        """The open modals, the visible one last."""
        views: list[Json] = (await self._ask("views"))["views"]
        return views

    async def home(self) -> Json | None:
        """The Home tab, None before the app published one."""
        view: Json | None = (await self._ask("home"))["view"]
        return view

    async def wait_for_message(
        self, channel: str, predicate: Predicate, thread_ts: str | None = None, timeout_s: float = 30
    ) -> Json:
        """The first message (there already, or still to come or change) that fits. Raises TimeoutError.

        With `thread_ts` in that thread, else among the channel's roots and this person's ephemerals. A streamed answer
        is looked at while it grows: ask for `not message.get("streaming")` to get the finished one.
        """

        def of_interest(change: Json) -> Json | None:
            message: Json = change.get("message") or {}
            root = message.get("thread_ts") or message.get("ts")
            fits = root == thread_ts if thread_ts else root == message.get("ts")
            return (
                message
                if change.get("channel") == channel and fits and change["type"] != "message_deleted"
                else None
            )

        async def there() -> list[Json]:
            return await self.messages(channel, thread_ts)

        what = f"a message in {thread_ts or channel}"
        return await self._wait(there, of_interest, predicate, what, timeout_s)

    async def wait_for_ephemeral(self, channel: str, predicate: Predicate, timeout_s: float = 30) -> Json:
        """The first ephemeral message to this person in the channel, threads included, that fits. Raises TimeoutError."""

        def of_interest(change: Json) -> Json | None:
            message: Json = change.get("message") or {}
            gone = change["type"] == "message_deleted"
            return message if message.get("ephemeral") and change["channel"] == channel and not gone else None

        async def there() -> list[Json]:
            messages = (await self._ask("messages", channel=channel, ephemerals="only"))["messages"]
            return list(messages)

        return await self._wait(
            there, of_interest, predicate, f"an ephemeral message in {channel}", timeout_s
        )

    async def wait_for_view(self, predicate: Predicate | None = None, timeout_s: float = 5) -> Json:
        """The first open modal that fits. Raises TimeoutError."""

        def of_interest(change: Json) -> Json | None:
            view: Json | None = change.get("view")
            return view if change["type"] in ("view_opened", "view_updated") else None

        return await self._wait(
            self.views, of_interest, predicate or (lambda view: True), "a modal", timeout_s
        )

    async def wait_for_home(self, predicate: Predicate | None = None, timeout_s: float = 5) -> Json:
        """The Home tab, once it fits. Raises TimeoutError."""

        def of_interest(change: Json) -> Json | None:
            view: Json | None = change.get("view")
            return view if change["type"] == "home" else None

        async def there() -> list[Json]:
            view = await self.home()
            return [view] if view else []

        return await self._wait(
            there, of_interest, predicate or (lambda view: True), "the Home tab", timeout_s
        )

    async def _wait(
        self,
        there: Callable[[], Any],
        of_interest: Callable[[Json], Json | None],
        predicate: Predicate,
        what: str,
        timeout_s: float,
    ) -> Json:
        try:
            async with asyncio.timeout(timeout_s), self._changes() as changes:
                for found in await there():
                    if predicate(found):
                        return dict(found)
                async for change in changes:
                    seen = of_interest(change)
                    if seen is not None and predicate(seen):
                        return seen
        except TimeoutError:
            raise TimeoutError(f"{self.user} waited {timeout_s} s in vain for {what}.") from None
        raise PublicError("The local workspace was stopped while somebody waited for it.")

    @asynccontextmanager
    async def _changes(self) -> AsyncIterator[AsyncIterator[Json]]:
        """What happens from now on, as the page hears it."""
        params = {"user": self.user}
        async with self._session.get(f"{self._url}/events", params=params, timeout=FOREVER) as response:
            response.raise_for_status()
            yield _parsed(response.content)

    async def _act(self, route: str, **body: Any) -> Json:
        async with self._session.post(f"{self._url}/{route}", json={"user": self.user, **body}) as response:
            return self._checked(route, await response.json())

    async def _ask(self, route: str, **query: str) -> Json:
        async with self._session.get(f"{self._url}/{route}", params={"user": self.user, **query}) as response:
            return self._checked(route, await response.json())

    def _checked(self, route: str, answer: Json) -> Json:
        if answer.get("ok"):
            return answer
        detail = f" {answer['detail']}" if answer.get("detail") else ""
        raise PublicError(f"The workspace refused {self.user}'s {route}: {answer.get('error')}.{detail}")


async def _parsed(stream: aiohttp.StreamReader) -> AsyncIterator[Json]:
    data = b""
    async for chunk in stream.iter_any():
        data += chunk
        *events, data = data.split(b"\n\n")
        for event in events:
            for line in event.split(b"\n"):
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


def _filled_in(view: Json, values: Mapping[str, Any]) -> dict[str, dict[str, Json]]:
    """`values` by action_id, as the page sends them: {block_id: {action_id: {type, <key>: value}}}."""
    filled: dict[str, dict[str, Json]] = {}
    missing = set(values)
    for one in elements_of(view["blocks"]):
        action_id, kind = one.element["action_id"], one.element["type"]
        if action_id in values and kind in VALUE_KEYS:
            missing.discard(action_id)
            filled.setdefault(one.block["block_id"], {})[action_id] = {
                "type": kind,
                VALUE_KEYS[kind]: values[action_id],
            }
    if missing:
        raise PublicError(f"The modal {view['id']} has no input {', '.join(sorted(missing))}.")
    return filled
