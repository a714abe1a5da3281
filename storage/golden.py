"""What the store does around the golden set: proposed by one person, approved by a second, retired; its frozen versions.

No item counts before two different people stand behind it. From its proposal on its question is kept out of training, so
that it still measures something when it is approved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.entries import question_hash
from storage.errors import PublicError
from storage.records import DatasetVersion, Decision, GoldenItem, GoldenState, SplitPlace, now
from storage.reviewable import KEY, owner_of
from storage.words import clean

GOLDEN = "golden"
TRAINED_ON = (
    "This question is in a training set already, so it cannot measure models any more. "
    "Choose one that was not learned from."
)
TWO_PEOPLE = (
    "A golden question needs two people, and you are one of them already. Ask a colleague to approve it."
)
NOT_THERE = "This golden question is not there any more. `apprentice golden` lists those there are."


@dataclass(frozen=True, slots=True)
class GoldenTally:
    """How many items count, and how many wait for a second person."""

    golden: int = 0
    proposed: int = 0


class GoldenStore:
    """The golden set."""

    database: Database

    async def propose_golden(
        self,
        team: str,
        question: str,
        answer: str,
        topic: str,
        source: str,
        by: str,
        *,
        subject: str = "",
        authors: Sequence[str] = (),
    ) -> GoldenItem:
        """Propose a question for the golden set; one that is known stays as it is, a retired one is proposed anew.

        `subject` is the answer or entry that it is made from, `authors` whose words it holds. Raises PublicError where the
        question was trained on, or has no answer.
        """
        if not question.strip() or not answer.strip():
            raise PublicError("A golden question needs a question and an answer.")
        question, answer = clean(question.strip()), clean(answer.strip())
        key = question_hash(question)[:KEY]
        async with self.database.writing(alone=f"golden {team}") as session:
            known: GoldenItem | None = (await session.exec(_item(team, col(GoldenItem.key) == key))).first()
            if known is not None and known.state is not GoldenState.RETIRED:
                return known
            place = await session.get(SplitPlace, (team, key))
            if place is not None and place.split == "train":
                raise PublicError(TRAINED_ON)
            row = known or GoldenItem(team=team, key=key, question=question, answer=answer, approvals=[])
            row.question, row.answer, row.topic, row.source = question, answer, topic, source
            row.answer_id, row.entry_id = await owner_of(session, team, subject)
            row.state, row.approvals, row.authors = GoldenState.PROPOSED, [by], sorted(set(authors))
            row.proposed_at, row.settled_at = now(), None
            session.add(row)
            session.add(_decision(team, by, row, "proposed"))
        return row

    async def approve_golden(self, team: str, item_id: str, by: str) -> GoldenItem:
        """The second person stands behind it: it counts from now on. One that counts already stays as it is.

        Raises PublicError for who proposed it, and where it is gone.
        """
        async with self.database.writing(alone=f"golden {team}") as session:
            row = await _found(session, team, item_id)
            if row.state is GoldenState.GOLDEN:
                return row
            if row.state is GoldenState.RETIRED:
                raise PublicError("This golden question was retired. Propose it again to use it.")
            if by in row.approvals:
                raise PublicError(TWO_PEOPLE)
            row.approvals = [*row.approvals, by]
            if len(row.approvals) > 1:  # who proposed it may have been forgotten since
                row.state, row.settled_at = GoldenState.GOLDEN, now()
            session.add(row)
            session.add(_decision(team, by, row, "approved"))
        return row

    async def retire_golden(self, team: str, item_id: str, by: str) -> GoldenItem:
        """It counts no more, and its question may be learned from again. Raises PublicError where it is gone."""
        async with self.database.writing(alone=f"golden {team}") as session:
            row = await _found(session, team, item_id)
            if row.state is not GoldenState.RETIRED:
                row.state, row.settled_at = GoldenState.RETIRED, now()
                session.add(row)
                session.add(_decision(team, by, row, "retired"))
        return row

    async def golden_item(self, team: str, item_id: str) -> GoldenItem | None:
        """An item by its id."""
        async with self.database.reading() as session:
            found: GoldenItem | None = (
                await session.exec(_item(team, col(GoldenItem.id) == item_id))
            ).first()
            return found

    async def golden_items(
        self, team: str, *states: GoldenState, limit: int | None = None
    ) -> list[GoldenItem]:
        """The items in these states (none given: in all), in the order in which they were proposed."""
        wanted = _item(team, col(GoldenItem.state).in_(states or tuple(GoldenState)))
        async with self.database.reading() as session:
            ordered = wanted.order_by(col(GoldenItem.proposed_at), col(GoldenItem.id)).limit(limit)
            return list((await session.exec(ordered)).all())

    async def golden_questions(self, team: str) -> list[str]:
        """What is never to be trained on: the questions that count, and those that wait for a second person."""
        wanted = select(GoldenItem.question).where(
            col(GoldenItem.team) == team, col(GoldenItem.state) != GoldenState.RETIRED
        )
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(GoldenItem.key)))).all())

    async def golden_tally(self, team: str) -> GoldenTally:
        """Counts for `status`."""
        wanted: Any = select(GoldenItem.state, func.count()).where(col(GoldenItem.team) == team)
        async with self.database.reading() as session:
            counts = {
                GoldenState(state): int(number)
                for state, number in (await session.exec(wanted.group_by(col(GoldenItem.state)))).all()
            }
        return GoldenTally(counts.get(GoldenState.GOLDEN, 0), counts.get(GoldenState.PROPOSED, 0))

    async def save_golden_version(
        self,
        team: str,
        version_id: str,
        *,
        path: str,
        rows: int,
        manifest: Mapping[str, Any],
        difference: Mapping[str, Any],
        parent_id: str | None,
    ) -> DatasetVersion:
        """Remember a frozen golden set. Content that was frozen before is the same row, and the newest again."""
        async with self.database.writing(alone=f"dataset {version_id}") as session:
            row = await session.get(DatasetVersion, version_id) or DatasetVersion(
                id=version_id,
                team=team,
                kind=GOLDEN,
                path=path,
                train=0,
                validation=0,
                test=rows,
                parent_id=parent_id,
                difference=dict(difference),
                manifest=dict(manifest),
            )
            row.frozen_at = now()
            session.add(row)
        return row

    async def newest_golden(self, team: str) -> DatasetVersion | None:
        """The golden set frozen last."""
        mine = (col(DatasetVersion.team) == team, col(DatasetVersion.kind) == GOLDEN)
        wanted = select(DatasetVersion).where(*mine).order_by(col(DatasetVersion.frozen_at).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()


def _item(team: str, *where: Any) -> Any:
    return select(GoldenItem).where(col(GoldenItem.team) == team, *where)


async def _found(session: AsyncSession, team: str, item_id: str) -> GoldenItem:
    row = await session.get(GoldenItem, item_id)
    if row is None or row.team != team:
        raise PublicError(NOT_THERE)
    return row


def _decision(team: str, by: str, row: GoldenItem, what: str) -> Decision:
    return Decision(team=team, actor=by, action=GOLDEN, subject=row.id, detail=what)
