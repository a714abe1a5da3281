"""Whatever a model is judged by and was trained on is found, row by row, exactly."""

import json
import random
from pathlib import Path

import pytest
from likeness import edited, jaccard, runs, sentences

from training.contamination import Contamination, Judged


def by_brute_force(questions: list[str], trained: list[str]) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for cut in ("characters", "words"):
        items = [runs(question, cut) for question in questions]
        for row, text in enumerate(trained):
            ours = runs(text, cut)
            for item, theirs in enumerate(items):
                if (how_alike := jaccard(ours, theirs)) > 0.6:
                    found[row, item] = max(how_alike, found.get((row, item), 0.0))
    return found


def test_every_near_duplicate_among_the_training_rows_is_named() -> None:
    """With its row, its question and how alike they are, in the order of the rows."""
    draw = random.Random(4)
    questions = ["", "hi", *sentences(150, 4)]
    trained = [
        "Hi!",
        "?",
        *sentences(300, 5),
        *(edited(question, draw) for question in questions[2:]),
        questions[9].upper(),
    ]
    found = list(Judged(questions).among(iter(trained)))
    expected = by_brute_force(questions, trained)
    assert {(each.row, each.item) for each in found} == set(expected)
    assert found == sorted(found)
    for each in found:
        assert each.likeness == pytest.approx(expected[each.row, each.item])
    assert found[0] == Contamination(0, 1, 1.0)
    assert found[-1] == Contamination(len(trained) - 1, 9, 1.0)


def test_paraphrases_of_a_real_help_desk(shared_data: Path) -> None:
    """The test phrasings against the training phrasings of the same threads: found as by brute force."""
    lines = (shared_data / "stackfaq" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    test = [row["question"] for row in rows if row["split"] == "test"]
    train = [row["question"] for row in rows if row["split"] == "train"]
    found = {(each.row, each.item) for each in Judged(test).among(train)}
    assert found == set(by_brute_force(test, train))
    assert found


def test_nothing_to_judge_by_finds_nothing() -> None:
    """No questions, or no training rows."""
    assert list(Judged([]).among(["how do I reset it"])) == []
    assert list(Judged(["how do I reset it"]).among([])) == []


def test_rows_are_counted_over_batches() -> None:
    """The training rows stream; the row number is that of the whole file."""
    rows = (f"row number {number} of many, all of them unlike {number * 7919}" for number in range(4500))
    found = list(Judged(["where is the blue printer"]).among((*rows, "where is the blue printer?")))
    assert [each.row for each in found] == [4500]
