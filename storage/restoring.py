"""What a restored database must be told: where the files lie now, and who was forgotten since it was copied."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from storage.forgetting_rows import person_digest
from storage.operating import OperatingStore
from storage.records import (
    ChannelSettings,
    Consent,
    Correction,
    DatasetVersion,
    Decision,
    DuelPick,
    Entry,
    Evaluation,
    Expert,
    Forgetting,
    GoldenItem,
    Keepsake,
    MemberName,
    ModelVersion,
    Nomination,
    Placeholder,
    Promotion,
    Quarantine,
    Question,
    Rating,
    RatingEvent,
    Review,
    Schedule,
    Solicitation,
    TrainingRun,
)

_KEY = "identity-key:"


_WHO: tuple[Any, ...] = (
    Question.asker,
    Rating.rater,
    RatingEvent.rater,
    Solicitation.person,
    Correction.author,
    Entry.author,
    Consent.person,
    Nomination.nominator,
    Nomination.refused_by,
    Review.by,
    Expert.person,
    Expert.granted_by,
    MemberName.person,
    Placeholder.person,
    Quarantine.person,
    Quarantine.kept_by,
    Quarantine.lifted_by,
    Decision.actor,
    Decision.subject,
    Promotion.by,
    TrainingRun.requested_by,
    TrainingRun.cancel_requested_by,
    Evaluation.requested_by,
    ChannelSettings.changed_by,
    Schedule.changed_by,
    Forgetting.asked_by,
)
_WHO_OF_MANY: tuple[Any, ...] = (
    Nomination.authors,
    Nomination.waiting_for,
    GoldenItem.authors,
    GoldenItem.approvals,
)
"""Where somebody stands whom a backup knows, whatever they did."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Somebody who was forgotten, known by the keyed hash alone; `key` is what it was made with (hexadecimal)."""

    team: str
    key: str
    digest: str


class RestoringStore(OperatingStore):
    """Around `apprentice restore`."""

    async def forgotten(self) -> list[Forgotten]:
        """Everybody who was ever forgotten, or is being forgotten."""
        async with self.database.reading() as session:
            keys = select(Keepsake).where(col(Keepsake.name).startswith(_KEY))
            known = {row.name.removeprefix(_KEY): row.value for row in (await session.exec(keys)).all()}
            wanted: Any = select(Forgetting.team, Forgetting.digest).distinct()
            rows = (await session.exec(wanted)).all()
        return [Forgotten(team, known[team], marked) for team, marked in rows if team in known]

    async def forget_again(self, forgotten: Collection[Forgotten]) -> int:
        """Ask for the forgetting of everybody among these who has rows here; how many they are."""
        asked = 0
        for team in sorted({each.team for each in forgotten}):
            marked = [each for each in forgotten if each.team == team]
            people = await self._people(team)
            # The first key that was ever used stays: with another one the hashes of before would mean nobody.
            await self.keepsake(f"{_KEY}{team}", lambda key=marked[0].key: key)  # type: ignore[misc]
            for person in sorted(people):
                found = next((each for each in marked if _is(each, person)), None)
                if found is not None:
                    await self._ask_again(team, person, found.digest)
                    asked += 1
        return asked

    async def _people(self, team: str) -> set[str]:
        found: set[str] = set()
        async with self.database.reading() as session:
            for column in _WHO:
                here = select(column).where(column.class_.team == team).distinct()
                found.update(each for each in (await session.exec(here)).all() if each)
            for column in _WHO_OF_MANY:
                for people in (await session.exec(select(column).where(column.class_.team == team))).all():
                    found.update(people)
            # Of any workspace: who is meant is told by the keyed hash.
            found.update((await session.exec(select(DuelPick.picker).distinct())).all())
        return found - {""}

    async def _ask_again(self, team: str, person: str, marked: str) -> None:
        async with self.database.writing(alone=f"forget {team}") as session:
            session.add(
                Forgetting(team=team, person=person, digest=marked, asked_by="restore", done={}, undone={})
            )

    async def relocate(self, folder: Path) -> None:
        """Models and datasets lie under this folder now, each in the one that its hash names."""
        async with self.database.writing() as session:
            for model in (await session.exec(select(ModelVersion))).all():
                if Path(model.path).parent.name == "models":
                    await session.exec(
                        update(ModelVersion)
                        .where(col(ModelVersion.id) == model.id)
                        .values(path=str(folder / "models" / Path(model.path).name))
                    )
            for dataset in (await session.exec(select(DatasetVersion))).all():
                where = Path(dataset.path)
                await session.exec(
                    update(DatasetVersion)
                    .where(col(DatasetVersion.id) == dataset.id)
                    .values(path=str(folder / where.parent.name / where.name))
                )


def _is(forgotten: Forgotten, person: str) -> bool:
    return person_digest(bytes.fromhex(forgotten.key), person) == forgotten.digest
