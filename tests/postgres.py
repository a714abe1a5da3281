"""A PostgreSQL server for the tests, from whatever server programs this machine has; without any, those tests skip.

One server for the whole session, on a unix socket in a folder of its own, with nothing synced to disk. PostgreSQL refuses
to run as root, so root's tests run it as `postgres` or `nobody`.
"""

import asyncio
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from storage.store import Store

SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=60",
    "shared_buffers=16MB",
)

OTHERS_OUT = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
SHAPE = """
    SELECT md5(string_agg(line, ';' ORDER BY line)), pg_database_size(current_database()) > 50000000 FROM (
        SELECT concat_ws(',', c.relname, c.relkind, a.attname, a.atttypid::regtype, a.attnotnull) AS line
        FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT tgname || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT version_num FROM alembic_version
    ) AS lines
"""
"""What must be as in a new database before one is used again; a large one is not worth it."""
WITH_ROWS = """
    SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' AND (xpath(
        '//n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I', tablename), true, false, '')
    ))[1]::text <> '0'
"""
EMPTY = """
    DO $$ DECLARE each record; found boolean; BEGIN
        SET LOCAL session_replication_role = replica;
        FOR each IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM %I)', each.tablename) INTO found;
            IF found THEN EXECUTE format('DELETE FROM %I', each.tablename); END IF;
        END LOOP;
        FOR each IN SELECT sequencename, start_value FROM pg_sequences WHERE last_value IS NOT NULL LOOP
            PERFORM setval(each.sequencename::regclass, each.start_value, false);
        END LOOP;
    END $$
"""


@dataclass
class PostgresServer:
    """A running server; `fresh` gives an empty database."""

    programs: Path
    home: Path
    user: str | None
    _template: LiteralString | None = None
    _shape: object = None
    _returned: list[LiteralString] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        self._run(
            "initdb", "--pgdata", self._data, "--username=tests", "--auth=trust", "--no-sync", "-E", "UTF8"
        )
        options = " ".join(f"-c {setting}" for setting in SETTINGS)
        where = f"-k {self.home} -c listen_addresses=''"
        log = str(self.home / "log")
        self._run(
            "pg_ctl", "--pgdata", self._data, "-w", "-t", "60", "-l", log, "-o", f"{where} {options}", "start"
        )

    def stop(self) -> None:
        """Stop it and delete its folder."""
        self._run("pg_ctl", "--pgdata", self._data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.home, ignore_errors=True)

    def fresh(self, template: LiteralString = "template1") -> str:
        """The URL of a new database, empty or with what the template holds."""
        name = self._next_name()
        with self._connected() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def copy_from_now_on(self, url: str) -> None:
        """What `another` gives holds the tables and rows of this database; nobody may be connected to it from now on."""
        self._template = self._name(url)
        with self._connected(self._template) as connection:
            self._shape = connection.execute(SHAPE).fetchone()
            rows = connection.execute(WITH_ROWS).fetchall()
        assert not rows, f"migrations wrote rows to {rows}, which one that is emptied would lack"

    @property
    def has_template(self) -> bool:
        """Whether `another` knows what to give."""
        return self._template is not None

    def another(self) -> str:
        """The URL of a database like the template: one that was given back and emptied, or a copy."""
        assert self._template is not None
        if not self._returned:
            return self.fresh(template=self._template)
        used, name = self._returned.pop(), self._next_name()
        try:
            with self._connected() as connection:
                # Whoever still knows the old name, a child that was killed too late, shall not find what follows.
                connection.execute(f"ALTER DATABASE {used} RENAME TO {name}")
        except psycopg.errors.ObjectInUse:
            self.drop(self._url(used))
            return self.fresh(template=self._template)
        return self._url(name)

    def give_back(self, url: str) -> None:
        """Empty a database and keep it for `another`: a tenth of what a copy costs. One that was altered is deleted."""
        name = self._name(url)
        with self._connected(name) as connection:
            connection.execute(OTHERS_OUT)
            like_new = connection.execute(SHAPE).fetchone() == self._shape
            if like_new:
                connection.execute(EMPTY)
        if like_new:
            self._returned.append(name)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        with self._connected() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._name(url)} WITH (FORCE)")

    def _connected(self, name: str = "postgres") -> "psycopg.Connection[Any]":
        return psycopg.connect(f"host={self.home} user=tests dbname={name}", autocommit=True)

    def _next_name(self) -> LiteralString:
        return f"story_{next(self._number)}"

    def _url(self, name: str) -> str:
        return f"postgresql://tests@/{name}?host={quote(str(self.home), safe='')}"

    def _name(self, url: str) -> LiteralString:
        name: LiteralString = urlsplit(url).path.removeprefix("/")
        return name

    @property
    def _data(self) -> str:
        return str(self.home / "data")

    def _run(self, program: str, *arguments: str) -> None:
        # A file, not a pipe: the server inherits it and would hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [str(self.programs / program), *arguments],
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                cwd=self.home,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{program} failed: {output.read().decode()}"


def server_programs() -> Path | None:
    """The folder with `initdb`, `postgres` and `pg_ctl`; the newest where there are several."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    for folder in [*on_path, *debian, Path("/usr/local/bin")]:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_ctl")):
            return folder
    return None


def server_user() -> str | None:
    """Somebody other than root to run the server as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


RUNNING = pytest.StashKey[PostgresServer]()


def postgres_url(config: pytest.Config) -> str:
    """The URL of an empty PostgreSQL database; starts the one server of this session when it is first asked for."""
    if RUNNING not in config.stash:
        config.stash[RUNNING] = _started()
        config.add_cleanup(config.stash[RUNNING].stop)
    return config.stash[RUNNING].fresh()


def migrated_url(config: pytest.Config) -> str:
    """The URL of a PostgreSQL database with our tables and no rows; to be given back to the server afterwards."""
    if RUNNING not in config.stash or not config.stash[RUNNING].has_template:
        template = postgres_url(config)
        with ThreadPoolExecutor(1) as beside:  # a loop may run in this thread
            beside.submit(asyncio.run, _migrate(template)).result()
        config.stash[RUNNING].copy_from_now_on(template)
    return config.stash[RUNNING].another()


async def _migrate(url: str) -> None:
    await (await Store.open(url)).close()


def _started() -> PostgresServer:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs (initdb, postgres, pg_ctl) on this machine")
    user = server_user()
    # Short: the path of a unix socket has at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None))
    if user is not None:
        shutil.chown(home, user)
    server = PostgresServer(programs, home, user)
    try:
        server.start()
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return server
