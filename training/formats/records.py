"""Records of a file one after another, in bounded memory: JSON lines, a JSON array, or a table. A bad one says why."""

import csv
import json
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
CODECS = {UTF8: "utf-8-sig", UTF16: "utf-16", WINDOWS: "cp1252"}


def encoding_of(file: Path) -> str:
    """UTF-8, or for a table what Excel wrote: UTF-16 with its mark, else Windows-1252. Raises PublicError."""
    table = file.suffix.lower() in TABLES
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
        if start == b"PK\x03\x04":
            raise PublicError(
                f"{file} is an Excel or zip file. Save it as CSV UTF-8 in Excel, and import that."
            )
        if table and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return _checked(file, UTF16)
        try:
            return _checked(file, UTF8)
        except UnicodeDecodeError as error:
            if not table:
                where = f"byte {error.start}"
                raise PublicError(f"{file} is not UTF-8 text ({where}). Save it as UTF-8.") from None
            return _checked(file, WINDOWS)
    except FileNotFoundError:
        raise PublicError(f"There is no file {file}.") from None
    except UnicodeError:
        raise PublicError(f"{file} is not UTF-8 text, nor what Excel writes. Save it as CSV UTF-8.") from None
    except OSError as error:
        raise PublicError(f"{file} cannot be read ({error.strerror}).") from None


def _checked(file: Path, encoding: str) -> str:
    with file.open(encoding=CODECS[encoding]) as opened:
        while opened.read(CHUNK):
            pass
    return encoding


def json_records(file: IO[str]) -> Iterator[Record]:
    """The objects of JSON lines, or of one array."""
    while (sign := file.read(1)) and sign.isspace():
        pass
    file.seek(0)
    yield from _array(file) if sign == "[" else _json_lines(file)


def _json_lines(file: IO[str]) -> Iterator[Record]:
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            yield number, f"a line of more than {LONGEST_LINE:,} characters; what follows it is not read"
            return
        if line.strip():
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
    delimiter = _delimiter(file)
    header: list[str] | None = None
    for number, row in _rows(file, delimiter):
        if isinstance(row, str):
            yield number, row
        elif header is None:
            header = [_plain(cell) for cell in row]
            if not set(header) & set(question) or not set(header) & set(answer):
                has = ", ".join(header)[:80]
                yield number, f"the first row must name the columns question and answer (it has: {has})"
                return
        elif len(row) > len(header):
            yield number, "more columns than the header has (is a quote missing?)"
        else:
            yield number, dict(zip(header, row, strict=False))


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows that are not empty, each with the line on which it begins. A broken one costs its first line only, because a
    quote that is never closed would otherwise swallow the rest of the file."""
    waiting: deque[str] = deque()
    taken: list[str] = []
    number = 0

    def feed() -> Iterator[str]:
        while line := waiting.popleft() if waiting else next(lines, ""):
            taken.append(line)
            yield line

    while True:
        try:
            for row in csv.reader(feed(), delimiter=delimiter, strict=True):
                if any(cell.strip() for cell in row):
                    yield number + 1, row
                number += len(taken)
                taken.clear()
            return
        except csv.Error as error:
            yield number + 1, f"not CSV ({error}; is a quote missing?)"
            waiting.extendleft(reversed(taken[1:]))
            taken.clear()
            number += 1


def _delimiter(file: IO[str]) -> str:
    """The one that stands most often in the header. Python's own guess is led astray by commas in quoted answers."""
    header = ""
    while not header.strip() and (line := file.readline(LONGEST_LINE)):
        header = line
    file.seek(0)
    return max(DELIMITERS, key=header.count)
