"""Review and the golden set at the terminal: single keys on a terminal, JSON for programs, plain words for both."""

import asyncio
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from review_rig import agreed, rated
from terminal import Terminal, clean_environment, command, logging_as_it_was

from bot.cli_review import _as_file, _from_file
from bot.settings import Settings
from storage.store import Store

TEAM = "T0LOCAL"
FIRST, SECOND, THIRD = "Where are the ladders?", "Where are the saws?", "Where are the drills?"


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder with nothing set but that the sample domain is left out."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false")
    with logging_as_it_was():
        yield here


def stocked(terminal: Terminal) -> dict[str, str]:
    """A correction, a disputed answer and a liked one, which come up in this order; their ids by question."""

    async def stock(store: Store) -> dict[str, str]:
        await agreed(store, TEAM)
        liked = await rated(store, TEAM, THIRD, "In the shed.")
        disputed = await rated(store, TEAM, SECOND, "On the wall.", votes=(1, 1, -1))
        corrected = await rated(store, TEAM, FIRST, "I do not know.", better="Behind the green door.")
        return {FIRST: corrected.id, SECOND: disputed.id, THIRD: liked.id}

    return asyncio.run(_with_store(terminal, stock))


async def _with_store(terminal: Terminal, act: Any) -> Any:
    store = await terminal.store()
    try:
        return await act(store)
    finally:
        await store.close()


def reviews(terminal: Terminal) -> dict[str, tuple[str, str]]:
    """What was decided, by the candidate's id: the state and the answer of an edit."""

    async def read(store: Store) -> dict[str, tuple[str, str]]:
        return {row.subject: (row.state, row.answer) async for page in store.reviews(TEAM) for row in page}

    found: dict[str, tuple[str, str]] = asyncio.run(_with_store(terminal, read))
    return found


def test_what_waits_is_listed_and_decided_about_by_id(terminal: Terminal) -> None:
    """For programs: the list as JSON without whose words they are, then a decision about each."""
    ids = stocked(terminal)
    listed = terminal.run("review", "--list", "--json")
    assert [(each["subject"], each["why"]) for each in listed.json] == [
        (ids[FIRST], "correction"),
        (ids[SECOND], "disputed"),
        (ids[THIRD], "liked"),
    ]
    assert "U0" not in listed.out, "nobody is named"
    assert FIRST in terminal.run("review", "--list").out
    assert terminal.run("review", "approve", ids[FIRST]).out == "Approved.\n"
    assert terminal.run("review", "reject", ids[SECOND], "--json").json == {
        "id": ids[SECOND],
        "state": "rejected",
    }
    assert reviews(terminal) == {ids[FIRST]: ("approved", ""), ids[SECOND]: ("rejected", "")}
    assert [each["subject"] for each in terminal.run("review", "--json").json] == [ids[THIRD]]


def test_wrong_use_is_said_plainly(terminal: Terminal) -> None:
    """No terminal, no such candidate, half a command, nothing to do."""
    assert "needs a terminal" in terminal.run("review").err
    gone = terminal.run("review", "approve", "a_gone")
    assert (gone.code, "There is no candidate a_gone" in gone.err) == (1, True)
    for words in (("approve",), ("maybe", "a_1")):
        assert terminal.run("review", *words).code == 2
    nothing = terminal.run("review", "--list")
    assert (nothing.code, "nothing to review" in nothing.err) == (0, True)


def test_the_golden_set_at_the_terminal(terminal: Terminal) -> None:
    """Listed, shown, approved by somebody else than who proposed it, frozen, retired."""

    async def propose(store: Store) -> list[str]:
        proposed = [("What is golden?", "U0ANN"), ("What is mine?", whoever_sits_here())]
        return [
            (await store.propose_golden(TEAM, question, "This is.", "", "", by)).id
            for question, by in proposed
        ]

    assert "golden set is empty" in terminal.run("golden").err
    assert terminal.run("golden", "freeze").code == 3
    hers, mine = asyncio.run(_with_store(terminal, propose))
    assert [each["state"] for each in terminal.run("golden", "--json").json] == ["proposed"] * 2
    refused = terminal.run("golden", "approve", mine)
    assert (refused.code, "needs two people" in refused.err) == (1, True)
    assert "Approved" in terminal.run("golden", "approve", hers).out
    assert "What is golden?" in terminal.run("golden", "show", hers).out
    frozen = terminal.run("golden", "freeze", "--json").json
    assert (frozen["rows"], frozen["difference"]["added"]) == (1, 1)
    assert (Path(frozen["path"]) / "manifest.json").exists()
    assert "1 questions" in terminal.run("golden", "freeze").out
    assert "Retired" in terminal.run("golden", "retire", hers).out
    for words in (("approve",), ("list", hers), ("polish",)):
        assert terminal.run("golden", *words).code == 2
    assert terminal.run("golden", "show", "g_gone").code == 1


