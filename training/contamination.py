"""Whether what a model is judged by was trained on: the rows of a training file that are near-duplicates of given questions.

Exact, nothing is estimated: two texts that are alike enough share a run among the rarest of each (the prefix filter), so
only such pairs are compared, and all of them are. The training rows stream; the questions (golden items, a test split,
probes) stay in memory, about a kilobyte each.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.shingles import Cut, Shingles, characters, likenesses, normal, owners, words

THRESHOLD = 0.6

_AT_ONCE = 2000
_PAIRS = 4096
_CUTS: tuple[Cut, ...] = (characters, words)


class Contamination(NamedTuple):
    """A training row (counted from 0) that is a near-duplicate of a question (its index), and how alike they are, to 1."""

    row: int
    item: int
    likeness: float


class Judged:
    """The questions that must not be trained on."""

    def __init__(self, questions: Sequence[str], *, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._texts = [normal(question) for question in questions]
        self._indexes = [_Index(self._texts, cut, threshold) for cut in _CUTS if self._texts]

    def among(self, trained: Iterable[str]) -> Iterator[Contamination]:
        """Each pair of a training row and a question that is alike enough, by row, then by question."""
        rows, first = iter(trained), 0
        while some := [normal(question) for question in islice(rows, _AT_ONCE)]:
            found: dict[tuple[int, int], float] = {}
            for index in self._indexes:
                for row, item, likeness in self._near(index, some):
                    found[row, item] = max(likeness, found.get((row, item), 0.0))
            for (row, item), likeness in sorted(found.items()):
                yield Contamination(first + row, item, likeness)
            first += len(some)

    def _near(self, index: "_Index", some: list[str]) -> Iterator[tuple[int, int, float]]:
        pairs = index.candidates(some)
        for start in range(0, len(pairs), _PAIRS):
            part = pairs[start : start + _PAIRS]
            rows, items = (part >> np.uint64(32)).tolist(), (part & np.uint64(0xFFFFFFFF)).tolist()
            how_alike = likenesses(
                index.cut([some[row] for row in rows]), index.cut([self._texts[item] for item in items])
            ).tolist()
            for row, item, likeness in zip(rows, items, how_alike, strict=True):
                if likeness > self._threshold:
                    yield row, item, likeness


class _Index:
    """Which questions hold a run among their rarest ones."""

    def __init__(self, texts: Sequence[str], cut: Cut, threshold: float) -> None:
        self.cut, self._threshold = cut, threshold
        every = cut(texts)
        self._runs, counts = np.unique(every.hashes, return_counts=True)
        self._rarity = np.empty(len(self._runs), np.int64)
        self._rarity[np.lexsort((self._runs, counts))] = np.arange(1, len(self._runs) + 1)
        texts_of, ranks = self._rarest(every)
        order = np.lexsort((texts_of, ranks))
        self._ranks, self._holders = ranks[order], texts_of[order].astype(np.uint64)

    def candidates(self, texts: Sequence[str]) -> NDArray[np.uint64]:
        """The pairs of a text and a question that may be alike enough: the text's number in the upper half."""
        texts_of, ranks = self._rarest(self.cut(texts))
        known = ranks > 0
        texts_of, ranks = texts_of[known].astype(np.uint64), ranks[known]
        begins = np.searchsorted(self._ranks, ranks)
        sizes = np.searchsorted(self._ranks, ranks, side="right") - begins
        places = np.repeat(begins - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        pairs = np.sort((np.repeat(texts_of, sizes) << np.uint64(32)) | self._holders[places])
        return np.asarray(pairs[np.diff(pairs, prepend=~pairs[:1]) != 0], np.uint64)

    def _rarest(self, cut: Shingles) -> tuple[Any, Any]:
        """The text and the rank of each run that is among its text's rarest: so many that two alike texts share one.

        Rank 0, the rarest, is for runs that no question has.
        """
        places = np.searchsorted(self._runs, cut.hashes)
        inside = np.minimum(places, len(self._runs) - 1)
        ranks = np.where(self._runs[inside] == cut.hashes, self._rarity[inside], 0)
        # A run that a text has twice is one; runs that nobody else has count each for itself.
        order = np.lexsort((cut.hashes, ranks, owners(cut)))
        texts_of, ranks, hashes = owners(cut)[order], ranks[order], cut.hashes[order]
        again = (np.diff(texts_of, prepend=-1) == 0) & (np.diff(hashes, prepend=~hashes[:1]) == 0)
        texts_of, ranks = texts_of[~again], ranks[~again]
        sizes = np.bincount(texts_of, minlength=len(cut.starts))
        nth = np.arange(len(texts_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        longest = sizes - np.ceil(self._threshold * sizes - 1e-9).astype(int) + 1
        kept = nth < longest[texts_of]
        return texts_of[kept], ranks[kept]
