"""The doctor: what is configured, what is missing, what is used instead and the remedy; never a secret."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from terminal import Terminal, logging_as_it_was

from bot import doctor
from bot.settings import Settings

KEY = "sk-proj-never-shown-0123456789"
BOT_TOKEN = "xoxb-never-shown-0123456789"
APP_TOKEN = "xapp-never-shown-0123456789"


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


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.sqlite("the file's name")
def test_with_nothing_set_everything_that_is_needed_is_there(terminal: Terminal) -> None:
    """The embedded defaults are named, with what replaces them; looking makes nothing."""
    terminal.configure(workspace_port=free_port())
    ended = terminal.run("doctor")
    assert ended.code == 0, ended.out
    assert "the local workspace in your browser is used. Set SLACK_BOT_TOKEN and SLACK_APP_TOKEN" in ended.out
    assert "SQLite; data/apprentice.sqlite is made at the first start" in ended.out
    assert "OPENAI_API_KEY is not set, so it is not asked" in ended.out
    assert "training every day at 03:00 (UTC), next" in ended.out
    assert ended.out.endswith("Everything that is needed is there.\n")
    assert not terminal.data.exists()


def marks(terminal: Terminal) -> dict[str, tuple[str, str]]:
    """Topic -> (mark, words) of the finding that is worst for it."""
    findings = terminal.run("doctor", "--json").json["findings"]
    found: dict[str, tuple[str, str]] = {}
    for finding in sorted(findings, key=lambda each: ["ok", "note", "problem"].index(each["mark"])):
        found[finding["topic"]] = (finding["mark"], finding["words"])
    return found


SLACK = {"slack_bot_token": BOT_TOKEN, "slack_app_token": APP_TOKEN}


@pytest.mark.parametrize(
    ("settings", "topic", "mark", "words"),
    [
        ({**SLACK}, "Slack", "ok", "Socket Mode"),
        ({**SLACK}, "admins", "note", "ADMIN_USERS is not set"),
        ({**SLACK}, "admin channel", "note", "ADMIN_CHANNEL is not set"),
        ({**SLACK, "slack_bot_token": APP_TOKEN}, "Slack", "problem", "does not start with xoxb-"),
        ({**SLACK, "slack_app_token": BOT_TOKEN}, "Slack", "problem", "does not start with xapp-"),
        (
            {"slack_bot_token": BOT_TOKEN},
            "Slack",
            "problem",
            "neither SLACK_APP_TOKEN nor SLACK_SIGNING_SECRET",
        ),
        ({"slack_app_token": APP_TOKEN}, "Slack", "problem", "SLACK_BOT_TOKEN is not set"),
        ({"slack_bot_token": BOT_TOKEN, "slack_signing_secret": "x"}, "Slack", "ok", "/slack/events"),
        ({**SLACK, "admin_users": "@ann"}, "admins", "problem", "'@ann'"),
        ({**SLACK, "admin_users": "U012ABC"}, "admins", "ok", "1 in ADMIN_USERS"),
        ({**SLACK, "admin_channel": "#admin"}, "admin channel", "problem", "looks like C012ABCDEF"),
        ({"answer_policy": "api-first"}, "policy", "problem", "OPENAI_API_KEY or GEMINI_API_KEY"),
        ({"answer_policy": "both", "openai_api_key": KEY}, "policy", "ok", "both"),
        ({"openai_api_key": KEY, "openai_model": "somebody-elses"}, "OpenAI", "note", "no price is known"),
        ({"gemini_api_key": KEY}, "Gemini", "ok", "with the price of"),
        ({"local_model": "./nowhere"}, "local model", "problem", "there is no such folder"),
        ({"local_model": "owner/name"}, "local model", "ok", "downloaded at the first question"),
        (
            {"local_model": "owner/name", "allow_downloads": "no"},
            "local model",
            "note",
            "ALLOW_DOWNLOADS is off",
        ),
        ({"local_model": "."}, "local model", "problem", "needs config.json and *.safetensors"),
        ({"train_cron": "off"}, "schedule", "ok", "only when somebody asks"),
        ({"train_cron": "0 6 * * 1", "timezone": "Europe/Berlin"}, "schedule", "ok", "every Monday at 06:00"),
        ({"database_url": "mysql://x"}, "database", "problem", "SQLite and PostgreSQL are supported"),
        ({"database_url": "postgresql://u:hush@127.0.0.1:1/x"}, "database", "problem", "cannot be reached"),
    ],
)
def test_each_setting_is_judged_with_its_remedy(
    terminal: Terminal, settings: dict[str, object], topic: str, mark: str, words: str
) -> None:
    """Shapes are looked at, nobody is called, and what is secret is not repeated."""
    terminal.configure(**{"workspace_port": 0, **settings})
    found = marks(terminal)
    assert found[topic][0] == mark, found[topic]
    assert words in found[topic][1]
    printed = terminal.run("doctor")
    assert printed.code == (1 if any(each[0] == "problem" for each in found.values()) else 0)
    assert not any(secret in printed.out + printed.err for secret in (KEY, BOT_TOKEN, APP_TOKEN, "hush"))


def test_what_cannot_be_read_is_a_finding_too(terminal: Terminal) -> None:
    """A broken .env does not keep the doctor from saying so, in JSON as well."""
    terminal.configure(http_port="abc", log_level="loud")
    ended = terminal.run("doctor", "--json")
    assert (ended.code, ended.json["ok"]) == (1, False)
    worst = ended.json["findings"][-1]
    assert (worst["topic"], worst["mark"]) == ("settings", "problem")
    assert "HTTP_PORT" in worst["words"]
    assert "LOG_LEVEL" in worst["words"]


def test_a_port_and_a_folder_that_cannot_be_used_are_named(terminal: Terminal) -> None:
    """With the setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        terminal.configure(workspace_port=taken.getsockname()[1], data_dir="/proc/nowhere")
        found = marks(terminal)
    assert found["port"][0] == "problem"
    assert "WORKSPACE_PORT" in found["port"][1]
    assert found["data directory"][0] == "problem"
    assert "set DATA_DIR" in found["data directory"][1]


