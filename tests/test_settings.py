"""Settings: every one has a default, a wrong one is named with its remedy, and no secret is ever shown."""

import re
from pathlib import Path

import pytest

from bot.errors import PublicError
from bot.settings import Policy, Settings

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"
LINE = re.compile(r"#([A-Z][A-Z0-9_]*)=(.*)")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody has set anything."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


def env_file(tmp_path: Path, content: str | bytes) -> Path:
    """A .env with this content."""
    file = tmp_path / ".env"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refusal(file: Path) -> str:
    """What the operator reads about this file."""
    with pytest.raises(PublicError) as refused:
        Settings.read(file)
    return str(refused.value)


def test_without_a_file_everything_has_a_default(tmp_path: Path) -> None:
    """A fresh clone runs with nothing configured: local workspace, SQLite, starter model, no API."""
    settings = Settings.read(tmp_path / "none.env")
    assert not settings.model_fields_set
    assert not settings.on_slack
    assert settings.with_starter
    assert settings.database == "sqlite:///data/apprentice.sqlite"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container can override what the image's .env says."""
    file = env_file(tmp_path, "HTTP_PORT=1001\nTIMEZONE=Europe/Berlin\nADMIN_USERS=U0ONE, U0TWO ,\n")
    monkeypatch.setenv("HTTP_PORT", "1002")
    monkeypatch.setenv("TIMEZONE", "")
    settings = Settings.read(file, data_dir=tmp_path, answer_policy=Policy.BOTH)
    assert settings.http_port == 1002
    assert settings.timezone == "Europe/Berlin"
    assert settings.admin_users == ("U0ONE", "U0TWO")
    assert (settings.data_dir, settings.answer_policy) == (tmp_path, Policy.BOTH)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("HTTP_PORT=abc\n", "HTTP_PORT"),
        ("HTTP_PORT=70000\n", "HTTP_PORT"),
        ("TIMEZONE=Berlin\n", "write a name such as Europe/Berlin"),
        ("ANSWER_POLICY=cheapest\n", "'local-first', 'api-first', 'both', 'local-only' or 'duel'"),
        ("ALLOW_DOWNLOADS=perhaps\n", "ALLOW_DOWNLOADS"),
        ("TRAIN_MIN_EXAMPLES=0\n", "TRAIN_MIN_EXAMPLES"),
        (
            "# fine\n\nSLACK_BOT_TOKN=xoxb-1\n",
            "line 3: SLACK_BOT_TOKN is no setting. Did you mean SLACK_BOT_TOKEN?",
        ),
        ("DATA_DIR=x\nthis is no setting\n", "line 2: this is no NAME=value"),
        ("DATA_DIR=x\n\nexport =1\n", "line 3: this is no NAME=value"),
        (b"\xff\xfe\x00D", "is not a text file in UTF-8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, said: str) -> None:
    """A corrupt or mistyped .env stops the start with the setting or the line, never with a traceback."""
    assert said in refusal(env_file(tmp_path, content))


@pytest.mark.parametrize(
    ("written", "read"), [("off", ""), ("every monday at 6", "0 6 * * 1"), ("0  3 * * 7", "0 3 * * 7")]
)
def test_times_are_written_as_in_chat(tmp_path: Path, written: str, read: str) -> None:
    """A time that nobody understands stops the start; "off" is never, as an empty line means the default."""
    settings = Settings.read(env_file(tmp_path, f"DIGEST_CRON={written}\nTRAIN_CRON=\n"))
    assert (settings.digest_cron, settings.train_cron) == (read, "0 3 * * *")
    said = refusal(env_file(tmp_path, "DIGEST_CRON=on\nTRAIN_CRON=0 3 * *\n"))
    assert "DIGEST_CRON" in said
    assert "TRAIN_CRON: is no time. “0 3 * *” has 4 cron fields" in said


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    """Nobody should have to start three times to learn of three mistakes."""
    said = refusal(env_file(tmp_path, "HTTP_PORT=x\nTIMEZONE=x\nLOG_LEVEL=loud\n"))
    assert all(name in said for name in ("HTTP_PORT", "TIMEZONE", "LOG_LEVEL"))


def test_a_folder_called_env_is_no_traceback(tmp_path: Path) -> None:
    """Docker makes a folder where a mounted file is missing."""
    (tmp_path / ".env").mkdir()
    assert "cannot be read" in refusal(tmp_path / ".env")


def test_what_belongs_to_other_programs_is_left_alone(tmp_path: Path) -> None:
    """A .env is often shared with compose and other tools."""
    file = env_file(tmp_path, "export DATA_DIR=here\nPOSTGRES_PASSWORD=x\nHF_HOME=/cache\n")
    assert Settings.read(file).data_dir == Path("here")


KEY = "sk-proj-0123456789abcdefghij"


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    """Not by printing the settings, and not by a complaint about another setting."""
    good = Settings.read(env_file(tmp_path, f"OPENAI_API_KEY={KEY}\nSLACK_BOT_TOKEN=xoxb-1-{KEY}\n"))
    assert KEY not in f"{good} {good!r} {good.model_dump()}"
    assert KEY not in refusal(env_file(tmp_path, f"OPENAI_API_KEY={KEY}\nHTTP_PORT=x\n"))


PASTED = [KEY, f"OPENAI_API_KEY {KEY}", f"OPENAI_API_KEY: {KEY}", f'OPENAI_API_KEY="{KEY}', f"9KEY={KEY}"]


@pytest.mark.parametrize("line", PASTED)
def test_a_key_on_a_broken_line_is_not_repeated(tmp_path: Path, line: str) -> None:
    """The complaint names the line by its number: what stands there may be a key, and terminals are recorded.

    A quote that is never closed is broken too: the setting would be missing without a word.
    """
    said = refusal(env_file(tmp_path, f"DATA_DIR=x\n{line}\n"))
    assert "line 2" in said
    assert KEY[:12] not in said


def test_a_quoted_value_may_have_several_lines_and_a_file_a_byte_order_mark(tmp_path: Path) -> None:
    """Prompts are long, and Windows editors write a mark in front."""
    file = env_file(tmp_path, b'\xef\xbb\xbfLOCAL_SYSTEM_PROMPT="You help.\nBe brief."\nHTTP_PORT=1\n')
    settings = Settings.read(file)
    assert settings.local_system_prompt == "You help.\nBe brief."
    assert settings.http_port == 1


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a folder called ~ appears where the bot was started."""
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings.read(env_file(tmp_path, "DATA_DIR=~/apprentice\n"))
    assert settings.data_dir == tmp_path / "apprentice"


def example_lines() -> list[str]:
    """The lines of .env.example."""
    return EXAMPLE.read_text(encoding="utf-8").splitlines()


def test_the_example_explains_every_setting_and_no_other() -> None:
    """Each setting stands there once, commented out, below at least one line that says what it does."""
    lines = example_lines()
    found = {match[1]: number for number, line in enumerate(lines) if (match := LINE.fullmatch(line))}
    assert sorted(found) == sorted(name.upper() for name in Settings.model_fields)
    for name, number in found.items():
        assert re.fullmatch(r"# [A-Za-z`].{15,}", lines[number - 1]), f"{name} is not explained"
    assert all(line.startswith("#") or not line for line in lines)
    assert max(map(len, lines)) <= 125


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    """Taking every # away changes nothing: the file is the documentation of the defaults."""
    shown = [f"{match[1]}={match[2]}" for line in example_lines() if (match := LINE.fullmatch(line))]
    uncommented = Settings.read(env_file(tmp_path, "\n".join(shown)))
    defaults = Settings.read(None)
    for name in Settings.model_fields:
        assert getattr(uncommented, name) == getattr(defaults, name), name
