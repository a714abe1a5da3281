"""Memory's index on disk follows the database, mends itself, and holds no word of what was deleted."""

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import tantivy
from databases import DATABASES, empty_database

from bot.models.memory import Memory
from bot.models.memory_index import Shelf
from storage.entries import NewEntry
from storage.store import Store

TEAM = "T1"
TEA, KEY = "Which tea is served in the kitchen?", "Where is the key of the cellar?"


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the index lies."""
    return tmp_path / "memory"


async def told(store: Store, question: str, answer: str, *, author: str = "", split: str = "") -> None:
    await store.add_entries(TEAM, [NewEntry(question, answer, "", author=author, split=split)])


async def opened(store: Store, folder: Path) -> Memory:
    memory = Memory(store, team=TEAM, folder=folder)
    await memory.refresh()
    return memory


async def first(memory: Memory, question: str) -> str | None:
    matches = await memory.nearest(question)
    return matches[0].entry.answer if matches else None


def current(folder: Path) -> dict[str, object]:
    """What the index says of itself."""
    kept: dict[str, object] = json.loads((folder / TEAM / "current").read_text())
    return kept


def words_kept(folder: Path, beginning: str) -> list[str]:
    """The words in the files of all builds, whether an entry still has them or not; also as plain bytes."""
    found = []
    for build in folder.rglob("build-*"):
        searcher = tantivy.Index.open(str(build)).searcher()
        found += [word for word, _ in searcher.terms_with_prefix("words", beginning, limit=10)]
    files = (file for file in folder.rglob("*") if file.is_file())
    return found + [file.name for file in files if beginning.encode() in file.read_bytes()]


def break_files(folder: Path, name: str, harm: str) -> None:
    files = list(folder.rglob(name))
    assert files
    for file in files:
        if harm == "missing":
            file.unlink()
        else:
            file.write_bytes(b"" if harm == "empty" else b"\xff" * file.stat().st_size)


async def test_an_index_that_is_up_to_date_is_not_written_again(store: Store, folder: Path) -> None:
    """The next start opens it and finds everything; a change later is added to it."""
    await told(store, TEA, "Green.")
    await opened(store, folder)
    before = current(folder)
    memory = await opened(store, folder)
    assert (await first(memory, TEA), current(folder)) == ("Green.", before)
    await told(store, KEY, "Under the mat.")
    await memory.refresh()
    assert (await first(memory, KEY), await first(memory, TEA)) == ("Under the mat.", "Green.")
    assert current(folder)["build"] == before["build"]
    assert current(folder)["change"] != before["change"]


async def test_what_another_process_wrote_is_noticed(store: Store, folder: Path) -> None:
    """A second memory of the same folder takes the first one's index over."""
    await told(store, TEA, "Green.")
    writer, reader = await opened(store, folder), await opened(store, folder)
    await told(store, KEY, "Under the mat.")
    await writer.refresh()
    written = current(folder)
    await reader.refresh()
    assert (await first(reader, KEY), len(reader), current(folder)) == ("Under the mat.", 2, written)


async def test_while_another_process_writes_new_answers_are_found_all_the_same(
    store: Store, folder: Path
) -> None:
    """There is one writer of a folder; who may not write compares the newest entries one by one."""
    await told(store, TEA, "Green.")
    memory = await opened(store, folder)
    before = current(folder)
    with Shelf(folder / TEAM).held() as ours:
        assert ours
        await told(store, KEY, "Under the mat.")
        await memory.refresh()
        assert (await first(memory, KEY), await first(memory, TEA)) == ("Under the mat.", "Green.")
        assert (current(folder), len(memory)) == (before, 2)
        alone = await opened(store, folder / "elsewhere")
        assert await first(alone, TEA) == "Green."
    await memory.refresh()
    assert (current(folder) != before, len(memory)) == (True, 2)


async def test_words_of_a_deleted_entry_leave_the_files(either: Store, folder: Path) -> None:
    """A forgotten answer is never given again, from that moment on, and the index keeps no word of it."""
    await told(either, TEA, "Green.")
    await told(either, "Where does xylographer Quux live?", "In Rome.", author="U1")
    memory = await opened(either, folder)
    assert words_kept(folder, "xylograph") == ["xylograph"]
    await either.forget(TEAM, "U1")
    assert await first(memory, "Where does xylographer Quux live?") != "In Rome."
    await memory.refresh()
    assert words_kept(folder, "xylograph") == []
    assert (await first(memory, TEA), len(memory)) == ("Green.", 1)


async def test_what_is_held_out_never_reaches_the_files(store: Store, folder: Path) -> None:
    """An evaluation's question cannot be found, whatever is asked."""
    await told(store, "Where does xylographer Quux live?", "In Rome.", split="test")
    memory = await opened(store, folder)
    assert (words_kept(folder, "xylograph"), len(memory)) == ([], 0)


