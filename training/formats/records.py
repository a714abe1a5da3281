"""Records of a file one after another, in bounded memory: JSON lines, a JSON array, or a table. A bad one says why."""

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from storage.errors import PublicError

Record = tuple[int, Mapping[str, Any] | str]

CHUNK = 1 << 20
LONGEST_LINE = 16 << 20
TABLES = {".csv", ".tsv", ".txt"}
DELIMITERS = (",", ";", "\t")
UTF8, UTF16, WINDOWS = "UTF-8", "UTF-16", "Windows-1252"
UTF16_LE, UTF16_BE = "UTF-16 without a mark", "UTF-16 without a mark, big end first"
CODECS = {UTF8: "utf-8-sig", UTF16: "utf-16", WINDOWS: "cp1252", UTF16_LE: "utf-16-le", UTF16_BE: "utf-16-be"}
TOO_LONG = f"a line of more than {LONGEST_LINE:,} characters"
SEPARATOR = re.compile(r"[\"']?sep=(.)[\"']?\s*$", re.IGNORECASE)  # Excel's own first line
NAMED_COLUMNS = ("split", "thread", "topic")


def encoding_of(file: Path) -> str:
    """UTF-8, UTF-16 as Windows writes it, or for a table what Excel writes: Windows-1252. Raises PublicError.

    What is no text says which line is wrong and how to save it.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
        if start == b"PK\x03\x04":
            raise PublicError(
                f"{file} is an Excel or zip file. Save it as CSV UTF-8 in Excel, and import that."
            )
        for encoding in _by_mark(start):
            return _checked(file, encoding)
        broken = first_broken(file)
        if not broken:
            return UTF8
        if file.suffix.lower() not in TABLES:
            raise PublicError(f"{file} is not UTF-8 text (line {broken}). Save it as UTF-8.")
        return _checked(file, WINDOWS)
    except FileNotFoundError:
        raise PublicError(f"There is no file {file}.") from None
    except UnicodeError:
        raise PublicError(f"{file} is not UTF-8 text, nor what Excel writes. Save it as CSV UTF-8.") from None
    except OSError as error:
        raise PublicError(f"{file} cannot be read ({error.strerror}).") from None


def _by_mark(start: bytes) -> Iterator[str]:
    """What the first bytes say by their mark, or by the zeros beside plain letters."""
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        yield UTF16
    elif len(start) == 4 and start[1] == start[3] == 0 != start[0]:
        yield UTF16_LE
    elif len(start) == 4 and start[0] == start[2] == 0 != start[1]:
        yield UTF16_BE


def first_broken(file: Path) -> int:
    """The first line that is not UTF-8; 0 where all of them are."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with file.open("rb") as opened:
        try:
            while part := opened.read(CHUNK):
                decoder.decode(part)
                line += part.count(b"\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            return line + error.object[: error.start].count(b"\n")
    return 0


def _checked(file: Path, encoding: str) -> str:
    with file.open(encoding=CODECS[encoding]) as opened:
        while opened.read(CHUNK):
            pass
    return encoding


def lines_of(file: IO[str]) -> Iterator[str | None]:
    """The lines with their ends; None for one of more than LONGEST_LINE characters, which is passed over."""
    while line := file.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            yield line
            continue
        while line and not line.endswith("\n"):
            line = file.readline(CHUNK)
        yield None


def json_records(file: IO[str]) -> Iterator[Record]:
    """The objects of JSON lines, or of one array."""
    while (sign := file.read(1)) and sign.isspace():
        pass
    file.seek(0)
    yield from _array(file) if sign == "[" else _json_lines(file)


def _json_lines(file: IO[str]) -> Iterator[Record]:
    for number, line in enumerate(lines_of(file), start=1):
        if line is None:
            yield number, TOO_LONG
        elif line.strip():
            yield number, _object(line.removesuffix("\n"))


def _object(line: str) -> Mapping[str, Any] | str:
    try:
        return named(json.loads(line))
    except json.JSONDecodeError as error:
        return f"not JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:
        return f"JSON that I cannot read ({error})"


def _array(file: IO[str]) -> Iterator[Record]:
    """The objects of an array, each with the line on which it begins; after a broken one the rest cannot be told apart."""
    decoder = json.JSONDecoder()
    text, before, more = "", 0, True  # `before`: the line breaks that have left the text
    place = counted = 0
    opened = False
    while True:
        while place < len(text) and text[place] in (" \t\r\n," if opened else " \t\r\n["):
            opened = opened or text[place] == "["
            place += 1
        before, counted = before + text.count("\n", counted, place), place
        if place < len(text) and text[place] == "]":
            return
        problem = ""
        try:
            record, end = decoder.raw_decode(text, place)
            if end < len(text) or not more:
                yield before + 1, named(record)
                place = end
                continue
        except json.JSONDecodeError as error:
            line = before + 1 + text.count("\n", counted, error.pos)
            problem = f"not JSON ({error.msg}, column {error.colno}); what follows it is not read"
        except (ValueError, RecursionError) as error:
            line, more = before + 1, False
            problem = f"JSON that I cannot read ({error}); what follows it is not read"
        if problem and (not more or len(text) - place > LONGEST_LINE):
            if text[place:].strip():
                yield line, problem
            return
        # Twice as much each time, so that a long object is not read over and over.
        part = file.read(max(CHUNK, len(text) - place))
        more = bool(part)
        text, place, counted = text[place:] + part, 0, 0


def named(record: object) -> Mapping[str, Any] | str:
    """A record with its field names in plain lower case, or why it is none."""
    if not isinstance(record, dict):
        return "not a JSON object"
    return {_plain(str(name)): value for name, value in record.items()}


def _plain(name: str) -> str:
    return name.strip().lower().encode("utf-8", "replace").decode()


def table_records(file: IO[str], question: tuple[str, ...], answer: tuple[str, ...]) -> Iterator[Record]:
    """The rows of a table under the names in its first row, which must hold one of `question` and one of `answer`."""
    delimiter, skipped = _delimiter(file)
    header: list[str] | None = None
    for number, row in _rows(lines_of(file), delimiter):
        if isinstance(row, str):
            yield number, row
        elif number <= skipped:
            continue
        elif header is None:
            header = [_plain(cell) for cell in row]
            if problem := _header_problem(header, question, answer):
                yield number, problem
                return
        elif len(row) > len(header):
            yield number, "more columns than the header has (is a quote missing?)"
        else:
            yield number, dict(zip(header, row, strict=False))


def _header_problem(header: list[str], question: tuple[str, ...], answer: tuple[str, ...]) -> str:
    """Why nothing can be read under these names; "" where it can."""
    if not set(header) & set(question) or not set(header) & set(answer):
        has = ", ".join(header)[:80]
        return f"the first row must name the columns question and answer (it has: {has})"
    for name in (*question, *answer, *NAMED_COLUMNS):
        if header.count(name) > 1:
            return f"the column {name!r} stands there {header.count(name)} times; rename the one that is not meant"
    return ""


class _TooLong(Exception):
    """A line that nobody wants to hold in memory."""


def _rows(lines: Iterator[str | None], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows that are not empty, each with the line on which it begins. A broken one costs its first line only, because a
    quote that is never closed would otherwise swallow the rest of the file."""
    waiting: deque[str | None] = deque()
    taken: list[str | None] = []
    number = 0

    def feed() -> Iterator[str]:
        while (line := waiting.popleft() if waiting else next(lines, "")) != "":
            taken.append(line)
            if line is None:
                raise _TooLong
            yield line

    while True:
        try:
            for row in csv.reader(feed(), delimiter=delimiter, strict=True):
                if any(cell.strip() for cell in row):
                    yield number + 1, row
                number += len(taken)
                taken.clear()
            return
        except (csv.Error, _TooLong) as error:
            broken = len(taken) > 1 or not isinstance(error, _TooLong)
            why = error if isinstance(error, csv.Error) else TOO_LONG
            yield number + 1, f"not CSV ({why}; is a quote missing?)" if broken else TOO_LONG
            waiting.extendleft(reversed(taken[1:]))
            taken.clear()
            number += 1


def _delimiter(file: IO[str]) -> tuple[str, int]:
    """The one that stands most often in the header, and how many lines stand before that only to name it.

    Python's own guess is led astray by commas in quoted answers.
    """
    header, number = "", 0
    while not header.strip() and (line := file.readline(LONGEST_LINE)):
        header, number = line, number + 1
    file.seek(0)
    if told := SEPARATOR.match(header):
        return told[1], number
    return max(DELIMITERS, key=header.count), 0
