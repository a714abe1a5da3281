"""Events, interactions and commands as signed HTTP requests to the app's request URL, as Slack sends without Socket Mode.

The URL is verified with a challenge first; an event that is not answered with 2xx within three seconds is sent again at
once, after a minute and after five (`X-Slack-Retry-Num`, `-Reason`), unless the app answers `X-Slack-No-Retry: 1`.
Interactions and commands are sent once. Source: facts/slack.md 1.5 and 1.7. It refuses to know what is in a payload.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from bot.workspace.clock import Clock
from bot.workspace.delivery import NotAcknowledged
from bot.workspace.frames import Frames
from bot.workspace.seed import VERIFICATION_TOKEN
from bot.workspace.state import Json, State, Undelivered

RETRY_AFTER_S: Final = (0.0, 60.0, 300.0)
VERIFY_EVERY_S: Final = 0.5
USER_AGENT: Final = "Slackbot 1.0 (+https://api.slack.com/robots)"
FORM: Final = "application/x-www-form-urlencoded"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the app's server said; `failure` is Slack's word for what went wrong, None when nothing did."""

    body: Json
    failure: str | None = None
    no_retry: bool = False


class HttpDelivery:
    """The app behind one request URL. `count` is 1 once it answered the challenge."""

    def __init__(
        self,
        state: State,
        frames: Frames,
        clock: Clock,
        *,
        url: str,
        signing_secret: str,
        ack_timeout_s: float,
        on_count: Callable[[int], None],
    ) -> None:
        self._state = state
        self._frames = frames
        self._clock = clock
        self._url = url
        self._secret = signing_secret.encode()
        self._timeout = aiohttp.ClientTimeout(total=ack_timeout_s)
        self._on_count = on_count
        self._verified = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._verifying: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        return int(self._verified.is_set())

    def resume(self) -> None:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        self._verifying = asyncio.create_task(self._verify())
        for event in self._state.undelivered():
            self._own(self._deliver(event))

    def emit(self, payload: Json) -> bool:
        if not self._verified.is_set():
            return False
        event = Undelivered(str(uuid.uuid4()), payload, 0)
        self._state.remember_undelivered(event)
        self._own(self._deliver(event))
        return True

    async def request(self, kind: str, payload: Json) -> Json:
        if not self._verified.is_set():
            raise NotAcknowledged("dispatch_failed")
        form = payload if kind == "slash_commands" else {"payload": json.dumps(payload)}
        answer = await self._post(urlencode(form), FORM, kind=kind, shown=payload)
        if answer.failure:
            raise NotAcknowledged(_as_people_see_it(answer.failure))
        return answer.body

    async def forget(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        await self.forget()
        if self._verifying is not None:
            self._verifying.cancel()
            await asyncio.gather(self._verifying, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _verify(self) -> None:
        """Ask until the app gives the challenge back."""
        said = ""
        while True:
            challenge = secrets.token_urlsafe(24)
            body = {"token": VERIFICATION_TOKEN, "challenge": challenge, "type": "url_verification"}
            answer = await self._post(
                json.dumps(body), "application/json", kind="url_verification", shown=body
            )
            if answer.failure is None and challenge in (
                answer.body.get("challenge"),
                answer.body.get("text"),
            ):
                break
            complaint = answer.failure or "it did not give the challenge back"
            if complaint not in (said, "connection_failed"):
                log.warning("The request URL %s is not verified: %s.", self._url, complaint)
                said = complaint
            await asyncio.sleep(VERIFY_EVERY_S)
        self._verified.set()
        self._on_count(self.count)

    async def _deliver(self, event: Undelivered) -> None:
        await self._verified.wait()
        reason = "http_timeout"
        for attempt in range(event.attempts, len(RETRY_AFTER_S) + 1):
            if attempt:
                await self._clock.sleep(RETRY_AFTER_S[attempt - 1])
            retry = {"X-Slack-Retry-Num": str(attempt), "X-Slack-Retry-Reason": reason} if attempt else {}
            body = json.dumps(event.envelope)
            answer = await self._post(
                body, "application/json", kind="events_api", shown=event.envelope, headers=retry
            )
            self._state.count_attempt(event.envelope_id, attempt + 1)
            if answer.failure is None or answer.no_retry:
                break
            reason = answer.failure
        else:
            log.warning("The app never acknowledged event %s; it is given up.", event.envelope["event_id"])
        self._state.forget_undelivered(event.envelope_id)

    async def _post(
        self,
        body: str,
        content_type: str,
        *,
        kind: str,
        shown: Json,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        assert self._session is not None, "resume() comes first"
        told = {**(headers or {}), "Content-Type": content_type, "User-Agent": USER_AGENT}
        told |= self._signature(body)
        retry = {"retry_attempt": int(told["X-Slack-Retry-Num"])} if "X-Slack-Retry-Num" in told else {}
        self._frames.sent(self._url, shown, transport="http", kind=kind, **retry)
        try:
            async with self._session.post(self._url, data=body.encode(), headers=told) as response:
                return self._read(response, await response.text())
        except TimeoutError:
            return self._failed("http_timeout")
        except aiohttp.ClientError:
            return self._failed("connection_failed")

    def _read(self, response: aiohttp.ClientResponse, text: str) -> Answer:
        self._frames.received(self._url, text, transport="http", kind=f"HTTP {response.status}")
        no_retry = response.headers.get("X-Slack-No-Retry") == "1"
        if not response.ok:
            return Answer({"status": response.status}, "http_error", no_retry)
        return Answer(_body(text), None, no_retry)

    def _failed(self, reason: str) -> Answer:
        self._frames.received(self._url, reason, transport="http", kind=reason)
        return Answer({}, reason)

    def _signature(self, body: str) -> dict[str, str]:
        """Signed with the machine's time, whatever the workspace's clock says: apps compare it with their own."""
        at = str(int(time.time()))
        digest = hmac.new(self._secret, f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={digest}"}

    def _own(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _body(text: str) -> Json:
    """An answer's JSON object; other text is the text of a command's answer."""
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except ValueError:
        return {"text": text}
    return body if isinstance(body, dict) else {"text": text}


def _as_people_see_it(failure: str) -> str:
    names = {"http_timeout": "operation_timeout", "connection_failed": "dispatch_failed"}
    return names.get(failure, "http_service_error")