@pytest.mark.parametrize("name", ["current", "meta.json", "*.idx", "*.term", "*.store", "*.fieldnorm"])
@pytest.mark.parametrize("harm", ["missing", "empty", "overwritten"])
async def test_a_damaged_index_is_built_anew(store: Store, folder: Path, name: str, harm: str) -> None:
    """Whichever file it is, the next start answers as before."""
    await told(store, TEA, "Green.")
    await told(store, KEY, "Under the mat.")
    await opened(store, folder)
    break_files(folder, name, harm)
    memory = await opened(store, folder)
    assert (await first(memory, TEA), await first(memory, KEY)) == ("Green.", "Under the mat.")
    assert memory.trouble == ""


async def test_an_index_that_was_deleted_is_built_anew(store: Store, folder: Path) -> None:
    """At the next start, and also under a memory that has it open."""
    await told(store, TEA, "Green.")
    memory = await opened(store, folder)
    shutil.rmtree(folder)
    await told(store, KEY, "Under the mat.")
    await memory.refresh()
    assert (await first(memory, TEA), await first(memory, KEY)) == ("Green.", "Under the mat.")
    assert len(await opened(store, folder)) == 2


@pytest.mark.sqlite("a copy of the file")
async def test_an_index_of_another_past_is_not_used(store: Store, folder: Path, tmp_path: Path) -> None:
    """A backup was restored and other answers were verified since: as many changes, not the same ones."""
    await told(store, TEA, "Green.")
    await store.close()
    backup = tmp_path / "backup.sqlite"
    shutil.copyfile(tmp_path / "apprentice.sqlite", backup)
    lost = await Store.open(f"sqlite:///{tmp_path / 'apprentice.sqlite'}")
    await told(lost, KEY, "Under the mat.")
    await opened(lost, folder)
    await lost.close()
    restored = await Store.open(f"sqlite:///{backup}")
    await told(restored, "Which bus goes to the office?", "The 42.")
    memory = await opened(restored, folder)
    assert (await first(memory, "Which bus goes to the office?"), len(memory)) == ("The 42.", 2)
    assert await first(memory, KEY) != "Under the mat."
    await restored.close()


async def test_much_is_taken_over_in_the_background(store: Store, folder: Path) -> None:
    """Meanwhile the old answers and the newest are found; afterwards all are."""
    await told(store, TEA, "Green.")
    memory = await opened(store, folder)
    for start in (0, 2_600):
        batch = [NewEntry(f"Where is shelf {n}?", f"{n}", "") for n in range(start, start + 2_600)]
        await store.add_entries(TEAM, batch)
    await told(store, KEY, "Under the mat.")
    await memory.refresh()
    assert (await first(memory, TEA), await first(memory, KEY)) == ("Green.", "Under the mat.")
    await memory.finished()
    await memory.refresh()
    assert (await first(memory, "where is shelf 7"), len(memory)) == ("7", 5_202)
    await memory.close()


def in_the_way(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("in the way")


async def test_a_folder_that_cannot_be_written_is_said_and_answers_go_on(store: Store, folder: Path) -> None:
    """The newest entries are found without an index; when the folder is mended, all are."""
    in_the_way(folder / TEAM)
    await told(store, TEA, "Green.")
    memory = await opened(store, folder)
    assert str(folder) in memory.trouble
    assert "Free some disk space" in memory.trouble
    assert await first(memory, TEA) == "Green."
    (folder / TEAM).unlink()
    await memory.refresh()
    assert (memory.trouble, await first(memory, TEA)) == ("", "Green.")


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from bot.models.memory import Memory
from storage.entries import NewEntry
from storage.store import Store

async def main():
    store = await Store.open(sys.argv[1])
    memory = Memory(store, team="T1", folder=Path(sys.argv[2]))
    await memory.refresh()
    await store.add_entries("T1", [NewEntry("Where is the key of the cellar?", "Under the mat.", "")])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    await memory.refresh()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "could not be written" in memory.trouble, memory.trouble
    assert (await memory.nearest("Which tea is served in the kitchen?"))[0].entry.answer == "Green."
    assert (await memory.nearest("Where is the cellar's key?"))[0].entry.answer == "Under the mat."
    await memory.refresh()
    assert memory.trouble == "" and len(memory) == 2
    await store.close()

asyncio.run(main())
"""


async def test_a_full_disk_is_said_and_answers_go_on(store: Store, folder: Path, tmp_path: Path) -> None:
    """The old index and the newest entries answer; when there is space again, the index is written."""
    await told(store, TEA, "Green.")
    await opened(store, folder)
    url = str(store.database.engine.url)
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", FULL_DISK, url, str(folder)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
