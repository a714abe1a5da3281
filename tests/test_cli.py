"""The terminal: a person types a command, reads a plain sentence, and a program reads JSON and an exit code."""

import asyncio
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, clean_environment, command, logging_as_it_was

from bot.cli import COMMANDS
from bot.settings import Settings
from bot.workshop import Workshop
from storage.entries import NewEntry
from storage.store import Store
from storage.values import Message, Proposal

PAIRS: list[str | dict[str, object]] = [
    {"question": "Where is the key?", "answer": "Under the mat."},
    {"question": "Who has the van?", "answer": "Ann, until Friday. Write to ann@example.com."},
    {"question": "When is lunch?", "answer": "At noon.", "split": "test"},
]


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


def test_help_shows_every_command_with_an_example_and_the_exit_codes(terminal: Terminal) -> None:
    """Somebody who knows nothing finds out what there is, and a program what an exit code means."""
    top = terminal.run("--help")
    assert top.code == 0
    wanted = (
        "acknowledge ask backup datasets distil doctor eval experts export forget golden import lineage "
        "models promote quarantine rehearse report restore review rollback runs serve spending train "
        "workspace "
    )
    assert {name for name, _, _ in COMMANDS} == set(wanted.split())
    for name, _, words in COMMANDS:
        assert re.search(rf"^  {name} +{re.escape(words)}$", top.out, re.MULTILINE)
        shown = terminal.run(name, "--help")
        assert shown.code == 0
        assert re.search(rf"Examples?:\s+apprentice {name}\b", shown.out)
    assert all(re.search(rf"^ +{code} +\w", top.out, re.MULTILINE) for code in (0, 1, 2, 3, 4, 130))


def test_wrong_usage_is_2_and_says_so(terminal: Terminal) -> None:
    """A typing mistake does nothing."""
    for arguments in (
        ["sing"],
        ["runs", "--loud"],
        ["ask"],
        ["ask", "x", "--policy", "mine"],
        ["runs", "--limit", "0"],
    ):
        ended = terminal.run(*arguments)
        assert (ended.code, ended.out) == (2, "")
        assert "Usage: apprentice" in ended.err
    assert not terminal.data.exists()


def test_importing_the_command_loads_nothing_heavy() -> None:
    """`apprentice --help` must not wait for torch, Slack, an SDK or a database."""
    heavy = [
        "torch",
        "transformers",
        "slack_bolt",
        "slack_sdk",
        "openai",
        "google",
        "sqlalchemy",
        "aiohttp",
        "tantivy",
    ]
    script = f"import sys, bot.cli; print([name for name in {heavy!r} if name in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"HTTP_PORT=abc\n", "HTTP_PORT"),
        (b"what is this\n", ".env, line 1"),
        (b"\xff\xfe\xfa", "is not a text file in UTF-8"),
        (b"ANSWER_POLICY=cheap\nLOG_LEVEL=loud\n", "LOG_LEVEL"),
    ],
)
def test_a_corrupt_env_file_stops_every_command_with_a_sentence(
    terminal: Terminal, content: bytes, said: str
) -> None:
    """Nothing is started, made or changed with settings that were only half understood."""
    (terminal.folder / ".env").write_bytes(content)
    for name in ("serve", "models", "train"):
        ended = terminal.run(name)
        assert (ended.code, ended.out) == (1, "")
        assert said in ended.err
        assert "Traceback" not in ended.err
    assert not terminal.data.exists()


def test_a_named_env_file_must_be_there(terminal: Terminal) -> None:
    """Silently using defaults instead would answer with the wrong models."""
    ended = terminal.run("models", "--env-file", "production.env")
    assert ended.code == 1
    assert "There is no file production.env" in ended.err


def test_an_import_keeps_the_good_lines_and_names_the_bad_ones(terminal: Terminal) -> None:
    """Exit code 0, because something was imported; the first twenty bad lines by number, then how many more."""
    file = terminal.write("faq.jsonl", *PAIRS, *["{broken"] * 25)
    ended = terminal.run("import", str(file))
    assert ended.code == 0
    assert ended.out == f"{file}: 3 added, 0 updated, 0 known already; 25 lines were left out, see above.\n"
    named = [line for line in ended.err.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in named] == [f"line {number}" for number in range(4, 24)]
    assert "... and 5 more lines" in ended.err.splitlines()

    again = terminal.run("import", str(file), "--json")
    assert again.code == 0
    assert {name: again.json[name] for name in ("added", "updated", "unchanged")} == {
        "added": 0,
        "updated": 0,
        "unchanged": 3,
    }
    assert again.json["left_out"][0]["line"] == 4
    assert len(again.json["left_out"]) == 25


