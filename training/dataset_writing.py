"""Writes a dataset into a draft folder: every line, then the card and the manifest; the name comes last."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from training.dataset_card import card, croissant
from training.dataset_files import CARD, CROISSANT, MANIFEST, Writer, manifest_text, row_id, write_whole
from training.dataset_sides import Sides, evidence
from training.dataset_spool import KeptDislike, KeptPreference, Spool
from training.examples import DISTILLED_FROM

Row = TypeVar("Row", KeptPreference, KeptDislike)
HELD_OUT = "test"
NO_MEASURE = "a teacher answered it, and only people's answers are held out to measure by"
RETIRED_REASON = "near-duplicates of it are held out, and it was trained on before"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a dataset before it has a name."""

    id: str
    counts: dict[str, int]
    preferences: int
    unpaired: int
    clusters: int
    origins: dict[str, int]
    until: str
    files: dict[str, Any]


def written(draft: Path, spool: Spool, sides: Sides, dropped: Counter[str], *, kind: str) -> Written:
    """Write every line of the dataset."""
    import numpy as np

    writer = Writer(draft, kind=kind)
    there = np.zeros(len(sides.keys), np.bool_)
    for each in spool.examples():
        split = sides.split(each.number)
        if split not in writer.counts:
            dropped[RETIRED_REASON] += 1
            continue
        if split == HELD_OUT and each.origin == DISTILLED_FROM:
            dropped[NO_MEASURE] += 1
            continue
        cluster = evidence(each.thread) if each.declared else sides.cluster(each.number)
        there[each.number] = True
        writer.example(
            sides.key(each.number),
            split,
            cluster,
            subject=each.subject,
            origin=each.origin,
            authors=each.authors,
            messages=each.messages,
            weight=each.weight,
        )
    _beside(writer, spool, sides, dropped)
    dataset_id, files = writer.close()
    clusters = len(np.unique(np.asarray(sides.clusters)[there]))
    return Written(
        dataset_id,
        writer.counts,
        writer.preferences,
        writer.unpaired,
        clusters,
        writer.origins,
        spool.until(),
        files,
    )


def _beside(writer: Writer, spool: Spool, sides: Sides, dropped: Counter[str]) -> None:
    """What there is besides the examples: preferences, then disliked answers."""
    for preferred, name, split in _numbered(spool.preferences(), sides, dropped, writer.counts):
        writer.preference(
            name,
            split,
            sides.cluster(preferred.number),
            subject=preferred.subject,
            origin=preferred.origin,
            authors=preferred.authors,
            messages=preferred.messages,
            chosen=preferred.chosen,
            rejected=preferred.rejected,
        )
    for each, name, split in _numbered(spool.disliked(), sides, dropped, writer.counts):
        writer.disliked(
            name,
            split,
            sides.cluster(each.number),
            subject=each.subject,
            origin=each.origin,
            authors=each.authors,
            messages=each.messages,
            completion=each.completion,
        )


def _numbered(
    rows: Iterable[Row], sides: Sides, dropped: Counter[str], splits: Collection[str]
) -> Iterator[tuple[Row, str, str]]:
    """Each with its name, the question's with a number from the second on, and its split; what is in none is dropped."""
    last, nth = -1, 0
    for each in rows:
        last, nth = (last, nth + 1) if each.number == last else (each.number, 0)
        if (split := sides.split(each.number)) in splits:
            yield each, row_id(sides.key(each.number)) + (f"-{nth}" if nth else ""), split
        else:
            dropped[RETIRED_REASON] += 1


def named(draft: Path, path: Path) -> None:
    """From now on it is there; what lay there without a manifest was no dataset."""
    if path.exists():
        shutil.rmtree(path)
    draft.replace(path)


def completed(draft: Path, manifest: dict[str, Any], files: dict[str, Any]) -> None:
    """The card, and the manifest last."""
    files[CARD] = write_whole(draft / CARD, card(manifest))
    files[CROISSANT] = write_whole(draft / CROISSANT, croissant(manifest, files))
    manifest["files"] = dict(sorted(files.items()))
    write_whole(draft / MANIFEST, manifest_text(manifest))
