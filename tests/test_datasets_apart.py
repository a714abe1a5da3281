"""A large dataset is gathered by two processes and chosen in arrays: with the same bytes as by one, row by row."""

import asyncio
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, empty_database
from test_datasets import conversations, fill

from storage.errors import PublicError
from storage.feedback import Vote
from storage.learnable import LearningPlaces, Reviewed
from storage.store import Store
from storage.stretches import LaidOutAnew, Stretch
from storage.values import Message
from training.caps import CapRules, Caps
from training.dataset_items import ItemFile, Items
from training.dataset_picking import TOO_MANY_OF_ONE, capped, in_order, picked
from training.datasets import Frozen, freeze
from training.examples import CORRECTED, RATED, REVIEWED, VERIFIED, Allowed, Contender, Example, choose
from training.gathering_apart import Part
from training.raters import DISLIKED, Raters, Weights

SALT = "salt"


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    while not (await opened.strike_again()).done:  # as the bot does when it starts
        pass
    yield opened
    await opened.close()


async def test_two_processes_find_the_same(either: Store, tmp_path: Path) -> None:
    """Every byte, every reason."""
    await fill(either)
    one = await freeze(either, tmp_path / "one", team=TEAM, salt=SALT)
    freezing = asyncio.create_task(freeze(either, tmp_path / "two", team=TEAM, salt=SALT, apart_from=2))
    assert await _readers(freezing)
    two = await freezing
    assert one.id == two.id
    assert one.summary["dropped"] == two.summary["dropped"]
    for file in one.path.glob("*.jsonl"):
        assert file.read_bytes() == (two.path / file.name).read_bytes()
    assert [each.name for each in (tmp_path / "two").iterdir()] in (
        [two.id, ".freezing"],
        [".freezing", two.id],
    )


async def test_a_killed_reader_ends_the_freeze(either: Store, tmp_path: Path) -> None:
    """In words, with nothing half-made left behind, and the next one succeeds."""
    await fill(either)
    freezing = asyncio.create_task(freeze(either, tmp_path / "made", team=TEAM, salt=SALT, apart_from=2))
    os.kill((await _readers(freezing))[0], signal.SIGKILL)
    with pytest.raises(PublicError, match=r"ended early.*Start the training again"):
        await freezing
    assert not _reading()
    assert [each.name for each in (tmp_path / "made").iterdir()] == [".freezing"]
    assert await either.datasets() == []
    assert (await freeze(either, tmp_path / "made", team=TEAM, salt=SALT, apart_from=2)).examples > 0


def test_a_reader_is_told_every_rule(tmp_path: Path) -> None:
    """What a child reads from its stdin is what was decided, with nothing left at its default."""
    allowed = Allowed(
        consenting=frozenset({"U1"}),
        refusing=frozenset({"U2"}),
        nominated={"n_1": ("U1", "U3")},
        places=LearningPlaces(frozenset({"C9"}), workspace_off=True),
        reviews={"a_1": Reviewed("edited", "better?", "better.", "U4", "key")},
        quarantine=frozenset({("person", "U5")}),
        review_required=True,
        languages=("de", "en"),
    )
    part = Part(
        *("sqlite:///a", TEAM, Stretch("a_1", "a_9", "3"), tmp_path / "file", "Be brief.", allowed),
        verbatim={b"12345678": ("U1",), b"87654321": None},
        golden=("how?",),
    )
    assert all(getattr(allowed, each.name) != getattr(Allowed(()), each.name) for each in fields(Allowed))
    assert Part.from_json(part.as_json()) == part


async def _readers(freezing: "asyncio.Task[Frozen]") -> list[int]:
    """The processes that read for a freeze, as soon as there are any."""
    while not (readers := _reading()) and not freezing.done():
        await asyncio.wait([freezing], timeout=0.001)
    return readers


def _reading() -> list[int]:
    """Our children that read."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text(encoding="ascii")
    return [pid for pid in map(int, children.split()) if _reads(pid)]


def _reads(pid: int) -> bool:
    try:
        return b"training.gathering_child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_halves_are_read(either: Store) -> None:
    """Each answer in one of them; few answers are not parted at all."""
    await fill(either)
    everything = {row.answer_id async for page in either.learnable(TEAM) for row in page}
    halves = await either.answers_parted(fewest=2)
    assert halves is not None
    first, second = [
        [row.answer_id async for page in either.learnable_between(TEAM, half, page=7) for row in page]
        for half in halves
    ]
    assert set(first) | set(second) == everything
    assert len(first) + len(second) == len(everything)
    assert abs(len(first) - len(second)) <= len(conversations(1))
    assert await either.answers_parted(fewest=10**6) is None


async def test_a_stretch_is_not_read_when_the_rows_were_numbered_anew(either: Store) -> None:
    """VACUUM may give SQLite's rows other numbers; PostgreSQL is read by ids and does not mind."""
    await fill(either)
    halves = await either.answers_parted(fewest=2)
    assert halves is not None
    everything = {row.answer_id async for page in either.learnable(TEAM) for row in page}
    await either.database.scrub()
    if halves[0].layout:
        with pytest.raises(LaidOutAnew):
            [page async for page in either.learnable_between(TEAM, halves[0])]
    else:
        found = {
            row.answer_id
            for half in halves
            async for page in either.learnable_between(TEAM, half)
            for row in page
        }
        assert found == everything


