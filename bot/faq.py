"""Read questions and answers that somebody else wrote: JSON lines, a JSON array, CSV or TSV.

A bad line is named with its number and its reason; the good lines are kept. Refuses nothing silently.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from bot.errors import PublicError
from storage.entries import NewEntry, question_hash

QUESTION = ("question", "prompt", "instruction", "q", "input")
ANSWER = ("answer", "completion", "short_answer", "response", "a", "output", "top_answer")
SPLITS = {"train": "train", "test": "test", "held-out": "test", "heldout": "test", "": ""}
LONGEST = 20_000
TABLES = {".csv", ".tsv"}
DELIMITERS = (",", ";", "\t")


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
    """Read a .csv or .tsv file, or JSON under any other name. Raises PublicError when nothing in it can be used."""
    text = _text_of(file)
    records = _csv_records(text) if file.suffix.lower() in TABLES else _json_records(text)
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
    # Not splitlines(): it would also split at U+2028 and its like, which may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _json_object(line)


def _json_object(line: str) -> Mapping[str, Any] | str:
    try:
        return _named(json.loads(line))
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:
        return f"JSON that I cannot read ({error})"


def _json_array(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """The objects of an array, each with the line on which it begins; after a broken one the rest cannot be told apart."""
    decoder = json.JSONDecoder()
    place, counted, number = text.index("[") + 1, 0, 1
    while (place := _after(text, place, " \t\r\n,")) < len(text) and text[place] != "]":
        number, counted = number + text.count("\n", counted, place), place
        try:
            record, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            yield error.lineno, f"not JSON ({error.msg}, column {error.colno}); what follows it is not read"
            return
        except (ValueError, RecursionError) as error:
            yield number, f"JSON that I cannot read ({error}); what follows it is not read"
            return
        yield number, _named(record)


def _after(text: str, place: int, passed: str) -> int:
    while place < len(text) and text[place] in passed:
        place += 1
    return place


def _named(record: object) -> Mapping[str, Any] | str:
    if not isinstance(record, dict):
        return "not a JSON object"
    return {_plain(str(name)): value for name, value in record.items()}


def _plain(name: str) -> str:
    return name.strip().lower().encode("utf-8", "replace").decode()


def _csv_records(text: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    lines = [f"{line}\n" for line in text.split("\n")]
    header: list[str] | None = None
    for number, row in _csv_rows(lines, _delimiter(text)):
        if isinstance(row, str):
            yield number, row
        elif header is None:
            header = [_plain(cell) for cell in row]
            if not set(header) & set(QUESTION) or not set(header) & set(ANSWER):
                yield (
                    number,
                    f"the first row must name the columns question and answer (it has: {', '.join(header)[:80]})",
                )
                return
        elif len(row) > len(header):
            yield number, "more columns than the header has (is a quote missing?)"
        else:
            yield number, dict(zip(header, row, strict=False))


def _csv_rows(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows that are not empty, each with the line on which it begins. A broken one costs its first line only, because a
    quote that is never closed would otherwise swallow the rest of the file."""
    start = 0
    while start < len(lines):
        rows = csv.reader(islice(lines, start, None), delimiter=delimiter, strict=True)
        begin = start
        try:
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield begin + 1, row
                begin = start + rows.line_num
            return
        except csv.Error as error:
            yield begin + 1, f"not CSV ({error}; is a quote missing?)"
            start = begin + 1


def _delimiter(text: str) -> str:
    """The one that stands most often in the header. Python's own guess is led astray by commas in quoted answers."""
    header = text.lstrip().partition("\n")[0]
    return max(DELIMITERS, key=header.count)


def _entry(record: Mapping[str, Any] | str, source: str) -> NewEntry | str:
    """The entry of a record, or why it is none."""
    if isinstance(record, str):
        return record
    question, answer = _first(record, QUESTION), _first(record, ANSWER)
    if question is None or answer is None:
        names, what = (QUESTION, "question") if question is None else (ANSWER, "answer")
        if any(record.get(name) is not None for name in names):
            return f"the {what} is not text"
        return f"no {what} (fields: {', '.join(list(record)[:8]) or 'none'})"
    if unstorable := _unstorable(f"{question}{answer}{record.get('topic')}{record.get('thread')}"):
        return f"it holds {unstorable}, which cannot be stored"
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


def _unstorable(text: str) -> str:
    """Characters that a database refuses: JSON can write them, UTF-8 or PostgreSQL cannot."""
    if "\0" in text:
        return "a NUL character"
    return "half a character (a lone surrogate)" if any("\ud800" <= sign <= "\udfff" for sign in text) else ""


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((record[name] for name in names if isinstance(record.get(name), str)), None)
