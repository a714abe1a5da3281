"""The command `apprentice` as a test runs it: in this process, in a folder of its own, with nothing set."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bot_process import ELSEWHERE

from bot.cli import main
from bot.settings import Settings
from storage.store import Store


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its whole stdout as one JSON document."""
        return json.loads(self.out)


@dataclass
class Terminal:
    """A folder with a data directory, in which commands are run."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def database(self) -> str:
        """Its database."""
        return f"sqlite:///{self.data / 'apprentice.sqlite'}"

    def run(self, *arguments: str) -> Ended:
        """Run `apprentice` with these arguments. What must never happen is a traceback: it fails the test."""
        self.capture.readouterr()
        code = self.code_of(*arguments)
        printed = self.capture.readouterr()
        return Ended(code, printed.out, printed.err)

    def code_of(self, *arguments: str) -> int:
        """Only the exit code, for a command that runs in a thread beside others."""
        try:
            main(arguments)
        except SystemExit as ended:
            return int(ended.code or 0)
        raise AssertionError("a command always leaves with its exit code")

    @property
    def settings_elsewhere(self) -> dict[str, object]:
        """What a .env says for who looks for the database's file, where it is none."""
        elsewhere = ELSEWHERE.url(self.database)
        return {"database_url": elsewhere} if elsewhere else {}

    def configure(self, **settings: object) -> None:
        """Write a .env."""
        lines = [f"{name.upper()}={value}" for name, value in settings.items()]
        (self.folder / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write(self, name: str, *lines: str | dict[str, object]) -> Path:
        """A file of JSON lines, or of lines as they are."""
        file = self.folder / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return file

    async def store(self) -> Store:
        """The store of this data directory."""
        return await Store.open(self.database)


def clean_environment(data: Path | None = None) -> dict[str, str]:
    """This process's environment without any of our settings, for a child process in another folder.

    With its data directory, it finds the database that its parent would open there.
    """
    root = str(Path(__file__).parent.parent)
    names = {name.upper() for name in Settings.model_fields}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in names}
    elsewhere = ELSEWHERE.url(f"sqlite:///{data / 'apprentice.sqlite'}") if data is not None else ""
    if elsewhere:
        kept["DATABASE_URL"] = elsewhere
    return {**kept, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def command(*arguments: str) -> list[str]:
    """The same command for a process of its own."""
    return [sys.executable, "-m", "bot.cli", *arguments]


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """A command sets up the log of its process; afterwards it is pytest's again."""
    import logging

    import structlog

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
        logging.captureWarnings(False)
