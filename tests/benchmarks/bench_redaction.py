"""What striking out costs, and what it strikes out wrongly: the messages of a help desk, with 300 members by name."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from storage.redaction import Rules, redact
from tests.benchmarks.figure import Figure
from tests.redaction_corpus import COUNTRIES, member_names, planted, remains
from tests.redaction_members import hashed_names, three_hundred

SHARED = Path(__file__).parents[3] / "shared" / "data"
LENGTHS = range(200, 401)
ROUNDS = 5


def cost() -> Iterator[Figure]:
    """Microseconds of processor time for a message of about 300 characters: by the defaults, and with everything on."""
    messages = [text for text in _answers() if len(text) in LENGTHS]
    if not messages:
        print("The shared material is not beside this checkout: nothing measured.", file=sys.stderr)
        return
    everything = Rules(national_ids=COUNTRIES, names=hashed_names(three_hundred()))
    yield Figure("redaction_us", _microseconds(messages, Rules()), "us", 80, "lower")
    yield Figure("redaction_everything_us", _microseconds(messages, everything), "us", 160, "lower")


def rightness() -> Iterator[Figure]:
    """Planted items that are left (all of some draws), and the share of real messages that are touched."""
    everything = Rules(national_ids=COUNTRIES, names=member_names())
    left = sum(
        bool(remains(item, redact(item.text, rules=everything).text))
        for seed in range(5)
        for item in planted(seed)
    )
    yield Figure("redaction_survived", left, "items", 0, "lower")
    messages = [*_questions(), *_answers()]
    if messages:
        rules = Rules(national_ids=COUNTRIES, names=hashed_names(three_hundred()))
        touched = sum(bool(redact(text, rules=rules).found) for text in messages)
        yield Figure("redaction_touched_pct", round(100 * touched / len(messages), 3), "%", 1, "lower")


def _microseconds(messages: list[str], rules: Rules) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for text in messages:
            redact(text, rules=rules)
        best = min(best, time.process_time() - begun)
    return round(best / len(messages) * 1e6, 1)


def _answers() -> list[str]:
    """Every answer of the threads, also those that quote somebody's address."""
    file = SHARED / "stackfaq" / "threads.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [answer for line in lines for answer in json.loads(line)["answers"]]


def _questions() -> list[str]:
    files = [
        SHARED / "banking77" / "train.jsonl",
        SHARED / "banking77" / "test.jsonl",
        SHARED / "stackfaq" / "qa.jsonl",
    ]
    lines = [
        line for file in files if file.exists() for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line)["question"] for line in lines]
