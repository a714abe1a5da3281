"""Forgetting a person down to the last byte and to the models, by work that survives a kill."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import DATABASES, TEAM, ask, empty_database
from forget_rig import (
    ASKED,
    BEN,
    BETTER,
    MIRA,
    PLANTED,
    Place,
    traces_everywhere,
    traces_in_files,
    traces_in_tables,
)
from provider_standins import Failure, OpenAIServer, StandIn, served
from sqlmodel import col, select, update
from terminal import clean_environment

from bot.models.openai_files import OpenAIFiles
from bot.privacy import BY, Receipt
from bot.slack import forgetting_text
from storage.entries import NewEntry
from storage.records import (
    Decision,
    Expert,
    Forgetting,
    ForgettingState,
    GoldenItem,
    ProviderFile,
    now,
)
from storage.store import Store
from training.dataset_erasing import verify


@pytest.fixture(params=DATABASES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A data directory with Mira in all of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = await Store.open(empty_database(request, folder))
    yield await traces_everywhere(store, folder)
    await store.close()


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Place]:
    """The same on SQLite."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = await Store.open(f"sqlite:///{folder / 'apprentice.sqlite'}")
    yield await traces_everywhere(store, folder)
    await store.close()


async def test_nothing_of_a_person_is_left_in_any_byte(place: Place) -> None:
    """Tables, log of the database, datasets, evaluations, exports, logs, memory's index, backups: searched byte by byte."""
    before = [*traces_in_files(place.folder), *await traces_in_tables(place.store)]
    assert {word for word in (MIRA, *PLANTED) if any(word in each for each in before)} == {MIRA, *PLANTED}
    receipt = await place.privacy().forget(MIRA, by=MIRA)
    assert receipt.finished, receipt
    assert await traces_in_tables(place.store) == []
    assert traces_in_files(place.folder) == []
    held = receipt.held
    assert (held.questions, held.ratings, held.corrections, held.entries) == (1, 1, 1, 2)
    assert receipt.done["dataset rows"] >= 2
    assert receipt.done["evaluated answers"] == 2
    # What is Ben's is still there, and his answers in her thread do not quote her.
    kept = await place.store.held_words(TEAM, BEN)
    assert [each["text"] for each in kept["questions"]] == [
        "And on a Sunday?",
        "What is the tariff?",
        "What is the tariff please?",
        "Is there a discount?",
        "Which of two?",
    ]
    assert (place.folder / "exports" / "list.csv").read_text() == f"person,votes\n{BEN},4\n"
    assert (place.folder / "evaluations" / "ev_1.jsonl").read_text().count("\n") == 1
    (frozen,) = await place.store.datasets()
    assert frozen.erased == receipt.done["dataset rows"]
    assert verify(Path(frozen.path)) == []


async def test_ids_that_stay_for_the_record_become_a_pseudonym(place: Place) -> None:
    """Who decided what can still be told apart, and nobody can tell who that was."""
    await place.privacy().forget(MIRA, by=MIRA)
    async with place.store.database.reading() as session:
        decisions = (await session.exec(select(Decision).where(col(Decision.action) == "channel"))).all()
        told = (await session.exec(select(Decision).where(col(Decision.action) == "note"))).all()
        experts = (await session.exec(select(Expert))).all()
        golden = (await session.exec(select(GoldenItem))).all()
    name = decisions[0].actor
    assert name.startswith("forgotten-")
    assert told[0].detail == f"as {name} wished"
    assert [(each.person, each.granted_by) for each in experts] == [(BEN, name)]
    assert [(each.key, each.approvals, each.state.value) for each in golden] == [("g2", [BEN], "proposed")]
    assert {each.by for each in await place.store.promotions(TEAM)} == {name}
    assert (await place.store.runs(TEAM))[0].requested_by == name


async def test_what_was_forgotten_is_not_taken_in_again(place: Place) -> None:
    """Not by a redelivery or a catch-up, and not by importing the same file again; anything else is."""
    await place.privacy().forget(MIRA, by="terminal:ann")
    again = await place.store.ask(
        team=TEAM, channel="C1", ts="10.0", thread_ts="10.0", asker=MIRA, text=ASKED
    )
    assert not again.new
    assert (await place.store.holdings(TEAM, MIRA)).questions == 0
    file = [NewEntry("What is the tariff?", BETTER, "faq.csv"), NewEntry("What is new?", "This.", "faq.csv")]
    imported = await place.store.add_entries(TEAM, file)
    assert (imported.added, imported.forgotten) == (1, 1)
    assert await place.store.entry(TEAM, "What is the tariff?") is None
    assert (await ask(place.store, asker=MIRA, ts="99.0", text="A new question?")).asker == MIRA
    assert await place.store.is_tombstoned(TEAM, "message", "C1", "10.0")
    assert not await place.store.is_tombstoned(TEAM, "message", "C1", "99.0")


