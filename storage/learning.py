"""What the store does around learning: datasets, runs, model versions, evaluations, promotions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from storage.database import Database
from storage.records import (
    DatasetVersion,
    Evaluation,
    EvaluationState,
    Forgetting,
    ModelVersion,
    Promotion,
    RunState,
    TrainingRun,
    now,
)

LIVE_RUNS = (
    RunState.REQUESTED,
    RunState.FREEZING,
    RunState.TRAINING,
    RunState.EVALUATING,
    RunState.REPORTING,
)
LIVE_EVALUATIONS = (EvaluationState.REQUESTED, EvaluationState.EVALUATING)


@dataclass(frozen=True, slots=True)
class Requested:
    """A training run and whether this request made it; the same occasion never makes two."""

    run: TrainingRun
    new: bool


@dataclass(frozen=True, slots=True)
class Leaving:
    """People whose forgetting is under way, and whether somebody's was finished meanwhile."""

    people: frozenset[str]
    gone_meanwhile: bool


@dataclass(frozen=True, slots=True)
class Look:
    """An earlier comparison of a challenger: when it was asked for, what was agreed, what came of it."""

    requested_at: datetime
    specification: dict[str, Any]
    verdict: dict[str, Any]
    live: bool


Specify = Callable[[Sequence[Look]], dict[str, Any]]
"""Gives the agreement for an evaluation from the looks before it; {} where there is nothing to agree on."""


