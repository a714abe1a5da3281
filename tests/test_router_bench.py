"""The routing bench measures any file of its form, with answers' texts where a row has them. All rows here are made up."""

import json
import random
from pathlib import Path

import pytest

from tests.benchmarks.routing import measure


def made_up(count: int, *, texts: bool) -> list[dict[str, object]]:
    """Sums in words. A weak answer that is wrong holds an equation that is wrong three times in four, and is longer."""
    dice = random.Random(5)
    rows: list[dict[str, object]] = []
    for number in range(count):
        a, b = dice.randint(2, 40), dice.randint(2, 40)
        weak = dice.random() < 0.65
        slip = 0 if weak or dice.random() < 0.25 else dice.randint(1, 9)
        steps = "".join(
            f"Step {step}: we look again.\n" for step in range(dice.randint(0, 2) + (0 if weak else 2))
        )
        row: dict[str, object] = {
            "id": number,
            "bench": "made up",
            "prompt": f"Ann has {a} bags with {b} apples each. How many apples does she have?",
            "weak": weak,
            "strong": dice.random() < 0.9,
            "contaminated": number % 100 == 0,
        }
        if texts:
            row |= {
                "weak_response": f"{steps}{a} * {b} = {a * b + slip}\n#### {a * b + slip}",
                "gold": str(a * b),
            }
        rows.append(row)
    return rows


@pytest.mark.parametrize(("texts", "most", "least"), [(True, 32.0, 0.0), (False, 65.0, 35.0)])
def test_answers_tell_more_than_questions(tmp_path: Path, texts: bool, most: float, least: float) -> None:
    """With the weak answers' texts far fewer strong calls recover half of the gap; without, it is chance."""
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in made_up(1200, texts=texts)), encoding="utf-8")
    result = measure(file, labels=200, repeats=2)
    assert least < result.cpt50.mean < most
    assert result.with_answers is texts
    assert (result.questions, result.left_out) == (1188, 12)
    assert result.ece.mean < 0.12


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """In words, with what is needed."""
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in made_up(50, texts=False)), encoding="utf-8")
    with pytest.raises(ValueError, match="at least 400"):
        measure(file, labels=200)
