"""Which questions a file had already, and on which line: on disk as soon as there are many, so that memory stays small."""

import sqlite3
from types import TracebackType
from typing import Self

CACHE_KB = 16_384


class Known:
    """Keys with the line on which each stood first. SQLite's own nameless file, which is gone when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE known (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def line_of(self, key: bytes, line: int) -> int:
        """The line on which this stood first: this one, if it is new."""
        put = self._database.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", (key, line))
        if put.rowcount:
            return line
        found = self._database.execute("SELECT line FROM known WHERE key = ?", (key,)).fetchone()
        return int(found[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
