"""From a message to every dataset, model and provider file that learned from it, and back.

What a person passes may be the id of an answer, an entry or a question, a link to a message, "channel/ts", a dataset's row
or the name of a model. People are named only where the caller asks for it; else they are pseudonyms.
"""

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.identities import digest
from storage.records import DatasetVersion, ModelVersion, ProviderFile
from storage.store import Store
from storage.tracing import Traced
from training.dataset_files import BESIDE, BUFFER, ID_DIGITS, MANIFEST, ROWS, lines_of, rows_of

LINK = re.compile(r"https://[\w.-]+/archives/([CDG][A-Z0-9]+)/p(\d{10})(\d{6})")
PLACE = re.compile(r"([CDG][A-Z0-9]+)/(\d+\.\d+)")
ROW = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}(?:-\d+)?")
DIGITS_OF_ID = 12


@dataclass(frozen=True, slots=True)
class Held:
    """A row of a dataset; `file` is "rows" or "preferences"."""

    dataset: DatasetVersion
    row: str
    split: str
    cluster: str
    subject: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What was said, which rows of which datasets hold it, which models learned from those, which files lie elsewhere."""

    said: tuple[Traced, ...]
    held: tuple[Held, ...]
    models: tuple[ModelVersion, ...]
    files: tuple[ProviderFile, ...]
    datasets: tuple[DatasetVersion, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing at all was found."""
        return not (self.said or self.held or self.models)


def place_of(ref: str) -> tuple[str, str] | None:
    """Channel and ts of a link to a message, or of "channel/ts"; None for anything else."""
    if (link := LINK.match(ref)) is not None:
        return link[1], f"{link[2]}.{link[3]}"
    place = PLACE.fullmatch(ref)
    return (place[1], place[2]) if place is not None else None


def link_to(channel: str, ts: str) -> str:
    """Where a message stands, as people write it below their workspace's address; "" where there is no message."""
    seconds, _, rest = ts.partition(".")
    return f"/archives/{channel}/p{seconds}{rest}" if channel and rest else ""


async def lineage(store: Store, team: str, ref: str) -> Lineage:
    """Everything that `ref` leads to, in both directions."""
    model = await store.model_named(team, ref)
    if model is not None:
        return await _of_model(store, team, model)
    place = place_of(ref)
    said = await (store.trace(team, place[0], ts=place[1]) if place else store.trace(team, ref))
    subjects = {each.subject for each in said} | {ref}
    held = await _held(store, team, subjects, row=ref if ROW.fullmatch(ref) else "")
    if held and not said:
        for subject in sorted({each.subject for each in held} - {""}):
            said += await store.trace(team, subject)
    learned = {each.dataset.id for each in held}
    models = [each for each in await store.models(team) if each.dataset_id in learned]
    files = [each for each in await store.provider_files(team) if each.dataset_id in learned]
    return Lineage(tuple(said), tuple(held), tuple(models), tuple(files))


async def _of_model(store: Store, team: str, model: ModelVersion) -> Lineage:
    dataset = await store.dataset(model.dataset_id) if model.dataset_id else None
    files = [each for each in await store.provider_files(team) if each.dataset_id == model.dataset_id]
    return Lineage((), (), (model,), tuple(files), (dataset,) if dataset is not None else ())


async def _held(store: Store, team: str, subjects: Collection[str], *, row: str) -> list[Held]:
    """Which rows of which datasets hold any of these."""
    held: list[Held] = []
    for dataset in await store.datasets():
        if dataset.team in {"", team}:
            held += await asyncio.to_thread(lambda of: list(_held_in(of, subjects, row)), dataset)
    return held


def _held_in(dataset: DatasetVersion, subjects: Collection[str], row_id: str) -> Iterator[Held]:
    path = Path(dataset.path)
    if not (path / MANIFEST).exists():
        return
    for row in _rows_with(path, [*subjects, *([row_id] if row_id else [])]):
        if not row.get("erased") and (row.get("subject") in subjects or row["id"] == row_id):
            yield Held(dataset, row["id"], row["split"], row.get("cluster", ""), row.get("subject", ""))


def _rows_with(path: Path, marks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows whose line holds one of these texts: looking at bytes is quick, reading JSON is not."""
    if not (path / ROWS).exists():
        yield from rows_of(path)
        return
    wanted = [f'"{mark}"'.encode() for mark in marks]
    for file in (path / name for name in (ROWS, *BESIDE) if (path / name).exists()):
        with file.open("rb", buffering=BUFFER) as lines:
            if any(mark in line for line in lines for mark in wanted):
                yield from lines_of(file)


class Names:
    """How people are called: by their id, or by a pseudonym that is the same within one workspace."""

    def __init__(self, key: bytes, *, people: bool) -> None:
        self._key, self._people = key, people

    def of(self, person: str) -> str:
        """The name of one person."""
        return person if self._people else f"person-{digest(self._key, 'lineage', person)[:8]}"


def to_json(found: Lineage, names: Names) -> dict[str, Any]:
    """All of it for programs."""
    return {
        "said": [_said_json(each, names) for each in found.said],
        "rows": [
            {
                "dataset": each.dataset.id,
                **{name: getattr(each, name) for name in ("row", "split", "cluster", "subject")},
            }
            for each in found.held
        ],
        "datasets": [each.id for each in found.datasets],
        "models": [
            {"name": each.name, "dataset": each.dataset_id, "sha256": each.sha256, "tainted": each.tainted}
            for each in found.models
        ],
        "provider_files": [
            {"provider": each.provider, "file": each.file_id, "dataset": each.dataset_id}
            for each in found.files
        ],
    }


def _said_json(said: Traced, names: Names) -> dict[str, Any]:
    return {
        "id": said.subject,
        "kind": said.kind,
        "row": said.key[:ID_DIGITS],
        "channel": said.channel,
        "ts": said.ts,
        "link": link_to(said.channel, said.ts),
        "said_at": said.said_at,
        "source": said.source,
        "people": [{"role": role, "person": names.of(person)} for role, person in said.people],
    }


def in_words(found: Lineage, names: Names) -> list[str]:
    """All of it for people, a line each."""
    lines = [_said_line(each, names) for each in found.said]
    lines += [
        f"dataset {each.dataset.id[:DIGITS_OF_ID]} of {each.dataset.frozen_at:%Y-%m-%d} holds it as {each.row}, {each.split}"
        for each in found.held
    ]
    lines += [
        f"dataset {each.id[:DIGITS_OF_ID]}: {each.train:,} to train on, {each.validation:,} to watch, {each.test:,} held out"
        for each in found.datasets
    ]
    for model in found.models:
        trained = (
            f" learned from dataset {(model.dataset_id or '')[:DIGITS_OF_ID]}" if model.dataset_id else ""
        )
        lines.append(f"model {model.name}{trained}{f'; {model.tainted}' if model.tainted else ''}")
    lines += [
        f"file {each.file_id or '(upload under way)'} lies with {each.provider}" for each in found.files
    ]
    if found.said and not found.held:
        lines.append("no dataset holds it")
    return lines


def _said_line(said: Traced, names: Names) -> str:
    people = ", ".join(f"{role} by {names.of(person)}" for role, person in said.people)
    where = f"{said.channel} {said.ts} ({link_to(said.channel, said.ts)})" if said.channel else "imported"
    return f"{said.kind} {said.subject}: {where}, from {said.source or 'nowhere named'}{f'; {people}' if people else ''}"
