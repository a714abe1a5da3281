"""The golden set: frozen by its content, difference to the last one, asked in every evaluation, never trained on."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from databases import TEAM
from people_rig import texts_in

from bot.slack import report_blocks
from bot.slack.report_details import Compared, details_message
from storage.errors import PublicError
from storage.records import DatasetVersion, Evaluation, GoldenItem, ModelVersion
from storage.store import Store
from storage.values import Message, Proposal
from training.dataset_difference import Difference
from training.dataset_erasing import erase
from training.dataset_files import MANIFEST, read_split
from training.evaluating import BASE, MEMORY, Evaluations
from training.evaluation import Arm, Sheet, golden_of
from training.golden import freeze_golden, golden_now


async def golden_item(
    store: Store, question: str, answer: str = "This is.", authors: Sequence[str] = ()
) -> str:
    """An item that two people stand behind."""
    item = await store.propose_golden(TEAM, question, answer, "a topic", "", "U0ANN", authors=authors)
    await store.approve_golden(TEAM, item.id, "U0BEN")
    return item.id


def questions_in(path: Path) -> list[str]:
    return sorted(row.messages[-1]["content"] for row in read_split(path, "test"))


def bytes_in(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.iterdir())


async def test_it_is_frozen_by_its_content(store: Store, tmp_path: Path) -> None:
    """The same items give the same folder, in whatever order; only those with two people behind them are in it."""
    assert await golden_now(store, TEAM, tmp_path) is None
    await golden_item(store, "First?")
    await golden_item(store, "Second?")
    await store.propose_golden(TEAM, "Proposed only?", "Yes.", "", "", "U0ANN")
    frozen = await golden_now(store, TEAM, tmp_path)
    assert frozen is not None
    assert (frozen.kind, frozen.test, frozen.parent_id) == ("golden", 2, None)
    assert Path(frozen.path) == tmp_path / "golden" / frozen.id
    assert questions_in(Path(frozen.path)) == ["First?", "Second?"]
    again = await golden_now(store, TEAM, tmp_path)
    assert again is not None
    assert again.id == frozen.id
    assert await store.newest_dataset() is None, "nobody trains on it, or takes it for what was held out"
    items = await store.golden_items(TEAM)
    assert freeze_golden(items[1::-1], tmp_path / "elsewhere").name == frozen.id
    assert [each.name for each in (tmp_path / "golden").iterdir()] == [frozen.id], "no draft is left"


async def test_the_next_version_says_what_changed(store: Store, tmp_path: Path) -> None:
    """Added, removed, other words; and an earlier content found again is the newest once more."""
    first = await golden_item(store, "First?")
    await golden_item(store, "Second?")
    one = await golden_now(store, TEAM, tmp_path)
    await store.retire_golden(TEAM, first, "U0ANN")
    await golden_item(store, "Third?")
    two = await golden_now(store, TEAM, tmp_path)
    assert one is not None
    assert two is not None
    assert two.parent_id == one.id
    difference = Difference.from_json(two.difference)
    assert difference is not None
    assert (difference.counts["added"], difference.counts["removed"], difference.counts["same"]) == (1, 1, 1)
    third = (await store.golden_items(TEAM))[-1]
    await store.retire_golden(TEAM, third.id, "U0ANN")
    await golden_item(store, "First?")
    back = await golden_now(store, TEAM, tmp_path)
    newest = await store.newest_golden(TEAM)
    assert back is not None
    assert newest is not None
    assert back.id == newest.id == one.id


async def test_a_folder_without_a_manifest_is_written_anew(store: Store, tmp_path: Path) -> None:
    """Half a version, left by a crash, is never taken for one."""
    await golden_item(store, "First?")
    frozen = await golden_now(store, TEAM, tmp_path)
    assert frozen is not None
    path = Path(frozen.path)
    (path / MANIFEST).unlink()
    again = await golden_now(store, TEAM, tmp_path)
    assert again is not None
    assert (again.id, (path / MANIFEST).exists()) == (frozen.id, True)


async def test_words_of_somebody_who_is_forgotten_can_be_taken_out(store: Store, tmp_path: Path) -> None:
    """The frozen set has the layout of a dataset, so that what forgets a person there forgets them here."""
    await golden_item(store, "Whose words?", "Cleo's words.", authors=["U0CLEO"])
    await golden_item(store, "Other words?")
    frozen = await golden_now(store, TEAM, tmp_path)
    assert frozen is not None
    assert erase(Path(frozen.path), authors=["U0CLEO"]).rows == 1
    assert questions_in(Path(frozen.path)) == ["Other words?"]
    assert b"Cleo" not in bytes_in(Path(frozen.path))


async def test_a_full_disk_is_said(store: Store, tmp_path: Path) -> None:
    """Where nothing can be written, people read what to do."""
    await golden_item(store, "First?")
    (tmp_path / "golden").write_text("a file where the folder should be")
    with pytest.raises(PublicError, match="Free some space"):
        await golden_now(store, TEAM, tmp_path)


# --- In evaluations -----------------------------------------------------------------------------------------


class Parrots:
    """Arms that know some answers by heart; it notes what was held out and what was asked."""

    def __init__(self, **knows: dict[str, str]) -> None:
        self.knows = knows
        self.held_out: set[str] = set()
        self.asked: list[tuple[Message, ...]] = []

    async def arms(
        self, *, challenger: ModelVersion | None, current: ModelVersion | None, held_out: Collection[str]
    ) -> Sequence[Arm]:
        self.held_out = set(held_out)
        return [Arm(name, self._answering(known)) for name, known in self.knows.items()]

    def _answering(self, known: dict[str, str]):  # type: ignore[no-untyped-def]
        async def answer(messages: Sequence[Message]) -> Proposal:
            self.asked.append(tuple(messages))
            return Proposal(known.get(messages[-1].content, "I do not know."), "local", "parrot")

        return answer


@pytest.fixture
async def held_out(store: Store, tmp_path: Path) -> str:
    """A frozen dataset with one held-out question; its id."""
    item = GoldenItem(team=TEAM, key="0" * 32, question="Held out?", answer="Yes.", approvals=[], authors=[])
    path = freeze_golden([item], tmp_path / "datasets")
    async with store.database.writing() as session:
        session.add(
            DatasetVersion(
                id=path.name, team=TEAM, path=str(path), train=0, validation=0, test=1, manifest={}
            )
        )
    return path.name


async def evaluated(store: Store, folder: Path, bench: Parrots, dataset_id: str) -> Evaluation:
    async def unreported(_row: object) -> None:
        return

    evaluations = Evaluations(
        store, team=TEAM, folder=folder, bench=bench, limit=10, worker="w", report=unreported
    )
    asked = await store.request_evaluation(
        team=TEAM, by="U0ANN", challenger_id=None, current_id=None, dataset_id=dataset_id
    )
    return await evaluations.carry_out(asked)


async def test_every_arm_answers_it_and_the_verdict_does_not_see_it(
    store: Store, tmp_path: Path, held_out: str
) -> None:
    """Golden questions are a group of their own: frozen at the start, hidden from memory, shown in the details."""
    await golden_item(store, "What is golden?", "This is.")
    bench = Parrots(base={"Held out?": "Yes."}, memory={"What is golden?": "This is."})
    evaluation = await evaluated(store, tmp_path, bench, held_out)
    sheet, golden = Sheet.from_json(evaluation.sheet), golden_of(evaluation.sheet)
    assert golden is not None
    assert {row.answered.example for row in sheet.rows} == {"0" * 16}
    assert (sheet.arm(BASE).scores.exact_match, golden.arm(BASE).scores.exact_match) == (1.0, 0.0)
    assert golden.arm(MEMORY).scores.exact_match == 1.0
    [key] = [each.key for each in await store.golden_items(TEAM)]
    assert bench.held_out == {"0" * 16, key[:16]}
    frozen = await store.newest_golden(TEAM)
    assert frozen is not None, "it was frozen for this evaluation"
    said = texts_in(
        details_message(
            Compared(
                title="Evaluation #1",
                names={},
                sheet=sheet,
                comparison=report_blocks.compare(sheet),
                asked={},
                golden=golden,
            ),
            key="k",
        )["blocks"]
    )
    assert "1 question that two people stand behind, token F1: Base 0.0, Memory 100.0." in said


async def test_without_a_golden_set_nothing_changes(store: Store, tmp_path: Path, held_out: str) -> None:
    """An evaluation of a workspace that has none is what it always was."""
    bench = Parrots(base={})
    evaluation = await evaluated(store, tmp_path, bench, held_out)
    assert golden_of(evaluation.sheet) is None
    assert len(bench.asked) == 1
    assert not (tmp_path / "golden").exists()
