"""What a frozen dataset promises: the same rows give the same bytes, nothing ever changes it, and it can forget."""

import asyncio
import hashlib
import json
import random
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database, reply

from storage.entries import NewEntry
from storage.places import Place
from storage.records import Answer, Candidate, Consent, Correction, Question, Rating, Review, now
from storage.store import Store
from storage.values import Message
from training.dataset_difference import changes
from training.dataset_files import lines_of, read_manifest, rows_of
from training.datasets import Frozen, erase, freeze, read_split, verify

TOPICS = (
    "printer",
    "holiday",
    "payroll",
    "parking",
    "laptop",
    "visitor",
    "coffee",
    "badge",
    "window",
    "server",
)
VERBS = ("order", "return", "repair", "register", "cancel", "clean", "borrow", "replace")
PEOPLE = [f"U{number}" for number in range(12)]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
async def either(url: str) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(url)
    yield opened
    await opened.close()


def question(number: int) -> str:
    place = f"building {number // 80} on level {number % 7}"
    return f"How can I {VERBS[number % 8]} the {TOPICS[number // 8 % 10]} of {place}, please?"


def conversations(count: int) -> list[list[Any]]:
    """So many rated conversations, each as the rows that make it; the same at every call."""
    moment, made = now().replace(2026, 11, 1, microsecond=0), []
    for n in range(count):
        asker, text = PEOPLE[n % 10], question(n)
        seen = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        place: dict[str, Any] = {"team": TEAM, "channel": f"C{n % 3}"}
        rows: list[Any] = [
            Question(
                id=f"q_{n}", ts=f"{n}.0", thread_ts=f"{n}.0", asker=asker, text=text, asked_at=moment, **place
            ),
            Candidate(
                id=f"c_{n}",
                question_id=f"q_{n}",
                kind="local",
                model="starter",
                text=f"Ask desk {n}.",
                chosen=True,
            ),
            Answer(
                id=f"a_{n}",
                question_id=f"q_{n}",
                candidate_id=f"c_{n}",
                messages=seen,
                posted_ts=f"9{n}.0",
                **place,
            ),
        ]
        for rater in (PEOPLE[(n + 3) % 12], PEOPLE[(n + 5) % 12]):
            rows.append(
                Rating(
                    id=f"r_{n}_{rater}",
                    answer_id=f"a_{n}",
                    team=TEAM,
                    rater=rater,
                    value=-1 if n % 5 == 0 else 1,
                )
            )
        if n % 10 == 0:
            rows.append(
                Correction(
                    id=f"k_{n}",
                    answer_id=f"a_{n}",
                    team=TEAM,
                    author=PEOPLE[n % 4],
                    text=f"Room {n}.",
                    may_train=True,
                )
            )
        made.append(rows)
    return made


async def fill(store: Store, count: int = 60, *, seed: int = 0) -> None:
    """The conversations in an order that the seed draws, and everybody's consent."""
    rows = conversations(count)
    random.Random(seed).shuffle(rows)
    async with store.database.writing() as session:
        for person in PEOPLE:
            session.add(Consent(team=TEAM, person=person, granted=True, decided_at=now()))
        for each in rows:
            for row in each:
                session.add(row)
                await session.flush()


async def frozen(store: Store, folder: Path, **more: Any) -> Frozen:
    return await freeze(store, folder / "datasets", team=TEAM, salt="salt", **more)


def bytes_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def in_it(path: Path) -> set[str]:
    """The subjects of all rows that are there."""
    return {row["subject"] for row in rows_of(path)}


async def test_the_same_rows_give_the_same_bytes(either: Store, tmp_path: Path) -> None:
    """On either database, in whatever order they came: every file of the folder, its name included."""
    other = await Store.open(f"sqlite:///{tmp_path / 'other.sqlite'}")
    try:
        await fill(either, seed=1)
        await fill(other, seed=2)
        here, there = await frozen(either, tmp_path / "a"), await frozen(other, tmp_path / "b")
    finally:
        await other.close()
    assert here.id == there.id
    assert bytes_of(here.path) == bytes_of(there.path)
    assert sum(here.counts.values()) == here.examples > 40
    assert verify(here.path) == []


async def test_freezing_again_finds_the_same_folder_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    """A version is made once; its files are read-only and nothing of a draft stays."""
    await fill(store)
    first = await frozen(store, tmp_path)
    before = bytes_of(first.path)
    again = await frozen(store, tmp_path)
    assert (again.id, again.new, first.new) == (first.id, False, True)
    assert bytes_of(first.path) == before
    assert not any(file.stat().st_mode & stat.S_IWUSR for file in first.path.iterdir())
    assert {each.name for each in (tmp_path / "datasets").iterdir()} == {first.id, ".freezing"}
    assert [row.id for row in await store.datasets()] == [first.id]


