"""What striking out costs, what it leaves, and what it strikes out wrongly of real messages, with 300 members by name."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from storage.redaction import Rules, redact
from tests.benchmarks.figure import Figure
from tests.redaction_corpus import COUNTRIES, member_names, planted, remains
from tests.redaction_members import hashed_names, three_hundred

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
FEWEST_PLANTED = 300
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
    """Planted items that are left (all of some draws), and the share of real messages that are touched, rightly or not."""
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


def sinks() -> Iterator[Figure]:
    """Planted items that are found in any table, file, log, request or message after the real bot met all of them.

    `tests/test_sinks.py` walks every way in with the whole bot and searches every byte; the count is what it prints.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/test_sinks.py",
        "-k",
        "sqlite",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1_800, check=False)
    found = re.findall(r"^(.+): (\d+) of (\d+) survived", done.stdout, re.MULTILINE)
    if not found or int(found[0][2]) < FEWEST_PLANTED:
        raise RuntimeError(f"the search did not take place: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
    print(f"{found[0][2]} planted, {len(found)} sinks searched", file=sys.stderr)
    for sink, left, _ in found:
        if int(left):
            print(f"{left} in {sink}", file=sys.stderr)
    yield Figure("secrets_survived", sum(int(left) for _, left, _ in found), "items", 0, "lower")


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
