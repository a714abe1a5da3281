"""Finds the names of a workspace's own members in a text, without knowing any (pure).

Whoever keeps the member list keeps hashes: `name_keys` says which runs of words a member is known by, and `HashedNames` asks
for such runs wherever one may begin. Two words of a name count in any spelling ("Ada Lovelace", "lovelace, ada").
One word counts where it is capitalised or stands after an @; where it is an ordinary word as well (Will, Mark, May), only
where the words around it speak of a person, and at the start of a sentence only where somebody is addressed or spoke
("Will, can you look?", "Rose said"). What somebody does (Admin, Expert, Support) names nobody, and counts only after an @.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from storage.redaction_words import (
    AFTERWARDS,
    ARTICLES,
    BEFORE,
    COMMON,
    DAYS,
    NEAR,
    PARTICLES,
    ROLES,
    SPOKE,
    TITLES,
)

ASCII_WORD = re.compile(r"[A-Za-z]+")
ANY_WORD = re.compile(r"[^\W\d_]+(?:[\u0300-\u036f]+[^\W\d_]*)*")
GAP = re.compile(r"[ \t\u00a0]{1,3}|[._'’-]|, ?|\. |\s{1,3}(?:> )?")
TOGETHER = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts that put no space between words
LONGEST = 4
REMEMBERED = 50_000

TO_YOU = re.compile(
    r", (?:can|could|please|would|will|do|did|are|you|thanks|thank|how|what|where|when|is|i)\b"
)
STARTS_SENTENCE = re.compile(r"(?:^|[.!?:;\n•*>|\"“(\[–-])[\s*_>\"'“(\[]{0,6}$")


def folded(word: str) -> str:
    """The word as it is compared: small letters, without accents."""
    if word.isascii():
        return word.lower()
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).replace("’", "'")


def name_keys(names: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """The runs of folded words by which a member is found, of all the names that Slack knows: real, display, user name."""
    return frozenset(key for name in names for key in _keys(name))


def _keys(name: str) -> Iterator[tuple[str, ...]]:
    # A part is what stands between spaces: several words in O'Brien and Anna-Lena.
    parts = [
        tuple(folded(match[0]) for match in ANY_WORD.finditer(part)) for part in re.split(r"[\s,]+", name)
    ]
    parts = [part for part in parts if part and part[0] not in TITLES]
    real = [part for part in parts if (len(part) > 1 or part[0] not in PARTICLES) and max(map(len, part)) > 1]
    for start in range(len(parts)):
        for end in range(start + 2, len(parts) + 1):
            if len([part for part in parts[start:end] if part in real]) > 1:
                yield sum(parts[start:end], ())[:LONGEST]
    if len(real) > 1:
        yield (*real[0], *real[-1])[:LONGEST]
        yield (*real[-1], *real[0])[:LONGEST]
    for part in real:
        yield part[:LONGEST]
        yield from ((word,) for word in part if len(word) > 2)
    if len(name) > 2 and not name.isalpha() and " " not in name:
        yield (f"@{name.casefold()}",)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    raw: str
    plain: str


class HashedNames:
    """A name book that asks for runs of words.

    `lookup` gives the Slack id of whoever is known by this run (`name_keys`), or None; `begins` whether any run begins with
    this word. Answers of `begins` are remembered, for most words of most messages are the same few thousand.
    """

    def __init__(
        self, lookup: Callable[[tuple[str, ...]], str | None], begins: Callable[[str], bool]
    ) -> None:
        self._lookup = lookup
        self._begins = begins
        self._known: dict[str, bool] = {}

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where names stand: start, end and the Slack id of whose name it is."""
        if len(self._known) > REMEMBERED:
            self._known = {}
        known = self._known  # other threads may read here too, and one of them begin anew
        if "@" in text:
            yield from self._handles(text)
        pattern = ASCII_WORD if text.isascii() else ANY_WORD
        begins = [self._may_begin(word, known) for word in pattern.findall(text)]
        if not any(begins):
            return
        words = [_Word(*match.span(), match[0], folded(match[0])) for match in pattern.finditer(text)]
        at = 0
        while at < len(words):
            if known[words[at].raw]:
                found = self._longest(text, words, at)
                if found is not None:
                    length, who = found
                    yield words[at].start, words[at + length - 1].end, who
                    at += length
                    continue
            if TOGETHER.search(words[at].raw):
                yield from self._within(words[at])
            at += 1

    def _may_begin(self, word: str, known: dict[str, bool]) -> bool:
        begins = known.get(word)
        if begins is None:
            begins = known[word] = bool(TOGETHER.search(word)) or self._begins(folded(word))
        return begins

    def _longest(self, text: str, words: list[_Word], at: int) -> tuple[int, str] | None:
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            run = words[at : at + length]
            if not _one_run(text, run):
                continue
            who = self._lookup(tuple(word.plain for word in run))
            if who is not None and (
                _is_name(text, run) if length > 1 else _speaks_of_a_person(text, words, at)
            ):
                return length, who
        return None

    def _handles(self, text: str) -> Iterator[tuple[int, int, str]]:
        for match in re.finditer(r"(?<![\w.@])@([\w.-]{2,40}\w)", text):
            who = self._lookup((f"@{match[1].casefold()}",))
            if who is not None:
                yield match.start(1), match.end(1), who

    def _within(self, word: _Word) -> Iterator[tuple[int, int, str]]:
        """Names in a script that puts no space between words."""
        at = 0
        while at < len(word.plain):
            for length in range(min(6, len(word.plain) - at), 1, -1):
                who = self._lookup((word.plain[at : at + length],))
                if who is not None:
                    yield word.start + at, word.start + at + length, who
                    at += length - 1
                    break
            at += 1


