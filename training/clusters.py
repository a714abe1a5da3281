"""Which questions belong together: near-duplicates, and phrasings of one thread. They are never parted between splits.

Two questions are near-duplicates where more than `threshold` of their runs of five characters, or of their runs of five
words, are the same (Jaccard, of the question in lower case, words joined by one space). Candidates come from MinHash bands
and every one is verified with the texts themselves: nothing is joined by an estimate, and less than one in 10,000 pairs at
the threshold is overlooked (`training.sketches`). The texts and sketches lie in files; a million questions take about
250 MB of memory.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.shingles import LONG, characters, likenesses, normal, words
from training.sketches import CHARACTERS, CHUNK, CROWD, WORDS, Rows, Sketches, alike

THRESHOLD = 0.6

_AT_ONCE = 8  # bands whose candidates are verified together
_PAIRS = 4096
_WAITING = 3  # chunks that wait to be sketched
_WORKERS = 2


class Clusters:
    """Gathers questions, in any number of pages, and tells which belong together.

    The same questions in the same order give the same clusters. `folder` is for its files and belongs to the caller.
    """

    def __init__(self, folder: Path, *, threshold: float = THRESHOLD) -> None:
        self._texts = _Texts(folder / "texts")
        self._threshold = threshold
        self._pool = ThreadPoolExecutor(_WORKERS, "clusters")
        self._sides = [
            _Side(Sketches(folder / "characters", CHARACTERS, characters), characters, self._pool),
            _Side(Sketches(folder / "words", WORDS, words), words, self._pool),
        ]
        self._same: list[NDArray[np.uint64]] = []
        self._threads: list[NDArray[np.uint64]] = []
        self._count = 0
        self._roots: NDArray[np.int64] | None = None

    def add(self, keys: Sequence[str], questions: Sequence[str], threads: Sequence[str]) -> None:
        """Add questions; an empty thread joins nothing. Raises OSError where the disk is full, ValueError after `roots`."""
        if not len(keys) == len(questions) == len(threads):
            raise ValueError(f"{len(keys)} keys, {len(questions)} questions, {len(threads)} threads")
        texts = [normal(question) for question in questions]
        self.add_compared(texts, _marks(texts), _marks(threads))

    def add_compared(
        self, texts: Sequence[str], marks: NDArray[np.uint64], threads: NDArray[np.uint64]
    ) -> None:
        """The same for questions as `normal` gives them, with 64 bits of each question and each thread, 0 for no thread."""
        if self._roots is not None:
            raise ValueError("The clusters are told already; nothing can be added to them.")
        self._same.append(marks)
        self._threads.append(threads)
        self._texts.add(texts)
        characters_of, words_of = self._sides
        for row, text in enumerate(texts, self._count):
            characters_of.add(row, text)
            if text.count(" ") >= LONG:
                words_of.add(row, text)
        self._count += len(texts)

    def roots(self) -> NDArray[np.int64]:
        """For each question, in the order of adding, the number of the first one of its cluster."""
        if self._roots is None:
            joined = _Joined(self._count)
            for marks in (self._same, self._threads):
                joined.join(*_first_of_each(marks))
            for side in self._sides:
                self._join(side, joined)
            self._roots = joined.roots().astype(np.int64)
        return self._roots

    def _join(self, side: "_Side", joined: "_Joined") -> None:
        """Union whoever is verified to be near-duplicates by this kind of shingles."""
        members = side.finished()
        count = len(members)
        bands = side.sketches.shape.bands()
        rows = side.sketches.rows(count)
        fewest = side.sketches.shape.fewest(self._threshold)

        def found(band: tuple[int, ...], roots: Rows, furthest: int) -> list[NDArray[np.uint64]]:
            kept = []
            for first, second in side.sketches.meetings(band, roots, furthest=furthest):
                for part in range(0, len(first), 1 << 16):
                    some, others = first[part : part + (1 << 16)], second[part : part + (1 << 16)]
                    near = alike(rows, some, others) >= fewest
                    kept.append(_packed(some[near], others[near]))
            return kept

        refused = np.empty(0, np.uint64)
        for some, furthest in _rounds(bands):
            roots = joined.roots()[members]
            several = [roots] * len(some), [furthest] * len(some)
            met = [part for parts in self._pool.map(found, some, *several) for part in parts]
            pairs = np.sort(np.concatenate([np.empty(0, np.uint64), *met]))
            pairs = pairs[np.diff(pairs, prepend=~pairs[:1]) != 0]
            refused = self._verify(side, members, _without(pairs, refused), joined, refused)

    def _verify(
        self,
        side: "_Side",
        members: Rows,
        pairs: NDArray[np.uint64],
        joined: "_Joined",
        refused: NDArray[np.uint64],
    ) -> NDArray[np.uint64]:
        """Join the pairs that are near-duplicates; gives the ones that are not, with those `refused` before."""
        not_alike = [refused]
        for start in range(0, len(pairs), _PAIRS):
            some = pairs[start : start + _PAIRS]
            first, second = (members[each] for each in _unpacked(some))
            apart = joined.of(first) != joined.of(second)
            some, first, second = some[apart], first[apart], second[apart]
            if not len(some):
                continue
            how_alike = likenesses(side.cut(self._texts.read(first)), side.cut(self._texts.read(second)))
            near = how_alike > self._threshold
            joined.join(first[near], second[near])
            not_alike.append(some[~near])
        return np.sort(np.concatenate(not_alike)) if len(not_alike) > 1 else refused

    def close(self) -> None:
        """Let go of the files; the folder's owner removes them."""
        self._pool.shutdown(cancel_futures=True)
        for side in self._sides:
            side.sketches.close()
        self._texts.close()


