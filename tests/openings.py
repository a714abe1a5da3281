"""Which tests open a database: noted while they run, so that the run on PostgreSQL repeats those and no others.

A test that passed without opening one is left out there until its file changes. The notes are in pytest's own cache and made
anew by each run; where there are none, every test runs.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bot_process import ELSEWHERE

from storage.database import Database

NAME = "openings"
NOTES = "databases/none_opened"
OPENED = "opened_a_database"


class Openings:
    """Notes who opens a database, in this process or in one of its own. With xdist the controller keeps the notes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._opened = False
        self._scopes: list[str] = []
        self._file: Path | None = None
        self._whole_files: set[Path] = set()
        self._passed: set[str] = set()
        self._with: set[str] = set()
        self._without: set[str] = set()

    def begin(self) -> None:
        """Note openings from now on."""
        opened, elsewhere = Database.__init__, ELSEWHERE.url

        def noted(database: Database, url: str) -> None:
            self._note()
            opened(database, url)

        def noted_elsewhere(url: str) -> str:
            self._note()
            return elsewhere(url)

        Database.__init__ = noted  # type: ignore[method-assign, assignment]
        ELSEWHERE.url = noted_elsewhere

    def _note(self) -> None:
        self._opened = True
        if self._file is not None and any(scope != "function" for scope in self._scopes):
            self._whole_files.add(self._file)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """What a fixture of a whole file opens counts for all of its tests."""
        self._scopes.append(fixturedef.scope)
        try:
            return (yield)
        finally:
            self._scopes.pop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A new test."""
        self._opened, self._file = False, item.path

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """Tell the controller, which is another process."""
        try:
            return (yield)
        finally:
            item.user_properties.append((OPENED, self._opened or item.path in self._whole_files))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One that skipped or failed may have ended before it opened any: only those that passed are noted."""
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        opened = dict(report.user_properties).get(OPENED) if report.when == "teardown" else None
        if opened:
            self._with.add(report.nodeid)
        elif opened is False and report.nodeid in self._passed:
            self._without.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write the notes."""
        cache = getattr(self._config, "cache", None)
        if cache is None or hasattr(self._config, "workerinput"):
            return
        notes = dict(cache.get(NOTES, {}))
        for name in {_file_of(nodeid) for nodeid in self._with | self._without}:
            before = set(none_opened(self._config, name))
            new = {nodeid for nodeid in self._without if _file_of(nodeid) == name}
            notes[name] = [_digest(self._config.rootpath / name), *sorted(before - self._with | new)]
        cache.set(NOTES, notes)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """How many there were."""
        terminalreporter.write_line(
            f"{len(self._with)} tests opened a database, {len(self._without)} passed without one"
        )


def none_opened(config: pytest.Config, file: str) -> list[str]:
    """The tests of this file, as it is now, that passed without opening a database when they ran last."""
    cache = getattr(config, "cache", None)
    noted = cache.get(NOTES, {}).get(file) if cache is not None else None
    if not noted or noted[0] != _digest(config.rootpath / file):
        return []
    return list(noted[1:])


def _file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
