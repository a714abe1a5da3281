"""What changed from one frozen dataset to another: rows added, removed, with other words, moved to another split.

Both lists of rows are read line by line, side by side; nothing is kept but counts and a few ids.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from training.dataset_files import count_rows, rows_of

ADDED, REMOVED, RELABELLED, MOVED, SAME = "added", "removed", "relabelled", "moved", "same"
CHANGES = (ADDED, REMOVED, RELABELLED, MOVED)
SHOWN = 20
WORDS = {
    ADDED: "added",
    REMOVED: "removed",
    RELABELLED: "with other words",
    MOVED: "moved to another split",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How many rows changed in which way since the dataset `parent` ("" where there is none), and the first ids of each."""

    parent: str
    counts: Mapping[str, int]
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether anything changed at all."""
        return any(self.counts.get(change) for change in CHANGES)

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        ids = {change: list(found) for change, found in self.ids.items()}
        return {"parent": self.parent, **self.counts, "ids": ids}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Difference | None":
        """What was stored; None where nothing was compared."""
        if "parent" not in stored:
            return None
        counts = {change: int(stored.get(change, 0)) for change in (*CHANGES, SAME)}
        ids = {change: tuple(found) for change, found in (stored.get("ids") or {}).items()}
        return cls(str(stored["parent"]), counts, ids)

    def in_words(self) -> str:
        """One sentence, such as "Since dataset 3f2a: 12 added, 3 removed; 140 as before."."""
        if not self.parent:
            return f"The first dataset of its kind: {self.counts[ADDED]:,} rows."
        changed = [f"{self.counts[each]:,} {WORDS[each]}" for each in CHANGES if self.counts[each]]
        told = ", ".join(changed) or "nothing changed"
        return f"Since dataset {self.parent[:12]}: {told}; {self.counts[SAME]:,} as before."


def compare(old: Path | None, new: Path, *, parent: str = "") -> Difference:
    """What changed from one dataset's folder to another's; without an old one everything was added."""
    if old is None:
        return _all_added(new, parent)
    return summed(changes(rows_of(old), rows_of(new)), parent)


def _all_added(new: Path, parent: str) -> Difference:
    shown = tuple(str(row["id"]) for row in islice(rows_of(new), SHOWN))
    counts = {**dict.fromkeys((*CHANGES, SAME), 0), ADDED: count_rows(new)}
    return Difference(parent, counts, {change: shown if change == ADDED else () for change in CHANGES})


def summed(found: Iterable[tuple[str, str]], parent: str) -> Difference:
    """Changes (kind, id) as counts and first ids."""
    counts = dict.fromkeys((*CHANGES, SAME), 0)
    ids: dict[str, list[str]] = {change: [] for change in CHANGES}
    for change, row in found:
        counts[change] += 1
        if change != SAME and len(ids[change]) < SHOWN:
            ids[change].append(row)
    return Difference(parent, counts, {change: tuple(rows) for change, rows in ids.items()})


def changes(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each row's (change, id), of two lists in the order of ids. A row that moved counts as moved, whatever its words."""
    for row_id, group in groupby(_merged(old, new), key=lambda each: str(each[1]["id"])):
        sides = dict(group)
        if len(sides) == 2:
            yield _change(sides[0], sides[1]), row_id
        else:
            yield (ADDED if 1 in sides else REMOVED), row_id


def _merged(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Both lists as one, each row with the side it comes from, the old one first where both have it."""
    left, right = iter(old), iter(new)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and str(a["id"]) <= str(b["id"])):
            assert a is not None
            yield 0, a
            a = next(left, None)
        else:
            yield 1, b
            b = next(right, None)


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old["split"] != new["split"]:
        return MOVED
    mark = "words" if "words" in old and "words" in new else "sha256"
    return SAME if old[mark] == new[mark] else RELABELLED
