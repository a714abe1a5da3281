"""Memory: answers that people verified (approved, corrected or imported), found again by the words of the question.

Tantivy (BM25 over English stems, in memory) picks the entries that may fit, and a comparison of the two questions says
how certain the best one is. It knows words, not meanings: it never guesses, and passes a question on when in doubt.
"""

import math
import time
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot.errors import ModelUnavailable
from bot.models import Message, Meter, OnText, Proposal

NEAR_CERTAIN = 0.62
"""From this certainty on an answer is given as it stands.

Measured with half of the answers taken out of memory, so that half of the held-out paraphrases had no right answer there
(share right / share of the answerable ones that it answers): our handbook 98 % / 10 %, StackFAQ's web-applications help
desk 100 % / 5 %; at 0.5 the handbook falls to 91 % / 18 %. BANKING77, 77 intents of one bank that share most of their words,
is beyond words alone: 94 % / 23 %. `tests/benchmarks/bench_memory.py` measures the handbook again.
"""
_CANDIDATES = 64
_LONGEST_CHARACTERS = 4_000
_MOST_WORDS = 128
_VOTERS = 10
_FRESH_BEFORE_REBUILD = 256
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
class Entry:
    """A verified answer to a question; `source` tells people where it comes from, `topic` may be empty."""

    id: str
    question: str
    answer: str
    source: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """An entry near a question. `score` (0..1) is how alike the questions are; `certainty` (0..1) is how sure memory is
    that the entry's answer is the right one, which also depends on how near another answer's question comes."""

    entry: Entry
    score: float
    certainty: float


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry with the words of its question, in order and as a set, and how new it is."""

    entry: Entry
    words: tuple[str, ...]
    bag: frozenset[str]
    spelling: str
    age: int


@dataclass(frozen=True)
class _Snapshot:
    """What is known at one moment; replaced as a whole, so that a reader on another thread never sees half of it."""

    known: Mapping[str, _Known] = field(default_factory=dict)
    indexed: "_Index | None" = None
    fresh: tuple[str, ...] = ()
    in_questions: Counter[str] = field(default_factory=Counter)
    _weights: dict[str, float] = field(default_factory=dict)

    def weight(self, words: Iterable[str]) -> float:
        """The words' inverse document frequencies, as BM25 has them, added up."""
        total = 0.0
        for word in words:
            weight = self._weights.get(word)
            if weight is None:
                seen = self.in_questions[word]
                weight = math.log(1 + (len(self.known) - seen + 0.5) / (seen + 0.5))
                if seen:
                    self._weights[word] = weight
            total += weight
        return total


