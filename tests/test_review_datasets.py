"""What reviewers decide is what the next dataset holds: rejected is out, edited as they left it, golden never."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from databases import TEAM
from review_rig import CORRECTOR, agreed, proposed, rated

from storage.entries import NewEntry
from storage.store import Store
from training.dataset_files import read_split
from training.datasets import freeze

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
async def _agreed(store: Store) -> None:
    await agreed(store, TEAM, "U0CLEO", CORRECTOR, "U0ANN")


async def frozen(
    store: Store, folder: Path, *, review_required: bool = False
) -> tuple[dict[str, str], Mapping[str, int]]:
    """Question -> answer of the next dataset, and what was left out and why."""
    made = await freeze(store, folder / "datasets", team=TEAM, salt="salt", review_required=review_required)
    rows = [row for split in SPLITS for row in read_split(made.path, split)]
    return {row.messages[-1]["content"]: row.answer for row in rows}, made.summary["dropped"]


async def sides(store: Store, folder: Path) -> dict[str, str]:
    """On which side of the next dataset each question lies."""
    made = await freeze(store, folder / "datasets", team=TEAM, salt="salt")
    return {row.messages[-1]["content"]: split for split in SPLITS for row in read_split(made.path, split)}


async def test_rejected_is_out_and_edited_text_is_in(store: Store, tmp_path: Path) -> None:
    """Of three liked answers one is rejected, one edited, one left alone; the reason for the missing one is told."""
    for question in (
        "Where are the ladders?",
        "Who has a key to the shed?",
        "Do you open on Sundays at noon?",
    ):
        await rated(store, TEAM, question, "As always.")
    first, second, third = await store.to_review(TEAM)
    before, _ = await frozen(store, tmp_path)
    assert len(before) == 3
    await store.review(TEAM, first.subject, first.key, "rejected", "U0ANN")
    await store.review(TEAM, second.subject, second.key, "edited", "U0ANN", second.question, "Better.")
    await store.review(TEAM, third.subject, third.key, "approved", "U0ANN")
    after, left_out = await frozen(store, tmp_path)
    assert after == {second.question: "Better.", third.question: "As always."}
    assert left_out["a reviewer rejected it"] == 1


async def test_what_a_correction_put_into_memory_shares_its_fate(store: Store, tmp_path: Path) -> None:
    """A corrected answer is an entry of memory, too: rejected, neither of them is learned from."""
    answer = await rated(store, TEAM, "Where are the ladders?", "No idea.", better="On the moon.")
    entry = NewEntry(
        "Where are the ladders?", "On the moon.", "a correction", author=CORRECTOR, answer_id=answer.id
    )
    await store.add_entries(TEAM, [entry])
    [one] = await store.to_review(TEAM)
    before, _ = await frozen(store, tmp_path)
    assert before == {"Where are the ladders?": "On the moon."}
    await store.review(TEAM, one.subject, one.key, "edited", "U0ANN", one.question, "Behind the door.")
    edited, _ = await frozen(store, tmp_path)
    assert edited == {"Where are the ladders?": "Behind the door."}
    await store.review(TEAM, one.subject, one.key, "rejected", "U0ANN")
    assert (await frozen(store, tmp_path))[0] == {}


async def test_an_edit_moves_no_question_across_the_split(store: Store, tmp_path: Path) -> None:
    """Whoever edits a held-out question does not bring it into training under another wording."""
    for number in range(20):
        await rated(store, TEAM, f"Number {number}: what about {chr(65 + number)} {number * 37}?", "This.")
    before = await sides(store, tmp_path)
    held_out = next(each for each in await store.to_review(TEAM) if before[each.question] == "test")
    await store.review(
        TEAM, held_out.subject, held_out.key, "edited", "U0ANN", "Something else altogether?", "That."
    )
    assert (await sides(store, tmp_path))["Something else altogether?"] == "test"


async def test_with_review_required_only_what_was_approved_is_learned_from(
    store: Store, tmp_path: Path
) -> None:
    """Imports are in: who imports a file has read it. All else waits for a reviewer, and is counted."""
    await store.add_entries(TEAM, [NewEntry("Imported?", "Yes.", "a file")])
    await rated(store, TEAM, "Where are the ladders?", "There.")
    entry = await proposed(store, TEAM, "Who has a key to the shed?", "Ben has.")
    rows, left_out = await frozen(store, tmp_path, review_required=True)
    assert rows == {"Imported?": "Yes."}
    assert left_out["nobody has reviewed it yet"] == 2
    await store.review(TEAM, entry, "", "approved", "U0ANN")
    rows, _ = await frozen(store, tmp_path, review_required=True)
    assert rows == {"Imported?": "Yes.", "Who has a key to the shed?": "Ben has."}


async def test_a_golden_question_is_never_trained_on(store: Store, tmp_path: Path) -> None:
    """Nor is anything that nearly is one; retired, it may be learned from again."""
    golden = "Where do I find the long ladders of the library?"
    for question in (
        golden,
        "Where do I find the long ladders of the library today?",
        "Who has a key to the shed?",
    ):
        await rated(store, TEAM, question, "There.")
    item = await store.propose_golden(TEAM, golden, "There.", "", "", "U0ANN")
    rows, left_out = await frozen(store, tmp_path)
    assert list(rows) == ["Who has a key to the shed?"]
    assert sum(count for reason, count in left_out.items() if "golden" in reason) == 2
    await store.retire_golden(TEAM, item.id, "U0ANN")
    rows, _ = await frozen(store, tmp_path)
    assert len(rows) == 3
