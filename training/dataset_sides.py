"""On which side of a dataset each question lies: clusters of near-duplicates and threads, placed together and for ever.

The questions come in the order of their keys and are numbered so. numpy is imported where it is used: importing this module
loads nothing heavy.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.entries import NewEntry, question_hash
from training.dataset_files import read_manifest
from training.dataset_items import CODES, DECLARED, mark
from training.dataset_spool import AT_ONCE, Asked
from training.withdrawn import withdrawn
from training.wording import wording

if TYPE_CHECKING:
    import numpy as np

    from training.clusters import Clusters

    Array = np.ndarray[Any, Any]

CLUSTER_DIGITS = 16
SPLIT_NAMES = DECLARED


@dataclass
class Sides:
    """Where each question belongs: its key, the split it was placed in and its cluster, by the question's number.

    The first `questions` of them are today's; those behind them were withdrawn since an earlier dataset.
    """

    keys: "Array"
    known: "Array"
    splits: "Array"
    clusters: Any
    questions: int

    def split(self, number: int) -> str:
        """The split whose file holds the question."""
        return SPLIT_NAMES[int(self.splits[number])]

    def cluster(self, number: int) -> str:
        """The name of its cluster: a hash of the smallest key in it, so that it names no row."""
        return hashlib.sha256(b"cluster/" + bytes(self.clusters[number])).hexdigest()[:CLUSTER_DIGITS]

    def key(self, number: int) -> str:
        """The question's key."""
        return bytes(self.keys[number]).decode()


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions by their numbers: keys in order, what was declared of each, where it stood before."""

    keys: "Array"
    declared: "Array"
    known: "Array"
    today: int


def clustered(asked: Iterable[Asked], clusters: "Clusters") -> Questions:
    """Today's questions, all of them given to the clusters."""
    import numpy as np

    keys, declared = [np.empty(0, "S32")], [np.empty(0, np.uint8)]
    for page in asked:
        keys.append(page.keys)
        declared.append(page.declared)
        clusters.add_compared(page.texts, page.marks, page.threads)
    every = np.concatenate(declared)
    return Questions(np.concatenate(keys), every, np.zeros(len(every), np.uint8), len(every))


def withdrawn_too(
    today: Questions,
    known: "Array",
    missing: Mapping[str, int],
    datasets: Sequence[Path],
    clusters: "Clusters",
) -> Questions:
    """Today's questions and, behind them, those that were placed before and that earlier datasets still hold."""
    import numpy as np

    gone = list(withdrawn(datasets, missing)) if missing else []
    for start in range(0, len(gone), AT_ONCE):
        part = gone[start : start + AT_ONCE]
        clusters.add([each.key for each in part], [each.question for each in part], [""] * len(part))
    keys = np.array([each.key for each in gone], "S32")
    codes = np.array([missing[each.key] for each in gone], np.uint8)
    declared = np.concatenate([today.declared, np.zeros(len(gone), np.uint8)])
    return Questions(
        np.concatenate([today.keys, keys]), declared, np.concatenate([known, codes]), today.today
    )


def assigned(questions: Questions, roots: "Array", salt: str, answered: "Array | None" = None) -> Sides:
    """Where each question belongs, given where some of them stood before.

    `answered` says which of today's have an example: a validation side without any is lent some.
    """
    import numpy as np

    from training.splits import RETIRED, TRAIN, VALIDATION, assign, lend

    keys, known = questions.keys, questions.known
    found = assign(keys, roots, known, questions.declared, salt=salt)
    counting = found.splits.copy()
    if answered is not None:
        counting[: questions.today][~answered] = RETIRED
        counting[questions.today :] = RETIRED
    lending = found.clusters[lend(counting, found.clusters, known)]
    lent = np.flatnonzero((found.splits == TRAIN) & np.isin(found.clusters, lending))
    # Only who is new: what was trained on before tells nothing about when to stop.
    found.splits[lent[known[lent] == CODES[""]]] = VALIDATION
    return Sides(keys, known, found.splits, found.clusters, questions.today)


def look_up(keys: "Array", there: "Array", codes: "Array", known: "Array") -> "Array":
    """Sets `known` where a key is `there`; both are in order. Tells of each one `there` whether it is among the keys."""
    import numpy as np

    if not len(keys):
        return np.zeros(len(there), np.bool_)
    places = np.minimum(np.searchsorted(keys, there), len(keys) - 1)
    same: Array = keys[places] == there
    known[places[same]] = codes[same]
    return same


def splits_in(path: Path) -> dict[str, str]:
    manifest = read_manifest(path)
    return {row["id"]: row["split"] for row in manifest.get("rows", ())}


def evidence(thread: str) -> str:
    """Phrasings of one question that a file parted by hand are still one piece of evidence."""
    return hashlib.sha256(thread.encode()).hexdigest()[:CLUSTER_DIGITS]


def sides_of(entries: Sequence[NewEntry], *, salt: str, folder: Path) -> list[str]:
    """The split of each entry in a first dataset of nothing else; `folder` is empty and used for temporary files."""
    from training.clusters import Clusters

    order = sorted(range(len(entries)), key=lambda number: question_hash(entries[number].question))
    clusters = Clusters(folder)
    try:
        sides = assigned(
            clustered([_asked([entries[number] for number in order])], clusters), clusters.roots(), salt
        )
    finally:
        clusters.close()
    found = {number: sides.split(place) for place, number in enumerate(order)}
    return [found[number] for number in range(len(entries))]


def _asked(entries: Sequence[NewEntry]) -> Asked:
    import numpy as np

    worded = [wording(each.question) for each in entries]
    return Asked(
        np.array([each.key for each in worded], "S32"),
        [each.compared for each in worded],
        np.frombuffer(b"".join(mark(each.compared) for each in worded), np.uint64),
        np.frombuffer(b"".join(mark("" if each.split else each.thread) for each in entries), np.uint64),
        np.array([CODES[each.split] for each in entries], np.uint8),
    )
