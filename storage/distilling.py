"""Distillations, the questions that may be put to a teacher, and what it answered."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import func, or_, update
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from storage.database import Database
from storage.feedback import Vote
from storage.learnable import earlier_askers, micros, quotes_history
from storage.records import (
    Answer,
    Candidate,
    Consent,
    Correction,
    Distillation,
    DistillationState,
    DistilledAnswer,
    Question,
    Rating,
    now,
)

PAGE = 1000
LIVE = (DistillationState.QUOTED, DistillationState.RUNNING)


class Asked(NamedTuple):
    """A question that was answered. `messages` is what the model saw, `text` what it said, `model` its name at its provider.

    `place` is Slack's kind of conversation, `asked_at` microseconds since 1970, `earlier` the people whose words the thread
    held before. `votes` and `corrected` tell what people made of the answer.
    """

    answer_id: str
    channel: str
    place: str
    thread: str
    asker: str
    question: str
    asked_at: int
    messages: Sequence[Mapping[str, Any]]
    text: str
    kind: str
    model: str
    votes: tuple[Vote, ...]
    corrected: bool
    earlier: tuple[str, ...]


class LearnableDistilled(NamedTuple):
    """What a teacher said to a question. `people` are all whose words it was shown."""

    id: str
    answer_id: str
    channel: str
    thread: str
    asker: str
    question: str
    asked_at: int
    messages: Sequence[Mapping[str, Any]]
    text: str
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What a teacher answered to the question of `answer_id`, or why it would not (`trouble`). `people` as in the row."""

    key: str
    answer_id: str
    text: str = ""
    trouble: str = ""
    people: tuple[str, ...] = ()
    cost_usd: float = 0.0