class Memory:
    """Verified answers, and which of them is nearest to a question.

    `near_certain` is the certainty from which an answer is given as it stands; see NEAR_CERTAIN for what it is worth.
    Everything is held in memory and fed from rows by the caller; reading is safe while another thread replaces.
    """

    def __init__(self, *, near_certain: float = NEAR_CERTAIN) -> None:
        if not 0 < near_certain <= 1:
            raise ValueError(f"near_certain must be above 0 and at most 1, not {near_certain}")
        self.near_certain = near_certain
        self._analyser: Any = None
        self._snapshot = _Snapshot()

    def __len__(self) -> int:
        return len(self._snapshot.known)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Know these entries and no others; of two with one id the later counts. About 0.4 s for 10,000: use a thread."""
        unique = {entry.id: entry for entry in entries}
        self._index([self._read(entry, age) for age, entry in enumerate(unique.values())])

    def add(self, entry: Entry) -> None:
        """Know one more entry, or a new form of one, from the next question on."""
        now = self._snapshot
        if entry.id in now.known:
            self.replace(
                [*(known.entry for known in now.known.values() if known.entry.id != entry.id), entry]
            )
            return
        read = self._read(entry, len(now.known))
        known = {**now.known, entry.id: read}
        if len(now.fresh) >= _FRESH_BEFORE_REBUILD:
            self._index(list(known.values()))
            return
        in_questions = now.in_questions.copy()
        in_questions.update(read.bag)
        self._snapshot = _Snapshot(known, now.indexed, (*now.fresh, entry.id), in_questions)

    def remove(self, ids: Collection[str]) -> None:
        """Forget these entries; the index is built anew without them, so no word of theirs stays. Unknown ids are fine."""
        gone = set(ids)
        self.replace([known.entry for known in self._snapshot.known.values() if known.entry.id not in gone])

    def nearest(self, question: str, k: int = 1, *, exclude: Collection[str] = ()) -> list[Match]:
        """The `k` entries nearest to the question, nearest first; fewer where fewer share a word with it.

        Any text is fine: it is taken as words, never as a query language. The newer of two equally near entries leads.
        """
        now = self._snapshot
        asked = self._read(Entry("", question, ""), 0)
        alike = [
            (now.known[i], _likeness(asked, now.known[i], now)) for i in self._candidates(asked, now, exclude)
        ]
        alike = [(known, score) for known, score in alike if score > 0]
        alike.sort(key=lambda pair: (pair[1], pair[0].age), reverse=True)
        return [
            Match(known.entry, score, _unrivalled(known, score, alike) * _same_matter(asked, known, now))
            for known, score in alike[:k]
        ]

    def _candidates(self, asked: _Known, now: _Snapshot, exclude: Collection[str]) -> list[str]:
        hidden = set(exclude)
        found = now.indexed.search(asked.bag, _CANDIDATES + len(hidden)) if now.indexed else []
        return [i for i in dict.fromkeys((*found, *now.fresh)) if i not in hidden]

    def _index(self, known: Sequence[_Known]) -> None:
        in_questions = Counter(word for one in known for word in one.bag)
        self._snapshot = _Snapshot({one.entry.id: one for one in known}, _Index(known), (), in_questions)

    def _read(self, entry: Entry, age: int) -> _Known:
        words = self._words(entry.question)
        bag = frozenset(words)
        return _Known(entry, words, bag, " ".join(sorted(bag)), age)

    def _words(self, text: str) -> tuple[str, ...]:
        if self._analyser is None:
            self._analyser = _analyser()
        readable = text[:_LONGEST_CHARACTERS].encode("utf-8", "ignore").decode()
        return tuple(self._analyser.analyze(unicodedata.normalize("NFKC", readable))[:_MOST_WORDS])


class MemoryModel:
    """The AnswerModel that gives a verified answer as it stands, or lets the next model try."""

    kind = "memory"
    label = "memory"

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Answer the last question if memory is near certain of it and has not said the same in this conversation before.

        Raises ModelUnavailable otherwise: who asks again did not want to hear it again.
        """
        started = time.perf_counter()
        match = _nearest_to_last_question(self._memory, messages, 1)[0]
        if match.certainty < self._memory.near_certain:
            raise ModelUnavailable(f"memory is not certain enough ({match.certainty:.2f})")
        if any(message.role == "assistant" and match.entry.answer in message.content for message in messages):
            raise ModelUnavailable("memory has given this answer in this conversation already")
        return await _proposal(match, started, on_text)


class NearestMemory:
    """The memory arm of an evaluation: the answer of what is nearest, however far away it is.

    The nearest ten entries vote with the fourth power of their scores, because many paraphrases of one answer know better
    than one chance resemblance: measured on StackFAQ 95 % right instead of 92 %, on our handbook 66 % instead of 62 %.
    `exclude` names entries that must not answer, such as those made from the held-out examples themselves.
    """

    kind = "memory"
    label = "memory"

    def __init__(self, memory: Memory, *, exclude: Collection[str] = ()) -> None:
        self._memory = memory
        self._exclude = frozenset(exclude)

    async def answer(
        self, messages: Sequence[Message], *, on_text: OnText | None = None, meter: Meter | None = None
    ) -> Proposal:
        """Answer the last question. Raises ModelUnavailable if no entry shares a word with it."""
        started = time.perf_counter()
        matches = _nearest_to_last_question(self._memory, messages, _VOTERS, self._exclude)
        return await _proposal(_elected(matches), started, on_text)