def _one_run(text: str, run: list[_Word]) -> bool:
    return all(GAP.fullmatch(text, left.end, right.start) for left, right in pairwise(run))


def _is_name(text: str, run: list[_Word]) -> bool:
    """Several words of one name; where all are words of the language too, in capitals; a role only after an @."""
    if all(word.plain in ROLES for word in run):
        return text[run[0].start - 1 : run[0].start] == "@"
    if all(word.plain in COMMON for word in run):
        return all(word.raw[0].isupper() for word in run)
    return True


def _speaks_of_a_person(text: str, words: list[_Word], at: int) -> bool:
    """Whether a single word is somebody here: by its capital, or by the words around it."""
    word = words[at]
    addressed = text[word.start - 1 : word.start] == "@"
    if addressed or (TOGETHER.search(word.raw) and len(word.raw) > 1):
        return True
    if (
        word.plain in ROLES
        or not word.raw[0].isupper()
        or re.match(r"[\w@/\\=]", text[word.end : word.end + 1])
    ):
        return False
    if re.match(r"[\w/\\=#$]", text[word.start - 1 : word.start]):
        return False
    if word.plain not in COMMON and len(word.plain) > 2:
        return True
    return _spoken_of(text, words, at)


def _spoken_of(text: str, words: list[_Word], at: int) -> bool:
    """Whether the words around a word that means something else too are about a person."""
    word = words[at]
    before = words[at - 1] if at else None
    gap = text[before.end : word.start] if before else ""
    if before and before.plain in ARTICLES:
        return False
    if before and before.plain in BEFORE and len(gap) < 3:
        return True
    after, rest = words[at + 1] if at + 1 < len(words) else None, text[word.end : word.end + 12]
    if TO_YOU.match(rest.lower()) or (gap in {", ", ",\n", "\n-- "} and re.match(r"[.!?]?\s*(?:$|\n)", rest)):
        return True
    if word.plain in DAYS or (after and after.raw[0].isupper() and rest[:1] == " "):
        return False
    if after and rest[:1] == " " and after.plain in SPOKE:
        return True
    starts = STARTS_SENTENCE.search(text[max(0, word.start - 8) : word.start])
    if (
        starts
        or not before
        or gap != " "
        or before.raw[0].isupper()
        or (word.raw.isupper() and len(word.raw) > 1)
    ):
        return False
    if rest[:2] in {"'s", "’s"} or before.plain in NEAR:
        return True
    return bool(after and rest[:1] == " " and after.plain in AFTERWARDS)