class DistillingStore:
    """What teachers say."""

    database: Database

    # --- distillations ----------------------------------------------------------------------------------------------

    async def quote_distillation(
        self, *, team: str, teacher: str, most: int, within_usd: float, quote: Mapping[str, Any], by: str
    ) -> Distillation:
        """Keep a quote that waits for a yes, in the place of an earlier one that nobody agreed to."""
        earlier = update(Distillation).where(
            col(Distillation.team) == team, col(Distillation.state) == DistillationState.QUOTED
        )
        row = Distillation(
            team=team,
            teacher=teacher,
            most=most,
            within_usd=within_usd,
            quote=dict(quote),
            requested_by=by,
        )
        async with self.database.writing(alone="distillation") as session:
            ended = {"finished_at": now(), "told": "-", "reason": "asked for anew"}
            await session.exec(earlier.values(state=DistillationState.STOPPED, **ended))
            session.add(row)
        return row

    async def live_distillation(self, team: str) -> Distillation | None:
        """The one that goes on, else the one that waits for a yes; None where there is none."""
        wanted = select(Distillation).where(
            col(Distillation.team) == team, col(Distillation.state).in_([each.value for each in LIVE])
        )
        async with self.database.reading() as session:
            rows = (await session.exec(wanted)).all()
        return min(rows, key=lambda row: row.state is DistillationState.QUOTED, default=None)

    async def distillation(self, distillation_id: str) -> Distillation | None:
        """A distillation by its id."""
        async with self.database.reading() as session:
            return await session.get(Distillation, distillation_id)

    async def newest_distillation(self, team: str) -> Distillation | None:
        """The last one that was asked for."""
        wanted = select(Distillation).where(col(Distillation.team) == team)
        async with self.database.reading() as session:
            row: Distillation | None = (
                await session.exec(wanted.order_by(col(Distillation.requested_at).desc()).limit(1))
            ).first()
            return row

    async def untold_distillations(self, team: str) -> list[Distillation]:
        """Those that ended after somebody agreed to them, of whose end nobody was told."""
        ended = (DistillationState.DONE.value, DistillationState.STOPPED.value)
        where = (
            col(Distillation.team) == team,
            col(Distillation.state).in_(ended),
            col(Distillation.told) == "",
        )
        async with self.database.reading() as session:
            return list((await session.exec(select(Distillation).where(*where))).all())

    async def told_distillation(self, distillation_id: str, ts: str) -> None:
        """Its end was told, in the message `ts`."""
        await self._change(distillation_id, told=ts)

    async def confirm_distillation(self, distillation_id: str, *, by: str) -> bool:
        """Somebody agrees to a quote; True for the one caller who did it."""
        return await self._change(
            distillation_id, DistillationState.QUOTED, state=DistillationState.RUNNING, confirmed_by=by
        )

    async def end_distillation(
        self, row: Distillation, state: DistillationState, *, reason: str, by: str = ""
    ) -> bool:
        """End one that goes on or waits; True for the one caller who did it. Of a mere quote nobody has to be told."""
        told = {"told": "-"} if row.state is DistillationState.QUOTED else {}
        return await self._change(
            row.id, row.state, state=state, reason=reason, stopped_by=by, finished_at=now(), **told
        )

    async def claim_distillation(self, distillation_id: str, *, worker: str, lease_s: float) -> bool:
        """Become, or stay, the one who puts its questions."""
        moment = now()
        free = or_(
            col(Distillation.lease_until).is_(None),
            col(Distillation.lease_until) < moment,
            col(Distillation.claimed_by) == worker,
        )
        until = moment + timedelta(seconds=lease_s)
        return await self._change(
            distillation_id, DistillationState.RUNNING, free, claimed_by=worker, lease_until=until
        )

    async def release_distillation(self, distillation_id: str, *, worker: str) -> None:
        """Whoever put its questions leaves off; the next one need not wait for their claim to end."""
        await self._change(
            distillation_id, None, col(Distillation.claimed_by) == worker, claimed_by="", lease_until=None
        )

    async def _change(
        self, distillation_id: str, before: DistillationState | None = None, *where: Any, **values: Any
    ) -> bool:
        change = update(Distillation).where(col(Distillation.id) == distillation_id, *where)
        if before is not None:
            change = change.where(col(Distillation.state) == before)
        async with self.database.writing() as session:
            changed: Any = await session.exec(change.values(**values))
            return int(changed.rowcount) == 1

    # --- what is asked and answered ---------------------------------------------------------------------------------

    async def asked(self, team: str, *, page: int = PAGE) -> AsyncIterator[list[Asked]]:
        """Every question of a workspace that was answered, in the order of its answer's id."""
        last = ""
        while True:
            wanted = _asked().where(col(Answer.id) > last).order_by(col(Answer.id)).limit(page)
            async with self.database.reading() as session:
                found = (await session.exec(wanted)).all()
                rows = await _with_votes(session, team, found)
            if not found:
                return
            yield rows
            last = found[-1][0]

    async def asked_of(self, team: str, answer_ids: Sequence[str]) -> list[Asked]:
        """The same of these answers, at most some hundred; without those that are gone."""
        async with self.database.reading() as session:
            found = (await session.exec(_asked().where(col(Answer.id).in_(list(answer_ids))))).all()
            return await _with_votes(session, team, found)

    async def distilled_keys(self, team: str, teacher: str) -> set[str]:
        """The questions that a teacher has answered, or would not."""
        wanted = select(DistilledAnswer.key).where(
            col(DistilledAnswer.team) == team, col(DistilledAnswer.teacher) == teacher
        )
        async with self.database.reading() as session:
            return set((await session.exec(wanted)).all())

    async def distilled_count(self, team: str) -> int:
        """How many answers of teachers there are to learn from."""
        where = (col(DistilledAnswer.team) == team, col(DistilledAnswer.text) != "")
        wanted = select(func.count()).select_from(DistilledAnswer).where(*where)
        async with self.database.reading() as session:
            return int((await session.exec(wanted)).one())

    async def keep_distilled(self, row: Distillation, said: Said) -> bool:
        """Keep what a teacher said; False where its question is gone, one of the people refused, or it was kept before."""
        team = row.team
        same = select(DistilledAnswer.id).where(
            *(col(DistilledAnswer.team) == team, col(DistilledAnswer.teacher) == row.teacher),
            col(DistilledAnswer.key) == said.key,
        )
        agreed = select(Consent.person).where(
            *(col(Consent.team) == team, col(Consent.granted).is_(True)),
            col(Consent.person).in_(list(said.people)),
        )
        counted = update(Distillation).where(col(Distillation.id) == row.id)
        async with self.database.writing(alone="distillation") as session:
            there = await session.get(Answer, said.answer_id)
            agree = set((await session.exec(agreed)).all())
            known = (await session.exec(same)).first()
            kept = there is not None and known is None and agree == set(said.people)
            if kept:
                values = {
                    name: getattr(said, name) for name in ("key", "answer_id", "text", "trouble", "cost_usd")
                }
                session.add(
                    DistilledAnswer(
                        team=team,
                        teacher=row.teacher,
                        distillation_id=row.id,
                        people=list(said.people),
                        **values,
                    )
                )
            await session.exec(
                counted.values(
                    answered=col(Distillation.answered) + (1 if kept and said.text else 0),
                    failed=col(Distillation.failed) + (0 if kept and said.text else 1),
                    cost_usd=col(Distillation.cost_usd) + said.cost_usd,
                )
            )
        return kept

    async def drop_distilled(self, team: str, teacher: str) -> int:
        """Delete what a teacher said; how many answers that were. Datasets that hold them stay as they are."""
        wanted = select(DistilledAnswer).where(
            col(DistilledAnswer.team) == team, col(DistilledAnswer.teacher) == teacher
        )
        async with self.database.writing(alone="distillation") as session:
            rows = (await session.exec(wanted)).all()
            for row in rows:
                await session.delete(row)
            return sum(bool(row.text) for row in rows)

    async def learnable_distilled(
        self, team: str, *, page: int = PAGE
    ) -> AsyncIterator[list[LearnableDistilled]]:
        """What teachers said, with the conversations, in the order of its ids."""
        last = ""
        columns: Any = (
            *(DistilledAnswer.id, Answer.id, Question.channel, Question.thread_ts, Question.asker),
            *(
                Question.text,
                Question.asked_at,
                Answer.messages,
                DistilledAnswer.text,
                DistilledAnswer.people,
            ),
        )
        wanted = (
            select(*columns)
            .join(Answer, col(Answer.id) == col(DistilledAnswer.answer_id))
            .join(Question, col(Question.id) == col(Answer.question_id))
            .where(col(DistilledAnswer.team) == team, col(DistilledAnswer.text) != "")
        )
        while True:
            some = wanted.where(col(DistilledAnswer.id) > last).order_by(col(DistilledAnswer.id)).limit(page)
            async with self.database.reading() as session:
                found = (await session.exec(some)).all()
            if not found:
                return
            yield [
                LearnableDistilled(
                    *(row[0], row[1], row[2], f"{row[2]}/{row[3]}", row[4], row[5], micros(row[6])),
                    messages=row[7] if quotes_history(row[7]) else [],
                    text=row[8],
                    people=tuple(row[9]),
                )
                for row in found
            ]
            last = found[-1][0]


