"""Who was ever tested is never trained on, nor is a near-duplicate of theirs, in any version: however the questions grow."""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from storage.entries import question_hash
from training.clusters import Clusters
from training.splits import RETIRED, TEST, TRAIN, UNKNOWN, VALIDATION, assign, lend, place
from training.withdrawn import withdrawn

SALT = "a salt for tests"
NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test", RETIRED: "retired"}


def key_of(question: str) -> str:
    return question_hash(question)[:32]


def key_drawn_for(side: int) -> str:
    """A key whose salted hash puts a new cluster on this side."""
    shares = {TEST: (0.0, 0.15), VALIDATION: (0.15, 0.25), TRAIN: (0.25, 1.0)}[side]
    drawn = (f"{number:032x}" for number in itertools.count())
    return next(key for key in drawn if shares[0] <= place(key, salt=SALT) < shares[1])


# -- the rules, as a table --------------------------------------------------------------------------------------------------

MERGES = {
    "new joins train": ([TRAIN, UNKNOWN], [TRAIN, TRAIN]),
    "new joins validation": ([VALIDATION, UNKNOWN], [VALIDATION, VALIDATION]),
    "new joins test": ([TEST, UNKNOWN], [TEST, TEST]),
    "a bridge between train and test": ([TRAIN, UNKNOWN, TEST], [RETIRED, RETIRED, TEST]),
    "a bridge between train and validation": ([TRAIN, UNKNOWN, VALIDATION], [RETIRED, RETIRED, VALIDATION]),
    "a bridge between validation and test": ([VALIDATION, UNKNOWN, TEST], [RETIRED, RETIRED, TEST]),
    "all three meet": ([TRAIN, VALIDATION, TEST, UNKNOWN], [RETIRED, RETIRED, TEST, RETIRED]),
    "threads joined without anybody new": ([TRAIN, TEST], [RETIRED, TEST]),
    "new joins who is retired": ([RETIRED, UNKNOWN], [RETIRED, RETIRED]),
    "new joins retired and train": ([RETIRED, TRAIN, UNKNOWN], [RETIRED, TRAIN, RETIRED]),
    "new joins retired and test": ([RETIRED, TEST, UNKNOWN], [RETIRED, TEST, RETIRED]),
}


@pytest.mark.parametrize(("known", "placed"), MERGES.values(), ids=MERGES.keys())
def test_where_the_members_of_a_cluster_go(known: list[int], placed: list[int]) -> None:
    """What was held out stays held out; where sides meet, everybody else is out. Doing it again changes nothing."""
    keys = np.array([f"{number:032x}" for number in range(len(known))], "S32")
    nothing = np.zeros(len(known), np.uint8)
    first = assign(keys, np.zeros(len(known)), np.array(known), nothing, salt=SALT)
    assert first.splits.tolist() == placed
    again = assign(keys, np.zeros(len(known)), first.splits, nothing, salt=SALT)
    assert again.splits.tolist() == placed
    assert set(first.clusters.tolist()) == {keys[0]}


@pytest.mark.parametrize("drawn", [TRAIN, VALIDATION, TEST])
@pytest.mark.parametrize("declared", [UNKNOWN, TRAIN, TEST])
def test_a_new_cluster_goes_where_its_hash_says_unless_it_was_declared(drawn: int, declared: int) -> None:
    """Declared "test" wins, declared "train" is never tested, and the others of the cluster go along."""
    keys = np.array([key_drawn_for(drawn), "f" * 32], "S32")
    placed = assign(keys, [0, 0], [UNKNOWN] * 2, [UNKNOWN, declared], salt=SALT).splits.tolist()
    expected = TEST if declared == TEST else TRAIN if (declared, drawn) == (TRAIN, TEST) else drawn
    assert placed == [expected] * 2


