"""Files: an upload URL, the bytes, the share in a channel a moment later, as in Slack. What is uploaded can be downloaded.

It refuses more bytes than announced by MAX_BYTES and a file nobody asked an upload URL for.
"""

import mimetypes
import secrets
from functools import partial
from typing import Final

from bot.workspace import payloads
from bot.workspace.chat import Chat
from bot.workspace.clock import Clock
from bot.workspace.delivery import Outbox
from bot.workspace.features import Features
from bot.workspace.refused import Refused
from bot.workspace.seed import APP_ID, BOT_ID, BOT_USER, TEAM_ID, Channel, ChannelKind
from bot.workspace.state import Json, State

MAX_BYTES: Final = 32 * 1024 * 1024
NOT_IN_MESSAGES: Final = {"channels", "groups", "ims", "shares"}
SHARE_KEYS: Final = {
    ChannelKind.PUBLIC: "channels",
    ChannelKind.PRIVATE: "groups",
    ChannelKind.MPIM: "groups",
    ChannelKind.IM: "ims",
}


class Uploads:
    """The files of the workspace."""

    def __init__(
        self,
        state: State,
        chat: Chat,
        outbox: Outbox,
        clock: Clock,
        features: Features,
        *,
        url: str,
        share_delay_s: float,
    ) -> None:
        self._state = state
        self._chat = chat
        self._outbox = outbox
        self._clock = clock
        self._features = features
        self._url = url
        self._share_delay_s = share_delay_s
        self._expected: dict[str, Json] = {}
        self._processing: set[str] = set()

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
        self._processing.add(file["id"])
        return file

    def file(self, file_id: str) -> Json:
        """Raises Refused: file_not_found."""
        if file_id not in self._state.files:
            raise Refused("file_not_found")
        return self._state.files[file_id]

    def is_ready(self, named: Json) -> bool:
        """Whether a block may show this `slack_file` ({id} or {url}): it takes a moment after the upload."""
        for file in self._state.files.values():
            if named.get("id") == file["id"] or named.get("url") in (file["url_private"], file["permalink"]):
                return file["id"] not in self._processing
        return False

    def complete(
        self, wanted: list[Json], channel: Channel | None, comment: str, thread_ts: str | None
    ) -> list[Json]:
        """Name the uploaded files and share them in one message, soon after. Raises Refused: file_not_found."""
        files = [
            {**self.file(str(one.get("id"))), "title": one.get("title") or self.file(str(one["id"]))["name"]}
            for one in wanted
        ]
        for file in files:
            self._state.put_file(file)
            self._clock.later(self._share_delay_s, partial(self._processing.discard, file["id"]))
        if channel is not None and self._features.file_shares:
            self._clock.later(self._share_delay_s, lambda: self._share(files, channel.id, comment, thread_ts))
        return [{"id": file["id"], "title": file["title"]} for file in files]

    def keep_as_person(self, user: str, contents: list[tuple[str, bytes]]) -> list[Json]:
        """A person's files that no message shares, such as those of a form. Raises Refused as `share_as_person` does."""
        _check(contents)
        return [self._kept(user, name, content) for name, content in contents]

    def share_as_person(
        self,
        user: str,
        channel: Channel,
        comment: str,
        contents: list[tuple[str, bytes]],
        thread_ts: str | None,
    ) -> list[str]:
        """A person uploads (name, bytes) pairs; the message comes soon after. The ids of the files.

        Raises Refused: no_file, file_upload_size_restricted, thread_not_found.
        """
        _check(contents)
        root = self._chat.thread_root(channel, thread_ts)
        files = self.keep_as_person(user, contents)

        def share() -> None:
            here = self._state.channels[channel.id]
            shared = [{**file, SHARE_KEYS[here.kind]: [here.id]} for file in files]
            message = self._chat.share_as_person(user, here, comment, in_message(shared), thread_ts=root)
            self._remember_share(shared, here, message)

        self._clock.later(self._share_delay_s, share)
        return [file["id"] for file in files]

    def delete(self, file_id: str) -> None:
        """Raises Refused: file_not_found, cant_delete_file."""
        if self.file(file_id)["user"] != BOT_USER:
            raise Refused("cant_delete_file")
        self._state.drop_file(file_id)

    def reset(self) -> None:
        self._expected.clear()
        self._processing.clear()

    def _kept(self, user: str, name: str, content: bytes) -> Json:
        file = self._described(f"F{secrets.token_hex(5).upper()}", name.replace("/", "_"), len(content), "")
        file = {key: value for key, value in file.items() if key not in ("bot_id", "app_id")} | {"user": user}
        self._state.put_file(file, content)
        return file

    def _share(self, files: list[Json], channel_id: str, comment: str, thread_ts: str | None) -> None:
        channel = self._state.channels[channel_id]
        kept = [file for file in files if file["id"] in self._state.files]
        if not kept:
            return
        shared = [{**file, SHARE_KEYS[channel.kind]: [channel.id]} for file in kept]
        message = self._chat.post_as_bot(
            channel, comment, None, thread_ts=thread_ts, subtype="file_share", files=in_message(shared)
        )
        self._remember_share(shared, channel, message)

    def _remember_share(self, files: list[Json], channel: Channel, message: Json) -> None:
        where = {"ts": message["ts"], "reply_users": [], "reply_users_count": 0, "reply_count": 0}
        where |= {"thread_ts": message["thread_ts"]} if "thread_ts" in message else {}
        area = "public" if channel.kind is ChannelKind.PUBLIC else "private"
        for file in files:
            share = {"shares": {area: {channel.id: [where]}}, "is_public": area == "public"}
            self._state.put_file({**file, **share})
            event_ts = self._state.next_ts()
            self._outbox.emit(payloads.file_shared_event(file["id"], file["user"], channel.id, event_ts))

    def _described(self, file_id: str, filename: str, length: int, alt_text: str) -> Json:
        kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        extension = filename.rpartition(".")[2] if "." in filename else "binary"
        address = f"{self._url}/files/{file_id}/{filename}"
        now = int(self._clock.now())
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


def _check(contents: list[tuple[str, bytes]]) -> None:
    if not contents:
        raise Refused("no_file")
    if any(len(content) > MAX_BYTES for _, content in contents):
        raise Refused("file_upload_size_restricted")


def in_message(files: list[Json]) -> list[Json]:
    """The files as a message carries them: without where they are shared."""
    return [{key: value for key, value in file.items() if key not in NOT_IN_MESSAGES} for file in files]
