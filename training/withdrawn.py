"""The questions that earlier datasets hold and today's rows do not: withdrawn, deleted, rejected since.

They keep their places (`training.splits`): added to the clusters, they keep a new near-duplicate of theirs from the other
side. What was taken out of a dataset (`training.datasets.erase`) is not found, nor need it be: no dataset holds it any more.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_FILES = (
    *(f"{split}.jsonl" for split in ("train", "validation", "test")),
    "preferences.jsonl",
    "unpaired.jsonl",
)
_ID_DIGITS = 16
_ID = re.compile(r'"id": ?"([^"]*)"')


class Withdrawn(NamedTuple):
    """A question that an earlier dataset holds; `key` is the 32 digits by which its place is known."""

    key: str
    question: str


def withdrawn(datasets: Iterable[Path], missing: Collection[str]) -> Iterator[Withdrawn]:
    """Those of the `missing` keys whose questions are found in the frozen datasets, each once; reads nothing if none is.

    Streams the datasets in the order given and stops when all are found: give the newest first.
    """
    wanted: dict[str, str] = {key[:_ID_DIGITS]: key for key in missing}
    for path in datasets:
        for name in _FILES:
            if not wanted:
                return
            yield from _found(path / name, wanted)


def _found(file: Path, wanted: dict[str, str]) -> Iterator[Withdrawn]:
    if not file.exists():
        return
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            # Reading the whole line only where it is wanted makes a million of them a matter of two seconds.
            told = _ID.search(line)
            key = wanted.pop(told[1], None) if told else None
            if key is not None:
                yield Withdrawn(key, _question(json.loads(line)))
            if not wanted:
                return


def _question(row: Mapping[str, list[Mapping[str, str]]]) -> str:
    asked = [turn["content"] for turn in row["messages"] if turn["role"] == "user"]
    return asked[-1] if asked else ""