def _asked() -> Any:
    columns: Any = (
        *(Answer.id, Question.channel, Question.place, Question.thread_ts, Question.ts, Question.asker),
        *(Question.text, Question.asked_at, Answer.messages, Candidate.text, Candidate.kind, Candidate.model),
        Question.team,
    )
    return (
        select(*columns)
        .join(Question, col(Question.id) == col(Answer.question_id))
        .join(Candidate, col(Candidate.id) == col(Answer.candidate_id))
    )


async def _with_votes(session: AsyncSession, team: str, found: Sequence[Any]) -> list[Asked]:
    rows = [row for row in found if row[12] == team]
    ids = [row[0] for row in rows]
    ratings: Any = (Rating.answer_id, Rating.rater, Rating.value)
    voted = select(*ratings).where(col(Rating.answer_id).in_(ids), col(Rating.value) != 0)
    votes: dict[str, tuple[Vote, ...]] = {}
    for answer_id, rater, value in (await session.exec(voted.order_by(col(Rating.rater)))).all():
        votes[answer_id] = (*votes.get(answer_id, ()), Vote(rater, value))
    corrections = select(Correction.answer_id).where(col(Correction.answer_id).in_(ids))
    corrected = set((await session.exec(corrections)).all())
    asked = [(row[1], row[3], row[4], row[8]) for row in rows]
    earlier = await earlier_askers(await session.connection(), team, asked)
    return [
        Asked(
            *(row[0], row[1], row[2], f"{row[1]}/{row[3]}", row[5], row[6], micros(row[7])),
            *(row[8], row[9], row[10], row[11], votes.get(row[0], ()), row[0] in corrected),
            earlier=earlier.get(number, ()),
        )
        for number, row in enumerate(rows)
    ]
