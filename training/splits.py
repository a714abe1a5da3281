"""Which side of a dataset every question is on, decided for whole clusters, append-only over all versions.

The promise: nobody who was ever tested, and no near-duplicate of theirs, is ever trained on; nobody who was ever trained on,
and no near-duplicate of theirs, is ever tested. So a place once given never changes, except to RETIRED: in no dataset from
then on. What happens in a cluster is told by the places that its members have already (its sides):

- nobody has one: the cluster is new. A member declared "test" makes it test; else it goes where the salted hash of its
  smallest key says, and not to the test side if a member is declared "train".
- all who have one are on one side: whoever is new joins them. But who is declared "test" while the others are trained on is
  retired: the operator wants it not trained on, and it would be an easy question by now.
- sides meet (a new question is a bridge between them, or joins two threads): who is on the side that is held out most (test
  before validation before train) stays; everybody else there is retired, the bridge first of all. So test and train: the old
  test questions stay. Test and validation: a model was chosen by the one, so it must not also be judged by the other.
  Validation and train: validation stays, a validation of what was trained on would tell nothing.
- somebody is retired: it was on some side, or between two, and nobody knows any more which; the others keep their places,
  and whoever is new is retired.

Members that are gone from today's rows (withdrawn, deleted) still count, or a new near-duplicate of theirs could land on the
other side: whoever freezes adds the questions of earlier versions to the clusters (`training.withdrawn`). Assigning again
with the places that came out changes nothing. A dataset too small to have drawn a validation row borrows some: `lend`.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN, TRAIN, VALIDATION, TEST, RETIRED = range(5)
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.10
LENT_SHARE = 0.05

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Assigned:
    """For each question its split (a code) and the name of its cluster: the smallest key in it (S32)."""

    splits: Codes
    clusters: NDArray[np.bytes_]


def assign(keys: Any, roots: Any, known: Any, declared: Any, *, salt: str) -> Assigned:
    """Place everybody: `keys` are S32, `roots` as `Clusters.roots` gives them, `known` and `declared` a code for each.

    Pure, and independent of the order in which the questions come.
    """
    keys, known, declared = (
        np.asarray(keys, "S32"),
        np.asarray(known, np.uint8),
        np.asarray(declared, np.uint8),
    )
    cluster = np.unique(np.asarray(roots), return_inverse=True)[1]
    if not len(keys):
        return Assigned(np.empty(0, np.uint8), np.empty(0, "S32"))
    smallest = _smallest(keys, cluster)
    sides = np.stack([_any(known == code, cluster, len(smallest)) for code in range(5)])
    held_out = np.max(np.arange(RETIRED)[:, None] * sides[:RETIRED], axis=0).astype(np.uint8)
    met = sides[TRAIN:].sum(axis=0) > 1
    arriving = np.where(met | sides[RETIRED], RETIRED, held_out).astype(np.uint8)
    fresh = np.flatnonzero(arriving == UNKNOWN)
    arriving[fresh] = _drawn(
        keys[smallest[fresh]],
        _any(declared == TEST, cluster, len(smallest))[fresh],
        _any(declared == TRAIN, cluster, len(smallest))[fresh],
        salt,
    )
    splits = np.where(known == UNKNOWN, arriving[cluster], known)
    splits[met[cluster] & (known != held_out[cluster])] = RETIRED
    splits[(declared == TEST) & (splits == TRAIN)] = RETIRED
    return Assigned(splits.astype(np.uint8), keys[smallest[cluster]])


def place(key: str, *, salt: str) -> float:
    """Where the salted hash puts a new cluster, from 0 up to 1: below `TEST_SHARE` is test, then comes validation."""
    return int.from_bytes(hashlib.sha256(f"{salt}/{key}".encode()).digest()[:8]) / 2**64


def lend(splits: Any, clusters: Any, known: Any = None) -> NDArray[np.intp]:
    """Who steps in (by number) for a validation side that nobody was drawn for: about 5 % of the training questions.

    Whole clusters, the smallest first, and only such as nobody of was trained on before (`known`: where each stood, as for
    `assign`); never all of them, and none where there is a validation side. Given the place VALIDATION before anything is
    frozen they stay on that side, so that lending is append-only, too.
    """
    splits = np.asarray(splits)
    train = np.flatnonzero(splits == TRAIN)
    if np.any(splits == VALIDATION) or len(train) < 2:
        return np.empty(0, np.intp)
    names, cluster, sizes = np.unique(np.asarray(clusters)[train], return_inverse=True, return_counts=True)
    wanted = max(1, int(len(train) * LENT_SHARE))
    # The smallest first: a dataset that is one big thread and a few questions keeps its thread in training.
    order = np.lexsort((names, sizes))[: len(names) - 1]
    if known is not None:
        names_of_known = np.unique(np.asarray(clusters)[np.asarray(known) != UNKNOWN])
        order = order[~np.isin(names[order], names_of_known)]
    lent = order[: np.searchsorted(np.cumsum(sizes[order]), wanted) + 1]
    return np.asarray(train[np.isin(cluster, lent)], np.intp)


def _drawn(names: Any, test: Any, train: Any, salt: str) -> Codes:
    """The sides of new clusters, by their names, and whether somebody there is declared test or train."""
    places = np.fromiter((place(key.decode(), salt=salt) for key in names.tolist()), float, len(names))
    sides = np.where(places < TEST_SHARE + VALIDATION_SHARE, VALIDATION, TRAIN)
    sides[places < TEST_SHARE] = TEST
    sides[train & (places < TEST_SHARE)] = TRAIN
    sides[test] = TEST
    return sides.astype(np.uint8)


def _smallest(keys: Any, cluster: Any) -> NDArray[np.intp]:
    """For each cluster the number of its member with the smallest key."""
    order = np.lexsort((keys, cluster))
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    return np.asarray(order[first], np.intp)


def _any(which: Any, cluster: Any, clusters: int) -> NDArray[np.bool_]:
    """For each cluster whether this holds for somebody in it."""
    return np.bincount(cluster[which], minlength=clusters) > 0
