"""Read questions and answers that somebody else wrote: JSON lines or CSV.

A bad line is named with its number and its reason; the good lines are kept. Refuses nothing silently.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.errors import PublicError
from storage.feedback import NewEntry, question_hash

QUESTION = ("question", "prompt", "instruction", "q", "input")
ANSWER = ("answer", "completion", "short_answer", "response", "a", "output", "top_answer")
SPLITS = {"train": "train", "test": "test", "held-out": "test", "heldout": "test", "": ""}
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was left out, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Faq:
    """What a file held."""

    entries: tuple[NewEntry, ...]
    bad: tuple[BadLine, ...]


def read_faq(file: Path, *, source: str = "") -> Faq:
    """Read a .jsonl, .json or .csv file. Raises PublicError when nothing in it can be used."""
    text = _text_of(file)
    records = _csv_records(text) if file.suffix.lower() == ".csv" else _json_records(text)
    entries: list[NewEntry] = []
    bad: list[BadLine] = []
    seen: dict[str, int] = {}
    for number, record in records:
        entry = _entry(record, source or file.name)
        if isinstance(entry, str):
            bad.append(BadLine(number, entry))
            continue
        key = question_hash(entry.question)
        if key in seen:
            bad.append(BadLine(number, f"the same question as line {seen[key]}"))
            continue
        seen[key] = number
        entries.append(entry)
    if not entries:
        first = f" Line {bad[0].number}: {bad[0].reason}." if bad else " It is empty."
        raise PublicError(
            f"{file} holds no question and answer that I can read.{first} "
            'Write one JSON object a line, {"question": "...", "answer": "..."}, or a CSV with these columns.'
        )
    return Faq(tuple(entries), tuple(bad))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PublicError(f"There is no file {file}.") from None
    except UnicodeDecodeError as error:
        raise PublicError(f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise PublicError(f"{file} cannot be read ({error.strerror}).") from None


def _json_records(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    if text.lstrip().startswith("["):
        yield from _json_array(text)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, f"not JSON ({error.msg}, column {error.colno})"
            continue
        yield number, record if isinstance(record, dict) else "not a JSON object"


def _json_array(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        yield error.lineno, f"not JSON ({error.msg}, column {error.colno})"
        return
    for number, record in enumerate(records, start=1):
        yield number, record if isinstance(record, dict) else "not a JSON object"


def _csv_records(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:4096], delimiters=",;\t")
    except csv.Error:
        dialect = csv.excel
    rows = csv.DictReader(io.StringIO(text), dialect=dialect, restkey="_more")
    try:
        for row in rows:
            if row.get("_more"):
                yield rows.line_num, "more columns than the header has (is a quote missing?)"
                continue
            yield rows.line_num, {(name or "").strip().lower(): value for name, value in row.items()}
    except csv.Error as error:
        yield rows.line_num, f"not CSV ({error})"


def _entry(record: Mapping[str, Any] | str, source: str) -> NewEntry | str:
    """The entry of a record, or why it is none."""
    if isinstance(record, str):
        return record
    question, answer = _first(record, QUESTION), _first(record, ANSWER)
    if question is None or answer is None:
        missing = "question" if question is None else "answer"
        return f"no {missing} (fields: {', '.join(map(str, record)) or 'none'})"
    if not question.strip() or not answer.strip():
        return f"the {'question' if not question.strip() else 'answer'} is empty"
    if max(len(question), len(answer)) > LONGEST:
        return f"longer than {LONGEST:,} characters"
    split = str(record.get("split") or "").strip().lower()
    if split in {"validation", "valid", "dev", "val"}:
        split = "train"
    if split not in SPLITS:
        return f'split is {split!r}; write "train", "test" or nothing'
    thread = record.get("thread")
    return NewEntry(
        question=question.strip(),
        answer=answer.strip(),
        source=source,
        topic=str(record.get("topic") or ""),
        thread=f"{source}/{thread}" if thread not in (None, "") else "",
        split=SPLITS[split],
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((record[name] for name in names if isinstance(record.get(name), str)), None)