def test_declared_test_among_what_was_trained_on_is_in_no_dataset() -> None:
    """Neither trained on, as the operator wants it, nor tested: its near-duplicates are known to the model."""
    keys = np.array(["a" * 32, "b" * 32, "c" * 32], "S32")
    placed = assign(keys, [0, 0, 0], [TRAIN, UNKNOWN, UNKNOWN], [UNKNOWN, TEST, UNKNOWN], salt=SALT).splits
    assert placed.tolist() == [TRAIN, RETIRED, TRAIN]
    once_trained = assign(keys[:1], [0], [TRAIN], [TEST], salt=SALT).splits
    assert once_trained.tolist() == [RETIRED]
    after = assign(keys[:2], [0, 0], [RETIRED, UNKNOWN], [TEST, UNKNOWN], salt=SALT).splits
    assert after.tolist() == [RETIRED, RETIRED]


def test_the_order_of_questions_does_not_matter() -> None:
    """Whatever way the questions come, each has the same place."""
    rng = np.random.default_rng(5)
    keys = np.array([key_of(str(number)) for number in range(500)], "S32")
    roots, known = rng.integers(0, 200, 500), rng.choice([0, 0, 0, 1, 2, 3, 4], 500).astype(np.uint8)
    declared = rng.choice([0, 0, 0, TRAIN, TEST], 500).astype(np.uint8)
    straight = assign(keys, roots, known, declared, salt=SALT)
    order = rng.permutation(500)
    shuffled = assign(keys[order], roots[order], known[order], declared[order], salt=SALT)
    assert np.array_equal(straight.splits[order], shuffled.splits)
    assert np.array_equal(straight.clusters[order], shuffled.clusters)
    again = assign(keys, roots, straight.splits, declared, salt=SALT)
    assert np.array_equal(again.splits, straight.splits)


def test_the_shares_are_those_promised() -> None:
    """15 % of new clusters are tested, 10 % validate."""
    keys = np.array([key_of(str(number)) for number in range(20_000)], "S32")
    nothing = np.zeros(20_000, np.uint8)
    counts = (
        np.bincount(assign(keys, np.arange(20_000), nothing, nothing, salt=SALT).splits, minlength=5) / 20_000
    )
    assert counts[TEST] == pytest.approx(0.15, abs=0.01)
    assert counts[VALIDATION] == pytest.approx(0.10, abs=0.01)


def test_nothing_is_placed_where_nothing_is() -> None:
    """An empty dataset has no places."""
    assert len(assign([], [], [], [], salt=SALT).splits) == 0


def test_whole_clusters_are_lent_for_validation_but_never_all() -> None:
    """A small dataset borrows its validation rows; near-duplicates of them do not stay behind in training."""
    clusters = np.array([b"a"] * 50 + [b"b"] * 3 + [b"c"], "S32")
    lent = lend(np.full(54, TRAIN, np.uint8), clusters)
    assert sorted(lent.tolist()) == [50, 51, 52, 53]
    trained = np.array([UNKNOWN] * 52 + [TRAIN, UNKNOWN], np.uint8)
    assert lend(np.full(54, TRAIN, np.uint8), clusters, trained).tolist() == [53]
    assert len(lend(np.full(5, TRAIN, np.uint8), np.array([b"a"] * 5))) == 0
    assert len(lend(np.array([TRAIN, TRAIN, VALIDATION]), np.array([b"a", b"b", b"c"]))) == 0


# -- twenty rounds of growth ------------------------------------------------------------------------------------------------

ROUNDS, FRESH, FAMILIES, EDITED, GONE = 20, 12, 5, 8, 4
WORDS = [a + b for a in ("bro", "cal", "dem", "fin", "gos", "hul", "jat", "kir", "lom", "nep", "pro", "quil", "ras", "sol",
                         "tur", "ven", "wex", "yor", "zan") for b in ("ba", "cken", "dor", "fel", "gin", "lar", "mus", "nit",
                                                                      "pol", "rish", "stan", "tov")]  # fmt: skip


