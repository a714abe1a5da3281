"""MinHash sketches of many texts in a file, and the pairs of texts whose sketches meet: who may be near-duplicates.

A column is the least of a text's shingles under one random order, cut to 8 bits; two texts agree in it as often as they
are alike. Texts that agree in all columns of a band are candidates. The bands are drawn so that a pair with Jaccard 0.6 is
missed less than once in 10,000 (`miss` computes it), and unlike texts seldom meet. The order of work never changes what is
found. In a bucket of more than 64 everybody is compared with the first one and the nearest 16 only, so that pasting the same
question a hundred thousand times costs no more than their number.
"""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.shingles import Cut, Shingles

CHUNK = 8192
"""Rows that lie together in the file, column after column."""
SKETCH = 64
"""Columns by which a candidate is judged before its text is read."""

_IN_CACHE = 2048  # rows
CROWD, WINDOW = 64, 16
"""Texts of one bucket that are all compared; the neighbours that are compared in a larger one."""
_SPREAD = np.uint32(0x9E3779B1)
_BAND_SPREAD = np.uint64(0x9E3779B97F4A7C15)

Rows = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many columns a sketch has, how many of them make a band, how often all columns are dealt out into bands anew."""

    columns: int
    rows: int
    deals: int

    def bands(self) -> list[tuple[int, ...]]:
        """The columns of each band, and two more by which a crowded bucket is ordered."""
        dealt = []
        for deal in range(self.deals):
            order = list(range(self.columns))
            random.Random(f"bands {deal}").shuffle(order)
            for start in range(0, self.columns - self.rows + 1, self.rows):
                more = [order[(start + self.rows + further) % self.columns] for further in range(2)]
                dealt.append((*order[start : start + self.rows], *more))
        return dealt

    def miss(self, likeness: float) -> float:
        """The chance that a pair so alike shares no band."""
        agree = likeness + (1 - likeness) / 256
        ways = self._ways_without_a_band()
        return sum(
            agree**same * (1 - agree) ** (self.columns - same) * comb(self.columns, same)
            * (ways[same] / comb(self.columns, same)) ** self.deals
            for same in range(len(ways))
        )  # fmt: skip

    def _ways_without_a_band(self) -> list[int]:
        """In how many ways so many columns can agree, 0 and more, without all columns of any band of one deal."""
        full, rest = divmod(self.columns, self.rows)
        ways = [comb(rest, same) for same in range(rest + 1)]
        for _ in range(full):
            more = [0] * (len(ways) + self.rows - 1)
            for same, count in enumerate(ways):
                for further in range(self.rows):
                    more[same + further] += count * comb(self.rows, further)
            ways = more
        return ways

    def fewest(self, likeness: float) -> int:
        """So many of the first `SKETCH` columns agree in all but one of 100,000 pairs that are so alike."""
        agree, missed = likeness + (1 - likeness) / 256, 0.0
        for same in range(SKETCH + 1):
            missed += comb(SKETCH, same) * agree**same * (1 - agree) ** (SKETCH - same)
            if missed > 1e-5:
                return same
        return SKETCH


CHARACTERS = Shape(columns=200, rows=5, deals=4)
WORDS = Shape(columns=96, rows=3, deals=2)


class Sketches:
    """The sketches of texts numbered from 0, in one file; written by chunk in any order, then read by column."""

    def __init__(self, path: Path, shape: Shape, cut: Cut) -> None:
        self.shape = shape
        self._cut = cut
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        draw = random.Random("columns")
        self._orders = [
            (np.uint32(draw.getrandbits(32) | 1), np.uint32(draw.getrandbits(32)))
            for _ in range(shape.columns)
        ]

    def write(self, chunk: int, texts: Sequence[str]) -> None:
        """Sketch the texts of this chunk, `CHUNK` of them; fewer only in the last."""
        columns = np.empty((self.shape.columns, CHUNK), np.uint8)
        for start in range(0, len(texts), _IN_CACHE):
            some = texts[start : start + _IN_CACHE]
            self._sketch(self._cut(some), columns[:, start : start + len(some)])
        os.pwrite(self._file, columns.tobytes(), chunk * columns.size)

    def _sketch(self, cut: Shingles, columns: NDArray[np.uint8]) -> None:
        short = (cut.hashes >> np.uint64(32)).astype(np.uint32)
        ordered = np.empty_like(short)
        for column, (factor, shift) in enumerate(self._orders):
            np.multiply(short, factor, out=ordered)
            np.add(ordered, shift, out=ordered)
            least = np.minimum.reduceat(ordered, cut.starts)
            columns[column] = (least * _SPREAD) >> np.uint32(24)

    def column(self, number: int, count: int) -> NDArray[np.uint8]:
        """One column of the first `count` texts."""
        size = self.shape.columns * CHUNK
        parts = [
            os.pread(self._file, min(CHUNK, count - start), start // CHUNK * size + number * CHUNK)
            for start in range(0, count, CHUNK)
        ]
        return np.frombuffer(b"".join(parts), np.uint8)

    def rows(self, count: int) -> NDArray[np.uint64]:
        """The first `SKETCH` columns of the first `count` texts, row by row, eight columns in each number."""
        rows = np.empty((count, SKETCH), np.uint8)
        for number in range(SKETCH):
            rows[:, number] = self.column(number, count)
        return rows.view(np.uint64)

    def meetings(
        self, band: tuple[int, ...], roots: Rows, *, furthest: int = CROWD
    ) -> Iterator[tuple[Rows, Rows]]:
        """The pairs of texts, of different `roots`, that meet in this band, the lower number first; in batches."""
        count = len(roots)
        if count < 2:
            return
        bits = max(1, (count - 1).bit_length())
        keys = self._keys(band, count, bits)
        keys.sort()
        for first, second in _together(keys, bits, roots, furthest):
            apart = roots[first] != roots[second]
            first, second = first[apart], second[apart]
            if len(first):
                yield np.minimum(first, second), np.maximum(first, second)

    def _keys(self, band: tuple[int, ...], count: int, bits: int) -> NDArray[np.uint64]:
        """For each text, from the highest bits on: its bucket, the two columns that order it there, its number."""
        keys = self._beside(band[: self.shape.rows], 8, count).view("<u8").ravel()
        keys *= _BAND_SPREAD
        keys >>= np.uint64(bits + 16)
        keys <<= np.uint64(16)
        keys |= self._beside(band[self.shape.rows :], 2, count).view("<u2").ravel()
        keys <<= np.uint64(bits)
        keys |= np.arange(count, dtype=np.uint64)
        return keys

    def _beside(self, numbers: tuple[int, ...], width: int, count: int) -> NDArray[Any]:
        beside = np.zeros((count, width), np.uint8)
        for place, number in enumerate(numbers):
            beside[:, place] = self.column(number, count)
        return beside

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def alike(rows: NDArray[np.uint64], first: Rows, second: Rows) -> NDArray[np.intp]:
    """In how many of the `SKETCH` columns each pair agrees."""
    left, right = rows[first].view(np.uint8), rows[second].view(np.uint8)
    return np.asarray(np.count_nonzero(left == right, axis=1), np.intp)


def _together(keys: NDArray[np.uint64], bits: int, roots: Rows, furthest: int) -> Iterator[tuple[Rows, Rows]]:
    """The pairs of each bucket: all of them; in a crowded bucket each with the first one and with its neighbours."""
    starts, sizes = _shared(keys >> np.uint64(bits + 16))
    numbers = _spread(keys, starts, sizes, bits)
    starts = np.cumsum(sizes) - sizes
    # Whoever is one cluster already has nobody to meet: a bucket full of copies costs nothing the second time.
    several = _apart(roots[numbers], starts, sizes) if len(sizes) else np.zeros(0, bool)
    starts, sizes = starts[several], sizes[several]
    firsts = np.repeat(starts, sizes)
    places = firsts + _counting(sizes)
    left = firsts + np.repeat(sizes, sizes) - places - 1
    crowded = np.repeat(sizes > CROWD, sizes)
    yield numbers[firsts[crowded]], numbers[places[crowded]]
    for distance in range(1, furthest):
        going_on = (left >= distance) & (~crowded | (distance <= WINDOW))
        places, left, crowded = places[going_on], left[going_on], crowded[going_on]
        if not len(places):
            return
        yield numbers[places], numbers[places + distance]


def _shared(buckets: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the buckets start that hold more than one, and how many they hold."""
    again = np.flatnonzero(buckets[1:] == buckets[:-1])
    begins = np.flatnonzero(np.diff(again, prepend=-2) != 1)
    return again[begins], np.diff(begins, append=len(again)) + 1


def _spread(keys: NDArray[np.uint64], starts: Any, sizes: Any, bits: int) -> Rows:
    """The numbers of everybody in these buckets, one bucket after the other."""
    places = np.repeat(starts, sizes) + _counting(sizes)
    return np.asarray(keys[places] & np.uint64((1 << bits) - 1), np.int32)


def _apart(theirs: Rows, starts: Any, sizes: Any) -> NDArray[np.bool_]:
    bounds = np.stack((starts, starts + sizes), axis=1).ravel()
    inside = bounds[:-1] if bounds[-1] == len(theirs) else bounds
    lowest = np.minimum.reduceat(theirs, inside)[::2]
    highest = np.maximum.reduceat(theirs, inside)[::2]
    return np.asarray(lowest != highest)


def _counting(sizes: Any) -> NDArray[np.intp]:
    ends = np.cumsum(sizes)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes), np.intp)