def whoever_sits_here() -> str:
    from bot.cli_options import operator

    return operator()


def test_both_texts_survive_the_editor() -> None:
    """What is left in the file is what was there; a lost mark or an empty text changes nothing."""
    for question, answer in (("One line?", "One."), ("Two\nlines?", "a\n\nb\n=== c ===")):
        assert _from_file(_as_file(question, answer)) == (question, answer)
    for broken in (
        "",
        "Only words",
        _as_file("", "x"),
        _as_file("x", " "),
        _as_file("a", "b").replace("=", "-"),
    ):
        assert _from_file(broken) is None


# --- On a terminal ------------------------------------------------------------------------------------------


class Keyboard:
    """A real terminal with `apprentice review` in it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._master, side = pty.openpty()
        self.process = subprocess.Popen(
            command("review"),
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=folder,
            env={**clean_environment(folder / "data"), "TERM": "dumb", **environment},
        )
        os.close(side)
        self.seen = ""

    def reads(self, pattern: str, *, timeout_s: float = 60) -> None:
        """Wait until this stands on the screen; what came before it is forgotten."""
        end = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"{pattern!r} did not come; there was:\n{self.seen}"
            ready, _, _ = select.select([self._master], [], [], 1)
            if ready:
                with suppress(OSError):
                    self.seen += os.read(self._master, 4096).decode(errors="replace")
        self.seen = self.seen[found.end() :]

    def presses(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ends(self) -> int:
        code = self.process.wait(30)
        os.close(self._master)
        return code


def test_single_keys_decide_one_after_the_other(terminal: Terminal) -> None:
    """Approve, undo, edit in $EDITOR, skip, reject: each with one key, and the progress is shown."""
    ids = stocked(terminal)
    script = terminal.folder / "editor.py"
    script.write_text(
        "import pathlib, sys\nfile = pathlib.Path(sys.argv[1])\n"
        "file.write_text(file.read_text().replace('On the wall.', 'On the wall, left.'))\n"
    )
    at = Keyboard(terminal.folder, EDITOR=f"{sys.executable} {script}")
    at.reads(r"1 of 3 .*correction[\s\S]*green door[\s\S]*I do not know\.[\s\S]*\[q\]uit")
    at.presses("x")
    at.reads(r"\[a\]pprove .*\[q\]uit")
    at.presses("a")
    at.reads(r"Approved\.[\s\S]*2 of 3 .*disputed, \+2 -1[\s\S]*\[q\]uit")
    at.presses("u")
    at.reads(r"Taken back[\s\S]*1 of 3[\s\S]*green door[\s\S]*\[q\]uit")
    at.presses("s")
    at.reads(r"2 of 3[\s\S]*saws[\s\S]*\[q\]uit")
    at.presses("e")
    at.reads(r"Approved as you changed it\.[\s\S]*3 of 3[\s\S]*drills[\s\S]*\[q\]uit")
    at.presses("r")
    at.reads(r"Rejected\.[\s\S]*That was the last one\.")
    at.presses("u")
    at.reads(r"Taken back[\s\S]*3 of 3[\s\S]*drills[\s\S]*\[q\]uit")
    at.presses("\x03")
    at.reads(r"You have decided about 1\.")
    assert at.ends() == 0, "Ctrl-C only leaves: what was decided is kept, the rest waits"
    assert reviews(terminal) == {ids[SECOND]: ("edited", "On the wall, left.")}
