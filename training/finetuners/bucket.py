"""A bucket of Google Cloud Storage: an object is written whole, and deleted. Its names are `gs://BUCKET/NAME`.

Uploading the same name again writes the same object, so an upload that was cut off is simply made again.
"""

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

STORAGE = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
SLOWEST = 100_000  # bytes per second that an upload is waited for
PREFIX = "gs://"


class StorageRefusal(Exception):
    """An answer that is none of success: its HTTP status, and Google's words."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Pass:
    """Google's credentials: those given, or those of the machine (Application Default Credentials)."""

    def __init__(self, credentials: "Credentials | None" = None) -> None:
        self._credentials = credentials
        self._renewing = asyncio.Lock()

    async def credentials(self) -> "Credentials":
        """For the SDK. Raises GoogleAuthError where there are none."""
        if self._credentials is None:
            self._credentials = await asyncio.to_thread(_of_this_machine)
        return self._credentials

    async def token(self) -> str:
        """One that is valid now. Raises GoogleAuthError."""
        credentials = await self.credentials()
        async with self._renewing:
            if not credentials.valid:
                await asyncio.to_thread(_renew, credentials)
        return str(credentials.token)


class Buckets:
    """Objects in the buckets that the credentials open."""

    def __init__(self, credentials: Pass, *, url: str = STORAGE, timeout_s: float = 60.0) -> None:
        self._pass = credentials
        self._url = url
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def write(self, uri: str, content: bytes) -> None:
        """The object has this content afterwards. Raises StorageRefusal, GoogleAuthError, ClientError, TimeoutError."""
        bucket, name = parts(uri)
        where = (
            f"{self._url}/upload/storage/v1/b/{quote(bucket)}/o?uploadType=media&name={quote(name, safe='')}"
        )
        await self._ask("POST", where, content)

    async def delete(self, uri: str) -> None:
        """The object is gone afterwards. Raises StorageRefusal, with status 404 where it was gone before, and as `write`."""
        bucket, name = parts(uri)
        await self._ask("DELETE", f"{self._url}/storage/v1/b/{quote(bucket)}/o/{quote(name, safe='')}")

    async def close(self) -> None:
        """Close the connections, if there are any."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, method: str, url: str, content: bytes | None = None) -> None:
        headers = {"Authorization": f"Bearer {await self._pass.token()}"}
        if content is not None:
            headers["Content-Type"] = "application/jsonl"
        if self._session is None:
            self._session = aiohttp.ClientSession()
        patience = aiohttp.ClientTimeout(total=self._timeout_s + len(content or b"") / SLOWEST)
        async with self._session.request(
            method, url, data=content, headers=headers, timeout=patience
        ) as answer:
            if answer.status >= 300:
                raise StorageRefusal(answer.status, _said(await answer.text()))


def is_no_access(error: Exception) -> bool:
    """Whether there are no credentials, or they cannot be used."""
    from google.auth.exceptions import GoogleAuthError

    return isinstance(error, GoogleAuthError)


def parts(uri: str) -> tuple[str, str]:
    """`gs://BUCKET/NAME` as bucket and name."""
    bucket, _, name = uri.removeprefix(PREFIX).partition("/")
    return bucket, name


def _said(text: str) -> str:
    try:
        told: Any = json.loads(text)
        return str(told["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return text[:300]


def _of_this_machine() -> "Credentials":
    import google.auth

    found, _project = google.auth.default(scopes=[SCOPE])
    return found


def _renew(credentials: "Credentials") -> None:
    from google.auth.transport.requests import Request

    untyped: Any = credentials
    untyped.refresh(Request())
