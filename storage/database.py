"""Connections: an async engine for SQLite (WAL, BEGIN IMMEDIATE for writes) or PostgreSQL (psycopg 3).

Refuses to hand sessions to anybody outside `storage`. Why IMMEDIATE: the driver's default loses updates silently and a
deferred BEGIN fails with "locked" when a read turns into a write (measured in ../shared/facts/platform.md, 1.3).
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.errors import PublicError
from storage.turns import Outcome, Together, Turns, Work

T = TypeVar("T")
CHECKPOINT_S = 1.0
"""So long after a write it lies in the database itself, and no power cut undoes it any more."""
AT_ONCE = 4  # transactions in one go, on a server
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "busy_timeout=30000",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "wal_autocheckpoint=16000",  # pages: a thread of its own empties the log each second, and nobody who writes waits for it
    "secure_delete=ON",  # what is deleted is overwritten: a forgotten person is not left in the file
)


def async_url(url: str) -> str:
    """The URL with the one driver we use for its database. Raises PublicError for a database we do not know."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise PublicError(
            "DATABASE_URL cannot be read. Write sqlite:///apprentice.sqlite or "
            "postgresql://user:password@host/database."
        ) from None
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}
    family = parsed.drivername.split("+")[0]
    family = "postgresql" if family == "postgres" else family
    if family not in drivers:
        raise PublicError(f"DATABASE_URL names {parsed.drivername}; SQLite and PostgreSQL are supported.")
    return parsed.set(drivername=drivers[family]).render_as_string(hide_password=False)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL and for a database in memory."""
    parsed = make_url(async_url(url))
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


class Database:
    """Sessions that read, and sessions that write in one transaction."""

    def __init__(self, url: str) -> None:
        self.url = async_url(url)
        self._engine = _engine(self.url)
        # A burst of readers takes every connection of a pool; whoever writes has one that they cannot take.
        self._writer = _engine(self.url) if _has_file(self.url) else self._engine
        self._write = async_sessionmaker(self._writer, class_=AsyncSession, expire_on_commit=False)
        reading = self._engine.execution_options(read_only=True)
        self._read = async_sessionmaker(reading, class_=AsyncSession, expire_on_commit=False)
        self._turns = Turns() if self._engine.dialect.name == "sqlite" else None
        self._at_once = _sync_engine(self.url)
        self._threads = ThreadPoolExecutor(1 if self._turns else AT_ONCE, thread_name_prefix="database")
        self._checkpoints = _Checkpoints(self.url) if _has_file(self.url) else None
        self._together: Together | None = None
        if self._turns is not None and self._at_once is not None:
            self._together = Together(self._turns, self._threads, self._carry_out_together)

    @property
    def engine(self) -> AsyncEngine:
        """For migrations and tests."""
        return self._engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads; it never takes the write lock."""
        async with self._read() as session:
            yield session

    @asynccontextmanager
    async def writing(self, alone: str = "", *, urgent: bool = False) -> AsyncIterator[AsyncSession]:
        """A session whose block is one transaction, committed at its end.

        A block that reads and then writes what follows from it names in `alone` what it decides about: only one such
        block runs at a time. SQLite has one writer anyway; PostgreSQL takes an advisory lock until the transaction ends.
        An `urgent` block, for which Slack waits, goes before those that wait already.
        """
        turn = self._turns.taken(urgent=urgent) if self._turns is not None else nullcontext()
        async with turn, self._write() as session, session.begin():
            if alone and self._engine.dialect.name == "postgresql":
                await (await session.connection()).execute(LOCK, {"name": alone})
            yield session
        self._written()

    @property
    def others_wait(self) -> bool:
        """Whether somebody writes just now, so that whoever writes much in small pieces lets them go on for a while."""
        return self._turns is not None and self._turns.busy

    async def at_once(self, work: Callable[[Connection], T], *, alone: str = "", urgent: bool = False) -> T:
        """Carry out a small transaction in one go, in a thread: what is written often does not go back and forth.

        `work` gets a connection for Core statements, waits for nothing else, and goes together with others that wait
        (`storage.turns`): that of another is seen or not, as between any two transactions. `alone` and `urgent` are as in
        `writing`. Who is cancelled meanwhile learns it when the transaction is over.
        """
        if self._together is not None:
            try:
                return await self._together.carry_out(work, urgent=urgent)
            finally:
                self._written()
        if self._at_once is None:
            async with self.writing(alone, urgent=urgent) as session:
                return await (await session.connection()).run_sync(work)
        going = asyncio.get_running_loop().run_in_executor(self._threads, self._carry_out, work, alone)
        try:
            return await asyncio.shield(going)
        except asyncio.CancelledError:
            await asyncio.wait([going])
            raise

    def _carry_out(self, work: Callable[[Connection], T], alone: str) -> T:
        with self._sync().begin() as connection:
            if alone:
                connection.execute(LOCK, {"name": alone})
            return work(connection)

    def _carry_out_together(self, works: Sequence[Work]) -> list[Outcome]:
        with self._sync().begin() as connection:
            if len(works) == 1:
                return [Outcome(works[0](connection))]
            return [_one_of_many(connection, work) for work in works]

    def _written(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.soon()

    def _sync(self) -> Engine:
        if self._at_once is None:
            raise RuntimeError("a database in memory has no second connection")
        return self._at_once

    async def ping(self) -> None:
        """Raises PublicError, with the remedy, where the database cannot be reached."""
        try:
            async with self.reading() as session:
                await (await session.connection()).exec_driver_sql("SELECT 1")
        except DBAPIError as error:
            where = make_url(self.url).render_as_string(hide_password=True)
            if not isinstance(error, OperationalError):
                raise PublicError(
                    f"{where} is not a usable database ({_first_line(error)}). Move the file away or restore a backup."
                ) from None
            raise PublicError(
                f"The database {where} cannot be reached ({_first_line(error)}). Start it, or check DATABASE_URL."
            ) from None

    async def empty_log(self) -> None:
        """What was written before lies in the database itself, and nothing of it in the log beside it."""
        file = sqlite_file(self.url)
        if file is not None and self._turns is not None:
            async with self._turns.taken(urgent=False):
                await asyncio.to_thread(_empty_log, file)

    async def scrub(self) -> None:
        """Write the database anew, so that nothing of what was deleted before is left in its file. Writers wait meanwhile.

        Raises OperationalError where the disk is full, or where readers keep the log from being emptied.
        """
        file = sqlite_file(self.url)
        if file is not None and self._turns is not None:
            async with self._turns.taken(urgent=False):
                await asyncio.to_thread(_rewrite, file)
        elif self._engine.dialect.name == "postgresql":
            async with self._engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.exec_driver_sql("VACUUM")

    async def close(self) -> None:
        """Close every connection."""
        if self._checkpoints is not None:
            await self._checkpoints.stop()
        await self._engine.dispose()
        if self._writer is not self._engine:
            await self._writer.dispose()
        self._threads.shutdown()
        if self._at_once is not None:
            self._at_once.dispose()


class _Checkpoints:
    """Moves what was written from SQLite's log into its file, beside those who write, and not by one who is waited for.

    A write lies in the log first and survives a kill there, but is not forced to the disk (synchronous=NORMAL): a power cut
    takes back what came after the last checkpoint. SQLite by itself makes one only after a thousand pages.
    """

    def __init__(self, url: str) -> None:
        self._file = sqlite_file(url)
        self._timer: asyncio.TimerHandle | None = None
        self._going: asyncio.Future[None] | None = None

    def soon(self) -> None:
        """Something is written just now."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CHECKPOINT_S, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if self._going is None or self._going.done():
            self._going = asyncio.get_running_loop().run_in_executor(None, _checkpoint, self._file)
        else:
            self.soon()

    async def stop(self) -> None:
        """The last connection that closes makes the last one."""
        if self._timer is not None:
            self._timer.cancel()
        if self._going is not None:
            await asyncio.wait([self._going])


def _checkpoint(file: Path | None) -> None:
    """As far as readers allow; nobody waits for it, and the next one goes on there."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{file}", timeout=0, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def in_words(error: Exception) -> str | None:
    """A sentence for people where the database could not be read or written; None for any other error."""
    if not isinstance(error, OperationalError):
        return None
    return (
        f"The database could not be used ({_first_line(error)}). Free some disk space, check its permissions, or start "
        "the server; what was not finished was not written."
    )


class _Connection(sqlite3.Connection):
    """A connection that lets go of its locks when it is closed, whoever still holds one of its cursors.

    Who is cancelled between a SELECT and its rows leaves a cursor in the frames of a traceback. SQLite keeps a connection
    that is closed before its statements are (sqlite3_close_v2: "zombie"), with its open transaction: nobody could write
    until the garbage collector came by.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *args: Any, **options: Any) -> Any:
        """As the parent's."""
        cursor = super().cursor(*args, **options)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """As the parent's, after its cursors."""
        for cursor in list(self._cursors):
            cursor.close()
        super().close()


def _one_of_many(connection: Connection, work: Work) -> Outcome:
    """Raises where all of them are undone: SQLite takes back everything where the disk is full."""
    driver: Any = connection.connection.driver_connection
    driver.execute("SAVEPOINT one")
    try:
        outcome = Outcome(work(connection))
    except Exception as error:
        if not driver.in_transaction:
            raise
        driver.execute("ROLLBACK TO one")
        outcome = Outcome(error=error)
    driver.execute("RELEASE one")
    return outcome


def _has_file(url: str) -> bool:
    return url.startswith("sqlite") and sqlite_file(url) is not None


def _engine(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return _postgres_engine(url)
    file = sqlite_file(url)
    if file is not None:
        _make_folder(file.parent)
    engine = create_async_engine(url, hide_parameters=True, connect_args={"factory": _Connection})
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _postgres_engine(url: str) -> AsyncEngine:
    logging.getLogger("psycopg").addFilter(_without_interruptions)
    try:
        return create_async_engine(url, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError:
        raise PublicError("PostgreSQL needs its driver. Install it: pip install -e '.[postgres]'.") from None


def _without_interruptions(line: logging.LogRecord) -> bool:
    """Who ends while they look something up need not be told that the looking up ended."""
    return "query cancellation interrupted" not in line.msg


def _sync_engine(url: str) -> Engine | None:
    """For transactions in one go; None for a database in memory, which only one connection sees."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=AT_ONCE, pool_pre_ping=True, hide_parameters=True)
    file = sqlite_file(url)
    if file is None:
        return None
    engine = create_engine(
        f"sqlite:///{file}", hide_parameters=True, connect_args={"check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublicError(
            f"The folder {folder} for the database cannot be made ({error.strerror}). Check DATA_DIR or DATABASE_URL."
        ) from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _rewrite(file: Path) -> None:
    with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA temp_store=FILE")  # the copy may be larger than our memory
            connection.execute("VACUUM")
        except sqlite3.OperationalError as error:
            raise OperationalError("VACUUM", None, error) from None
    _empty_log(file)


def _empty_log(file: Path) -> None:
    """Raises OperationalError where somebody reads from it for longer than ten seconds.

    While SQLite waits for a reader it keeps every writer waiting, so it waits for a moment only, again and again.
    """
    with closing(sqlite3.connect(file, timeout=0.05, isolation_level=None)) as connection:
        for _attempt in range(70):
            try:
                busy, *_pages = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                busy = True
            if not busy:
                return
            time.sleep(0.1)
    error = sqlite3.OperationalError("somebody reads from its log all the time")
    raise OperationalError("PRAGMA wal_checkpoint", None, error)


def _begin_sqlite(connection: Any) -> None:
    read_only = connection.get_execution_options().get("read_only")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
