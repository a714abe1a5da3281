"""How alike two questions are, word by word, and whether what differs turns the question round.

It knows words, not meanings. Pure, apart from the analyser that cuts text into stems; how rare a word is, the caller says.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

LONGEST_CHARACTERS = 4_000
_MOST_WORDS = 128
_OPPOSED = 0.4
_WORDS = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[\p{L}\p{M}\p{N}_]+[+#]*"
"""A word may end in + or # (C++, C#); scripts without spaces are taken character by character."""
_NEGATIONS = frozenset("not no never without cannot cant dont doesnt didnt isnt arent wont wouldnt t".split())  # noqa: SIM905
_ASKS_FOR = frozenset(("where", "when", "who", "whi"))
_DIRECTIONS = ("to", "from", "into", "than", "befor", "after", "over")
_OPPOSITES = {
    **{"enabl": "disabl", "on": "off", "in": "out", "up": "down", "start": "stop", "open": "close"},
    **{"remov": "add", "delet": "add", "accept": "reject", "declin": "accept", "allow": "block"},
    **{"upload": "download", "import": "export", "increas": "decreas", "befor": "after", "join": "leav"},
    **{"first": "last", "more": "less", "send": "receiv", "old": "new", "show": "hide", "public": "privat"},
}
"""Stems: where one stands for the other, the question is turned round."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a question, in order, as a set, and sorted in one line."""

    inorder: tuple[str, ...]
    bag: frozenset[str]
    spelling: str


class Rarity:
    """How much words say: their inverse document frequencies, as BM25 has them. Knows the words that it was given."""

    def __init__(self, frequencies: Mapping[str, int], entries: int) -> None:
        self._weights = {
            word: math.log(1 + (max(entries - seen, 0) + 0.5) / (seen + 0.5))
            for word, seen in frequencies.items()
        }

    def weight(self, words: Iterable[str]) -> float:
        """The words' weights, added up, the same in every order: sets of the same words may list them differently."""
        return math.fsum(map(self._weights.__getitem__, words))


def readable(text: str) -> str:
    """The part of a text that is looked at, with one form for each character."""
    return unicodedata.normalize("NFKC", text[:LONGEST_CHARACTERS].encode("utf-8", "ignore").decode())


def read(text: str) -> Words:
    """The words of a text; any text is fine."""
    inorder = tuple(analyser().analyze(readable(text))[:_MOST_WORDS])
    bag = frozenset(inorder)
    return Words(inorder, bag, " ".join(sorted(bag)))


@cache
def analyser() -> Any:
    """Cuts a text into words: lower case, without accents, English stems."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.regex(_WORDS))
    for step in (Filter.lowercase(), Filter.ascii_fold(), Filter.stemmer("english")):
        builder = builder.filter(step)
    return builder.build()


def likeness(asked: Words, known: Words, rarity: Rarity) -> float:
    """0..1: half shared words, rare ones weighing more (Dice), half spelling."""
    from rapidfuzz import fuzz

    shared = rarity.weight(asked.bag & known.bag)
    if not shared:
        return 0.0
    dice = 2 * shared / (rarity.weight(asked.bag) + rarity.weight(known.bag))
    return (dice + fuzz.ratio(asked.spelling, known.spelling) / 100) / 2


def _opposed(asked: Words, known: Words) -> bool:
    """Whether what differs may turn the question round: a negation, a number, C# for C++, an opposite, a direction."""
    ours, theirs = asked.bag - known.bag, known.bag - asked.bag
    return (
        asked.bag.isdisjoint(_NEGATIONS) != known.bag.isdisjoint(_NEGATIONS)
        or asked.bag & _ASKS_FOR != known.bag & _ASKS_FOR
        or any(c.isdigit() or c in "+#" for word in ours | theirs for c in word)
        or any(_opposites(a, b) for a in ours for b in theirs)
        or any(_swapped(asked.inorder, known.inorder, word) for word in _DIRECTIONS)
    )


def _opposites(a: str, b: str) -> bool:
    prefixed = a in (f"un{b}", f"dis{b}", f"de{b}") or b in (f"un{a}", f"dis{a}", f"de{a}")
    return prefixed or _OPPOSITES.get(a) == b or _OPPOSITES.get(b) == a


def _swapped(a: Sequence[str], b: Sequence[str], direction: str) -> bool:
    """Whether a word goes from left to right of the direction and another the other way: Word to PDF, PDF to Word."""
    if direction not in a or direction not in b:
        return False
    here, there = a.index(direction), b.index(direction)
    return not (set(a[:here]).isdisjoint(b[there + 1 :]) or set(a[here + 1 :]).isdisjoint(b[:there]))


def same_matter(asked: Words, known: Words, rarity: Rarity) -> float:
    """1.0 unless both sides say something that the other does not: then less, and much less if that may be the opposite.

    "What does api-first do?" is very like "What does local-first do?", and asks something else.
    """
    shared = asked.bag & known.bag
    exchanged = min(rarity.weight(asked.bag - shared), rarity.weight(known.bag - shared)) / rarity.weight(
        shared
    )
    return (_OPPOSED if _opposed(asked, known) else 1.0) / (1 + exchanged)
