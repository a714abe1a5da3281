"""Writes a dataset into a draft folder: every line, then the card and the manifest; the name comes last."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.dataset_card import card, croissant
from training.dataset_files import CARD, CROISSANT, MANIFEST, Writer, manifest_text, row_id, write_whole
from training.dataset_sides import Sides, evidence
from training.dataset_spool import Spool

RETIRED_REASON = "near-duplicates of it are held out, and it was trained on before"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written of a dataset before it has a name."""

    id: str
    counts: dict[str, int]
    preferences: int
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
    last, nth = -1, 0
    for preferred in spool.preferences():
        number = preferred.number
        last, nth = (last, nth + 1) if number == last else (number, 0)
        if (split := sides.split(number)) not in writer.counts:
            dropped[RETIRED_REASON] += 1
            continue
        name = row_id(sides.key(number)) + (f"-{nth}" if nth else "")
        writer.preference(
            name,
            split,
            sides.cluster(number),
            subject=preferred.subject,
            origin=preferred.origin,
            authors=preferred.authors,
            messages=preferred.messages,
            chosen=preferred.chosen,
            rejected=preferred.rejected,
        )
    dataset_id, files = writer.close()
    clusters = len(np.unique(np.asarray(sides.clusters)[there]))
    return Written(
        dataset_id, writer.counts, writer.preferences, clusters, writer.origins, spool.until(), files
    )


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