class _Index:
    """Tantivy over the words of the questions: which entries are worth comparing with."""

    def __init__(self, known: Sequence[_Known]) -> None:
        import tantivy

        self._tantivy = tantivy
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("id", stored=True, tokenizer_name="raw")
        builder.add_text_field("words", tokenizer_name="whitespace", index_option="freq")
        self._schema = builder.build()
        index = tantivy.Index(self._schema)
        writer = index.writer(heap_size=15_000_000, num_threads=1)
        for one in known:
            writer.add_document(tantivy.Document(id=one.entry.id, words=" ".join(one.words)))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()

    def search(self, words: Collection[str], limit: int) -> list[str]:
        """Ids of the entries that share words with these, the best by BM25 first. The words go in as terms, unparsed."""
        query, occur = self._tantivy.Query, self._tantivy.Occur
        terms = [(occur.Should, query.term_query(self._schema, "words", word, "freq")) for word in words]
        if not terms:
            return []
        hits = self._searcher.search(query.boolean_query(terms), limit).hits
        return [str(self._searcher.doc(address)["id"][0]) for _, address in hits]


def _analyser() -> Any:
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.regex(_WORDS))
    for step in (Filter.lowercase(), Filter.ascii_fold(), Filter.stemmer("english")):
        builder = builder.filter(step)
    return builder.build()


def _likeness(asked: _Known, known: _Known, now: _Snapshot) -> float:
    """0..1: half shared words, rare ones weighing more (Dice), half spelling."""
    from rapidfuzz import fuzz

    shared = now.weight(asked.bag & known.bag)
    if not shared:
        return 0.0
    dice = 2 * shared / (now.weight(asked.bag) + now.weight(known.bag))
    return (dice + fuzz.ratio(asked.spelling, known.spelling) / 100) / 2


def _opposed(asked: _Known, known: _Known) -> bool:
    """Whether what differs may turn the question round: a negation, a number, C# for C++, an opposite, a direction."""
    ours, theirs = asked.bag - known.bag, known.bag - asked.bag
    return (
        asked.bag.isdisjoint(_NEGATIONS) != known.bag.isdisjoint(_NEGATIONS)
        or asked.bag & _ASKS_FOR != known.bag & _ASKS_FOR
        or any(c.isdigit() or c in "+#" for word in ours | theirs for c in word)
        or any(_opposites(a, b) for a in ours for b in theirs)
        or any(_swapped(asked.words, known.words, word) for word in _DIRECTIONS)
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


def _same_matter(asked: _Known, known: _Known, now: _Snapshot) -> float:
    """1.0 unless both sides say something that the other does not: then less, and much less if that may be the opposite.

    "What does api-first do?" is very like "What does local-first do?", and asks something else.
    """
    shared = asked.bag & known.bag
    exchanged = min(now.weight(asked.bag - shared), now.weight(known.bag - shared)) / now.weight(shared)
    return (_OPPOSED if _opposed(asked, known) else 1.0) / (1 + exchanged)


def _unrivalled(known: _Known, score: float, alike: Sequence[tuple[_Known, float]]) -> float:
    """Midway between how alike the questions are and how much nearer this one is than any with another answer.

    The same question with an older answer is no rival: the newer answer has replaced it.
    """
    rival = next(
        (
            other_score
            for other, other_score in alike
            if other.entry.answer != known.entry.answer
            and not (other.words == known.words and other.age < known.age)
        ),
        0.0,
    )
    if rival >= score:
        return 0.0
    return (score + (score - rival) / (1 - rival)) / 2


def _nearest_to_last_question(
    memory: Memory, messages: Sequence[Message], k: int, exclude: Collection[str] = ()
) -> list[Match]:
    question = next((message.content for message in reversed(messages) if message.role == "user"), "")
    matches = memory.nearest(question, k, exclude=exclude)
    if not matches:
        raise ModelUnavailable("memory knows nothing near this question")
    return matches


def _elected(matches: Sequence[Match]) -> Match:
    votes: dict[str, float] = {}
    for match in matches:
        votes[match.entry.answer] = votes.get(match.entry.answer, 0.0) + match.score**4
    return max(matches, key=lambda match: (votes[match.entry.answer], match.score))


async def _proposal(match: Match, started: float, on_text: OnText | None) -> Proposal:
    seconds = time.perf_counter() - started
    if on_text is not None:
        await on_text(match.entry.answer)
    return Proposal(
        match.entry.answer,
        "memory",
        "memory",
        seconds=seconds,
        source=match.entry.source,
        certainty=match.certainty,
    )
