"""Read questions and answers that somebody else wrote, whatever the format; a bad record is named with line and reason.

An entry is one question and one answer, given word for word to whoever asks. So a later turn of a conversation, which means
nothing without what came before, a system prompt, and an answer that was rejected do not come in; each is counted and said.
A record of which nothing comes in is named with its line.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from storage.entries import NewEntry, question_hash
from storage.errors import PublicError
from training.formats.known import Known
from training.formats.markdown import markdown_records
from training.formats.pieces import BadLine, Piece
from training.formats.records import (
    CODECS,
    TABLES,
    Record,
    encoding_of,
    json_records,
    lines_of,
    table_records,
)
from training.formats.shapes import ANSWER, QUESTION, SHAPES, Unusable, format_of, pieces_of

SPLITS = {"train": "train", "test": "test", "held-out": "test", "heldout": "test", "": ""}
WATCHED = {"validation", "valid", "dev", "val"}
LONGEST = 20_000
MARKDOWN = {".md", ".markdown"}
FORMATS = ("csv", "markdown", *SHAPES)
HALF = re.compile("[\ud800-\udfff]")
MOST_NAMED = 10_000  # bad lines
SYSTEM = "had a system prompt, which an entry cannot hold; it was left out"
LATER = "was a later turn of a conversation, which an entry cannot hold; it was left out"
REJECTED = "had a rejected answer, which an entry cannot hold; only the better one is kept"
ONLY_LATER = "only a later turn of a conversation is to be learned, and an entry cannot hold it"
DISLIKED = "an answer that somebody disliked"


@dataclass(frozen=True, slots=True)
class Faq:
    """What a file held."""

    entries: tuple[NewEntry, ...]
    bad: tuple[BadLine, ...]


@dataclass
class Seen:
    """What was found on the way through a file: formats, what entries cannot hold, bad lines (the first ones by name)."""

    encoding: str
    entries: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    bad: list[BadLine] = field(default_factory=list)
    left_out: int = 0

    def refuse(self, number: int, reason: str) -> None:
        """Count a line that is left out."""
        self.left_out += 1
        if len(self.bad) < MOST_NAMED:
            self.bad.append(BadLine(number, reason))


class Reader:
    """A file on its way in. First `survey`, which raises PublicError where nothing can be used, then `entries`."""

    def __init__(self, file: Path, *, source: str = "", name: str = "") -> None:
        if name and name not in FORMATS:
            raise PublicError(f"{name!r} is no format that I can read; write {', '.join(FORMATS)}.")
        self.file, self._source, self._name = file, source or file.name, name
        self.encoding = encoding_of(file)

    def survey(self) -> Seen:
        """What the file holds. Nothing is imported so far."""
        seen = Seen(self.encoding)
        for _ in self.entries(seen):
            pass
        if not seen.entries:
            raise PublicError(_nothing(self.file, seen))
        return seen

    def entries(self, seen: Seen | None = None) -> Iterator[NewEntry]:
        """Each question once, in the order of the file."""
        seen = seen or Seen(self.encoding)
        with Known() as known:
            yield from self._once(seen, known)

    def _once(self, seen: Seen, known: Known) -> Iterator[NewEntry]:
        record = 0
        for number, piece in self.pieces(seen):
            first, record = number != record, number
            if piece.system:
                seen.lost[SYSTEM] += 1
            if piece.rejected:
                seen.lost[REJECTED] += 1
            if len(piece.asked) > 1 and not first:
                seen.lost[LATER] += 1
                continue
            entry = _entry(piece, self._source)
            if isinstance(entry, str):
                seen.refuse(number, entry)
                continue
            key = bytes.fromhex(question_hash(entry.question)[:32])
            if (before := known.line_of(key, number)) != number:
                seen.refuse(number, f"the same question as line {before}")
                continue
            seen.entries += 1
            yield entry

    def pieces(self, seen: Seen) -> Iterator[tuple[int, Piece]]:
        """What the file teaches, with the line it begins on."""
        for number, record in self._records():
            if isinstance(record, str):
                seen.refuse(number, record)
                continue
            name = self._name if self._name in SHAPES else format_of(record)
            try:
                found = pieces_of(record, name)
            except Unusable as why:
                seen.refuse(number, str(why))
                continue
            seen.formats[self._kind() or name] += 1
            yield from ((number, piece) for piece in found)

    def _kind(self) -> str:
        suffix = self.file.suffix.lower()
        if self._name:
            return self._name if self._name not in SHAPES else ""
        return "markdown" if suffix in MARKDOWN else "csv" if suffix in TABLES else ""

    def _records(self) -> Iterator[Record]:
        kind = self._kind()
        with self.file.open(encoding=CODECS[self.encoding]) as opened:
            if kind == "markdown":
                yield from markdown_records(lines_of(opened))
            elif kind == "csv":
                yield from table_records(opened, QUESTION, ANSWER)
            else:
                yield from json_records(opened)


def read_faq(file: Path, *, source: str = "") -> Faq:
    """All of a small file. Raises PublicError when nothing in it can be used."""
    reader = Reader(file, source=source)
    seen = reader.survey()
    return Faq(tuple(reader.entries()), tuple(seen.bad))


def _nothing(file: Path, seen: Seen) -> str:
    first = f" Line {seen.bad[0].number}: {seen.bad[0].reason}." if seen.bad else " It is empty."
    if not seen.bad and seen.lost:
        first = f" A record {seen.lost.most_common(1)[0][0]}."
    return (
        f"{file} holds no question and answer that I can read.{first} "
        'Write one JSON object a line, {"question": "...", "answer": "..."}, or a CSV with these columns.'
    )


def _entry(piece: Piece, source: str) -> NewEntry | str:
    """The entry of a piece, or why it is none."""
    if not piece.liked or len(piece.asked) > 1:
        return ONLY_LATER if piece.liked else DISLIKED
    question, answer = piece.asked[0][1], piece.answer
    if unstorable := _unstorable(f"{question}{answer}{piece.topic}{piece.thread}"):
        return f"it holds {unstorable}, which cannot be stored"
    if not question.strip() or not answer.strip():
        return f"the {'question' if not question.strip() else 'answer'} is empty"
    if max(len(question), len(answer)) > LONGEST:
        return f"longer than {LONGEST:,} characters"
    split = piece.split.strip().lower()
    split = "train" if split in WATCHED else split
    if split not in SPLITS:
        return f'split is {split!r}; write "train", "test" or nothing'
    return NewEntry(
        question=question.strip(),
        answer=answer.strip(),
        source=source,
        topic=piece.topic,
        thread=f"{source}/{piece.thread}" if piece.thread else "",
        split=SPLITS[split],
    )


def _unstorable(text: str) -> str:
    """Characters that a database refuses: JSON can write them, UTF-8 or PostgreSQL cannot."""
    if "\0" in text:
        return "a NUL character"
    return "half a character (a lone surrogate)" if HALF.search(text) else ""