def test_a_full_disk_is_a_problem_before_a_training_meets_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little space is a note, none a problem."""
    for free, mark in (
        (doctor.NO_DISK - 1, "problem"),
        (doctor.LITTLE_DISK - 1, "note"),
        (doctor.LITTLE_DISK, "ok"),
    ):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("bot.doctor.shutil.disk_usage", lambda _folder, usage=usage: usage)
        terminal.configure(workspace_port=0)
        assert marks(terminal)["disk"][0] == mark


def test_without_the_local_packages_memory_and_apis_answer(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small deployment without torch is fine as long as somebody can answer."""
    monkeypatch.setattr("bot.lineup.has_local_extra", lambda: False)
    terminal.configure(workspace_port=0)
    alone = marks(terminal)
    assert alone["local model"][0] == "note"
    assert "pip install" in alone["local model"][1]
    assert alone["policy"][0] == "problem"
    terminal.configure(workspace_port=0, openai_api_key=KEY)
    assert marks(terminal)["policy"][0] == "ok"


async def test_what_the_installation_knows_is_told(terminal: Terminal) -> None:
    """Verified answers, the model that serves and whether its files are there, and models marked after a deletion."""
    import asyncio

    store = await terminal.store()
    for name in ("local-1", "local-2"):
        version = await store.register_model(
            team="T0LOCAL",
            name=name,
            base_model="starter",
            path=str(terminal.data / "gone"),
            sha256="0" * 64,
            run_id=None,
            dataset_id=None,
            card={},
        )
        await store.promote(team="T0LOCAL", decision=name, version_id=version.id, by="U0ANN", reason="")
    await store.taint_models([version.id], "learned from words that were deleted since")
    await store.set_schedule(
        team="T0LOCAL", action="train", cron="0 5 * * *", timezone="UTC", enabled=False, by="U0ANN"
    )
    await store.close()
    terminal.configure(workspace_port=0, **terminal.settings_elsewhere)
    found = await asyncio.to_thread(marks, terminal)
    assert found["memory"] == ("ok", "0 verified answers.")
    assert found["current model"][0] == "problem"
    assert "local-2 serves and its folder" in found["current model"][1]
    assert found["marked models"][1].startswith("local-2 learned from words")
    assert found["schedule"] == ("ok", "training happens only when somebody asks for it.")
    assert found["database"][1].endswith("reachable and up to date.")


class Refusing(BaseHTTPRequestHandler):
    """A provider that knows no key."""

    def do_GET(self) -> None:
        """Refuse, as OpenAI does."""
        body = json.dumps(
            {"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}
        )
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing to tell."""


@pytest.fixture
def provider() -> Iterator[str]:
    """Its address."""
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_wrong_key_is_found_online_and_not_shown(
    terminal: Terminal, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only --online asks; the vendor repeats the key in its answer, and we do not."""
    monkeypatch.setattr("bot.lineup.has_local_extra", lambda: False)
    address = provider.replace("://", "://ann:hush-hush@")
    terminal.configure(workspace_port=0, openai_api_key=KEY, openai_base_url=address)
    assert "refuses the key" not in terminal.run("doctor").out
    ended = terminal.run("doctor", "--online")
    assert ended.code == 1
    assert "PROBLEM  OpenAI online:" in ended.out
    assert "OPENAI_API_KEY" in ended.out
    assert KEY not in ended.out + ended.err
    assert "hush-hush" not in ended.out + ended.err
    asked = terminal.run("ask", "Is the key right?")
    assert (asked.code, asked.out) == (1, "")
    assert "No model could answer just now" in asked.err
    assert KEY not in asked.err
