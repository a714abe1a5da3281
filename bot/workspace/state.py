"""What the local workspace remembers: people, channels, messages, files, home tabs and events the app has not acknowledged.

Everything lives in memory and is written through to one SQLite file (WAL), so that a `kill -9` of the process loses
nothing. It refuses to know about HTTP, sockets or Slack's payloads: a message is an opaque JSON object with a `ts`.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bot.errors import PublicError
from bot.workspace.clock import Clock
from bot.workspace.seed import (
    BOT_NAME,
    Channel,
    ChannelKind,
    User,
    direct_message,
    seeded_channels,
    seeded_users,
)

Json = dict[str, Any]
TABLES: Final = (
    "users",
    "channels",
    "messages",
    "undelivered",
    "homes",
    "files",
    "scheduled",
    "bookmarks",
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS channels (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    channel TEXT NOT NULL, ts TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (channel, ts)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undelivered (
    envelope_id TEXT PRIMARY KEY, body TEXT NOT NULL, attempts INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS scheduled (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bookmarks (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS homes (user TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, body TEXT NOT NULL, content BLOB);
"""


@dataclass
class Room:
    """The messages of one channel: `messages` by ts, oldest first; `threads` maps a root's ts to its replies' ts."""

    messages: dict[str, Json] = field(default_factory=dict)
    threads: dict[str, list[str]] = field(default_factory=dict)

    def put(self, message: Json) -> None:
        """Add or replace by ts. A new message must be newer than all others of the room."""
        ts, root = message["ts"], message.get("thread_ts")
        if ts not in self.messages and root and root != ts:
            self.threads.setdefault(root, []).append(ts)
        self.messages[ts] = message

    def drop(self, ts: str) -> None:
        message = self.messages.pop(ts)
        root = message.get("thread_ts")
        if root and root != ts:
            self.threads[root].remove(ts)

    def replies(self, ts: str) -> list[Json]:
        return [self.messages[reply] for reply in self.threads.get(ts, [])]


@dataclass(frozen=True)
class Undelivered:
    """An event the app has not acknowledged; `attempts` counts the times it was sent."""

    envelope_id: str
    envelope: Json
    attempts: int