async def test_the_id_and_the_manifest_are_those_of_the_content(store: Store, tmp_path: Path) -> None:
    """Whoever has the folder can check it with a few lines of their own."""
    await fill(store)
    made = await frozen(store, tmp_path)
    manifest = read_manifest(made.path)
    content = hashlib.sha256(b"apprentice dataset 2 training\n")
    lines = {name: (made.path / f"{name}.jsonl").read_bytes().splitlines() for name in made.counts}
    for row in lines_of(made.path / "rows.jsonl"):
        assert hashlib.sha256(lines[row["split"]].pop(0)).hexdigest() == row["sha256"]
        content.update(f"{row['split']}\t{row['sha256']}\n".encode())
    for row in lines_of(made.path / "preference_rows.jsonl"):
        content.update(f"preference {row['split']}\t{row['sha256']}\n".encode())
    for row in lines_of(made.path / "unpaired_rows.jsonl"):
        content.update(f"unpaired {row['split']}\t{row['sha256']}\n".encode())
    assert content.hexdigest() == made.id == manifest["id"]
    for name, told in manifest["files"].items():
        assert hashlib.sha256((made.path / name).read_bytes()).hexdigest() == told["sha256"]
    assert str(tmp_path) not in json.dumps(manifest)
    assert {"code", "redaction", "salt", "filters", "licence", "consent", "dropped"} <= set(manifest)
    assert "salt" not in manifest["salt"]


async def test_every_row_that_is_left_out_is_counted(store: Store, tmp_path: Path) -> None:
    """Rows that are in and reasons add up to what was said."""
    await fill(store, 60)
    await store.set_consent(TEAM, "U1", False)
    made = await frozen(store, tmp_path)
    assert made.examples + sum(made.summary["dropped"].values()) == 60
    assert made.summary["dropped"]["the person who asked has not agreed"] == 6


async def test_withdrawn_consent_leaves_the_next_dataset(store: Store, tmp_path: Path) -> None:
    """The version that is there stays as it is; the difference says what went."""
    await fill(store)
    first = await frozen(store, tmp_path)
    await store.set_consent(TEAM, "U3", False)
    second = await frozen(store, tmp_path)
    theirs = {f"a_{n}" for n in range(60) if n % 10 == 3}
    corrected = {f"a_{n}" for n in range(0, 60, 10) if PEOPLE[n % 4] == "U3"}
    assert theirs & in_it(first.path)
    assert not (theirs | corrected) & in_it(second.path)
    assert verify(first.path) == []
    assert second.difference.counts["removed"] == first.examples - second.examples > 0
    assert second.difference.counts["added"] == second.difference.counts["moved"] == 0
    row = await store.dataset(second.id)
    assert row is not None
    assert (row.parent_id, row.team, row.kind) == (first.id, TEAM, "training")
    assert row.difference["removed"] == second.difference.counts["removed"]


async def test_nothing_is_learned_where_learning_is_switched_off(store: Store, tmp_path: Path) -> None:
    """Per channel, and for the whole workspace; what the operator imported stays."""
    await fill(store)
    await store.add_entries(
        TEAM, [NewEntry("Where is the canteen of the old mill?", "Behind it.", "handbook")]
    )
    await store.set_channel(TEAM, "C1", by="U0ADMIN", learning=False)
    made = await frozen(store, tmp_path)
    assert not {f"a_{n}" for n in range(60) if n % 3 == 1} & in_it(made.path)
    assert made.summary["dropped"]["learning is switched off where it was said"] == 20
    await store.keepsake(f"learning:{TEAM}", lambda: "off")
    rest = await frozen(store, tmp_path)
    assert rest.summary["origins"] == {"entry": 1}


async def test_what_was_said_earlier_in_the_thread_has_authors_too(either: Store, tmp_path: Path) -> None:
    """A follow-up quotes somebody else's question: both have to agree."""
    first = await ask(either, asker="U1", ts="1.0", text="Who has the key of the bicycle cellar?")
    await reply(either, first)
    follow = await ask(either, asker="U2", ts="2.0", thread_ts="1.0", text="And who has it at night?")
    history = (Message("user", first.text), Message("assistant", "Press Forgot."))
    answer = await reply(either, follow, history=history)
    await either.rate(answer.id, team=TEAM, rater="U5", value=1)
    await either.set_consent(TEAM, "U2", True)
    none = await frozen(either, tmp_path)
    assert none.summary["dropped"] == {"somebody who wrote earlier in the thread has not agreed": 1}
    await either.set_consent(TEAM, "U1", True)
    made = await frozen(either, tmp_path)
    (row,) = rows_of(made.path)
    assert row["authors"] == ["U1", "U2"]
    (held,) = read_split(made.path, row["split"])
    assert [turn["role"] for turn in held.messages] == ["user", "assistant", "user"]


