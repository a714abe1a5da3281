"""Disliked answers in a dataset: which, whose word counts, on which side, and how they go again."""

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, empty_database
from test_datasets import PEOPLE, fill

from storage.records import Answer, Candidate, Consent, Question, Rating, now
from storage.store import Store
from training.dataset_erasing import erase, verify
from training.dataset_files import UNPAIRED, UNPAIRED_ROWS, lines_of, read_manifest, rows_of
from training.datasets import Frozen, freeze
from training.formats.writing import pieces_of


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    while not (await opened.strike_again()).done:
        pass
    yield opened
    await opened.close()


async def frozen(store: Store, folder: Path, **more: Any) -> Frozen:
    return await freeze(store, folder / "datasets", team=TEAM, salt="salt", **more)


async def asked(store: Store, name: str, question: str, answer: str, votes: dict[str, int]) -> None:
    """Somebody asked, somebody answered, and these people voted."""
    place: dict[str, Any] = {"team": TEAM, "channel": "C0"}
    rows: list[Any] = [
        Question(id=f"q_{name}", ts=f"{name}.0", thread_ts=f"{name}.0", asker="U1", text=question, **place),
        Candidate(id=f"c_{name}", question_id=f"q_{name}", kind="local", model="m", text=answer, chosen=True),
        Answer(id=f"a_{name}", question_id=f"q_{name}", candidate_id=f"c_{name}", **place, messages=[
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]),
    ]  # fmt: skip
    rows += [
        Rating(
            id=f"r_{name}_{rater}", answer_id=f"a_{name}", team=TEAM, rater=rater, value=value, rated_at=now()
        )
        for rater, value in votes.items()
    ]
    async with store.database.writing() as session:
        for row in rows:
            session.add(row)
            await session.flush()


def disliked(made: Frozen) -> dict[str, dict[str, Any]]:
    """What is told as disliked, by the answer's id."""
    rows = [row for row in lines_of(made.path / UNPAIRED_ROWS) if not row.get("erased")]
    return {row["subject"]: line for row, line in zip(rows, lines_of(made.path / UNPAIRED), strict=True)}


async def test_what_was_disliked_and_not_corrected_is_told_as_such(either: Store, tmp_path: Path) -> None:
    """With its question, on a side of its own cluster; what was corrected is a pair already."""
    await fill(either, 60)
    made = await frozen(either, tmp_path)
    found = disliked(made)
    assert set(found) == {f"a_{n}" for n in range(60) if n % 5 == 0 and n % 10}
    one = found["a_5"]
    assert (one["completion"], one["label"], one["messages"][-1]["role"]) == ("Ask desk 5.", False, "user")
    assert read_manifest(made.path)["unpaired"] == len(found) == 6
    assert not {row["subject"] for row in rows_of(made.path)} & set(found)
    assert verify(made.path) == []
    for split in made.counts:
        told = [
            piece.answer
            for piece in pieces_of(made.path, split, "trl-unpaired", Counter())
            if not piece.liked
        ]
        assert {line["completion"] for line in found.values() if line["split"] == split} <= set(told)


async def test_a_liked_answer_to_the_same_question_does_not_hide_it(either: Store, tmp_path: Path) -> None:
    """Both are there, under one id and on one side, and the same text twice is told once."""
    await fill(either, 20)
    for name, answer, value in (("x1", "Go left.", 1), ("x2", "Go right.", -1), ("x3", "Go right.", -1)):
        await asked(either, name, "Where do I find the archive of 1987?", answer, {"U2": value, "U3": value})
    made = await frozen(either, tmp_path)
    (liked,) = [row for row in rows_of(made.path) if row["subject"].startswith("a_x")]
    told = {subject: line for subject, line in disliked(made).items() if subject.startswith("a_x")}
    (line,) = told.values()
    assert (liked["subject"], line["completion"]) == ("a_x1", "Go right.")
    assert (line["id"], line["split"], line["cluster"]) == (liked["id"], liked["split"], liked["cluster"])