class State:
    """The workspace's memory. Use one per process: the file is locked against a second workspace."""

    def __init__(
        self,
        path: Path | None,
        *,
        extra_people: int = 0,
        bot_name: str = BOT_NAME,
        app_name: str = "Apprentice",
        clock: Clock | None = None,
    ) -> None:
        self._db = _open(path)
        self._clock = clock or Clock()
        self._fresh_users = partial(seeded_users, extra_people, bot_name=bot_name, app_name=app_name)
        self._depth = 0
        self._last_ts = (0, 0)
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.rooms: dict[str, Room] = {}
        self.homes: dict[str, Json] = {}
        self.files: dict[str, Json] = {}
        self.scheduled: dict[str, Json] = {}
        self.bookmarks: dict[str, Json] = {}
        try:
            self._load()
        except (sqlite3.DatabaseError, ValueError, KeyError) as problem:
            raise _unreadable(path, problem) from problem

    def close(self) -> None:
        self._db.close()

    def reset(self) -> None:
        """Forget everything; the people and channels of a fresh workspace are there again."""
        with self.transaction():
            for table in TABLES:
                self._write(f"DELETE FROM {table}")
        self.channels.clear()
        self.rooms.clear()
        self._last_ts = (0, 0)
        self._load()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are kept or lost together; nests."""
        if self._depth == 0:
            self._db.execute("BEGIN")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0 and self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._db.execute("COMMIT")

    def next_ts(self) -> str:
        """A Slack timestamp, later than every one given or loaded before."""
        micros = int(self._clock.now() * 1_000_000)
        now = (micros // 1_000_000, micros % 1_000_000)
        if now <= self._last_ts:
            seconds, fraction = self._last_ts
            now = (seconds, fraction + 1) if fraction < 999_999 else (seconds + 1, 0)
        self._last_ts = now
        return f"{now[0]}.{now[1]:06d}"

    def message(self, channel: str, ts: str) -> Json | None:
        return self.rooms[channel].messages.get(ts)

    def put_message(self, channel: str, message: Json) -> None:
        self._write(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?)", channel, message["ts"], json.dumps(message)
        )
        self.rooms[channel].put(message)

    def drop_message(self, channel: str, ts: str) -> None:
        self._write("DELETE FROM messages WHERE channel = ? AND ts = ?", channel, ts)
        self.rooms[channel].drop(ts)

    def put_user(self, user: User) -> None:
        self.users[user.id] = user
        self._write("INSERT OR REPLACE INTO users VALUES (?, ?)", user.id, json.dumps(vars(user)))

    def put_channel(self, channel: Channel) -> None:
        self.channels[channel.id] = channel
        self.rooms.setdefault(channel.id, Room())
        self._write("INSERT OR REPLACE INTO channels VALUES (?, ?)", channel.id, json.dumps(vars(channel)))

    def direct_message_with(self, user: str) -> Channel:
        """The IM of the bot and `user`, made if there is none."""
        channel = direct_message(user, created=int(time.time()))
        if channel.id not in self.channels:
            self.put_channel(channel)
        return self.channels[channel.id]

    def put_home(self, user: str, view: Json) -> None:
        self.homes[user] = view
        self._write("INSERT OR REPLACE INTO homes VALUES (?, ?)", user, json.dumps(view))

    def put_file(self, file: Json, content: bytes | None = None) -> None:
        """Keep a file's description, and its bytes when given (earlier bytes stay otherwise)."""
        self.files[file["id"]] = file
        self._write(
            "INSERT INTO files VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body, "
            "content = coalesce(excluded.content, content)",
            *(file["id"], json.dumps(file), content),
        )

    def drop_file(self, file: str) -> None:
        self._write("DELETE FROM files WHERE id = ?", file)
        del self.files[file]

    def put_scheduled(self, message: Json) -> None:
        self.scheduled[message["id"]] = message
        self._write("INSERT OR REPLACE INTO scheduled VALUES (?, ?)", message["id"], json.dumps(message))

    def drop_scheduled(self, id_: str) -> None:
        self._write("DELETE FROM scheduled WHERE id = ?", id_)
        del self.scheduled[id_]

    def put_bookmark(self, bookmark: Json) -> None:
        self.bookmarks[bookmark["id"]] = bookmark
        self._write("INSERT OR REPLACE INTO bookmarks VALUES (?, ?)", bookmark["id"], json.dumps(bookmark))

    def drop_bookmark(self, id_: str) -> None:
        self._write("DELETE FROM bookmarks WHERE id = ?", id_)
        del self.bookmarks[id_]

    def file_content(self, file: str) -> bytes | None:
        row = self._db.execute("SELECT content FROM files WHERE id = ?", (file,)).fetchone()
        return None if row is None else row[0]

    def remember_undelivered(self, event: Undelivered) -> None:
        body = json.dumps(event.envelope)
        self._write(
            "INSERT OR REPLACE INTO undelivered VALUES (?, ?, ?, ?)",
            *(event.envelope_id, body, event.attempts, time.time()),
        )

    def count_attempt(self, envelope_id: str, attempts: int) -> None:
        self._write("UPDATE undelivered SET attempts = ? WHERE envelope_id = ?", attempts, envelope_id)

    def forget_undelivered(self, envelope_id: str) -> None:
        self._write("DELETE FROM undelivered WHERE envelope_id = ?", envelope_id)

    def undelivered(self) -> list[Undelivered]:
        """Oldest first."""
        rows = self._db.execute("SELECT envelope_id, body, attempts FROM undelivered ORDER BY created, rowid")
        return [Undelivered(envelope_id, json.loads(body), attempts) for envelope_id, body, attempts in rows]

    def _write(self, sql: str, *values: object) -> None:
        self._db.execute(sql, values)

    def _load(self) -> None:
        self.users = {body["id"]: User(**body) for body in self._bodies("users")}
        self._seed_users()
        for body in self._bodies("channels"):
            channel = Channel(**{**body, "kind": ChannelKind(body["kind"])})
            self.channels[channel.id] = channel
            self.rooms[channel.id] = Room()
        self._seed_channels()
        for channel_id, body in self._db.execute("SELECT channel, body FROM messages ORDER BY ts"):
            self._load_message(channel_id, json.loads(body))
        self.homes = {
            user: json.loads(body) for user, body in self._db.execute("SELECT user, body FROM homes")
        }
        self.files = {body["id"]: body for body in self._bodies("files")}
        self.scheduled = {body["id"]: body for body in self._bodies("scheduled")}
        self.bookmarks = {body["id"]: body for body in self._bodies("bookmarks")}

    def _load_message(self, channel: str, message: Json) -> None:
        if message.pop("streaming", None):  # a stream ends with the process that kept it
            message["streaming_state"] = "completed"
        self.rooms[channel].put(message)
        seconds, _, fraction = message["ts"].partition(".")
        self._last_ts = max(self._last_ts, (int(seconds), int(fraction)))

    def _seed_users(self) -> None:
        with self.transaction():
            for user in self._fresh_users():
                self.put_user(user)

    def _seed_channels(self) -> None:
        users = list(self.users.values())
        with self.transaction():
            for seeded in seeded_channels(users, created=int(time.time())):
                known = self.channels.get(seeded.id)
                if known is None:
                    self.put_channel(seeded)
                elif new := [member for member in seeded.members if member not in known.members]:
                    self.put_channel(replace(known, members=known.members + new))

    def _bodies(self, table: str) -> Iterable[Json]:
        return [json.loads(body) for (body,) in self._db.execute(f"SELECT body FROM {table}")]


def _open(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=1.0)
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
    except (sqlite3.Error, OSError) as problem:
        raise _unreadable(path, problem) from problem
    return db


def _unreadable(path: Path | None, problem: Exception) -> PublicError:
    if "locked" in str(problem):
        return PublicError(
            f"The workspace file {path} is in use by another program. Stop that one, or name another."
        )
    return PublicError(
        f"The workspace file {path} cannot be read ({problem}). Move it away to start with a fresh one."
    )
