"""What the store does for duels: two answers shown blind, picks, the outcome."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import or_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.asking import candidate_row, spend_rows
from storage.database import Database
from storage.errors import PublicError
from storage.records import Answer, Candidate, Duel, DuelPick, Question, now
from storage.values import Message, Proposal

PICKS = ("a", "b", "tie", "both bad")


@dataclass(frozen=True, slots=True)
class DuelShown:
    """A duel with what was asked, what stands as A and as B, and what people picked."""

    duel: Duel
    question: Question
    answer: Answer
    a: Candidate
    b: Candidate
    picks: tuple[DuelPick, ...]

    @property
    def open(self) -> bool:
        """Whether a pick still counts."""
        return self.duel.closed_at is None


@dataclass(frozen=True, slots=True)
class DuelOrder:
    """How a duel came about: `probability` of the draw that made it one, and whether the order was `swapped`."""

    origin: str
    probability: float
    swapped: bool
    closes_at: datetime


class DuelStore:
    """Duels and their picks."""

    database: Database

    async def open_duel(
        self,
        question: Question,
        first: Proposal,
        second: Proposal,
        *,
        messages: Sequence[Message],
        order: DuelOrder,
    ) -> DuelShown:
        """Store both proposals and the duel between them. A question that has a duel keeps it.

        `first` is what would have been answered without a duel, and stands as the Answer until the duel is decided;
        `messages` are what its model read. Raises PublicError where the question was deleted meanwhile.
        """
        known = await self.duel_of(question.id)
        if known is not None:
            return known
        rows = [candidate_row(question.id, proposal) for proposal in (first, second)]
        rows[0].chosen = True
        answer = Answer(
            question_id=question.id,
            candidate_id=rows[0].id,
            team=question.team,
            channel=question.channel,
            messages=[asdict(message) for message in messages],
        )
        shown = rows[::-1] if order.swapped else rows
        duel = Duel(
            question_id=question.id,
            candidate_a=shown[0].id,
            candidate_b=shown[1].id,
            channel=question.channel,
            origin=order.origin,
            probability=order.probability,
            swapped=order.swapped,
            closes_at=order.closes_at,
        )
        async with self.database.writing(alone=f"duel {question.id}") as session:
            there = (
                await session.exec(select(Answer.id).where(col(Answer.question_id) == question.id))
            ).first()
            if there is None and await session.get(Question, question.id) is not None:
                session.add_all(rows)
                await session.flush()
                session.add_all([answer, duel, *spend_rows(question, [first, second])])
        opened = await self.duel_of(question.id)
        if opened is None:
            raise PublicError("The question was deleted, or answered otherwise, while the duel was prepared.")
        return opened

    async def duel(self, duel_id: str) -> DuelShown | None:
        """A duel by its opaque id."""
        return await self._shown(col(Duel.id) == duel_id)

    async def duel_of(self, question_id: str) -> DuelShown | None:
        """The duel about a question."""
        return await self._shown(col(Duel.question_id) == question_id)

    async def duel_posted(self, duel_id: str, ts: str) -> None:
        """The duel stands in Slack as message `ts`."""
        async with self.database.writing() as session:
            await session.exec(update(Duel).where(col(Duel.id) == duel_id).values(posted_ts=ts))

    async def pick(self, duel_id: str, *, picker: str, pick: str) -> bool:
        """Set what a person picks, one of `PICKS`; the last one wins. False where the duel is closed or gone."""
        if pick not in PICKS:
            raise ValueError(f"{pick!r} is none of {PICKS}")
        async with self.database.writing(alone=f"duel {duel_id}") as session:
            duel = await session.get(Duel, duel_id)
            if duel is None or duel.closed_at is not None:
                return False
            where = (col(DuelPick.duel_id) == duel_id, col(DuelPick.picker) == picker)
            known = (await session.exec(select(DuelPick).where(*where))).first()
            row = known or DuelPick(duel_id=duel_id, picker=picker, pick=pick)
            row.pick, row.picked_at = pick, now()
            session.add(row)
            return True

    async def close_duel(self, duel_id: str, outcome: str) -> bool:
        """End a duel; True exactly once. `outcome` is one of `PICKS`, or "" where nobody picked.

        The winner becomes the Answer; with any other outcome the Answer stays.
        """
        async with self.database.writing(alone=f"duel {duel_id}") as session:
            duel = await session.get(Duel, duel_id)
            if duel is None or duel.closed_at is not None:
                return False
            duel.closed_at, duel.outcome = now(), outcome
            session.add(duel)
            winner = {"a": duel.candidate_a, "b": duel.candidate_b}.get(outcome)
            if winner is not None:
                await _choose(session, duel, winner)
            return True

    async def duel_revealed(self, duel_id: str) -> None:
        """The message of a closed duel says who was who."""
        async with self.database.writing() as session:
            await session.exec(update(Duel).where(col(Duel.id) == duel_id).values(revealed=True))

    async def duels_due(self, team: str, *, limit: int = 50) -> list[DuelShown]:
        """Duels whose time is up, and closed ones that are not revealed yet."""
        due = or_(
            col(Duel.closed_at).is_(None) & (col(Duel.closes_at) <= now()), col(Duel.closed_at).is_not(None)
        )
        wanted = (
            select(Duel.id)
            .join(Question, col(Question.id) == col(Duel.question_id))
            .where(col(Question.team) == team, col(Duel.posted_ts) != "", col(Duel.revealed).is_(False), due)
            .order_by(col(Duel.closes_at))
            .limit(limit)
        )
        async with self.database.reading() as session:
            ids = list((await session.exec(wanted)).all())
        shown = [await self.duel(duel_id) for duel_id in ids]
        return [duel for duel in shown if duel is not None]

    async def _shown(self, *where: object) -> DuelShown | None:
        wanted = (
            select(Duel, Question, Answer)
            .join(Question, col(Question.id) == col(Duel.question_id))
            .join(Answer, col(Answer.question_id) == col(Question.id))
            .where(*where)  # type: ignore[arg-type]
        )
        async with self.database.reading() as session:
            row = (await session.exec(wanted)).first()
            if row is None:
                return None
            duel, question, answer = row
            a = await session.get(Candidate, duel.candidate_a)
            b = await session.get(Candidate, duel.candidate_b)
            picks = select(DuelPick).where(col(DuelPick.duel_id) == duel.id).order_by(col(DuelPick.picked_at))
            cast = tuple((await session.exec(picks)).all())
        return DuelShown(duel, question, answer, a, b, cast) if a is not None and b is not None else None


async def _choose(session: AsyncSession, duel: Duel, winner: str) -> None:
    both = (duel.candidate_a, duel.candidate_b)
    await session.exec(update(Candidate).where(col(Candidate.id).in_(both)).values(chosen=False))
    await session.exec(update(Candidate).where(col(Candidate.id) == winner).values(chosen=True))
    await session.exec(
        update(Answer).where(col(Answer.question_id) == duel.question_id).values(candidate_id=winner)
    )
