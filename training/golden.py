"""The golden set, frozen: a folder named by its content, laid out as a dataset whose rows are all held out.

The same layout means that a row can be taken out again for somebody who is forgotten, and that every byte can be checked.
Nothing in it is ever trained on; every model answers it in every evaluation.
"""

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from storage.errors import PublicError
from storage.golden import GOLDEN
from storage.records import DatasetVersion, GoldenItem, GoldenState
from storage.store import Store
from training.dataset_difference import compare
from training.dataset_files import FORMAT, MANIFEST, Writer, manifest_text, read_manifest, write_whole
from training.examples import key_of

FOLDER = "golden"
HELD_OUT = "test"
CLUSTER_DIGITS = 16
NEAR_GOLDEN = "it is, or nearly is, a question of the golden set"


class Asks(Protocol):
    """An example or a preference."""

    @property
    def key(self) -> str: ...

    @property
    def question(self) -> str: ...


Asking = TypeVar("Asking", bound=Asks)


async def golden_now(store: Store, team: str, folder: Path) -> DatasetVersion | None:
    """The golden set as it is now, frozen under `folder`; the newest version where nothing changed, None where it is empty.

    Raises PublicError where it cannot be written.
    """
    items = await store.golden_items(team, GoldenState.GOLDEN)
    if not items:
        return None
    known = await store.newest_golden(team)
    before = Path(known.path) if known is not None and (Path(known.path) / MANIFEST).exists() else None
    path = await asyncio.to_thread(freeze_golden, items, folder / FOLDER)
    if known is not None and known.id == path.name:
        return known
    difference = await asyncio.to_thread(
        compare, before, path, parent=known.id if known is not None and before is not None else ""
    )
    return await store.save_golden_version(
        team,
        path.name,
        path=str(path),
        rows=len(items),
        manifest=await asyncio.to_thread(read_manifest, path),
        difference=difference.to_json(),
        parent_id=known.id if known is not None else None,
    )


class Untouched:
    """Keeps what is trained on apart from the golden set: leaves out every question that is, or nearly is, a golden one."""

    def __init__(self, questions: Sequence[str]) -> None:
        from training.contamination import Judged

        self._judged = Judged(questions)
        self._keys = {key_of(question) for question in questions}

    def of(self, rows: Sequence[Asking]) -> list[Asking]:
        """Those of these rows that may be trained on, in their order."""
        near = {found.row for found in self._judged.among([row.question for row in rows])}
        return [row for number, row in enumerate(rows) if number not in near and row.key not in self._keys]


def freeze_golden(items: Sequence[GoldenItem], folder: Path) -> Path:
    """Write these items under `folder`, unless the same ones lie there already; the path of the frozen set.

    The same items in any order give the same folder. Raises PublicError where it cannot be written.
    """
    draft = folder / f".draft-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir(parents=True)
        try:
            return _kept(draft, _written(draft, items))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise PublicError(
            f"The golden set could not be written to {folder} ({error.strerror}). Free some space, then try again."
        ) from None


def _written(draft: Path, items: Sequence[GoldenItem]) -> str:
    """Write the draft, its manifest last; its id."""
    writer = Writer(draft, kind=GOLDEN)
    for item in sorted(items, key=lambda each: each.key):
        writer.example(
            item.key,
            HELD_OUT,
            item.key[:CLUSTER_DIGITS],
            subject=item.answer_id or item.entry_id or item.id,
            origin=GOLDEN,
            authors=_json(sorted(item.authors)),
            messages=_json(
                [
                    {"role": "user", "content": item.question},
                    {"role": "assistant", "content": item.answer},
                ]
            ),
            weight=1.0,
        )
    version, files = writer.close()
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "kind": GOLDEN,
        "id": version,
        "counts": dict(writer.counts),
        "topics": len({item.topic for item in items if item.topic}),
        "erased": 0,
        "files": files,
    }
    write_whole(draft / MANIFEST, manifest_text(manifest))
    return version


def _kept(draft: Path, version: str) -> Path:
    """Give the draft its name; a folder that is there already stays, whole or with rows taken out of it."""
    path = draft.with_name(version)
    if not (path / MANIFEST).exists():
        shutil.rmtree(path, ignore_errors=True)
        try:
            draft.rename(path)
        except OSError:
            if not (path / MANIFEST).exists():  # unless another process was quicker
                raise
    return path


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