def test_an_import_of_nothing_is_an_error_and_loses_nothing(terminal: Terminal) -> None:
    """A wrong file leaves what was imported before."""
    terminal.run("import", str(terminal.write("faq.jsonl", *PAIRS)))
    for file in (terminal.write("bad.jsonl", "{broken"), terminal.folder / "absent.jsonl"):
        ended = terminal.run("import", str(file))
        assert (ended.code, ended.out) == (1, "")
        assert str(file) in ended.err
    assert "2 examples" not in terminal.run("export", "-").err
    assert len(terminal.run("export", "-").out.splitlines()) == 3


async def test_a_running_bot_takes_an_import_over(store: Store, tmp_path: Path) -> None:
    """Another process imports; memory knows it at the next tick, and is not read anew while nothing changes."""

    async def unreported(_row: object) -> None:
        return

    def entry(question: str, answer: str) -> NewEntry:
        return NewEntry(question, answer, "a file", author="U0BEN")

    settings = Settings.read(None, data_dir=tmp_path, sample_domain=False)
    shop = await Workshop.open(
        settings, store, team="T1", report_run=unreported, report_evaluation=unreported
    )
    other = await Store.open(str(store.database.engine.url))
    try:
        for answer in ("Under the mat.", "In the drawer."):
            await other.add_entries("T1", [entry("Where is the key?", answer)])
            await shop.remember()
            assert [match.entry.answer for match in await shop.memory.nearest("where is the key")] == [answer]
        before = await store.entries_stamp("T1")
        await other.add_entries("T1", [entry("Where is the key?", "In the drawer.")])
        await other.add_entries("T2", [entry("Where is the key?", "Elsewhere.")])
        assert await store.entries_stamp("T1") == before
        await other.forget("T1", "U0BEN")
        await shop.remember()
        assert len(shop.memory) == 0
    finally:
        await other.close()
        await shop.close()


def test_a_big_import_shows_how_far_it_is(terminal: Terminal) -> None:
    """Long work says what it does, how far it is and how long it has taken."""
    lines: list[str | dict[str, object]] = [
        {"question": f"Number {n}?", "answer": str(n)} for n in range(4_500)
    ]
    ended = terminal.run("import", str(terminal.write("big.jsonl", *lines)))
    assert ended.out.endswith("4,500 added, 0 updated, 0 known already.\n")
    assert re.search(r"Importing: 2,000 of 4,500 \(\d+ s\)", ended.err)


def test_a_question_is_answered_without_slack(terminal: Terminal) -> None:
    """The answer on stdout, who gave it on stderr; a program gets one JSON document."""
    terminal.run("import", str(terminal.write("faq.jsonl", *PAIRS)), "--source", "the house rules")
    ended = terminal.run("ask", "where is the key")
    assert (ended.code, ended.out) == (0, "Under the mat.\n")
    assert "memory" in ended.err
    assert "verified answer, from the house rules" in ended.err
    told = terminal.run("ask", "Where is the key?", "--json", "--policy", "local-only").json
    assert (told["answer"], told["kind"], told["source"]) == ("Under the mat.", "memory", "the house rules")

    async def owed() -> tuple[int, int]:
        store = await terminal.store()
        tally = await store.tally("T0LOCAL")
        await store.close()
        return tally.questions, tally.waiting

    assert asyncio.run(owed()) == (2, 0), "a running bot must find nothing to answer in Slack"


@pytest.mark.parametrize(
    ("question", "said"), [("  ", "Write your question"), ("x" * 100_000, "100,000 characters")]
)
def test_an_empty_or_endless_question_is_refused_kindly(terminal: Terminal, question: str, said: str) -> None:
    """With the limit and the remedy."""
    ended = terminal.run("ask", question)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err


