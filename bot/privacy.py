"""Forgetting a person: their rows are deleted, and models that learned from them are marked."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from storage.forgetting import Holdings
from storage.store import Store
from training.datasets import authors_of


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was deleted, and the names of the models that had learned from it."""

    held: Holdings
    tainted: tuple[str, ...]


class Privacy:
    """What a person may ask of us."""

    def __init__(self, store: Store, *, team: str) -> None:
        self._store = store
        self._team = team

    async def forget(self, person: str, *, by: str) -> Receipt:
        """Delete everything of a person and mark the models that learned from their words."""
        tainted_data = set()
        for dataset in await self._store.datasets():
            if await asyncio.to_thread(_holds_words_of, Path(dataset.path), person):
                tainted_data.add(dataset.id)
        versions = [
            version for version in await self._store.models(self._team) if version.dataset_id in tainted_data
        ]
        held = await self._store.forget(self._team, person)
        await self._store.taint_models(
            [version.id for version in versions], "learned from words that were deleted since"
        )
        await self._store.decide(
            team=self._team, actor=by, action="forget", detail=f"{held.questions} questions"
        )
        return Receipt(held, tuple(version.name for version in versions))


def _holds_words_of(dataset: Path, person: str) -> bool:
    if not (dataset / "manifest.json").exists():
        return False
    return any(person in authors for authors in authors_of(dataset).values())
