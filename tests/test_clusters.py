"""Near-duplicates and threads are one cluster: none overlooked, none joined by a guess, the same for the same rows."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from likeness import THRESHOLD, components, edited, jaccard, near, runs, sentences

from training import clusters as clusters_module
from training.clusters import Clusters
from training.shingles import characters, likenesses, normal, words
from training.sketches import CHARACTERS, CHUNK, WORDS, Shape, Sketches


def roots_of(
    folder: Path, questions: Sequence[str], threads: Sequence[str] = (), page: int = 1000
) -> np.ndarray:
    clusters = Clusters(folder)
    threads = threads or [""] * len(questions)
    try:
        for start in range(0, len(questions), page):
            some = questions[start : start + page]
            clusters.add(["key"] * len(some), some, threads[start : start + page])
        return clusters.roots()
    finally:
        clusters.close()


def test_real_questions_and_their_paraphrases_are_joined_as_by_brute_force(
    tmp_path: Path, shared_data: Path
) -> None:
    """Every near-duplicate of a real help desk is found, and nothing else is joined."""
    lines = (shared_data / "stackfaq" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    found = roots_of(tmp_path, questions)
    assert found.tolist() == components(len(questions), near(questions))
    assert len(set(found.tolist())) < len(questions)


def test_no_edit_near_the_threshold_is_overlooked(tmp_path: Path) -> None:
    """1,500 pairs about Jaccard 0.6: all that are above it are joined, none that is below."""
    draw = random.Random(7)
    originals = sentences(1500, 7)
    others = [edited(question, draw) for question in originals]
    found = roots_of(tmp_path, [*originals, *others])
    above = 0
    for place, (one, other) in enumerate(zip(originals, others, strict=True)):
        how_alike = max(jaccard(runs(one, cut), runs(other, cut)) for cut in ("characters", "words"))
        joined = bool(found[place] == found[place + len(originals)])
        assert joined == (how_alike > THRESHOLD), (one, other, how_alike)
        above += how_alike > THRESHOLD
    assert 300 < above < 1350


@pytest.mark.parametrize("shape", [CHARACTERS, WORDS])
def test_the_bands_miss_less_than_one_pair_in_ten_thousand(shape: Shape) -> None:
    """By calculation; a sketch with fewer bands would."""
    assert shape.miss(THRESHOLD) < 1e-4
    assert shape.miss(0.9) < 1e-12
    assert Shape(shape.columns, shape.rows, 1).miss(THRESHOLD) > 1e-4
    used = [number for band in shape.bands() for number in band[: shape.rows]]
    assert len(used) == shape.deals * (shape.columns // shape.rows) * shape.rows
    assert set(used) == set(range(shape.columns))


def test_the_calculation_is_what_happens() -> None:
    """The chance to miss a pair, tried out with sketches that agree in each column by chance."""
    shape, rng = Shape(columns=20, rows=5, deals=2), np.random.default_rng(3)
    agree = rng.random((20_000, 20)) < 0.6 + 0.4 / 256
    met = np.zeros(20_000, bool)
    for band in shape.bands():
        met |= agree[:, list(band[:5])].all(axis=1)
    assert 1 - met.mean() == pytest.approx(shape.miss(0.6), abs=0.02)


def test_a_sketch_agrees_as_often_as_texts_are_alike(tmp_path: Path) -> None:
    """The columns estimate the likeness without bias."""
    draw = random.Random(9)
    originals = sentences(600, 9)
    others = [edited(question, draw) for question in originals]
    sketches = Sketches(tmp_path / "sketches", CHARACTERS, characters)
    sketches.write(0, [*originals, *others])
    columns = np.stack([sketches.column(number, 1200) for number in range(CHARACTERS.columns)])
    sketches.close()
    estimated = (columns[:, :600] == columns[:, 600:]).mean(axis=0)
    exact = likenesses(characters(originals), characters(others))
    assert np.mean(estimated - exact) == pytest.approx(0, abs=0.01)
    assert np.std(estimated - exact) < 0.06


@pytest.mark.parametrize(("page", "workers"), [(7, 1), (100_000, 3)])
def test_the_same_questions_give_the_same_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int, workers: int
) -> None:
    """Whatever the pages and the number of workers."""
    monkeypatch.setattr(clusters_module, "_WORKERS", workers)
    draw = random.Random(2)
    originals = sentences(100, 2)
    questions = [edited(draw.choice(originals), draw) for _ in range(250)]
    assert roots_of(tmp_path, questions, page=page).tolist() == components(250, near(questions))


def test_threads_and_spelling_join(tmp_path: Path) -> None:
    """Case, punctuation and spacing do not tell questions apart; a thread is one cluster; no thread joins nothing."""
    questions = [
        "How do I reset it?",
        "how do I  RESET it",
        "Where is the canteen?",
        "Who prints badges?",
        "Why?",
        "why",
        "",
    ]
    threads = ["", "", "t1", "t1", "", "", ""]
    assert roots_of(tmp_path, questions, threads).tolist() == [0, 0, 2, 2, 4, 4, 6]


def test_clusters_chain(tmp_path: Path) -> None:
    """A thread's near-duplicate's thread is the same cluster, with the first question as its root."""
    questions = [
        "where can I find the printer manual",
        "unrelated words here",
        "where can I find the printer manuals",
        "zebra",
    ]
    assert roots_of(tmp_path, questions, ["a", "b", "b", "c"]).tolist() == [0, 0, 0, 3]


def test_word_runs_join_what_characters_do_not(tmp_path: Path) -> None:
    """One very long word makes texts unlike by characters, though all the others follow each other alike."""
    questions = ["how do I get to see my", "how do I get to see my " + "internationalisation" * 3]
    assert jaccard(*(runs(question, "characters") for question in questions)) < THRESHOLD
    assert roots_of(tmp_path, questions).tolist() == [0, 0]


ODD = [
    [],
    ["alone"],
    ["", ""],
    ["?", "!"],
    ["パスワードを再設定するには", "パスワードを再設定するにわ"],
    ["a" * 30_000] * 2,
]


@pytest.mark.parametrize("questions", ODD)
def test_odd_questions_do_no_harm(tmp_path: Path, questions: list[str]) -> None:
    """None, one, empty, without words, of another script, very long."""
    assert roots_of(tmp_path, questions).tolist() == components(len(questions), near(questions))


def test_nearly_equal_questions_cost_no_more_than_their_number(tmp_path: Path) -> None:
    """Somebody pastes one question thousands of times: each is compared with a few, not with all, and all are joined."""
    count = 6000
    questions = [
        f"please tell me how I can reset the password of my mail account number {n}" for n in range(count)
    ]
    sketches = Sketches(tmp_path / "hostile", CHARACTERS, characters)
    sketches.write(0, [normal(question) for question in questions])
    alone = np.arange(count, dtype=np.int32)
    for band in CHARACTERS.bands()[:20]:
        assert sum(len(first) for first, _ in sketches.meetings(band, alone)) < 64 * count
        assert sum(len(first) for first, _ in sketches.meetings(band, np.zeros(count, np.int32))) == 0
    sketches.close()
    assert set(roots_of(tmp_path, questions).tolist()) == {0}


def test_more_than_one_chunk_is_read_back_in_order(tmp_path: Path) -> None:
    """Copies that lie in different chunks of the file meet."""
    first = sentences(CHUNK + 50, 4)
    questions = [*first, f"{first[3]} again", f"{first[CHUNK + 7]} again"]
    found = roots_of(tmp_path, questions).tolist()
    assert found[-2] == 3
    assert found[-1] == found[CHUNK + 7]


def test_exact_likeness_is_that_of_sets() -> None:
    """The vectorised count and Python's sets say the same."""
    draw = random.Random(1)
    ones = ["", "a", "été à la plage", "aaaaaaaaaa", "one two three four five", *sentences(200, 1)]
    others = [
        "",
        "b",
        "été a la plage",
        "aaaaaaa",
        "one two three four five six",
        *(edited(q, draw) for q in ones[5:]),
    ]
    for cut, name in ((characters, "characters"), (words, "words")):
        exact = [jaccard(runs(one, name), runs(other, name)) for one, other in zip(ones, others, strict=True)]
        assert likenesses(cut(ones), cut(others)) == pytest.approx(exact)


def test_what_cannot_be_asked_of_it(tmp_path: Path) -> None:
    """Pages must be whole, and nothing is added after the clusters were told."""
    clusters = Clusters(tmp_path)
    with pytest.raises(ValueError, match="2 questions"):
        clusters.add(["a"], ["b", "c"], [""])
    assert len(clusters.roots()) == 0
    with pytest.raises(ValueError, match="told already"):
        clusters.add(["a"], ["b"], [""])
    clusters.close()
