"""What the store does for duels: two answers shown blind, picks, the outcome."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import func, or_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.asking import candidate_row
from storage.database import Database
from storage.errors import PublicError
from storage.placeholders import PlaceholderStore, scope_of_question
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


@dataclass(frozen=True, slots=True)
class DuelTally:
    """How the duels of a workspace ended. `wins` and `fought` count by the model's name, as people read it.

    `fought` counts duels that are closed and in which somebody picked; the rest of those are `ties` and `both_bad`.
    `unpicked` ones closed without a pick.
    """

    open: int = 0
    ties: int = 0
    both_bad: int = 0
    unpicked: int = 0
    wins: dict[str, int] = field(default_factory=dict)
    fought: dict[str, int] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """Closed duels in which somebody picked."""
        return sum(self.wins.values()) + self.ties + self.both_bad


class DuelStore(PlaceholderStore):
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
        scope = scope_of_question(question)
        said = await self.strike(question.team, scope, first.text, second.text)
        rows = [
            candidate_row(question.id, replace(proposal, text=text))
            for proposal, text in zip((first, second), said, strict=True)
        ]
        rows[0].chosen = True
        answer = Answer(
            question_id=question.id,
            candidate_id=rows[0].id,
            team=question.team,
            channel=question.channel,
            messages=[message.stored() for message in messages],
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
                session.add_all([answer, duel])
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

    async def pick(self, duel_id: str, *, picker: str, pick: str, at: datetime | None = None) -> bool:
        """Set what a person picks, one of `PICKS`; the last one wins. False where the duel is closed or gone.

        `at` is when it was pressed (None: now): presses that overtake one another still end with the last.
        """
        if pick not in PICKS:
            raise ValueError(f"{pick!r} is none of {PICKS}")
        async with self.database.writing(alone=f"duel {duel_id}") as session:
            duel = await session.get(Duel, duel_id)
            if duel is None or duel.closed_at is not None:
                return False
            where = (col(DuelPick.duel_id) == duel_id, col(DuelPick.picker) == picker)
            known = (await session.exec(select(DuelPick).where(*where))).first()
            if known is not None and at is not None and at < known.picked_at:
                return True
            row = known or DuelPick(duel_id=duel_id, picker=picker, pick=pick)
            row.pick, row.picked_at = pick, at or now()
            session.add(row)
            return True

    async def close_duel(self, duel_id: str, decide: Callable[[Sequence[str]], str]) -> bool:
        """End a duel; True exactly once. `decide` makes one of `PICKS`, or "", of all picks there are at that moment.

        The winner becomes the Answer; with any other outcome the Answer stays.
        """
        async with self.database.writing(alone=f"duel {duel_id}") as session:
            duel = await session.get(Duel, duel_id)
            if duel is None or duel.closed_at is not None:
                return False
            picks = select(DuelPick.pick).where(col(DuelPick.duel_id) == duel_id)
            duel.closed_at, duel.outcome = now(), decide((await session.exec(picks)).all())
            session.add(duel)
            winner = {"a": duel.candidate_a, "b": duel.candidate_b}.get(duel.outcome)
            if winner is not None:
                await _choose(session, duel, winner)
            return True

    async def duel_revealed(self, duel_id: str) -> None:
        """The message of a closed duel says who was who."""
        async with self.database.writing() as session:
            await session.exec(update(Duel).where(col(Duel.id) == duel_id).values(revealed=True))

    async def duels_due(self, team: str, *, votes: int, limit: int = 50) -> list[DuelShown]:
        """Duels whose time is up or that have so many picks, and closed ones that are not revealed yet.

        In a direct message, whose channel's id begins with D, one pick is enough: there is nobody else.
        """
        picked = select(func.count()).where(col(DuelPick.duel_id) == col(Duel.id)).scalar_subquery()
        enough = or_(picked >= votes, col(Duel.channel).startswith("D") & (picked >= 1))
        due = or_(col(Duel.closed_at).is_not(None), col(Duel.closes_at) <= now(), enough)
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

    async def duel_tally(self, team: str) -> DuelTally:
        """How the duels of a workspace ended so far."""
        wanted = (
            select(Duel.closed_at, Duel.outcome, Duel.candidate_a, Duel.candidate_b)
            .join(Question, col(Question.id) == col(Duel.question_id))
            .where(col(Question.team) == team)
        )
        names = (
            select(Candidate.id, Candidate.model)
            .join(Duel, col(Duel.question_id) == col(Candidate.question_id))
            .join(Question, col(Question.id) == col(Duel.question_id))
            .where(col(Question.team) == team)
        )
        async with self.database.reading() as session:
            duels = (await session.exec(wanted)).all()
            models: dict[str, str] = dict((await session.exec(names)).all())
        return _tally(duels, models)

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


def _tally(duels: Sequence[tuple[datetime | None, str, str, str]], models: dict[str, str]) -> DuelTally:
    outcomes = Counter("open" if closed is None else outcome for closed, outcome, _, _ in duels)
    wins: Counter[str] = Counter()
    fought: Counter[str] = Counter()
    for closed, outcome, a, b in duels:
        if closed is not None and outcome:
            fought.update([models[a], models[b]])
            wins.update([models[a if outcome == "a" else b]] if outcome in {"a", "b"} else [])
    return DuelTally(
        open=outcomes["open"],
        ties=outcomes["tie"],
        both_bad=outcomes["both bad"],
        unpicked=outcomes[""],
        wins=dict(wins),
        fought=dict(fought),
    )
