"""The whole suite on PostgreSQL: `pytest --database postgresql`.

Wherever the product would open its SQLite file it opens a PostgreSQL database that stands for this file, a copy of one that
was migrated; processes of their own are told by DATABASE_URL. What a test made goes when it ends. Tests that run on both
databases anyway, those of SQLite alone (marker `sqlite`), and those that open no database (`tests/openings.py`) are left to
the other run.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from bot_process import ELSEWHERE
from openings import none_opened
from postgres import RUNNING, migrated_url

from storage.database import Database, sqlite_file

NAME = "on-postgres"


class OnPostgres:
    """Which database stands for which file."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._known: dict[str, str] = {}
        self._passing: list[str] = []
        self._scopes: list[str] = []

    def database(self, url: str) -> str:
        """The URL of the database that stands for a SQLite file; other URLs as they are."""
        file = sqlite_file(url) if url.startswith("sqlite") else None
        if file is None:
            return url
        name = str(file.resolve())
        if name not in self._known:
            self._known[name] = migrated_url(self._config)
            if all(scope == "function" for scope in self._scopes):
                self._passing.append(name)
        return self._known[name]

    def begin(self) -> None:
        """Stand in for SQLite from now on."""
        as_written = Database.__init__

        def opened(database: Database, url: str) -> None:
            as_written(database, self.database(url))

        Database.__init__ = opened  # type: ignore[method-assign,assignment]
        _STANDING.append(self)
        ELSEWHERE.url, ELSEWHERE.query = database_url, query

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """What a fixture of a whole file made stays."""
        self._scopes.append(fixturedef.scope)
        try:
            return (yield)
        finally:
            self._scopes.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """What a test made goes."""
        try:
            return (yield)
        finally:
            for name in self._passing:
                self._config.stash[RUNNING].give_back(self._known.pop(name))
            self._passing.clear()


def left_to_sqlite(config: pytest.Config, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Those that the run on SQLite tests already, or alone can."""
    files = {item.nodeid.partition("::")[0] for item in items}
    without = {nodeid for file in files for nodeid in none_opened(config, file)}
    return [item for item in items if item.nodeid in without or _names_its_database(item)]


def _names_its_database(item: pytest.Item) -> bool:
    if item.get_closest_marker("sqlite") or item.get_closest_marker("postgres"):
        return True
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    return any(value in ("sqlite", "postgresql") for value in values if isinstance(value, str))


_STANDING: list[OnPostgres] = []


def database_url(url: str) -> str:
    """DATABASE_URL for a process of its own that would use this SQLite file; "" where it shall."""
    return _STANDING[0].database(url) if _STANDING else ""


def query(url: str, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What a test reads or changes behind the product's back; placeholders are written as in SQLite."""
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement.replace("?", "%s").encode(), values)
        return done.fetchall() if done.description else []