class _Side:
    """One kind of shingles: which questions have been sketched by it, in chunks, on other threads."""

    def __init__(self, sketches: Sketches, cut: Any, pool: ThreadPoolExecutor) -> None:
        self.sketches, self.cut, self._pool = sketches, cut, pool
        self._members: list[NDArray[np.int32]] = []
        self._rows: list[int] = []
        self._texts: list[str] = []
        self._going: deque[Future[None]] = deque()

    def add(self, row: int, text: str) -> None:
        self._rows.append(row)
        self._texts.append(text)
        if len(self._texts) == CHUNK:
            self._send()

    def _send(self) -> None:
        while len(self._going) >= _WAITING:
            self._going.popleft().result()
        self._going.append(self._pool.submit(self.sketches.write, len(self._members), self._texts))
        self._members.append(np.array(self._rows, np.int32))
        self._rows, self._texts = [], []

    def finished(self) -> Rows:
        """The questions' numbers, by their place in the sketches, when all are written."""
        if self._texts:
            self._send()
        while self._going:
            self._going.popleft().result()
        return np.concatenate([np.empty(0, np.int32), *self._members])


class _Texts:
    """The normalised questions in a file, read back by their numbers."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._lengths: list[NDArray[np.int32]] = []
        self._starts = np.empty(0, np.int64)

    def add(self, texts: Sequence[str]) -> None:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._lengths.append(np.fromiter(map(len, encoded), np.int32, len(encoded)))
        self._file.write(b"".join(encoded))

    def read(self, rows: Rows) -> list[str]:
        if not len(self._starts):
            self._file.flush()
            self._starts = np.concatenate(([0], np.cumsum(np.concatenate(self._lengths), dtype=np.int64)))
        file, starts, ends = self._file.fileno(), self._starts[rows].tolist(), self._starts[rows + 1].tolist()
        return [
            os.pread(file, end - start, start).decode("utf-8", "surrogatepass")
            for start, end in zip(starts, ends, strict=True)
        ]

    def close(self) -> None:
        self._file.close()


class _Joined:
    """Union-find over numbers; the root of a cluster is its lowest number."""

    def __init__(self, count: int) -> None:
        self._above = np.arange(count, dtype=np.int32)

    def roots(self) -> Rows:
        """The root of everybody."""
        self._above = self.of(self._above)
        return self._above

    def of(self, numbers: Rows) -> Rows:
        """The roots of these."""
        while True:
            higher = self._above[numbers]
            if np.array_equal(higher, numbers):
                return numbers
            numbers = higher

    def join(self, first: Rows, second: Rows) -> None:
        """Each of `first` belongs with the one beside it."""
        while len(first):
            first, second = self.of(first), self.of(second)
            apart = first != second
            first, second = first[apart], second[apart]
            np.minimum.at(self._above, np.maximum(first, second), np.minimum(first, second))


def _marks(texts: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits for each text; 0 for an empty one."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() if text else bytes(8)
        for text in texts
    ]
    return np.frombuffer(b"".join(digests), np.uint64)


def _first_of_each(marks: Sequence[NDArray[np.uint64]]) -> tuple[Rows, Rows]:
    """Pairs of a number and the first one that has the same mark."""
    every = np.concatenate([np.empty(0, np.uint64), *marks])
    order = np.argsort(every, kind="stable").astype(np.int32)
    ordered = every[order]
    again = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0))
    return order[again], order[again + 1]


def _rounds(bands: list[tuple[int, ...]]) -> Iterator[tuple[list[tuple[int, ...]], int]]:
    """Which bands are looked at together, and how far apart in a bucket who is compared."""
    # Copies of one question are joined by their neighbours at once: then no bucket of them has anybody to compare.
    yield bands[:2], 2
    for start in range(0, len(bands), _AT_ONCE):
        yield bands[start : start + _AT_ONCE], CROWD


def _packed(first: Rows, second: Rows) -> NDArray[np.uint64]:
    return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)


def _unpacked(pairs: NDArray[np.uint64]) -> Iterator[Rows]:
    yield (pairs >> np.uint64(32)).astype(np.int32)
    yield (pairs & np.uint64(0xFFFFFFFF)).astype(np.int32)


def _without(pairs: NDArray[np.uint64], refused: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if not len(refused):
        return pairs
    places = np.minimum(np.searchsorted(refused, pairs), len(refused) - 1)
    return np.asarray(pairs[refused[places] != pairs], np.uint64)
