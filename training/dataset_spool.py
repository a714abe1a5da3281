"""What was found to learn from while a dataset is frozen, given back in the order of the questions.

Pages are added as they come, here or by other processes into files of their own; `pick` chooses one example for each
question, `keep` drops what the caps leave out, `examples` and `preferences` give what was kept. The words lie in temporary
files, which go when the freeze ends; what is needed to choose is in memory, 200 bytes a row. Whatever order the rows come
in, the result is the same.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.dataset_items import (
    CODES,
    DECLARED,
    EXAMPLE,
    PREFERENCE,
    Columns,
    ItemFile,
    Items,
    Strike,
)
from training.examples import Example, Preference, Weigh

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["AT_ONCE", "CODES", "DECLARED", "EXAMPLE", "PREFERENCE", "Asked", "Picked", "Spool", "Strike"]

AT_ONCE = 5000


class Picked(NamedTuple):
    """The example that would count for each question, in the order of their keys; its row, its weight.

    `weight` is 0 where it counts only if fewer people are heard who dislike it. `declared` is the code of the split that was
    declared for the question.
    """

    rows: "Array"
    weights: "Array"
    declared: "Array"


class Asked(NamedTuple):
    """A page of the questions of a dataset to be, in the order of their keys.

    `texts` as they are compared, `marks` 64 bits of each, `threads` 64 bits of what joins phrasings, 0 for nothing;
    `declared` the codes of the splits that were declared for them.
    """

    keys: "Array"
    texts: list[str]
    marks: "Array"
    threads: "Array"
    declared: "Array"


class KeptExample(NamedTuple):
    """An example that was kept. `messages` and `authors` are JSON already; the last message is the answer."""

    number: int
    subject: str
    origin: str
    authors: str
    messages: str
    thread: str
    declared: str
    weight: float


class KeptDislike(NamedTuple):
    """An answer that people disliked; its texts are JSON already."""

    number: int
    subject: str
    origin: str
    authors: str
    messages: str
    completion: str


class KeptPreference(NamedTuple):
    """A preference that was kept; its texts are JSON already."""

    number: int
    subject: str
    origin: str
    authors: str
    messages: str
    chosen: str
    rejected: str


class _Kept(NamedTuple):
    """What was kept, in order: the row, its question's number, its weight (0: disliked), what was declared for it."""

    rows: "Array"
    numbers: "Array"
    weights: "Array"
    declared: "Array"