async def test_readers_begin_again_when_the_database_was_written_anew(
    either: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is forgotten, and the file rewritten, just after the answers were parted: nothing is missing."""
    await fill(either)
    one = await freeze(either, tmp_path / "one", team=TEAM, salt=SALT)
    parted = either.answers_parted
    times: list[tuple[Stretch, Stretch] | None] = []

    async def parted_and_rewritten(*, fewest: int) -> tuple[Stretch, Stretch] | None:
        found = await parted(fewest=fewest)
        if not times:
            await either.database.scrub()
        times.append(found)
        return found

    monkeypatch.setattr(either, "answers_parted", parted_and_rewritten)
    two = await freeze(either, tmp_path / "two", team=TEAM, salt=SALT, apart_from=2)
    assert two.id == one.id
    assert two.summary["dropped"] == one.summary["dropped"]
    first = times[0]
    assert first is not None
    assert len(times) == (2 if first[0].layout else 1)


@pytest.mark.parametrize("seed", range(6))
def test_arrays_choose_as_one_row_after_the_other(seed: int, tmp_path: Path) -> None:
    """With questions asked several times, all ranks, people who are not heard, and caps that bite."""
    examples = made_up(random.Random(seed))
    raters = Raters(["P1"])
    for each in examples:
        raters.add(each.votes, each.asker)
    weights, rules = raters.weigh(), CapRules(rater=0.1, author=0.1)
    expected, missing = row_by_row(examples, weights, rules)
    file = ItemFile(tmp_path / "items")
    random.Random(-seed).shuffle(examples)
    file.add(examples, [])
    file.flush()
    items = Items([(file.path, file.columns)])
    left_out: Counter[str] = Counter()
    found = picked(items, in_order(items), weights.label, left_out)
    final = capped(items, found, weights, salt=SALT, rules=rules, left_out=left_out).weights
    subjects = [each.subject for each in items.read(found.rows)]
    names = [items.key(int(row)) for row in found.rows]
    assert {
        name: (subject, weight)
        for name, subject, weight in zip(names, subjects, final.tolist(), strict=True)
        if weight
    } == expected
    assert names == sorted(names)
    assert left_out == missing
    items.close()
    file.close()


def made_up(draw: random.Random) -> list[Example]:
    """Examples of few questions, by few people, some of whom vote at random."""
    keys = [f"{draw.getrandbits(128):032x}" for _ in range(300)]
    examples = []
    for number in range(450):
        rank = draw.choices((RATED, REVIEWED, CORRECTED, VERIFIED), (12, 1, 3, 1))[0]
        voters = {f"P{int(draw.random() ** 2 * 14)}" for _ in range(draw.choice((0, 1, 1, 1, 2, 4)))}
        examples.append(
            Example(
                f"a{number:03}",
                draw.choice(keys),
                (Message("user", f"question {number}?"),),
                "answer",
                "rating",
                "thread",
                split=draw.choice(("", "", "", "test", "train")),
                rank=rank,
                said_at=draw.randrange(3),
                asker="P3",
                votes=tuple(
                    Vote(voter, draw.choice((1, -1)) if voter in {"P2", "P9"} else draw.choice((1, 1, 1, -1)))
                    for voter in sorted(voters)
                ),
                writer=draw.choice(("", "P4", "P5", "P6", "P7")) if rank != RATED else "",
            )
        )
    return examples


def row_by_row(
    examples: list[Example], weights: Weights, rules: CapRules
) -> tuple[dict[str, tuple[str, float]], Counter[str]]:
    """What counts for each question, by its key, and what is left out: as `choose` and `Caps` tell it for one row."""
    left_out: Counter[str] = Counter()
    caps, chosen = Caps(weights, salt=SALT, rules=rules), {}
    for key in sorted({each.key for each in examples}):
        group = sorted(
            (each for each in examples if each.key == key),
            key=lambda each: (each.rank, -each.said_at, each.id),
        )
        found = choose(
            [Contender(n, each.rank, each.split, each.asker, each.votes) for n, each in enumerate(group)],
            weights.label,
            left_out,
        )
        if found is None:
            continue
        best = chosen[key] = group[found.place]
        if best.rank == RATED:
            caps.rated(key, best.votes)
        elif best.writer and best.rank != REVIEWED:
            caps.written(key, best.writer)
        else:
            caps.free()
    settled, expected = caps.settle(), {}
    for key, best in chosen.items():
        label = settled.label(key, best.votes, best.asker)
        if best.rank == RATED and label.value <= 0:
            left_out[label.reason or DISLIKED] += 1
        elif best.rank not in (RATED, REVIEWED) and best.writer and not settled.keeps(key):
            left_out[TOO_MANY_OF_ONE] += 1
        else:
            expected[key] = best.id, label.weight if best.rank == RATED else 1.0
    return expected, left_out
