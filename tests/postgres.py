"""A PostgreSQL server for the tests, from whatever server programs this machine has; without any, those tests skip.

One server for the whole session, on a unix socket in a folder of its own, with nothing synced to disk. PostgreSQL refuses
to run as root, so root's tests run it as `postgres` or `nobody`.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import quote, urlsplit

import psycopg
import pytest

SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=60",
    "shared_buffers=16MB",
)


@dataclass
class PostgresServer:
    """A running server; `fresh` gives an empty database."""

    programs: Path
    home: Path
    user: str | None
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
        name = f"story_{next(self._number)}"
        with self._connected() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql://tests@/{name}?host={quote(str(self.home), safe='')}"

    def copy_of(self, url: str) -> str:
        """The URL of a new database with everything that this one holds; nobody may be connected to it."""
        return self.fresh(template=self._name(url))

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        with self._connected() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._name(url)} WITH (FORCE)")

    def _connected(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(f"host={self.home} user=tests dbname=postgres", autocommit=True)

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
