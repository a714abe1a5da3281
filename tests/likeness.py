"""How alike questions are, by brute force with Python's own sets: what the product's fast ways are measured against."""

import random
from collections.abc import Iterator, Sequence

THRESHOLD = 0.6


def plain(question: str) -> str:
    signs = "".join(sign if sign.isalnum() or sign == "_" else " " for sign in question.casefold())
    return " ".join(signs.split()) or question.casefold()


def runs(question: str, cut: str) -> frozenset[tuple[str, ...]]:
    units = list(plain(question)) if cut == "characters" else plain(question).split()
    return frozenset(tuple(units[start : start + 5]) for start in range(max(1, len(units) - 4)))


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def near(questions: Sequence[str]) -> Iterator[tuple[int, int]]:
    """By brute force: the pairs of which more than 0.6 of the runs of five characters, or of five words, are the same."""
    for cut in ("characters", "words"):
        every = [runs(question, cut) for question in questions]
        for place, ours in enumerate(every):
            for other in range(place):
                fewer, more = sorted((len(ours), len(every[other])))
                if fewer > THRESHOLD * more and jaccard(ours, every[other]) > THRESHOLD:
                    yield other, place


def components(count: int, pairs: Iterator[tuple[int, int]]) -> list[int]:
    above = list(range(count))

    def root(number: int) -> int:
        while above[number] != number:
            number = above[number]
        return number

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        above[high] = low
    return [root(number) for number in range(count)]


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    vocabulary = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(2000)
    ]
    return [" ".join(draw.choices(vocabulary, k=draw.randint(4, 16))) for _ in range(count)]


def edited(question: str, draw: random.Random) -> str:
    """The question with so many letters changed that it is about at the threshold."""
    letters = list(question)
    for _ in range(max(1, len(letters) // 16)):
        letters[draw.randrange(len(letters))] = draw.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)