@dataclass
class Growth:
    """Questions that arrive, are reworded, bridged, threaded together, withdrawn; a dataset after every round."""

    folder: Path
    seed: int
    remembers: bool = True
    today: dict[str, str] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)
    tested: set[str] = field(default_factory=set)
    bridges: list[tuple[str, str, str]] = field(default_factory=list)
    bridged: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.versions: list[Path] = []

    def ask(self, question: str, thread: str = "") -> None:
        self.today[key_of(question)] = question
        self.threads[key_of(question)] = thread or key_of(question)

    def grow(self) -> None:
        """One round's arrivals and departures."""
        draw = self.draw
        for _ in range(FRESH):
            self.ask(self.sentence())
        for _ in range(FAMILIES):
            self.found_a_family()
        for question in draw.sample(sorted(self.today.values()), EDITED):
            self.ask(edited(question, draw))
        self.build_bridges()
        self.join_threads()
        for key in draw.sample(sorted(self.today), GONE):
            self.ask(edited(self.today.pop(key), draw))
        if draw.random() < 0.5:
            self.declared[draw.choice(sorted(self.today))] = TEST

    def sentence(self) -> str:
        return " ".join(self.draw.choices(WORDS, k=self.draw.randint(7, 14)))

    def found_a_family(self) -> None:
        """Two questions that are unlike, and a third one, for later, that is a near-duplicate of both."""
        middle = self.draw.choices(WORDS, k=12)
        one, other = (
            [*self.draw.choices(WORDS, k=3), *middle[3:]],
            [*middle[:-3], *self.draw.choices(WORDS, k=3)],
        )
        self.ask(" ".join(one))
        self.ask(" ".join(other))
        self.bridges.append((" ".join(one), " ".join(middle), " ".join(other)))

    def build_bridges(self) -> None:
        """Between what is trained on and what is tested first of all; others at random."""
        for bridge in list(self.bridges):
            sides = {self.places.get(key_of(bridge[0])), self.places.get(key_of(bridge[2]))}
            if (len(sides) > 1 and TEST in sides and None not in sides) or self.draw.random() < 0.05:
                self.bridged += sides == {TRAIN, TEST}
                self.bridges.remove(bridge)
                self.ask(bridge[1])

    def join_threads(self) -> None:
        """Somebody asks again, in the thread of another question."""
        for side, other in ((TRAIN, TEST), (TRAIN, VALIDATION)):
            here = [
                [key for key in sorted(self.today) if self.places.get(key) == code] for code in (side, other)
            ]
            if all(here) and self.draw.random() < 0.3:
                self.threads[self.draw.choice(here[0])] = self.threads[self.draw.choice(here[1])]

    def freeze(self) -> None:
        """A version, as the product makes it: clusters of today's and earlier questions, places, a folder."""
        gone = set(self.places) - set(self.today) if self.remembers else set()
        rows = self.today | dict(withdrawn(reversed(self.versions), gone))
        names = sorted(rows)
        known = [self.places.get(key, UNKNOWN) for key in names]
        declared = [self.declared.get(key, UNKNOWN) for key in names]
        clusters = Clusters(self.folder)
        try:
            clusters.add(names, [rows[key] for key in names], [self.threads[key] for key in names])
            splits = assign(names, clusters.roots(), known, declared, salt=SALT).splits.tolist()
        finally:
            clusters.close()
        placed = dict(zip(names, splits, strict=True))
        self.places |= placed
        self.write({key: placed[key] for key in self.today})

    def write(self, splits: dict[str, int]) -> None:
        version = self.folder / f"version-{len(self.versions)}"
        version.mkdir()
        for code in (TRAIN, VALIDATION, TEST):
            lines = [
                {"id": key[:16], "messages": [{"role": "user", "content": self.today[key]}]}
                for key, split in splits.items() if split == code
            ]  # fmt: skip
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            (version / f"{NAMES[code]}.jsonl").write_text(text, encoding="utf-8")
        self.versions.append(version)
        self.trained |= {self.today[key] for key, split in splits.items() if split == TRAIN}
        self.tested |= {self.today[key] for key, split in splits.items() if split == TEST}