async def test_models_that_learned_from_them_are_marked_and_the_last_clean_one_is_offered(
    on_sqlite: Place, tmp_path: Path
) -> None:
    """By default an admin decides; with FORGET_SWITCH=auto it serves at once. A run without them is queued either way."""
    queued: list[str] = []

    async def retrain(work: str) -> str:
        queued.append(work)
        return ""

    shared = tmp_path / "seen by a cluster"
    (shared / on_sqlite.run / "dataset").mkdir(parents=True)
    (shared / on_sqlite.run / "dataset" / "train.jsonl").write_text(ASKED)
    (shared / "another run").mkdir()
    receipt = await on_sqlite.privacy(retrain=retrain, shared=shared).forget(MIRA, by=MIRA)
    assert receipt.tainted == ("local-1",)
    assert [each.name for each in shared.iterdir()] == ["another run"]
    assert (receipt.undone["serving"], receipt.undone["offer"]) == ("local-1", "local-0")
    assert queued == [receipt.work]
    current = await on_sqlite.store.current(TEAM)
    assert current is not None
    assert current.name == "local-1"
    said, blocks = forgetting_text.for_admins(receipt.done, receipt.undone, receipt.work)
    assert "A training without it is queued." in said
    assert blocks[-1]["elements"][0]["action_id"] == forgetting_text.SWITCH
    assert not (on_sqlite.folder / "runs" / on_sqlite.run / "checkpoints").exists()


class Promotes:
    """Serving, as far as a promotion goes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def promote(self, version: Any, *, by: str, decision: str, reason: str) -> Any:
        row = version.id if version else None
        return await self._store.promote(team=TEAM, decision=decision, version_id=row, by=by, reason=reason)


async def test_with_auto_the_last_clean_model_serves_at_once(on_sqlite: Place) -> None:
    """And why is in the promotion; too few examples for a new run is said in the receipt."""

    async def retrain(_work: str) -> str:
        return "There are 2 examples to learn from so far; 30 are needed."

    privacy = on_sqlite.privacy(switch="auto", serving=Promotes(on_sqlite.store), retrain=retrain)
    receipt = await privacy.forget(MIRA, by=MIRA)
    current = await on_sqlite.store.current(TEAM)
    assert current is not None
    assert current.name == "local-0" == receipt.done["switched"]
    newest = await on_sqlite.store.newest_promotion(TEAM)
    assert newest is not None
    assert (newest.by, "deleted since" in newest.reason) == (BY, True)
    said = forgetting_text.receipt(receipt.done, receipt.undone)
    assert "local-0 answers instead" in said
    assert "No training without it is queued: There are 2 examples" in said


async def test_a_run_that_is_learning_from_them_is_stopped_first(on_sqlite: Place) -> None:
    """The forgetting waits for it, and goes on when it is over."""
    store = on_sqlite.store
    run = (await store.request_run(team=TEAM, occasion="live", by=BEN, options={})).run
    await store.advance_run(run, type(run.state)("training"), dataset_id=on_sqlite.dataset)
    receipt = await on_sqlite.privacy().forget(MIRA, by=MIRA)
    assert not receipt.finished
    stopped = await store.run(run.id)
    assert stopped is not None
    assert stopped.cancel_requested_by == BY
    await store.advance_run(stopped, type(run.state)("cancelled"))
    await store.let_go_of_forgetting(receipt.work)
    await on_sqlite.privacy().carry_out(receipt.work)
    row = await store.forgetting(receipt.work)
    assert row is not None
    assert row.state is ForgettingState.DONE
    assert traces_in_files(on_sqlite.folder) == []


async def test_a_file_at_a_provider_is_deleted_and_trouble_is_told_and_tried_again(on_sqlite: Place) -> None:
    """500 is in the receipt and tried again later; a file that is not there any more counts as deleted."""
    store, stand_in = on_sqlite.store, StandIn(files={"file-1": "rows"})
    second = await store.keep_provider_file(
        team=TEAM, provider="openai", purpose="x", dataset_id=on_sqlite.dataset, file_id="file-gone"
    )
    third = await store.keep_provider_file(
        team=TEAM, provider="elsewhere", purpose="x", dataset_id=on_sqlite.dataset, file_id="file-9"
    )
    async with served(stand_in, OpenAIServer(stand_in).routes()):
        stand_in.fail_next.append(Failure(500, {"message": "down", "type": "server_error"}))
        shelf = OpenAIFiles(api_key="sk-right", base_url=f"{stand_in.url}/v1")
        privacy = on_sqlite.privacy(shelves={"openai": shelf})
        receipt = await privacy.forget(MIRA, by=MIRA)
        assert receipt.finished
        said = forgetting_text.receipt(receipt.done, receipt.undone)
        assert "file file-1 at openai: OpenAI answered 500" in said
        assert "file file-9 at elsewhere: elsewhere is not configured" in said
        assert receipt.done["provider files"] == 1
        left = {each.id for each in await store.provider_files(TEAM)}
        assert second.id not in left
        assert third.id in left
        assert await privacy.delete_provider_files() == [], "not before its time"
        async with store.database.writing() as session:
            await session.exec(update(ProviderFile).values(deletion_due_at=now() - timedelta(hours=1)))
        assert [each.file_id for each in await privacy.delete_provider_files()] == ["file-1"]
        assert stand_in.files == {}
        await privacy.stop()


CHILD = """
import asyncio, os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from databases import TEAM
from bot.models.memory import Memory
from bot.privacy import Privacy, PrivacyRules
from storage.store import Store