async def test_reviews_decide(store: Store, tmp_path: Path) -> None:
    """A rejected row is out, a better text wins, and an approved one counts although it is disliked."""
    await fill(store)
    async with store.database.writing() as session:
        session.add(Review(team=TEAM, subject="a_1", state="rejected", by="U0ADMIN"))
        session.add(
            Review(team=TEAM, subject="a_2", state="edited", answer="Ask the house desk.", by="U0ADMIN")
        )
        session.add(Review(team=TEAM, subject="a_5", state="approved", by="U0ADMIN"))
    made = await frozen(store, tmp_path)
    subjects = in_it(made.path)
    assert "a_1" not in subjects
    assert "a_5" in subjects
    texts = "".join((made.path / f"{split}.jsonl").read_text() for split in made.counts)
    assert "Ask the house desk." in texts
    assert "Ask desk 2." not in texts


async def test_corrections_and_picks_become_preferences(store: Store, tmp_path: Path) -> None:
    """What people prefer to what, with the conversation, on the side of its question."""
    await fill(store)
    made = await frozen(store, tmp_path)
    sides = {row["subject"]: row["split"] for row in rows_of(made.path)}
    found = list(lines_of(made.path / "preferences.jsonl"))
    named = list(lines_of(made.path / "preference_rows.jsonl"))
    assert len(found) == made.summary["preferences"] == 6
    for line, row in zip(found, named, strict=True):
        assert line["chosen"].startswith("Room ")
        assert line["rejected"].startswith("Ask desk ")
        assert line["split"] == row["split"] == sides[row["subject"]]


async def test_a_side_once_given_is_kept(store: Store, tmp_path: Path) -> None:
    """Datasets grow; nobody moves, and what came before places were kept stays where it was, too."""
    await fill(store, 40)
    first = await frozen(store, tmp_path)
    before = {row["id"]: row["split"] for row in rows_of(first.path)}
    async with store.database.writing() as session:
        for rows in conversations(80)[40:]:
            for row in rows:
                session.add(row)
                await session.flush()
    second = await frozen(store, tmp_path)
    after = {row["id"]: row["split"] for row in rows_of(second.path)}
    assert {row: after[row] for row in before if row in after}.items() <= before.items()
    assert second.difference.counts["added"] > 5


