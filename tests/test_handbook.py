"""The sample domain keeps its promises: enough facts, human phrasings, an honest examination, no invented command.

The handbook is what a new user asks about first, so a setting that it invents is a bug like any other.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from bot.settings import HANDBOOK, Settings
from storage.entries import question_hash

TOPICS = {
    "asking",
    "rating",
    "correcting",
    "training",
    "reports",
    "privacy",
    "costs",
    "operating",
    "models",
    "about",
}
SLASH_COMMANDS = {
    "/train",
    "/train schedule",
    "/eval",
    "/apprentice help",
    "/apprentice status",
    "/apprentice privacy",
}
TERMINAL_COMMANDS = {
    "serve",
    "ask",
    "import",
    "train",
    "eval",
    "runs",
    "models",
    "promote",
    "rollback",
    "export",
    "forget",
    "doctor",
    "rehearse",
}
OPTIONS = {"--help", "--json", "--faq"}
MAKE_TARGETS = {"make run", "make test"}
SETTINGS = {name.upper() for name in Settings.model_fields}

CODE = re.compile(r"`([^`]*)`")
SLASH_WORD = re.compile(r"(?<![\w./])/[a-z]+(?: (?:schedule|help|status|privacy))?")
SETTING_WORD = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
SECRETS = re.compile(
    r"xox[a-z]-\w|xapp-\w|\bsk-\w{8}|\bAIza\w{8}|\bhf_\w{8}|BEGIN [A-Z ]*PRIVATE KEY|://[^\s/]*:[^\s/]*@|[\w.]+@[\w-]+\.\w+"
)
MACHINE_PATHS = re.compile(r"(?<!\w)/(?:home|work|tmp|root|usr|Users)/|\b\d+\.\d+\.\d+\.\d+\b")


@dataclass(frozen=True)
class Row:
    """One line of the handbook."""

    id: str
    thread: str
    topic: str
    split: str
    question: str
    answer: str


def read(file: Path) -> list[Row]:
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read(HANDBOOK)


@pytest.fixture(scope="module")
def threads(rows: list[Row]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.thread].append(row)
    return dict(grouped)


def unknown_names(text: str) -> list[str]:
    """What the text presents as a command, option or setting although nothing of that name exists."""
    unknown = [word for word in SLASH_WORD.findall(text) if word not in SLASH_COMMANDS]
    unknown += [word for word in SETTING_WORD.findall(text) if word not in SETTINGS]
    return unknown + [code for code in CODE.findall(text) if not _exists(code)]


def _exists(code: str) -> bool:
    if code in SLASH_COMMANDS | MAKE_TARGETS | OPTIONS | SETTINGS:
        return True
    program, _, rest = code.partition(" ")
    command, *options = rest.split() or [""]
    return program == "apprentice" and command in TERMINAL_COMMANDS and set(options) <= OPTIONS


def test_every_row_is_complete(rows: list[Row]) -> None:
    """A reader of the file needs no special case: text in every field, known topics and splits."""
    for row in rows:
        empty = [field.name for field in fields(row) if not getattr(row, field.name).strip()]
        assert not empty, (row.id, empty)
        assert row.topic in TOPICS, row
        assert row.split in {"train", "test"}, row
    assert len({row.id for row in rows}) == len(rows)


def test_there_is_enough_to_learn(threads: dict[str, list[Row]]) -> None:
    """At least 120 facts from every topic, each asked in the original words and in four others or more."""
    assert len(threads) >= 120
    assert {asked[0].topic for asked in threads.values()} == TOPICS
    for name, asked in threads.items():
        assert [row.id for row in asked] == [f"{name}-{number}" for number in range(len(asked))]
        assert len(asked) >= 5, name


def test_a_thread_has_one_answer_and_no_two_threads_share_it(threads: dict[str, list[Row]]) -> None:
    """A score means something only if a right answer to one question is not a right answer to the next."""
    answers: Counter[str] = Counter()
    for name, asked in threads.items():
        assert len({(row.answer, row.topic) for row in asked}) == 1, name
        answers[question_hash(asked[0].answer)] += 1
    assert set(answers.values()) == {1}


def test_answers_are_short_enough_for_a_small_model_and_long_enough_to_help(rows: list[Row]) -> None:
    """Eight to thirty words."""
    assert {row.answer for row in rows if not 8 <= len(row.answer.split()) <= 30} == set()


def test_every_thread_is_examined_in_words_it_was_not_taught_in(threads: dict[str, list[Row]]) -> None:
    """One or two phrasings are held out, never the original question, and enough remain to learn from."""
    for name, asked in threads.items():
        held_out = [row for row in asked if row.split == "test"]
        assert 1 <= len(held_out) <= 2, name
        assert asked[0].split == "train", name
        assert len(asked) - len(held_out) >= 4, name


def test_no_question_is_asked_twice(rows: list[Row]) -> None:
    """Neither in two threads nor on both sides of the split, with case, punctuation and spacing set aside."""
    times = Counter(question_hash(row.question) for row in rows)
    assert [row.question for row in rows if times[question_hash(row.question)] > 1] == []


def test_phrasings_are_not_one_sentence_with_a_word_exchanged(threads: dict[str, list[Row]]) -> None:
    """People differ in length too: in a thread the longest question has three words more than the shortest."""
    for name, asked in threads.items():
        lengths = [len(row.question.split()) for row in asked]
        assert max(lengths) - min(lengths) >= 3, (name, lengths)


def test_everything_it_names_exists(rows: list[Row]) -> None:
    """No answer sends a person to a command, an option or a setting that is not there."""
    assert {row.id: found for row in rows if (found := unknown_names(f"{row.question}\n{row.answer}"))} == {}


def test_what_people_must_find_is_in_it(rows: list[Row]) -> None:
    """Each slash command, and each setting that a new installation touches, is explained by some answer."""
    told = "\n".join({row.answer for row in rows})
    needed = SLASH_COMMANDS | {"apprentice import", "apprentice forget", "apprentice doctor", "make run"}
    needed |= {"LOCAL_MODEL", "DATABASE_URL", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "ANSWER_POLICY"}
    needed |= {"OPENAI_API_KEY", "GEMINI_API_KEY", "ADMIN_USERS", "ADMIN_CHANNEL", "DATA_DIR", "TIMEZONE"}
    assert {name for name in needed if f"`{name}" not in told} == set()


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Type `/train` or `/apprentice help`.", []),
        ("Run `apprentice rehearse --faq` and `make run`.", []),
        ("Type /retrain now.", ["/retrain"]),
        ("Set MODEL_PATH first.", ["MODEL_PATH"]),
        ("Run `apprentice fly`.", ["apprentice fly"]),
        ("Run `apprentice train --fast`.", ["apprentice train --fast"]),
    ],
)
def test_the_check_for_names_would_notice(text: str, unknown: list[str]) -> None:
    """The promise above is worth something only if an invented name is found."""
    assert unknown_names(text) == unknown


def test_the_row_that_its_readme_shows_is_in_it() -> None:
    """Whoever writes a file of their own copies that line."""
    shown = re.search(r"```json\n(.*)\n```", (HANDBOOK.parent / "README.md").read_text(encoding="utf-8"))
    assert shown
    assert shown[1] in HANDBOOK.read_text(encoding="utf-8").splitlines()


def test_it_holds_no_secret_and_no_machine(rows: list[Row]) -> None:
    """No token, key, address of a person, or path of somebody's machine."""
    text = "\n".join(f"{row.question}\n{row.answer}" for row in rows)
    assert SECRETS.findall(text) == []
    assert MACHINE_PATHS.findall(text) == []