async def test_near_duplicates_of_what_is_tested_are_not_disliked_in_training(
    either: Store, tmp_path: Path
) -> None:
    """A question that was only ever answered badly has its place with its like, for ever."""
    await fill(either, 60)
    first = await frozen(either, tmp_path)
    tested = list(lines_of(first.path / "test.jsonl"))[:3]
    for number, row in enumerate(tested):
        text = row["messages"][-2]["content"] + " please"
        await asked(either, f"near{number}", text, f"No idea {number}.", {"U2": -1, "U3": -1})
    found = disliked(await frozen(either, tmp_path))
    assert [found[f"a_near{number}"]["split"] for number in range(len(tested))] == ["test"] * len(tested)


async def test_one_person_dislikes_no_more_than_the_cap(either: Store, tmp_path: Path) -> None:
    """Who presses thumbs down everywhere is heard in as many rows as their like may decide, and no more."""
    await fill(either, 300)
    for number in range(60):
        votes = {"U9X": -1} if number % 2 else {f"U{number % 12}": 1}
        await asked(
            either, f"h{number}", f"What about subject {number} of {number * 13}?", f"It is {number}.", votes
        )
    found = disliked(await frozen(either, tmp_path))
    heard = [subject for subject in found if subject.startswith("a_h")]
    regulars = 13
    assert 5 <= len(heard) <= max(5, 2 / regulars * len(found) + 1) < 30


async def test_they_go_with_the_person(either: Store, tmp_path: Path) -> None:
    """What is left of a row is the hash of its line, and the id can still be checked."""
    await fill(either, 60)
    made = await frozen(either, tmp_path)
    theirs = [row for row in lines_of(made.path / UNPAIRED_ROWS) if PEOPLE[5] in row["authors"]]
    assert theirs
    gone = erase(made.path, authors={PEOPLE[5]})
    assert gone.unpaired == len(theirs)
    assert not {row["subject"] for row in theirs} & set(disliked(made))
    assert not any(PEOPLE[5] in json.dumps(line) for line in lines_of(made.path / UNPAIRED_ROWS))
    assert verify(made.path) == []


async def test_a_validation_side_of_dislikes_alone_is_lent_examples(either: Store, tmp_path: Path) -> None:
    """Few questions: whatever the draw, a model that is trained can be watched."""
    for number in range(12):
        value = -1 if number % 2 else 1
        await asked(either, f"s{number}", f"How does machine {number} of hall {number * 7} start?", f"Press {number}.",
                    {"U2": value, "U3": value})  # fmt: skip
    async with either.database.writing() as session:
        session.add(Consent(team=TEAM, person="U1", granted=True, decided_at=now()))
    for salt in "abcdef":
        made = await freeze(either, tmp_path / salt, team=TEAM, salt=salt)
        assert made.counts["validation"] > 0
        sides = {row["cluster"]: row["split"] for row in rows_of(made.path)}
        assert all(
            sides.get(line["cluster"], line["split"]) == line["split"] for line in disliked(made).values()
        )


def lorry(number: int) -> str:
    """Words that no other number has."""
    digits = hashlib.sha256(f"{number}".encode()).hexdigest()
    return " ".join(digits[place : place + 6] for place in range(0, 60, 6))


async def test_what_was_disliked_once_keeps_its_side(either: Store, tmp_path: Path) -> None:
    """Nobody rates it any more; a near-duplicate of it, liked, lands where it was, although the draw would say otherwise."""
    await fill(either, 30)
    for number in range(40):
        await asked(
            either,
            f"w{number}",
            f"May I park {lorry(number)}?",
            f"{number}.",
            {"U2": -1, "U3": -1},
        )
    told = disliked(await frozen(either, tmp_path))
    held_out = [name for name, line in told.items() if name.startswith("a_w") and line["split"] == "test"][:3]
    assert held_out
    for subject in held_out:
        name = subject.removeprefix("a_")
        async with either.database.writing() as session:
            for rater in ("U2", "U3"):
                await session.delete(await session.get_one(Rating, f"r_{name}_{rater}"))
        number = int(name[1:])
        text = f"Please, may I park {lorry(number)}?"
        await asked(either, f"n{number}", text, "Yes.", {"U2": 1, "U3": 1})
    made = await frozen(either, tmp_path)
    sides = {row["subject"]: row["split"] for row in rows_of(made.path)}
    assert {sides[f"a_n{name[3:]}"] for name in held_out} == {"test"}
