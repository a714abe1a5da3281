"""The terminal's commands about the guards: who is an expert, what is kept out, look and decide."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, logging_as_it_was

from bot.settings import Settings
from bot.workshop import LOCAL_TEAM
from storage.guarding import TOPIC, Finding

SEEN = Finding(TOPIC, "expenses", "U9", 40, "40 of the 40 rows about the topic come from one person.")


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false")
    with logging_as_it_was():
        yield here


def test_experts_at_the_terminal(terminal: Terminal) -> None:
    """Listed, added once, removed once; a name is no member ID."""
    assert "Nobody is an expert yet" in terminal.run("experts").out
    assert terminal.run("experts", "add", "U0BEN77").code == 0
    assert terminal.run("experts", "add", "U0BEN77").code == 3
    assert "U0BEN77" in terminal.run("experts").out
    assert json.loads(terminal.run("experts", "--json").out)[0]["person"] == "U0BEN77"
    assert terminal.run("experts", "remove", "U0BEN77").code == 0
    assert terminal.run("experts", "remove", "U0BEN77").code == 3
    for wrong in (("add", "ben"), ("add",), ("praise", "U0BEN77")):
        assert terminal.run("experts", *wrong).code == 1


def test_quarantine_at_the_terminal(terminal: Terminal) -> None:
    """Listed with what was seen, decided by the beginning of its id; a look at an empty store finds nothing."""
    assert "Nothing is odd" in terminal.run("quarantine").out
    assert "Found 0 odd things" in terminal.run("quarantine", "look").err
    asyncio.run(suspected(terminal))
    listed = terminal.run("quarantine")
    assert "A topic is fed by one person" in listed.out
    assert "kept out until decided" in listed.out
    assert SEEN.detail in listed.out
    (row,) = json.loads(terminal.run("quarantine", "--json").out)
    assert terminal.run("quarantine", "learn", row["id"][:11]).code == 0
    assert "learned from, by terminal:" in terminal.run("quarantine").out
    assert terminal.run("quarantine", "keep", row["id"][:11]).code == 0
    assert "kept out, by terminal:" in terminal.run("quarantine").out
    for wrong in (("learn", "qu_nothing"), ("learn",), ("forget",)):
        assert terminal.run("quarantine", *wrong).code == 1


async def suspected(terminal: Terminal) -> None:
    store = await terminal.store()
    await store.suspect(LOCAL_TEAM, [SEEN])
    await store.close()
