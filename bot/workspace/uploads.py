"""Files: an upload URL, the bytes, the share in a channel. Small and real: what is uploaded can be downloaded.

It refuses more bytes than announced by MAX_BYTES and a file nobody asked an upload URL for.
"""

import mimetypes
import secrets
import time
from typing import Final

from bot.workspace.chat import Chat
from bot.workspace.refused import Refused
from bot.workspace.seed import APP_ID, BOT_ID, BOT_USER, TEAM_ID, Channel, ChannelKind
from bot.workspace.state import Json, State

MAX_BYTES: Final = 32 * 1024 * 1024
SHARE_KEYS: Final = {ChannelKind.PUBLIC: "channels", ChannelKind.PRIVATE: "groups", ChannelKind.IM: "ims"}


class Uploads:
    """The files of the workspace."""

    def __init__(self, state: State, chat: Chat, *, url: str) -> None:
        self._state = state
        self._chat = chat
        self._url = url
        self._expected: dict[str, Json] = {}

    def expect(self, filename: str, length: int, alt_text: str) -> Json:
        """{upload_url, file_id} for one file."""
        if length < 1 or length > MAX_BYTES:
            raise Refused("file_upload_size_restricted" if length > MAX_BYTES else "invalid_arguments")
        file_id, token = f"F{secrets.token_hex(5).upper()}", secrets.token_urlsafe(24)
        self._expected[token] = self._described(file_id, filename, length, alt_text)
        return {"upload_url": f"{self._url}/upload/v1/{token}", "file_id": file_id}

    def receive(self, token: str, content: bytes) -> Json:
        """Keep the bytes. Raises Refused: file_not_found (no such upload URL)."""
        file = self._expected.pop(token, None)
        if file is None:
            raise Refused("file_not_found")
        file["size"] = len(content)
        self._state.put_file(file, content)
        return file

    def file(self, file_id: str) -> Json:
        """Raises Refused: file_not_found."""
        if file_id not in self._state.files:
            raise Refused("file_not_found")
        return self._state.files[file_id]

    def complete(
        self, wanted: list[Json], channel: Channel | None, comment: str, thread_ts: str | None
    ) -> list[Json]:
        """Name the uploaded files and share them in one message. Raises Refused: file_not_found."""
        files = [
            {**self.file(str(one.get("id"))), "title": one.get("title") or self.file(str(one["id"]))["name"]}
            for one in wanted
        ]
        for file in files:
            self._state.put_file(file)
        if channel is not None:
            self._share(files, channel, comment, thread_ts)
        return [{"id": file["id"], "title": file["title"]} for file in files]

    def _share(self, files: list[Json], channel: Channel, comment: str, thread_ts: str | None) -> None:
        shared = [{**file, SHARE_KEYS[channel.kind]: [channel.id]} for file in files]
        message = self._chat.post_as_bot(
            channel, comment, None, thread_ts=thread_ts, subtype="file_share", files=shared
        )
        where = {"ts": message["ts"], "reply_users": [], "reply_users_count": 0, "reply_count": 0}
        where |= {"thread_ts": message["thread_ts"]} if "thread_ts" in message else {}
        area = "public" if channel.kind is ChannelKind.PUBLIC else "private"
        for file in shared:
            self._state.put_file(
                {**file, "shares": {area: {channel.id: [where]}}, "is_public": area == "public"}
            )

    def _described(self, file_id: str, filename: str, length: int, alt_text: str) -> Json:
        kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        extension = filename.rpartition(".")[2] if "." in filename else "binary"
        address = f"{self._url}/files/{file_id}/{filename}"
        now = int(time.time())
        return {
            "id": file_id,
            "created": now,
            "timestamp": now,
            "name": filename,
            "title": filename,
            "mimetype": kind,
            "filetype": extension,
            "pretty_type": extension.upper(),
            "user": BOT_USER,
            "user_team": TEAM_ID,
            "bot_id": BOT_ID,
            "app_id": APP_ID,
            "editable": False,
            "size": length,
            "mode": "hosted",
            "is_external": False,
            "external_type": "",
            "is_public": False,
            "public_url_shared": False,
            "display_as_bot": False,
            "username": "",
            "url_private": address,
            "url_private_download": f"{address}?download=1",
            "permalink": address,
            "comments_count": 0,
            "is_starred": False,
            "shares": {},
            "channels": [],
            "groups": [],
            "ims": [],
            "has_rich_preview": False,
            "file_access": "visible",
            **({"alt_txt": alt_text} if alt_text else {}),
        }