def edited(question: str, draw: random.Random) -> str:
    """Another wording: one word changed, doubled, left out, or a slip of the finger."""
    words = question.split()
    place = draw.randrange(len(words))
    kind = draw.randrange(4)
    if kind == 0:
        words[place] = draw.choice(WORDS)
    elif kind == 1:
        words.insert(place, draw.choice(WORDS))
    elif kind == 2 and len(words) > 4:
        del words[place]
    else:
        words[place] = words[place][:-1] + draw.choice("aeiou")
    return " ".join(words)


def runs(units: str | list[str]) -> frozenset[str]:
    """Every five that follow each other; by this file's own code."""
    joined = [" ".join(units[start : start + 5]) for start in range(max(1, len(units) - 4))]
    return frozenset(joined)


def leaks(tested: set[str], trained: set[str]) -> Iterator[tuple[str, str]]:
    """The tested and trained questions of which more than 0.6 of the runs of five characters, or words, are the same."""
    for cut in (list, str.split):
        known = [(question, runs(cut(question.casefold()))) for question in sorted(trained)]
        for question in sorted(tested):
            ours = runs(cut(question.casefold()))
            for other, theirs in known:
                if len(ours & theirs) > 0.6 * len(ours | theirs):
                    yield question, other


@pytest.mark.parametrize("seed", [5, 23])
def test_after_twenty_rounds_of_growth_nothing_tested_was_ever_trained_on(tmp_path: Path, seed: int) -> None:
    """Over all versions together, whatever was reworded, bridged, threaded together or withdrawn in between."""
    growth = Growth(tmp_path, seed)
    for _ in range(ROUNDS):
        growth.grow()
        growth.freeze()
    assert growth.bridged >= 5
    assert len(growth.tested) > 40
    assert len(growth.trained) > 200
    assert RETIRED in growth.places.values()
    assert list(leaks(growth.tested, growth.trained)) == []


def test_places_by_each_question_alone_would_leak(tmp_path: Path) -> None:
    """The measure finds leaks where there are some: this is what the clusters are for."""
    growth = Growth(tmp_path, 5)
    for _ in range(6):
        growth.grow()
        for key in growth.today:
            growth.places[key] = TEST if place(key, salt=SALT) < 0.15 else TRAIN
    sides: dict[int, set[str]] = {TEST: set(), TRAIN: set()}
    for key, question in growth.today.items():
        sides[growth.places[key]].add(question)
    assert len(list(leaks(sides[TEST], sides[TRAIN]))) > 5


def test_who_was_withdrawn_still_keeps_near_duplicates_off_the_other_side(tmp_path: Path) -> None:
    """Forgetting the earlier versions' questions would let a rewording of a tested one into training."""
    leaking = 0
    for remembers in (True, False):
        folder = tmp_path / str(remembers)
        folder.mkdir()
        growth = Growth(folder, 11, remembers)
        for _ in range(120):
            growth.ask(growth.sentence())
        growth.freeze()
        for question in list(growth.today.values()):
            growth.today.pop(key_of(question))
            growth.ask(f"{question} {growth.draw.choice(WORDS)}")
        growth.freeze()
        found = list(leaks(growth.tested, growth.trained))
        assert remembers is False or found == []
        leaking += len(found)
    assert leaking > 10


def test_what_was_withdrawn_is_read_from_earlier_versions_once(tmp_path: Path) -> None:
    """Each missing question comes from the first version that has it; what is erased there is not found."""
    growth = Growth(tmp_path, 3)
    for question in ("how do I reset my password", "where is the canteen", "who prints the badges"):
        growth.ask(question)
    growth.freeze()
    growth.freeze()
    wanted = {key_of("where is the canteen"), key_of("never asked")}
    assert [tuple(each) for each in withdrawn(growth.versions, wanted)] == [
        (key_of("where is the canteen"), "where is the canteen")
    ]
    assert list(withdrawn(growth.versions, ())) == []
