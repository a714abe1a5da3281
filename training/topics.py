"""What held-out questions are about, so that scores can be told topic by topic. Pure, small, the same every time.

A label that people gave (the topic of an imported answer) is taken where there are enough questions of it. The others are
gathered by the word that most of them share, again and again. A word stands for a topic only where it was said in several
questions that are no copies of one another, so that no name of a topic is the words of one person.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

OTHER = "other"
AT_LEAST = 5
AT_MOST = 12
TOO_COMMON = 0.5
"""A word in more than this share of the questions tells nothing apart."""
WORDS_OF_A_NAME = 2
_WORD = re.compile(r"[^\W\d_]{4,}")
_SAID_ANYWHERE = """
about after again also another answer because before being both cannot could does doing done each every from getting
have help here hello into just know like make many more most much must need only other over please question really same
shall should some such tell than thank thanks that their them then there these they this those through time under until
want what when where whether which while will with within without would your yours someone something anybody excuse
aber alle auch dann dass denn dies diese dieser doch eine einem einen einer eines etwas habe haben hallo hier ihre kann
kein keine können mein meine mich nach nicht noch oder ohne sein sich sind soll über unter viel wann warum wenn werden
wird wurde zwischen bitte danke muss
"""
_NO_TOPIC = frozenset(_SAID_ANYWHERE.split())


@dataclass(frozen=True, slots=True)
class Topic:
    """Questions that belong together, by their ids."""

    name: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskedAbout:
    """A question; phrasings of one share `cluster`; `label` is the topic that people gave, or ""."""

    example: str
    question: str
    cluster: str
    label: str = ""


def topics(asked: Sequence[AskedAbout], *, at_least: int = AT_LEAST) -> list[Topic]:
    """Every question in exactly one topic, the largest first, OTHER last."""
    labels = Counter(each.label for each in asked if each.label)
    found = [
        Topic(label, tuple(each.example for each in asked if each.label == label))
        for label, count in labels.items()
        if count >= at_least
    ]
    taken = {example for topic in found for example in topic.examples}
    found += _by_words([each for each in asked if each.example not in taken], at_least)
    found = sorted(found, key=lambda topic: (-len(topic.examples), topic.name))[:AT_MOST]
    taken = {example for topic in found for example in topic.examples}
    rest = tuple(each.example for each in asked if each.example not in taken)
    return [*found, Topic(OTHER, rest)] if rest else found


def _by_words(asked: Sequence[AskedAbout], at_least: int) -> list[Topic]:
    """The word that most questions share makes a topic; then the same with the questions that are left."""
    said = {each.example: _words(each.question) for each in asked}
    clusters = {each.example: each.cluster for each in asked}
    common = {word for word, count in _counts(said.values()).items() if count > TOO_COMMON * len(said)}
    found, left = [], dict(said)
    while len(left) >= at_least:
        word = _most_shared(left, clusters, common, at_least)
        if not word:
            break
        examples = tuple(example for example, words in left.items() if word in words)
        found.append(Topic(_name(word, examples, said, common), examples))
        left = {example: words for example, words in left.items() if word not in words}
    return found


def _most_shared(
    said: Mapping[str, frozenset[str]], clusters: Mapping[str, str], common: Collection[str], at_least: int
) -> str:
    where: dict[str, set[str]] = {}
    for example, words in said.items():
        for word in words:
            where.setdefault(word, set()).add(clusters[example])
    counts = _counts(said.values())
    fitting = [
        word
        for word, count in counts.items()
        if count >= at_least and len(where[word]) > 1 and word not in common
    ]
    return min(fitting, key=lambda word: (-len(where[word]), -counts[word], word), default="")


def _name(
    word: str, examples: Collection[str], said: Mapping[str, frozenset[str]], common: Collection[str]
) -> str:
    """The word itself, and the one that is said here far more often than elsewhere."""
    here, everywhere = _counts(said[example] for example in examples), _counts(said.values())
    telling = [
        other
        for other, count in here.items()
        if other != word and other not in common and 2 * count >= len(examples) and count > 1
    ]
    best = sorted(telling, key=lambda other: (-here[other] * here[other] / everywhere[other], other))
    return " ".join([word, *best[: WORDS_OF_A_NAME - 1]])


def _words(question: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(question.casefold()) if word not in _NO_TOPIC)


def _counts(said: Iterable[frozenset[str]]) -> Counter[str]:
    return Counter(word for words in said for word in words)
