"""What has to be read before anything is learned from Slack, in the terminal: shown, acknowledged once, told by doctor."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, logging_as_it_was

from bot import legal
from bot.settings import Settings


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder with nothing set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    with logging_as_it_was():
        yield Terminal(tmp_path, capsys)


def test_the_note_is_shown_and_acknowledged_once(terminal: Terminal) -> None:
    """Without --yes it is only shown; who said yes first, and when, stays."""
    terminal.configure(**terminal.settings_elsewhere)
    shown = terminal.run("acknowledge")
    assert shown.code == 3
    assert "Slack's API terms" in shown.out
    assert "Add --yes" in shown.err
    read = terminal.run("acknowledge", "--yes", "--json")
    assert (read.code, read.json["read_by"].startswith("terminal:")) == (0, True)
    again = terminal.run("acknowledge", "--yes", "--json")
    assert again.json["read_at"] == read.json["read_at"]
    findings = {each["topic"]: each["words"] for each in terminal.run("doctor", "--json").json["findings"]}
    assert findings["legal basis"].startswith("read by terminal:")


@pytest.mark.parametrize(
    ("on_slack", "read", "may"), [(True, False, False), (True, True, True), (False, False, True)]
)
def test_only_real_slack_waits_for_it(terminal: Terminal, on_slack: bool, read: bool, may: bool) -> None:
    """In the local workspace it is shown and stands in nobody's way."""

    async def why() -> str:
        store = await terminal.store()
        if read:
            await legal.acknowledge(store, "T1", by="U1")
        said = await legal.why_nothing_is_frozen(store, "T1", on_slack=on_slack)
        await store.close()
        return said

    terminal.data.mkdir()
    assert (asyncio.run(why()) == "") is may