def test_with_nobody_to_answer_the_question_is_given_up_with_a_sentence(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that is down and no local model: exit code 1, the remedy, and nothing left owed."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        terminal.configure(
            sample_domain="false", openai_api_key="sk-nobody-there-0123", openai_base_url=base_url
        )
        monkeypatch.setattr("bot.lineup.has_local_extra", lambda: False)
        ended = terminal.run("ask", "Is anybody there?", "--policy", "api-first")
    assert (ended.code, ended.out) == (1, "")
    assert "No model could answer just now" in ended.err
    assert "sk-nobody" not in ended.err


def test_examples_are_exported_as_training_reads_them(terminal: Terminal) -> None:
    """JSON lines with messages and origin; addresses are struck out; a file that is there is left alone."""
    terminal.run("import", str(terminal.write("faq.jsonl", *PAIRS)))
    ended = terminal.run("export", "out", "--json")
    file = terminal.folder / "out" / "examples.jsonl"
    assert ended.code == 0
    assert ended.json["examples"] == 3
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    van = next(row for row in rows if row["messages"][0]["content"] == "Who has the van?")
    assert [turn["role"] for turn in van["messages"]] == ["user", "assistant"]
    assert "ann@example.com" not in van["messages"][1]["content"]
    assert van["origin"] == "entry"
    before = file.read_bytes()
    again = terminal.run("export", str(file))
    assert again.code == 1
    assert "is there already" in again.err
    assert file.read_bytes() == before


async def _ask_as_a_person(database: str) -> None:
    """Ben asked something, was answered and liked it."""
    store = await Store.open(database)
    asked = await store.ask(
        team="T0LOCAL", channel="C1", ts="1.0", thread_ts="1.0", asker="U0BEN", text="Hello there?"
    )
    hello = [Proposal("Hello.", "local", "starter")]
    answered = await store.answer(asked.question, hello, messages=[Message("user", "Hello there?")])
    answer = answered.answer
    await store.posted(answer.id, "1.1")
    await store.rate(answer.id, team="T0LOCAL", rater="U0BEN", value=1)
    await store.close()


def test_a_person_is_shown_everything_and_forgotten_only_when_it_is_meant(terminal: Terminal) -> None:
    """Without a terminal to ask, forgetting needs --yes; afterwards nothing is held."""
    asyncio.run(_ask_as_a_person(terminal.database))
    shown = terminal.run("export", "-", "--person", "<@U0BEN>")
    assert shown.code == 0
    assert shown.json["questions"][0]["text"] == "Hello there?"
    assert len(shown.json["ratings"]) == 1

    refused = terminal.run("forget", "U0BEN")
    assert refused.code == 1
    assert "Add --yes" in refused.err
    assert terminal.run("export", "-", "--person", "U0BEN").out == shown.out

    forgotten = terminal.run("forget", "U0BEN", "--yes", "--json")
    assert (forgotten.code, forgotten.json["deleted"]) == (
        0,
        {"presses": 1, "ratings": 1, "questions": 1, "answers": 1},
    )
    for arguments in (["forget", "U0BEN", "--yes"], ["export", "x.json", "--person", "U0BEN"]):
        nothing = terminal.run(*arguments)
        assert (nothing.code, nothing.out) == (3, "")
        assert "Nothing is held of U0BEN" in nothing.err
    assert not (terminal.folder / "x.json").exists()


def limited_files(size: int) -> None:
    """For a child process: no file may become larger, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.sqlite("its file cannot grow")
def test_a_full_disk_is_said_and_nothing_is_lost(terminal: Terminal) -> None:
    """An export leaves no half file, an import leaves what was there, and both say what to do."""
    lines: list[str | dict[str, object]] = [
        {"question": f"Number {n}?", "answer": f"{n} " + "x" * 1_000} for n in range(1_500)
    ]
    terminal.run("import", str(terminal.write("faq.jsonl", *PAIRS, *lines[:100])))
    more = terminal.write("more.jsonl", *lines)
    for arguments in (["export", "out.jsonl"], ["import", str(more)]):
        ended = subprocess.run(
            command(*arguments),
            cwd=terminal.folder,
            env=clean_environment(terminal.data),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: limited_files(60_000 if "export" in arguments else 1_000_000),  # noqa: B023
        )
        assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
        assert "Free some" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not list(terminal.folder.glob("*out.jsonl*"))
    assert len(terminal.run("export", "-").out.splitlines()) == 103


@pytest.mark.sqlite("a file that is none")
def test_a_file_that_is_no_database_is_said_and_left_alone(terminal: Terminal) -> None:
    """It may be somebody's only copy of something."""
    terminal.data.mkdir()
    file = terminal.data / "apprentice.sqlite"
    file.write_bytes(b"this is a letter to my mother\n" * 200)
    before = file.read_bytes()
    ended = terminal.run("models")
    assert (ended.code, ended.out) == (1, "")
    assert "is not a usable database" in ended.err
    assert file.read_bytes() == before


