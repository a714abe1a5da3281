"""What texts are made of: their runs of five characters and of five words, as numbers; and how alike two texts are by them.

Pure and exact: `likenesses` counts the runs themselves (by hashes of 44 bits within a pair), it does not estimate.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.wording import normal as normal

LONG = 5
"""The characters, and the words, of one run. A shorter text is one run."""

_STEPS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F],
    np.uint64,
)
_PAIR_BITS = np.uint64(44)

Numbers = NDArray[np.uint64]


class Shingles(NamedTuple):
    """The runs of several texts: a number for each run, and where each text's runs start. Every text has one or more."""

    hashes: Numbers
    starts: NDArray[np.intp]


Cut = Callable[[Sequence[str]], Shingles]
"""`characters` or `words`."""


def characters(texts: Sequence[str]) -> Shingles:
    """The runs of five characters of each text."""
    padded = [text if len(text) >= LONG else text.ljust(LONG, "\0") for text in texts]
    lengths = np.fromiter(map(len, padded), np.intp, len(padded))
    return _runs(_codes("".join(padded)), lengths)


def words(texts: Sequence[str]) -> Shingles:
    """The runs of five words of each text, given as `normal` gives them; a text shorter than that is one run."""
    padded = [f"{text} " + "\0 " * max(0, LONG - 1 - text.count(" ")) for text in texts]
    lengths = np.fromiter((text.count(" ") for text in padded), np.intp, len(padded))
    return _runs(_word_hashes(_codes("".join(padded))), lengths)


def likenesses(left: Shingles, right: Shingles) -> NDArray[np.float64]:
    """The Jaccard likeness of each text on the left to the one beside it on the right, 0 to 1. Below 2**20 pairs at once."""
    pairs = len(left.starts)
    ours, theirs = _distinct(left), _distinct(right)
    both = np.concatenate((ours, theirs))
    both.sort()
    shared = both[1:][both[1:] == both[:-1]] >> _PAIR_BITS
    common = np.bincount(shared.astype(np.intp), minlength=pairs)
    sizes = np.bincount((both >> _PAIR_BITS).astype(np.intp), minlength=pairs)
    return np.asarray(common / (sizes - common), np.float64)


def owners(cut: Shingles) -> NDArray[np.intp]:
    """For each run the number of the text that it belongs to."""
    return np.repeat(np.arange(len(cut.starts)), np.diff(cut.starts, append=len(cut.hashes)))


def _distinct(cut: Shingles) -> Numbers:
    marked = (owners(cut).astype(np.uint64) << _PAIR_BITS) | (cut.hashes >> np.uint64(20))
    marked.sort()
    distinct: Numbers = marked[np.diff(marked, prepend=~marked[:1]) != 0]
    return distinct


def _codes(text: str) -> Numbers:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)


def _runs(units: Numbers, lengths: NDArray[np.intp]) -> Shingles:
    """Each run of five units that lies within one text; `lengths` are the units of each text, five or more."""
    if not len(lengths):
        return Shingles(np.empty(0, np.uint64), np.empty(0, np.intp))
    count = len(units) - LONG + 1
    hashes = units[:count] * _STEPS[0]
    for place in range(1, LONG):
        hashes += units[place : place + count] * _STEPS[place]
    ends = np.cumsum(lengths)
    inside = np.ones(len(units), bool)
    inside[(ends[:, None] - np.arange(1, LONG)).ravel()] = False
    starts = ends - lengths - (LONG - 1) * np.arange(len(lengths))
    return Shingles(mixed(hashes[inside[:count]]), starts)


def _word_hashes(codes: Numbers) -> Numbers:
    """A number for each word of a text in which every word is followed by one space."""
    if not len(codes):
        return codes
    spaces = np.flatnonzero(codes == 32)
    starts = np.concatenate(([0], spaces[:-1] + 1))
    places = np.arange(len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    letters = mixed(codes + (places.astype(np.uint64) << np.uint64(21)))
    letters[spaces] = 0
    return mixed(np.add.reduceat(letters, starts))


def mixed(numbers: Any) -> Numbers:
    """Each number, its bits well mixed."""
    numbers = numbers ^ (numbers >> np.uint64(32))
    numbers *= np.uint64(0xD6E8FEB86659FD93)
    numbers ^= numbers >> np.uint64(32)
    numbers *= np.uint64(0xD6E8FEB86659FD93)
    numbers ^= numbers >> np.uint64(32)
    return np.asarray(numbers, np.uint64)