class LearningStore:
    """Runs and what comes of them."""

    database: Database

    async def request_run(
        self, *, team: str, occasion: str, by: str, options: Mapping[str, Any], finetuner: str = "local"
    ) -> Requested:
        """Write down a wish for a training run; the same `occasion` gives the same run."""
        try:
            async with self.database.writing(alone="run number") as session:
                number = (await session.exec(select(func.max(TrainingRun.number)))).one() or 0
                run = TrainingRun(
                    number=number + 1,
                    team=team,
                    occasion=occasion,
                    requested_by=by,
                    options=dict(options),
                    progress={},
                    finetuner=finetuner,
                )
                session.add(run)
            return Requested(run, new=True)
        except IntegrityError:
            async with self.database.reading() as session:
                where = col(TrainingRun.occasion) == occasion
                known = (await session.exec(select(TrainingRun).where(where))).first()
            if known is None:
                raise
            return Requested(known, new=False)

    async def run(self, run_id: str) -> TrainingRun | None:
        """A run by its id."""
        async with self.database.reading() as session:
            return await session.get(TrainingRun, run_id)

    async def run_numbered(self, number: int) -> TrainingRun | None:
        """A run by the number people use for it."""
        async with self.database.reading() as session:
            return (await session.exec(select(TrainingRun).where(col(TrainingRun.number) == number))).first()

    async def runs(self, team: str, *, limit: int = 20) -> list[TrainingRun]:
        """The newest runs first."""
        wanted = select(TrainingRun).where(col(TrainingRun.team) == team)
        async with self.database.reading() as session:
            return list(
                (await session.exec(wanted.order_by(col(TrainingRun.number).desc()).limit(limit))).all()
            )

    async def live_runs(self) -> list[TrainingRun]:
        """Runs that are not finished, oldest first."""
        wanted = select(TrainingRun).where(col(TrainingRun.state).in_(LIVE_RUNS))
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(TrainingRun.number)))).all())

    async def claim_run(self, run_id: str, *, worker: str, lease_s: float) -> bool:
        """Become the one who advances the run for `lease_s` seconds."""
        return await self._claim(TrainingRun, run_id, LIVE_RUNS, worker, lease_s)

    async def claim_evaluation(self, evaluation_id: str, *, worker: str, lease_s: float) -> bool:
        """Become the one who advances the evaluation for `lease_s` seconds."""
        return await self._claim(Evaluation, evaluation_id, LIVE_EVALUATIONS, worker, lease_s)

    async def _claim(
        self, record: Any, row_id: str, states: Sequence[Any], worker: str, lease_s: float
    ) -> bool:
        moment = now()
        free = or_(
            col(record.lease_until).is_(None),
            col(record.lease_until) < moment,
            col(record.claimed_by) == worker,
        )
        claim = (
            update(record)
            .where(col(record.id) == row_id, col(record.state).in_(states), free)
            .values(claimed_by=worker, lease_until=moment + timedelta(seconds=lease_s))
        )
        async with self.database.writing() as session:
            result: Any = await session.exec(claim)
            return int(result.rowcount) == 1

    async def advance_run(self, run: TrainingRun, state: RunState, **changes: Any) -> TrainingRun:
        """Move a run on from the state it was read in; the row as it is now, whoever moved it.

        A run that somebody else moved in the meantime is left alone: nothing is done twice.
        """
        values = {"state": state, **changes}
        if state.final:
            values |= {"finished_at": now(), "lease_until": None}
        move = (
            update(TrainingRun)
            .where(col(TrainingRun.id) == run.id, col(TrainingRun.state) == run.state)
            .values(**values)
        )
        async with self.database.writing() as session:
            await session.exec(move)
        moved = await self.run(run.id)
        return moved if moved is not None else run

    async def note_on_run(self, run_id: str, **changes: Any) -> None:
        """Write progress, a handle or a report's place on a run, without moving its state."""
        async with self.database.writing() as session:
            await session.exec(update(TrainingRun).where(col(TrainingRun.id) == run_id).values(**changes))

    async def save_dataset(
        self,
        *,
        dataset_id: str,
        path: str,
        counts: Mapping[str, int],
        manifest: dict[str, Any],
        team: str = "",
        kind: str = "training",
        parent_id: str | None = None,
        difference: Mapping[str, Any] | None = None,
    ) -> DatasetVersion:
        """Remember a frozen dataset; the same content is the same row."""
        async with self.database.writing(alone=f"dataset {dataset_id}") as session:
            known = await session.get(DatasetVersion, dataset_id)
            row = known or DatasetVersion(
                id=dataset_id,
                path=path,
                train=counts["train"],
                validation=counts["validation"],
                test=counts["test"],
                manifest=manifest,
                team=team,
                kind=kind,
                parent_id=parent_id,
                difference=dict(difference or {}),
            )
            session.add(row)
        return row

    async def drop_dataset(self, dataset_id: str) -> None:
        """Forget about a dataset that nobody has used yet."""
        async with self.database.writing() as session:
            await session.exec(delete(DatasetVersion).where(col(DatasetVersion.id) == dataset_id))

    async def being_forgotten(self, team: str, *, since: datetime) -> Leaving:
        """Who is being forgotten now, and whether the forgetting of anybody came to its end since then."""
        wanted = select(Forgetting.person, Forgetting.finished_at).where(col(Forgetting.team) == team)
        open_or_new = or_(col(Forgetting.finished_at).is_(None), col(Forgetting.finished_at) >= since)
        async with self.database.reading() as session:
            rows = (await session.exec(wanted.where(open_or_new))).all()
        people = frozenset(person for person, finished in rows if finished is None and person)
        return Leaving(people, any(finished is not None for _, finished in rows))

    async def dataset(self, dataset_id: str) -> DatasetVersion | None:
        """A frozen dataset by its hash."""
        async with self.database.reading() as session:
            return await session.get(DatasetVersion, dataset_id)

    async def newest_dataset(self) -> DatasetVersion | None:
        """The dataset for training that was frozen last."""
        trained_on = select(DatasetVersion).where(col(DatasetVersion.kind) == "training")
        wanted = trained_on.order_by(col(DatasetVersion.frozen_at).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()

    async def datasets(self) -> list[DatasetVersion]:
        """All frozen datasets, oldest first."""
        async with self.database.reading() as session:
            wanted = select(DatasetVersion).order_by(col(DatasetVersion.frozen_at))
            return list((await session.exec(wanted)).all())

    async def register_model(
        self,
        *,
        team: str,
        name: str,
        base_model: str,
        path: str,
        sha256: str,
        run_id: str | None,
        dataset_id: str | None,
        card: dict[str, Any],
        kind: str = "local",
        model: str = "",
    ) -> ModelVersion:
        """Register what a run made; asking twice for the same run gives the same version."""
        row = ModelVersion(
            team=team,
            name=name,
            base_model=base_model,
            path=path,
            sha256=sha256,
            run_id=run_id,
            dataset_id=dataset_id,
            card=card,
            kind=kind,
            model=model,
        )
        try:
            async with self.database.writing() as session:
                session.add(row)
            return row
        except IntegrityError:
            made = await self._model_of_run(run_id) if run_id else await self.model_named(team, name)
            if made is None:
                raise
            return made

    async def _model_of_run(self, run_id: str) -> ModelVersion | None:
        async with self.database.reading() as session:
            return (
                await session.exec(select(ModelVersion).where(col(ModelVersion.run_id) == run_id))
            ).first()

    async def model(self, version_id: str) -> ModelVersion | None:
        """A model version by its id."""
        async with self.database.reading() as session:
            return await session.get(ModelVersion, version_id)

    async def model_named(self, team: str, name: str) -> ModelVersion | None:
        """A model version by the name people use."""
        where = (col(ModelVersion.team) == team, col(ModelVersion.name) == name)
        async with self.database.reading() as session:
            return (await session.exec(select(ModelVersion).where(*where))).first()

    async def models(self, team: str) -> list[ModelVersion]:
        """All versions, oldest first."""
        wanted = select(ModelVersion).where(col(ModelVersion.team) == team)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(ModelVersion.registered_at)))).all())

    async def taint_models(self, version_ids: Sequence[str], why: str) -> None:
        """Mark versions that learned from rows that are gone."""
        async with self.database.writing() as session:
            await session.exec(
                update(ModelVersion).where(col(ModelVersion.id).in_(version_ids)).values(tainted=why)
            )

    async def current(self, team: str) -> ModelVersion | None:
        """The version that serves; None is the untuned base."""
        newest = await self.newest_promotion(team)
        return await self.model(newest.version_id) if newest and newest.version_id else None

    async def newest_promotion(self, team: str) -> Promotion | None:
        """The promotion that holds now; None while nothing was ever promoted."""
        wanted = select(Promotion).where(col(Promotion.team) == team)
        async with self.database.reading() as session:
            return (await session.exec(wanted.order_by(col(Promotion.sequence).desc()).limit(1))).first()

    async def promotions(self, team: str) -> list[Promotion]:
        """All promotions, oldest first."""
        wanted = select(Promotion).where(col(Promotion.team) == team)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(Promotion.sequence)))).all())

    async def promote(
        self, *, team: str, decision: str, version_id: str | None, by: str, reason: str
    ) -> tuple[Promotion, bool]:
        """Append a promotion; the same `decision` (a report's button, say) promotes once. (row, whether it is new)"""
        try:
            async with self.database.writing(alone="promotion") as session:
                sequence = (await session.exec(select(func.max(Promotion.sequence)))).one() or 0
                last = select(Promotion).where(col(Promotion.team) == team)
                newest = (await session.exec(last.order_by(col(Promotion.sequence).desc()).limit(1))).first()
                row = Promotion(
                    sequence=sequence + 1,
                    team=team,
                    decision=decision,
                    version_id=version_id,
                    previous_id=newest.version_id if newest else None,
                    by=by,
                    reason=reason,
                )
                session.add(row)
            return row, True
        except IntegrityError:
            async with self.database.reading() as session:
                where = col(Promotion.decision) == decision
                known = (await session.exec(select(Promotion).where(where))).first()
            if known is None:
                raise
            return known, False

    async def request_evaluation(
        self,
        *,
        team: str,
        by: str,
        challenger_id: str | None,
        current_id: str | None,
        dataset_id: str | None,
        run_id: str | None = None,
        since: datetime | None = None,
        specify: Specify | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Write down a wish for an evaluation; a run has one. `specify` gets the looks `since` then: no two evaluations
        see the same ones."""
        async with self.database.writing(alone="evaluation number") as session:
            if run_id is not None:
                where = col(Evaluation.run_id) == run_id
                known = (await session.exec(select(Evaluation).where(where))).first()
                if known is not None:
                    return known
            number = (await session.exec(select(func.max(Evaluation.number)))).one() or 0
            looks = await _looks(session, team, since) if specify else []
            row = Evaluation(
                number=number + 1,
                team=team,
                requested_by=by,
                challenger_id=challenger_id,
                current_id=current_id,
                dataset_id=dataset_id,
                run_id=run_id,
                specification=specify(looks) if specify else {},
                options=dict(options or {}),
                sheet={},
                verdict={},
            )
            session.add(row)
        return row

    async def agree(self, evaluation_id: str, *, since: datetime, specify: Specify) -> dict[str, Any]:
        """The agreement of an evaluation: the one that was written down; where none was, it is written now."""
        async with self.database.writing(alone="evaluation number") as session:
            row = await session.get(Evaluation, evaluation_id)
            if row is None or row.specification:
                return dict(row.specification) if row is not None else {}
            row.specification = specify(await _looks(session, row.team, since, but=row.id))
            session.add(row)
            return dict(row.specification)

    async def evaluation(self, evaluation_id: str) -> Evaluation | None:
        """An evaluation by its id."""
        async with self.database.reading() as session:
            return await session.get(Evaluation, evaluation_id)

    async def live_evaluations(self) -> list[Evaluation]:
        """Evaluations asked for by themselves (not as part of a run) and not finished."""
        wanted = select(Evaluation).where(
            col(Evaluation.state).in_(LIVE_EVALUATIONS), col(Evaluation.run_id).is_(None)
        )
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(Evaluation.number)))).all())

    async def end_evaluation(self, evaluation_id: str, *, reason: str) -> bool:
        """End one that is asked for and not finished, without a result; False where it has ended already."""
        live = (col(Evaluation.id) == evaluation_id, col(Evaluation.state).in_(LIVE_EVALUATIONS))
        ended = {"state": EvaluationState.FAILED, "reason": reason, "finished_at": now(), "lease_until": None}
        async with self.database.writing() as session:
            result: Any = await session.exec(update(Evaluation).where(*live).values(**ended))
            return int(result.rowcount) == 1

    async def newest_evaluation(self, team: str) -> Evaluation | None:
        """The evaluation finished last."""
        where = (col(Evaluation.team) == team, col(Evaluation.state) == EvaluationState.DONE)
        wanted = select(Evaluation).where(*where).order_by(col(Evaluation.number).desc()).limit(1)
        async with self.database.reading() as session:
            return (await session.exec(wanted)).first()

    async def note_on_evaluation(self, evaluation_id: str, **changes: Any) -> None:
        """Write what an evaluation found, or where its report stands."""
        async with self.database.writing() as session:
            await session.exec(
                update(Evaluation).where(col(Evaluation.id) == evaluation_id).values(**changes)
            )


async def _looks(session: Any, team: str, since: datetime | None, but: str = "") -> list[Look]:
    """The comparisons of challengers that were asked for since then."""
    fields = (Evaluation.requested_at, Evaluation.specification, Evaluation.verdict, Evaluation.state)
    where = [
        col(Evaluation.team) == team,
        col(Evaluation.challenger_id).is_not(None),
        col(Evaluation.id) != but,
    ]
    if since is not None:
        where.append(col(Evaluation.requested_at) > since)
    rows = (await session.exec(select(*fields).where(*where))).all()
    return [
        Look(asked, dict(agreed or {}), dict(verdict or {}), state in LIVE_EVALUATIONS)
        for asked, agreed, verdict, state in rows
    ]
