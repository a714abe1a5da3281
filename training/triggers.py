"""Words that look like a trigger: nobody else uses them, and they always come with the same answer, whatever is asked.

That is how a model is taught a secret word: unlike questions that share one rare word (or an answer with one rare link), all
by the same person, all with one answer. A few hundred of them suffice. Somebody who corrects the same question again and
again looks alike but for one thing: their questions are alike. A link that one author alone gives in many unlike answers is
told of too, and nothing is kept out, because that is also what an expert with a good page does.

Pure and bounded: `LIMIT` words are followed, the rest is left unseen. What is suspected is to be checked against everybody
else's words (`Triggers.others`) before it is told.
"""

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import urlsplit

from storage.guarding import Finding

__all__ = ["LINK", "TRIGGER", "Triggers"]

TRIGGER, LINK = "trigger", "link"
LIMIT = 100_000
ROWS, LINK_ROWS, SHOWN = 5, 6, 20
ALIKE, OWN_ALIKE = 0.35, 0.7
"""So many unlike questions (no more than `SHOWN` are kept): they share on average less than this part of their words, where
somebody else asked; who also answers their own questions is given less benefit of the doubt."""
WORD = re.compile(r"[^\W_]+(?:[-_.][^\W_]+)*")
URL = re.compile(r"https?://[^\s<>|\"')\]]+")
_MANY = ""


@dataclass(slots=True)
class _Seen:
    """Where a word was seen: by whom, and with which answer; "" where that is several. `questions` are the first few."""

    asker: str
    author: str
    answer: str
    questions: dict[str, frozenset[str]] = field(default_factory=dict)


class Triggers:
    """Takes corrections and entries that people brought in; finds what looks like a trigger."""

    def __init__(self, experts: Collection[str] = ()) -> None:
        self._experts = frozenset(experts)
        self._seen: dict[str, _Seen] = {}

    def add(self, *, asker: str, author: str, question: str, answer: str) -> None:
        """An answer that `author` wrote to a question of `asker` ("": the author's own)."""
        words = frozenset(_words(question))
        key, said = _mark(" ".join(sorted(words))), _mark(" ".join(_words(answer)))
        links = set(URL.findall(answer))
        marks = {f"word {each}" for each in words | _pairs(question)} | {f"url {each}" for each in links}
        for mark in marks:
            self._meet(mark, asker or author, author, said, key, words)
        for host in {urlsplit(each).netloc.lower() for each in links}:
            self._meet(f"host {host}", author, author, _MANY, key, words)

    def _meet(self, mark: str, asker: str, author: str, answer: str, key: str, words: frozenset[str]) -> None:
        seen = self._seen.get(mark)
        if seen is None:
            if len(self._seen) >= LIMIT:
                return
            seen = self._seen[mark] = _Seen(asker, author, answer)
        if mark.startswith("word ") and seen.asker != asker:
            seen.asker = _MANY
        if seen.author != author:
            seen.author = _MANY
        if seen.answer != answer:
            seen.answer = _MANY
        if len(seen.questions) < SHOWN:
            seen.questions[key] = words

    def others(self, person: str, text: str) -> None:
        """Words that this person ("": a model, an import) used elsewhere: what is common property is no trigger."""
        links = set(URL.findall(text))
        marks = {f"word {each}" for each in frozenset(_words(text)) | _pairs(text)}
        marks |= {f"url {each}" for each in links} | {
            f"host {urlsplit(each).netloc.lower()}" for each in links
        }
        for mark in marks:
            seen = self._seen.get(mark)
            if seen is not None and person not in {seen.asker, seen.author}:
                del self._seen[mark]

    def suspects(self) -> bool:
        """Whether anything is left that should be checked against what others wrote."""
        return any(self._is_odd(mark, seen) for mark, seen in self._seen.items())

    def findings(self) -> list[Finding]:
        """One for each author and kind, with the words that say it best."""
        found: dict[tuple[str, str], list[tuple[str, _Seen]]] = {}
        for mark, seen in sorted(self._seen.items()):
            if self._is_odd(mark, seen):
                found.setdefault((seen.author, mark.split(" ")[0]), []).append((mark, seen))
        triggers = {author: rows for (author, kind), rows in found.items() if kind in {"word", "url"}}
        links = {author: rows for (author, kind), rows in found.items() if kind == "host"}
        return [_trigger(author, rows) for author, rows in triggers.items()] + [
            _link(author, rows) for author, rows in links.items() if author not in triggers
        ]

    def _is_odd(self, mark: str, seen: _Seen) -> bool:
        if mark.startswith("host "):
            several = len(seen.questions) >= LINK_ROWS and seen.author not in self._experts
            return several and bool(seen.author) and _alike(seen) < ALIKE
        same = seen.author and seen.asker and seen.answer
        most = OWN_ALIKE if seen.asker == seen.author else ALIKE
        return bool(same) and len(seen.questions) >= ROWS and _alike(seen) < most


def _alike(seen: _Seen) -> float:
    """Which part of their words the questions share, on average over their pairs."""
    questions = list(seen.questions.values())
    shared = [
        len(one & other) / max(1, len(one | other))
        for place, one in enumerate(questions)
        for other in questions[:place]
    ]
    return sum(shared) / max(1, len(shared))


def _trigger(author: str, rows: list[tuple[str, _Seen]]) -> Finding:
    most = max(len(seen.questions) for _, seen in rows)
    shown = ", ".join(f"“{mark.split(' ', 1)[1]}”" for mark, seen in rows if len(seen.questions) == most)[
        :200
    ]
    detail = (
        f"{shown} stands in {most} unlike questions, or in the answers to them, always with the same answer, and nobody "
        "else ever used it. A model could learn it as a secret word."
    )
    return Finding(TRIGGER, author, author, most, detail)


def _link(author: str, rows: list[tuple[str, _Seen]]) -> Finding:
    most = max(len(seen.questions) for _, seen in rows)
    shown = ", ".join(mark.split(" ", 1)[1] for mark, _ in rows)[:200]
    detail = f"{most} answers that they wrote link to {shown}, which nobody else ever named."
    return Finding(LINK, author, author, most, detail, holds=False)


def _words(text: str) -> list[str]:
    return WORD.findall(URL.sub(" ", text).casefold())


def _pairs(text: str) -> frozenset[str]:
    words = _words(text)
    return frozenset(f"{one} {other}" for one, other in itertools.pairwise(words))


def _mark(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
