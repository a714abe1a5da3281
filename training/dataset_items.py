"""What was found to learn from, in a file: the words themselves on disk, and in memory what is needed to choose among them.

A record is a few texts with a character between them that none but the last of them can hold. In memory a row takes about
110 bytes. Several processes write a file each; `Items` reads them all together.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from storage.feedback import Vote
from storage.values import Message
from training.examples import Example, Preference
from training.wording import normal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

EXAMPLE, PREFERENCE = 0, 1
KEY_BYTES = 32
DECLARED = ("", "train", "validation", "test", "retired")
CODES = {name: code for code, name in enumerate(DECLARED)}

Strike = Callable[[str], str]
"""Strikes secrets and personal data out of a text."""


class Record(NamedTuple):
    """A row's words. `authors` and `messages` are JSON; `chosen` and `rejected`, JSON too, are there in a preference.

    `question` is as `normal` gives it, to be compared with others.
    """

    subject: str
    question: str
    origin: str
    authors: str
    messages: str
    chosen: str
    rejected: str
    thread: str


def _of(code: str) -> Callable[[], "array[int]"]:
    return lambda: array(code)


@dataclass(slots=True)
class Columns:
    """What is needed to choose, a number for each row; people by their place in `people`, of whom the first is nobody.

    `votes` says how many votes a row has; who gave them, and what they are, is in `voters` and `values`, in that order.
    `marks` and `threads` are 64 bits of the question and of its thread.
    """

    keys: bytearray = field(default_factory=bytearray)
    kinds: "array[int]" = field(default_factory=_of("B"))
    ranks: "array[int]" = field(default_factory=_of("B"))
    said_at: "array[int]" = field(default_factory=_of("q"))
    declared: "array[int]" = field(default_factory=_of("B"))
    askers: "array[int]" = field(default_factory=_of("I"))
    writers: "array[int]" = field(default_factory=_of("I"))
    votes: "array[int]" = field(default_factory=_of("I"))
    voters: "array[int]" = field(default_factory=_of("I"))
    values: "array[int]" = field(default_factory=_of("b"))
    marks: bytearray = field(default_factory=bytearray)
    threads: bytearray = field(default_factory=bytearray)
    sizes: "array[int]" = field(default_factory=_of("I"))
    people: dict[str, int] = field(default_factory=lambda: {"": 0})


def save_columns(columns: Columns, path: Path) -> None:
    """Write them for another process: a line of JSON, then the numbers as they lie in memory."""
    names = [each.name for each in fields(Columns) if each.name != "people"]
    parts = [memoryview(getattr(columns, name)).cast("B") for name in names]
    sizes = {name: part.nbytes for name, part in zip(names, parts, strict=True)}
    with path.open("wb") as file:
        file.write(json.dumps({"people": list(columns.people), "sizes": sizes}).encode() + b"\n")
        for part in parts:
            file.write(part)


def load_columns(path: Path) -> Columns:
    """What `save_columns` wrote."""
    columns = Columns()
    with path.open("rb") as file:
        told = json.loads(file.readline())
        columns.people = {person: number for number, person in enumerate(told["people"])}
        for name, size in told["sizes"].items():
            numbers, found = getattr(columns, name), file.read(size)
            numbers.extend(found) if isinstance(numbers, bytearray) else numbers.frombytes(found)
    return columns


class ItemFile:
    """Writes rows into a file."""

    def __init__(self, path: Path, *, system: str = "", strike: Strike = str) -> None:
        self.path, self.columns = path, Columns()
        self._system = [f'{{"content": {_quoted(system)}, "role": "system"}}'] if system else []
        self._strike = strike
        self._file = path.open("wb", buffering=1 << 20)

    def add(self, examples: Iterable[Example], preferences: Iterable[Preference]) -> None:
        """Keep a page of what was found."""
        for example in examples:
            self._example(example)
        for preference in preferences:
            self._preference(preference)

    def flush(self) -> None:
        """Everything can be read from the file by now."""
        self._file.flush()

    def close(self) -> None:
        """Nothing more comes."""
        self._file.close()

    def _example(self, each: Example) -> None:
        columns, people = self.columns, self.columns.people
        answer = f'{{"content": {_quoted(self._strike(each.answer.strip()))}, "role": "assistant"}}'
        messages = f"[{self._messages(each.turns)}, {answer}]"
        columns.askers.append(people.setdefault(each.asker, len(people)))
        columns.writers.append(people.setdefault(each.writer, len(people)))
        votes = each.votes
        columns.votes.append(len(votes))
        for vote in votes:
            columns.voters.append(people.setdefault(vote.rater, len(people)))
            columns.values.append(vote.value)
        columns.declared.append(CODES[each.split])
        self._row(EXAMPLE, each, each.rank, messages)

    def _preference(self, each: Preference) -> None:
        columns = self.columns
        chosen, rejected = (_quoted(self._strike(text.strip())) for text in (each.chosen, each.rejected))
        columns.askers.append(0)
        columns.writers.append(0)
        columns.votes.append(0)
        columns.declared.append(0)
        self._row(PREFERENCE, each, 0, f"[{self._messages(each.turns)}]", chosen, rejected)

    def _row(self, kind: int, each: Example | Preference, rank: int, messages: str, *more: str) -> None:
        columns, key = self.columns, each.key.encode()
        question = each.compared or normal(each.turns[-1].content)
        columns.keys += key if len(key) == KEY_BYTES else key.ljust(KEY_BYTES, b"\0")[:KEY_BYTES]
        columns.kinds.append(kind)
        columns.ranks.append(rank)
        columns.said_at.append(each.said_at)
        columns.marks += mark(question)
        columns.threads += mark(each.thread)
        record = (each.id, question, each.origin, _names(each.authors), messages, *(more or _NOTHING_MORE))
        written = _BETWEEN.join((*record, each.thread)).encode("utf-8", "surrogatepass")
        columns.sizes.append(len(written))
        self._file.write(written)

    def _messages(self, turns: Sequence[Message]) -> str:
        """As `json.dumps` with sorted keys would write them, in a third of the time."""
        strike = self._strike
        told = [f'{{"content": {_quoted(strike(turn.content))}, "role": "{turn.role}"}}' for turn in turns]
        return ", ".join([*self._system, *told])


class Items:
    """All rows of several files. The attributes are as in `Columns`, for all rows and all people together."""

    def __init__(self, files: Sequence[tuple[Path, Columns]]) -> None:
        import numpy as np

        self.people: list[str] = []
        numbers: dict[str, int] = {}
        renamed = [
            np.array([numbers.setdefault(person, len(numbers)) for person in columns.people], np.uint32)
            for _, columns in files
        ]
        self.people = list(numbers)
        several = [columns for _, columns in files]

        def joined(name: str, kind: Any) -> "Array":
            return np.concatenate(
                [np.empty(0, kind), *(np.frombuffer(getattr(each, name), kind) for each in several)]
            )

        def persons(name: str) -> "Array":
            theirs = [np.frombuffer(getattr(each, name), np.uint32) for each in several]
            return np.concatenate(
                [
                    np.empty(0, np.uint32),
                    *(to[some] for to, some in zip(renamed, theirs, strict=True)),
                ]
            )

        self.keys = joined("keys", f"S{KEY_BYTES}")
        self.kinds, self.ranks = joined("kinds", np.uint8), joined("ranks", np.uint8)
        self.said_at, self.declared = joined("said_at", np.int64), joined("declared", np.uint8)
        self.askers, self.writers, self.voters = persons("askers"), persons("writers"), persons("voters")
        self.votes, self.values = joined("votes", np.uint32), joined("values", np.int8)
        self.first_vote = np.cumsum(self.votes, dtype=np.int64) - self.votes
        self.marks, self.threads = joined("marks", np.uint64), joined("threads", np.uint64)
        self._sizes = joined("sizes", np.uint32)
        ends = [np.cumsum(np.frombuffer(each.sizes, np.uint32), dtype=np.int64) for each in several]
        starts = [
            each - np.frombuffer(columns.sizes, np.uint32)
            for each, columns in zip(ends, several, strict=True)
        ]
        self._starts = np.concatenate([np.empty(0, np.int64), *starts])
        self._of_file = np.repeat(np.arange(len(several), dtype=np.uint8), [len(each) for each in starts])
        self._files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path, _ in files]

    def __len__(self) -> int:
        return len(self.kinds)

    def read(self, rows: "Array") -> Iterator[Record]:
        """The words of these rows."""
        return map(Record._make, self.raw(rows))

    def raw(self, rows: "Array") -> list[list[str]]:
        """The same as plain lists, for whoever reads a million."""
        files, pread, last = self._files, os.pread, len(Record._fields) - 1
        where = zip(
            self._of_file[rows].tolist(), self._sizes[rows].tolist(), self._starts[rows].tolist(), strict=True
        )
        return [
            pread(files[file], size, start).decode("utf-8", "surrogatepass").split(_BETWEEN, last)
            for file, size, start in where
        ]

    def votes_of(self, row: int) -> list[Vote]:
        """The votes on a row."""
        first, count = int(self.first_vote[row]), int(self.votes[row])
        voters = self.voters[first : first + count].tolist()
        values = self.values[first : first + count].tolist()
        return [Vote(self.people[voter], value) for voter, value in zip(voters, values, strict=True)]

    def key(self, row: int) -> str:
        """The row's key."""
        return bytes(self.keys[row]).decode()

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop())


def mark(text: str) -> bytes:
    """64 bits for a text, not all of them 0; eight zeros for an empty one."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() if text else _NO_MARK


_NO_MARK = bytes(8)
_NOTHING_MORE = ("", "")
# No id holds it, JSON escapes it, and a question as it is compared has no blank but the space. A thread may be anything.
_BETWEEN = "\x1f"
_quoted: Callable[[str], str] = json.encoder.encode_basestring


@lru_cache(maxsize=10_000)
def _names(people: tuple[str, ...]) -> str:
    return json.dumps(people, ensure_ascii=False)
