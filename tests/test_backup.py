"""A backup is made while people ask; it comes back whole, elsewhere too, or not at all; the forgotten stay forgotten."""

import asyncio
import json
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from databases import TEAM, ask, reply
from sqlalchemy import select
from terminal import Terminal, logging_as_it_was

from bot.settings import Settings
from bot.workshop import DataLock
from storage.record import Record
from storage.store import Store

pytestmark = pytest.mark.sqlite("its file is what is backed up")

SHA = "c0ffee" * 10 + "abcd"


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """An empty folder with nothing set but that the sample domain is left out."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    here = Terminal(tmp_path, capsys)
    here.configure(sample_domain="false")
    with logging_as_it_was():
        yield here


async def lived_in(terminal: Terminal) -> None:
    """A data directory with questions, a model and a dataset."""
    terminal.data.mkdir(exist_ok=True)
    store = await terminal.store()
    for number in range(20):
        await reply(store, await ask(store, asker=f"U{number % 3}", ts=f"{number}.0"))
    model = terminal.data / "models" / SHA
    model.mkdir(parents=True)
    (model / "adapter_config.json").write_text("{}")
    (model / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 100)
    dataset = terminal.data / "datasets" / "d1"
    dataset.mkdir(parents=True)
    (dataset / "train.jsonl").write_text('{"id": "1"}\n')
    (terminal.data / "datasets" / ".d2.123").mkdir()
    (terminal.data / "datasets" / ".d2.123" / "train.jsonl").write_text("half")
    await store.register_model(
        team=TEAM,
        name="local-1",
        base_model="starter",
        path=str(model),
        sha256=SHA,
        run_id=None,
        dataset_id=None,
        card={},
    )
    await store.close()


async def questions_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as opened:
        return int(opened.execute("SELECT count(*) FROM question").fetchone()[0])


async def test_a_backup_made_while_people_ask_comes_back_in_another_folder(terminal: Terminal) -> None:
    """Every question from before the backup, the model under its new path, no half-made dataset."""
    await lived_in(terminal)
    store = await terminal.store()
    stop = asyncio.Event()

    async def keep_asking() -> int:
        asked = 0
        while not stop.is_set():
            await ask(store, ts=f"while.{asked}")
            asked += 1
        return asked

    asking = asyncio.create_task(keep_asking())
    ended = await asyncio.to_thread(terminal.run, "backup", "out/apprentice.tar", "--json")
    stop.set()
    asked = await asking
    await store.close()
    assert ended.code == 0, ended.err
    assert asked > 0
    elsewhere = str(terminal.folder / "elsewhere")
    ended = await asyncio.to_thread(
        terminal.run, "restore", "out/apprentice.tar", "--yes", "--data-dir", elsewhere
    )
    assert ended.code == 0, ended.err
    found = await questions_in(Path(elsewhere) / "apprentice.sqlite")
    assert 20 <= found <= 20 + asked
    restored = await Store.open(f"sqlite:///{elsewhere}/apprentice.sqlite")
    model = await restored.model_named(TEAM, "local-1")
    assert model is not None
    assert model.path == f"{elsewhere}/models/{SHA}"
    assert (Path(model.path) / "adapter_model.safetensors").read_bytes() == bytes(range(256)) * 100
    assert [each.name for each in (Path(elsewhere) / "datasets").iterdir()] == ["d1"]
    await restored.close()


async def test_what_was_there_is_put_aside_and_named(terminal: Terminal) -> None:
    """A restore that was a mistake can be taken back."""
    await lived_in(terminal)
    assert (await asyncio.to_thread(terminal.run, "backup", "b.tar")).code == 0
    store = await terminal.store()
    await ask(store, ts="after")
    await store.close()
    ended = await asyncio.to_thread(terminal.run, "restore", "b.tar", "--yes", "--json")
    assert ended.code == 0, ended.err
    assert await questions_in(terminal.data / "apprentice.sqlite") == 20
    kept = [Path(each) for each in ended.json["kept"]]
    database = next(each for each in kept if each.name.startswith("apprentice.sqlite"))
    assert await questions_in(database) == 21
    assert {each.name.partition(".before-restore")[0] for each in kept} == {
        "apprentice.sqlite",
        "models",
        "datasets",
    }


@pytest.mark.parametrize("harm", ["cut", "changed", "missing", "extra", "no archive", "newer"])
async def test_a_damaged_backup_changes_nothing(terminal: Terminal, harm: str) -> None:
    """It is checked whole before anything is replaced."""
    await lived_in(terminal)
    assert (await asyncio.to_thread(terminal.run, "backup", "b.tar")).code == 0
    harmed(terminal.folder / "b.tar", harm)
    before = {str(file): file.stat().st_mtime_ns for file in terminal.data.rglob("*.safetensors")}
    ended = await asyncio.to_thread(terminal.run, "restore", "b.tar", "--yes")
    assert ended.code == 1
    assert "newer Apprentice" in ended.err if harm == "newer" else "not a whole backup" in ended.err
    assert await questions_in(terminal.data / "apprentice.sqlite") == 20
    assert {str(file): file.stat().st_mtime_ns for file in terminal.data.rglob("*.safetensors")} == before
    assert not list(terminal.data.glob(".restore*"))
    assert not list(terminal.data.glob("*before-restore*"))


def harmed(archive: Path, harm: str) -> None:
    data = bytearray(archive.read_bytes())
    if harm == "cut":
        archive.write_bytes(data[: len(data) // 2])
    elif harm == "changed":
        place = data.index(bytes(range(256)))
        data[place + 5] ^= 1
        archive.write_bytes(data)
    elif harm == "no archive":
        archive.write_text("my letters")
    else:
        rewritten(archive, harm)


def rewritten(archive: Path, harm: str) -> None:
    other = archive.with_suffix(".other")
    with tarfile.open(archive) as old, tarfile.open(other, "w") as new:
        for member in old.getmembers():
            source = old.extractfile(member)
            assert source is not None
            if harm == "missing" and member.name.endswith("adapter_config.json"):
                continue
            if harm == "newer" and member.name == "backup.json":
                told = json.loads(source.read())
                text = json.dumps({**told, "format": 99}).encode()
                replaced = archive.with_suffix(".json")
                replaced.write_bytes(text)
                new.add(replaced, arcname="backup.json")
                continue
            new.addfile(member, source)
        if harm == "extra":
            new.add(other.parent / ".env", arcname="../.env")
    other.replace(archive)


async def test_a_running_bot_is_not_replaced_under_its_feet(terminal: Terminal) -> None:
    """It would go on writing into the file that was put aside."""
    await lived_in(terminal)
    assert (await asyncio.to_thread(terminal.run, "backup", "b.tar")).code == 0
    lock = DataLock(terminal.data)
    assert lock.take()
    ended = await asyncio.to_thread(terminal.run, "restore", "b.tar", "--yes")
    lock.release()
    assert (ended.code, ended.out) == (1, "")
    assert "Stop it, then restore." in ended.err


FORGOTTEN = {"U1", "U7"}
"""Somebody who asked questions, and somebody of whom nothing is there but that they decided something."""


async def test_who_was_forgotten_since_is_forgotten_again(terminal: Terminal) -> None:
    """The backup still knows them; the restored database asks for their forgetting by itself, and nothing stays."""
    await lived_in(terminal)
    store = await terminal.store()
    await store.decide(team=TEAM, actor="U7", action="note")
    assert await everything(store) >= FORGOTTEN, "there is something to forget"
    assert (await asyncio.to_thread(terminal.run, "backup", "b.tar")).code == 0
    key = await store.identity_key(TEAM)
    works = {person: await store.ask_to_forget(TEAM, person, by=person) for person in sorted(FORGOTTEN)}
    await brought_to_an_end(store)
    await store.close()
    ended = await asyncio.to_thread(terminal.run, "restore", "b.tar", "--yes")
    assert ended.code == 0, ended.err
    assert "2 people asked to be forgotten since" in ended.err
    store = await terminal.store()
    assert await everything(store) >= FORGOTTEN, "the backup knows them"
    assert await store.identity_key(TEAM) == key
    owed = {each.person: each.digest for each in await store.owed_forgettings(TEAM)}
    assert owed == {person: work.digest for person, work in works.items()}
    await brought_to_an_end(store)
    await store.close()


async def brought_to_an_end(store: Store) -> None:
    """Everybody who is to be forgotten is."""
    for work in await store.owed_forgettings(TEAM):
        await store.forget(TEAM, work.person)
        assert await store.finish_forgetting(work.id)
    assert not FORGOTTEN & await everything(store)


async def everything(store: Store) -> set[str]:
    """Every word that stands anywhere in the database."""
    words: set[str] = set()
    async with store.database.reading() as session:
        connection = await session.connection()
        for table in Record.metadata.sorted_tables:
            for row in (await connection.execute(select(table))).all():
                words.update(re.findall(r"\w+", repr(tuple(row))))
    return words


def test_nothing_to_back_up_and_a_name_that_is_taken_are_said(terminal: Terminal) -> None:
    """No empty file that looks like a backup."""
    ended = terminal.run("backup")
    assert (ended.code, ended.out) == (1, "")
    assert "nothing to back up" in ended.err
    terminal.data.mkdir()
    asyncio.run(lived_in(terminal))
    assert terminal.run("backup").code == 0
    (made,) = (terminal.data / "backups").iterdir()
    assert terminal.run("backup", str(made)).code == 1