async def test_what_an_older_version_held_out_stays_held_out(store: Store, tmp_path: Path) -> None:
    """Before places were kept, the manifest of a dataset told them; its rows can be taken out, too."""
    await fill(store, 40)
    first = await frozen(store, tmp_path)
    moved = next(row for row in rows_of(first.path) if row["split"] == "train")
    old = tmp_path / "old"
    old.mkdir()
    line = json.dumps({"id": moved["id"], "cluster": "c", "messages": [{"role": "user", "content": "?"}]})
    for split in first.counts:
        (old / f"{split}.jsonl").write_text(f"{line}\n" if split == "test" else "", encoding="utf-8")
    row = {"id": moved["id"], "split": "test", "authors": moved["authors"], "origin": "rating", "sha256": ""}
    counts = {"train": 0, "validation": 0, "test": 1}
    digest = hashlib.sha256(f"apprentice dataset 1\ntest\t{line}\n".encode()).hexdigest()
    manifest = {"format": 1, "id": digest, "counts": counts, "rows": [row]}
    (old / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert verify(old) == []
    fresh = await Store.open(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    try:
        await fill(fresh, 40)
        await fresh.save_dataset(dataset_id=digest, path=str(old), counts=counts, manifest={})
        made = await frozen(fresh, tmp_path / "again")
    finally:
        await fresh.close()
    sides = {each["id"]: each["split"] for each in rows_of(made.path)}
    assert sides.get(moved["id"]) == "test"
    assert made.difference.parent == digest
    assert erase(old, authors=set(moved["authors"])).rows == 1
    assert moved["authors"][0] not in (old / "manifest.json").read_text(encoding="utf-8")


async def test_who_was_withdrawn_still_keeps_near_duplicates_on_their_side(
    store: Store, tmp_path: Path
) -> None:
    """A question of an earlier test side, gone since: another wording of it is not trained on."""
    text = "How do I get a parking permit for the garage below the main building?"
    await store.add_entries(TEAM, [NewEntry(text, "At the gate.", "a", author="U1", split="test")])
    await store.add_entries(TEAM, [NewEntry(f"Something about {word}?", "Yes.", "a") for word in TOPICS])
    await store.set_consent(TEAM, "U1", True)
    await frozen(store, tmp_path)
    await store.set_consent(TEAM, "U1", False)
    again = text.replace("How do I", "How can I")
    await store.add_entries(TEAM, [NewEntry(again, "At the gate.", "b")])
    made = await frozen(store, tmp_path)
    (entry,) = [row async for page in store.entries(TEAM) for row in page if row.question == again]
    sides = {row["subject"]: row["split"] for row in rows_of(made.path)}
    assert sides[entry.id] == "test"


async def test_places_are_kept_for_good(either: Store) -> None:
    """The first one counts; only to retire a question changes it."""
    key = "a" * 32
    await either.place(TEAM, [Place(key, "test", "c1"), Place("b" * 32, "train", "c2")])
    await either.place(TEAM, [Place(key, "train", "c9")])
    assert [page async for page in either.split_places(TEAM)] == [
        [Place(key, "test", "c1"), Place("b" * 32, "train", "c2")]
    ]
    await either.place(TEAM, [Place("b" * 32, "retired", "c3")])
    await either.place(TEAM, [Place("b" * 32, "train", "c4")])
    (page,) = [page async for page in either.split_places(TEAM)]
    assert page[1] == Place("b" * 32, "retired", "c3")


async def test_a_persons_rows_can_be_taken_out(store: Store, tmp_path: Path) -> None:
    """No byte names them or holds their words; the id can still be checked, and doing it twice changes nothing."""
    await fill(store)
    made = await frozen(store, tmp_path)
    theirs = [row for row in rows_of(made.path) if "U3" in row["authors"]]
    kept = {row["id"] for row in rows_of(made.path)} - {row["id"] for row in theirs}
    gone = erase(made.path, authors={"U3"})
    assert gone.rows - gone.preferences == len(theirs) > 0
    everything = b"".join(bytes_of(made.path).values())
    assert b'"U3"' not in everything
    for row in theirs:
        assert row["subject"].encode() + b'"' not in everything
    assert verify(made.path) == []
    assert {row["id"] for row in rows_of(made.path)} == kept
    assert read_manifest(made.path)["erased"] == gone.rows
    assert erase(made.path, authors={"U3"}).rows == 0
    assert erase(made.path, subjects={next(rows_of(made.path))["subject"]}).rows >= 1
    assert verify(made.path) == []


async def test_an_erasure_that_was_cut_off_comes_to_its_end(
    store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    """Killed after any of its files was replaced: the dataset can be read, says so, and the next call finishes."""
    await fill(store, 30)
    made = await frozen(store, tmp_path)
    whole = tmp_path / "whole"
    shutil.copytree(made.path, whole)
    replace, left = Path.replace, 0

    def until(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return replace(self, target)

    for steps in range(1, 9):
        cut = tmp_path / f"cut-{steps}"
        shutil.copytree(whole, cut)
        with monkeypatch.context() as patch:
            left = steps
            patch.setattr(Path, "replace", until)
            try:
                erase(cut, authors={"U2"})
            except KeyboardInterrupt:
                assert verify(cut) != []
                assert all(row.messages for split in made.counts for row in read_split(cut, split))
        erase(cut, authors={"U2"})
        assert verify(cut) == []
        assert not any("U2" in row["authors"] for row in rows_of(cut))


@pytest.mark.parametrize("file", ["train.jsonl", "rows.jsonl", "README.md", "preferences.jsonl"])
async def test_a_changed_byte_is_found(store: Store, tmp_path: Path, file: str) -> None:
    """In whatever file it is."""
    await fill(store, 30)
    made = await frozen(store, tmp_path)
    there = made.path / file
    there.chmod(0o644)
    there.write_bytes(there.read_bytes().replace(b"e", b"E", 1))
    assert [file in words for words in verify(made.path)] == [True]
    there.unlink()
    assert verify(made.path) == [f"{file} is gone"]


async def test_who_is_being_forgotten_gets_into_no_new_dataset(store: Store, tmp_path: Path) -> None:
    """Although their rows are still there when it is read."""
    await fill(store)
    await store.ask_to_forget(TEAM, "U4", by="U0ADMIN")
    made = await frozen(store, tmp_path)
    assert not any("U4" in row["authors"] for row in rows_of(made.path))
    assert verify(made.path) == []


async def test_two_freezes_at_once_make_one_dataset(store: Store, tmp_path: Path) -> None:
    """The second waits for the first."""
    await fill(store, 30)
    both = await asyncio.gather(frozen(store, tmp_path), frozen(store, tmp_path))
    assert len({each.id for each in both}) == 1
    assert sum(each.new for each in both) == 1


def test_changes_are_told_apart() -> None:
    """Added, removed, other words, another split; as before."""
    row = {"words": "w", "split": "train"}
    old = [row | {"id": "a"}, row | {"id": "b"}, row | {"id": "c"}, row | {"id": "d"}]
    new = [
        row | {"id": "b", "words": "x"},
        row | {"id": "c", "split": "test"},
        row | {"id": "d"},
        row | {"id": "e"},
    ]
    told = [("removed", "a"), ("relabelled", "b"), ("moved", "c"), ("same", "d"), ("added", "e")]
    assert list(changes(old, new)) == told
