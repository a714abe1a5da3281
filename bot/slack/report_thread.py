"""The thread of a settled report: one reply with the details, the CSV file, and pictures where charts were refused.

Every step is written down when it is done and looked for before it is done, so that a bot that dies at any point leaves one
reply and one file. An upload is confirmed by Slack before it is visible and sometimes never becomes so: that is waited
for with a limit, and nothing else waits for it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.slack.charts import Chart, picture
from bot.slack.report_details import Compared, csv_text, details_message
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.store import Store

DUE, DETAILS, DONE = "due", "details", "done"
BETWEEN = "\n"
LOOK_BACK = 200
SHARED_WITHIN_S = 60.0
LOOK_EVERY_S = 1.0
REINSTALL = " The app needs files:write and files:read: install it again with deploy/slack-manifest.yaml."

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a report stands."""

    channel: str
    ts: str


@dataclass(frozen=True, slots=True)
class File:
    """Something to upload; `alt_text` says what a picture shows."""

    name: str
    title: str
    content: bytes
    alt_text: str = ""


class ReportThread:
    """Completes threads of reports."""

    def __init__(self, store: Store, client: AsyncWebClient) -> None:
        self._store = store
        self._client = client

    async def owed(self, key: str) -> bool:
        """Whether the thread of the report called `key` still lacks something."""
        return await self._store.keepsake(_kept(key), lambda: DUE) != DONE

    async def complete(self, key: str, place: Place, compared: Compared, pictures: Sequence[Chart]) -> None:
        """Post what is missing. Raises PublicError where Slack refuses; calling it again goes on."""
        state = await self._store.keepsake(_kept(key), lambda: DUE)
        if state == DONE:
            return
        done = state.split(BETWEEN)
        thread = await self._thread(place)
        if DETAILS not in done:
            if not any(_key_of(reply) == key for reply in thread):
                message = details_message(compared, key=key)
                await self._call("chat_postMessage", channel=place.channel, thread_ts=place.ts, **message)
            await self._note(key, done, DETAILS)
        there = {file.get("name") for reply in thread for file in reply.get("files") or ()}
        uploaded = []
        for file in await self._files(key, compared, pictures):
            if file.name not in {*done, *there}:
                uploaded.append(await self._upload(file, place))
                await self._note(key, done, file.name)
        await self._store.change_keepsake(_kept(key), DONE)
        await asyncio.gather(*(self._until_shared(file_id, place) for file_id in uploaded))

    async def _note(self, key: str, done: list[str], part: str) -> None:
        done.append(part)
        await self._store.change_keepsake(_kept(key), BETWEEN.join(done))

    async def _files(self, key: str, compared: Compared, pictures: Sequence[Chart]) -> list[File]:
        stem = compared.title.lower().replace("#", "").replace(" ", "-")
        rows = await asyncio.to_thread(csv_text, compared)
        files = [File(f"{stem}.csv", f"{compared.title}: every answer", rows.encode())]
        for number, chart in enumerate(pictures, start=1):
            try:
                content = await asyncio.to_thread(picture, chart)
            except PublicError as error:
                log.warning("no pictures of charts", report=key, error=str(error))
                break
            files.append(File(f"{stem}-{number}.png", chart.title, content, chart.description[:1000]))
        return files

    async def _thread(self, place: Place) -> list[dict[str, Any]]:
        """The replies that stand already; none where they cannot be read."""
        try:
            found = await self._client.conversations_replies(
                channel=place.channel, ts=place.ts, limit=LOOK_BACK, include_all_metadata=True
            )
        except SlackApiError as error:
            log.info("the report's thread cannot be read", error=reason_of(error))
            return []
        except UNREACHABLE as error:
            raise PublicError(f"Slack cannot be reached ({error}).") from None
        return list(found["messages"])

    async def _upload(self, file: File, place: Place) -> str:
        """The id of the uploaded file."""
        answer = await self._call(
            "files_upload_v2",
            filename=file.name,
            title=file.title,
            content=file.content,
            alt_txt=file.alt_text or None,
            channel=place.channel,
            thread_ts=place.ts,
        )
        return str(answer["files"][0]["id"])

    async def _until_shared(self, file_id: str, place: Place) -> None:
        """Wait until people can see the file, or say in the log that they cannot."""
        end = time.monotonic() + SHARED_WITHIN_S
        while time.monotonic() < end:
            try:
                told = await self._call("files_info", file=file_id)
            except PublicError as error:
                log.info("the file cannot be looked at", file=file_id, error=str(error))
                return
            shares = (told.get("file") or {}).get("shares") or {}
            if any(place.channel in held for held in shares.values()):
                return
            await asyncio.sleep(LOOK_EVERY_S)
        log.warning("an uploaded file has not appeared in the report's thread", file=file_id)

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = await getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            reason = reason_of(error)
            remedy = REINSTALL if reason == "missing_scope" else ""
            raise PublicError(f"Slack refused the report's thread ({reason}).{remedy}") from None
        except SlackRequestError as error:
            raise PublicError(f"Slack did not take a file of the report ({error}).") from None
        except UNREACHABLE as error:
            raise PublicError(f"Slack cannot be reached ({error}).") from None
        return dict(answer.data)


def _kept(key: str) -> str:
    return f"report-thread:{key}"


def _key_of(reply: dict[str, Any]) -> str:
    metadata = reply.get("metadata") or {}
    return str((metadata.get("event_payload") or {}).get("report", ""))