async def main():
    folder = Path({folder!r})
    store = await Store.open({url!r})
    memory = Memory(store, team=TEAM, folder=folder / "memory")
    privacy = Privacy(store, team=TEAM, rules=PrivacyRules(folder=folder, worker="child", remember=memory.refresh_wholly))
    steps = dict(privacy._steps)
    async def killed(row):
        if {half!r}:
            await steps[{step!r}](row)
        os.kill(os.getpid(), signal.SIGKILL)
    privacy._steps = {{**steps, {step!r}: killed}}
    await privacy.forget({person!r}, by={person!r})

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("step", "half"), [("copies", True), ("rows", False), ("identity", True), ("database", True)]
)
async def test_a_kill_in_the_middle_is_gone_on_with_and_finished_once(
    on_sqlite: Place, step: str, half: bool
) -> None:
    """Killed before or right after a step was done: whoever comes next brings it to an end, and counts nothing twice."""
    url, store = str(on_sqlite.store.database.engine.url), on_sqlite.store
    code = CHILD.format(
        tests=str(Path(__file__).parent),
        folder=str(on_sqlite.folder),
        url=url,
        step=step,
        half=half,
        person=MIRA,
    )
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], env=clean_environment(), capture_output=True, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (row,) = await store.forgettings(TEAM)
    assert row.state is ForgettingState.ASKED
    await on_sqlite.privacy().carry_out(row.id)
    waiting = await store.forgetting(row.id)
    assert waiting is not None
    assert waiting.state is ForgettingState.ASKED, "the dead one holds the lease"
    await store.release_claims()
    told: list[Receipt] = []

    async def tell(_person: str, receipt: Receipt) -> bool:
        told.append(receipt)
        return True

    first, second = on_sqlite.privacy(worker="a"), on_sqlite.privacy(worker="b")
    first.tell_person = second.tell_person = tell
    await asyncio.gather(first.carry_out(row.id), second.carry_out(row.id))
    (done,) = await store.forgettings(TEAM)
    assert (done.state, done.person, done.done["questions"], done.done["entries"]) == (
        ForgettingState.DONE,
        "",
        1,
        2,
    )
    assert len(told) == 1
    assert traces_in_files(on_sqlite.folder) == []
    assert not await store.finish_forgetting(row.id)


async def test_asking_twice_is_one_forgetting(on_sqlite: Place) -> None:
    """Who presses again while it goes on gets the same receipt."""
    one = await on_sqlite.store.ask_to_forget(TEAM, MIRA, by=MIRA)
    two = await on_sqlite.store.ask_to_forget(TEAM, MIRA, by=BEN)
    assert one.id == two.id
    assert len(await on_sqlite.store.owed_forgettings(TEAM)) == 1


def test_a_file_of_lines_keeps_what_is_not_theirs(tmp_path: Path) -> None:
    """An id counts as a whole: U0MIRA7QX is not U0MIRA7QXB."""
    from bot.forgetting_files import erase_files, names

    exports = tmp_path / "exports"
    exports.mkdir()
    file = exports / "a.jsonl"
    file.write_text(f'{{"by": "{MIRA}"}}\n{{"by": "{MIRA}B"}}\n', encoding="utf-8")
    erased = erase_files(tmp_path, MIRA, lambda _example, _text: False)
    assert (erased.lines, json.loads(file.read_text())) == (1, {"by": f"{MIRA}B"})
    assert not names(file, MIRA)
    assert os.listdir(exports) == ["a.jsonl"]


async def test_the_row_of_a_forgetting_keeps_the_receipt_without_the_id(on_sqlite: Place) -> None:
    """An operator can show that it was done, and not who it was."""
    receipt = await on_sqlite.privacy().forget(MIRA, by=MIRA)
    async with on_sqlite.store.database.reading() as session:
        (row,) = (await session.exec(select(Forgetting))).all()
    assert (row.person, row.done, row.finished_at is not None) == ("", receipt.done, True)
    assert row.asked_by == f"forgotten-{row.digest[:10]}"