def _start(terminal: Terminal) -> tuple["subprocess.Popen[str]", str]:
    """A bot in a process of its own, and its address."""
    bot = subprocess.Popen(
        command("serve"),
        cwd=terminal.folder,
        env=clean_environment(terminal.data),
        stdout=subprocess.PIPE,
        stderr=(terminal.folder / "serve.log").open("w"),
        text=True,
    )
    assert bot.stdout is not None
    watchdog = threading.Timer(60, bot.kill)
    watchdog.start()
    line = bot.stdout.readline()
    watchdog.cancel()
    found = re.search(r"Open (http://127\.0\.0\.1:\d+) in your browser", line)
    assert found, line + (terminal.folder / "serve.log").read_text()
    return bot, found[1]


def test_serve_prints_one_address_and_keeps_its_place(terminal: Terminal) -> None:
    """The page is there when the address is printed; a second bot is told who is in the way; SIGTERM ends in order."""
    terminal.configure(sample_domain="false", workspace_port=0)
    bot, url = _start(terminal)
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            assert page.status == 200
        same = terminal.run("serve")
        assert (same.code, same.out) == (1, "")
        assert "Another Apprentice is running on data" in same.err

        port = url.rpartition(":")[2]
        terminal.configure(sample_domain="false", workspace_port=port)
        beside = terminal.run("serve", "--data-dir", "other")
        assert (beside.code, beside.out) == (1, "")
        assert f"Port {port} is already in use. Set WORKSPACE_PORT" in beside.err
        assert terminal.run("serve", "--data-dir", "other").err == beside.err, "nothing may be left running"
        assert "an Apprentice is running on data now" in terminal.run("doctor").out
        assert terminal.run("import", str(terminal.write("faq.jsonl", *PAIRS))).code == 0
    finally:
        bot.send_signal(signal.SIGTERM)
        rest, _ = bot.communicate(timeout=30)
    said = (terminal.folder / "serve.log").read_text()
    assert (bot.returncode, rest) == (0, ""), said
    assert "the local workspace in your browser is used" in said
    assert "Stopped." in said
    assert len(terminal.run("export", "-").out.splitlines()) == 3


def test_a_rehearsal_is_done_only_if_every_stage_happened(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit code is what a nightly job looks at; with --json stdout holds the report alone."""

    class Report:
        def __init__(self, ok: bool) -> None:
            self.ok = ok

        def to_json(self) -> dict[str, object]:
            return {"ok": self.ok, "stages": []}

    def playing(ok: bool) -> object:
        async def play(*, faq: Path | None, data_dir: Path | None, say: object) -> Report:
            assert callable(say)
            say("ask: done")
            return Report(ok)

        return play

    for ok, code in ((True, 0), (False, 4)):
        monkeypatch.setattr("bot.rehearse.rehearse", playing(ok))
        ended = terminal.run("rehearse", "--json")
        assert (ended.code, ended.json["ok"], ended.err) == (code, ok, "ask: done\n")
        assert terminal.run("rehearse").out == "ask: done\n"


def test_a_rehearsal_refuses_a_missing_file_and_a_used_folder(terminal: Terminal) -> None:
    """It never plays in a folder where something lies."""
    missing = terminal.run("rehearse", "--faq", "absent.jsonl")
    assert (missing.code, missing.out) == (1, "")
    assert "There is no file absent.jsonl" in missing.err
    used = terminal.run("rehearse", "--data-dir", str(terminal.folder))
    assert used.code == 1
    assert "is not empty" in used.err