class Spool:
    """Everything that was found. Used by one thread at a time."""

    def __init__(self, folder: Path, *, system: str = "", strike: Strike = str) -> None:
        self._folder, self.system = folder, system
        self.strikes = strike is not str
        self._own = ItemFile(folder / "spool", system=system, strike=strike)
        self._others: list[tuple[Path, Columns]] = []
        self._items: Items | None = None
        self._order: Array | None = None
        self._kept: _Kept | None = None
        self.left_out: Counter[str] = Counter()

    def close(self) -> None:
        """Delete the files."""
        self._own.close()
        if self._items is not None:
            self._items.close()
        for path in (self._own.path, *(path for path, _ in self._others)):
            path.unlink(missing_ok=True)

    def add(self, examples: Sequence[Example], preferences: Sequence[Preference]) -> None:
        """Keep a page of what was found. Nothing can be added any more once `pick` was asked."""
        self._own.add(examples, preferences)

    def beside(self, name: str) -> Path:
        """A file for another process to write into."""
        return self._folder / f"spool-{name}"

    def join(self, path: Path, columns: Columns) -> None:
        """What another process found, too."""
        self._others.append((path, columns))

    @property
    def items(self) -> Items:
        """All rows."""
        if self._items is None:
            self._own.flush()
            self._items = Items([(self._own.path, self._own.columns), *self._others])
            self._own.columns = Columns()
            self._others = [(path, Columns()) for path, _ in self._others]
        return self._items

    def pick(self, weigh: Weigh) -> Picked:
        """Pick one example of each question, as the votes stand without any caps."""
        from training.dataset_picking import in_order, picked

        self._order = in_order(self.items)
        return picked(self.items, self._order, weigh, self.left_out)

    def keep(self, picked: Picked, weights: "Array", disliked: "Array | tuple[()]" = ()) -> Iterator[Asked]:
        """Keep what was picked and weighs more than 0 by `weights`, these `disliked` rows and all preferences.

        Gives the questions, in pages.
        """
        import numpy as np

        items = self.items
        weight_of = np.zeros(len(items))
        declared_of = np.zeros(len(items), np.uint8)
        weight_of[picked.rows], declared_of[picked.rows] = weights, picked.declared
        keeping = (weight_of > 0) | (items.kinds == PREFERENCE)
        weight_of[items.kinds == PREFERENCE] = 1.0
        keeping[np.asarray(disliked, np.intp)] = True
        order, self._order = self._order, None
        if order is None:
            raise ValueError("Nothing was picked yet.")
        rows = order[keeping[order]]
        keys = items.keys[rows]
        first = np.ones(len(rows), bool)
        first[1:] = keys[1:] != keys[:-1]
        numbers = np.cumsum(first, dtype=np.int32) - 1
        declared = np.zeros(int(first.sum()), np.uint8)
        np.maximum.at(declared, numbers, declared_of[rows])
        self._kept = _Kept(rows, numbers, weight_of[rows], declared[numbers])
        firsts = rows[first]
        del weight_of, declared_of, keys, keeping
        for start in range(0, len(firsts), AT_ONCE):
            some = firsts[start : start + AT_ONCE]
            sides = declared[start : start + AT_ONCE]
            # A file that declares a side for each phrasing has parted its threads itself.
            threads = np.where(sides > 0, np.uint64(0), items.threads[some])
            texts = [each[1] for each in items.raw(some)]
            yield Asked(items.keys[some], texts, items.marks[some], threads, sides)

    def examples(self) -> Iterator[KeptExample]:
        """The examples that were kept, in the order of their questions."""
        for rows, numbers, weights, declared in self._pages(self._liked()):
            for each, number, weight, code in zip(
                self.items.raw(rows), numbers.tolist(), weights.tolist(), declared.tolist(), strict=True
            ):
                subject, _, origin, authors, messages, _, _, thread = each
                yield KeptExample(number, subject, origin, authors, messages, thread, DECLARED[code], weight)

    def preferences(self) -> Iterator[KeptPreference]:
        """The preferences that were kept, in the order of their questions."""
        for rows, numbers, _, _ in self._pages(self.items.kinds[self._what_is_kept().rows] == PREFERENCE):
            for each, number in zip(self.items.read(rows), numbers.tolist(), strict=True):
                yield KeptPreference(
                    *(number, each.subject, each.origin, each.authors),
                    messages=each.messages,
                    chosen=each.chosen,
                    rejected=each.rejected,
                )

    def disliked(self) -> Iterator[KeptDislike]:
        """The disliked answers that were kept, in the order of their questions; of one question each text once."""
        last, seen = -1, set[str]()
        for rows, numbers, _, _ in self._pages(self._what_is_kept().weights == 0):
            for each, number in zip(self.items.read(rows), numbers.tolist(), strict=True):
                *asked, answer = json.loads(each.messages)
                seen = seen if number == last else set()
                last = number
                if answer["content"] in seen:
                    continue
                seen.add(answer["content"])
                messages, completion = (
                    json.dumps(part, ensure_ascii=False, sort_keys=True)
                    for part in (asked, answer["content"])
                )
                yield KeptDislike(number, each.subject, each.origin, each.authors, messages, completion)

    def count(self) -> int:
        """How many examples were kept."""
        return int(self._liked().sum())

    def _liked(self) -> "Array":
        kept = self._what_is_kept()
        liked: Array = (self.items.kinds[kept.rows] == EXAMPLE) & (kept.weights > 0)
        return liked

    def answered(self) -> "Array":
        """For each question whether an example of it was kept."""
        import numpy as np

        kept = self._what_is_kept()
        found = np.zeros(int(kept.numbers[-1]) + 1 if len(kept.numbers) else 0, np.bool_)
        found[kept.numbers[self._liked()]] = True
        return found

    def until(self) -> str:
        """The day (UTC) on which the newest of what was kept was said, such as "2026-11-23"."""
        rows = self._what_is_kept().rows
        newest = int(self.items.said_at[rows].max()) if len(rows) else 0
        return datetime.fromtimestamp(newest / 1_000_000, UTC).date().isoformat()

    def _what_is_kept(self) -> _Kept:
        if self._kept is None:
            raise ValueError("Nothing was kept yet.")
        return self._kept

    def _pages(self, which: "Array") -> Iterator[_Kept]:
        kept = self._what_is_kept()
        import numpy as np

        wanted = np.flatnonzero(which)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            yield _Kept(kept.rows[some], kept.numbers[some], kept.weights[some], kept.declared[some])
