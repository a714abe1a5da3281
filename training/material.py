"""What a frozen dataset holds for the trainer: examples, pairs, thumbs, and its terms. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.method import Material, Method
from training.plan import Plan
from training.rows import (
    Example,
    Pair,
    PairRow,
    Row,
    Thumb,
    ThumbRow,
    read_examples,
    read_pairs,
    read_thumbs,
    thumbs_from,
)

PREFERENCES, UNPAIRED, MANIFEST = "preferences.jsonl", "unpaired.jsonl", "manifest.json"


@dataclass(frozen=True, slots=True)
class Taught:
    """The training and validation sides of a dataset; of the test side nothing is read here."""

    examples: list[Example]
    validation: list[Example]
    pairs: list[Pair]
    thumbs: list[Thumb]
    manifest: Mapping[str, Any]

    def material(self, *, asked: str = "") -> Material:
        """How much there is to learn from; thumbs that are only read off pairs count where KTO is asked for by name."""
        thumbs = self.thumbs_of("train") if asked == Method.KTO else _on(self.thumbs, "train")
        liked = sum(each.liked for each in thumbs)
        return Material(
            examples=len(self.examples),
            pairs=len(self.pairs_of("train")),
            liked=liked,
            disliked=len(thumbs) - liked,
        )

    def pairs_of(self, split: str) -> list[Pair]:
        """The pairs of "train" or "validation"."""
        return [each for each in self.pairs if each.split == split]

    def thumbs_of(self, split: str) -> list[Thumb]:
        """The rated answers of "train" or "validation"; where there are none, what the pairs say of single answers."""
        return _on(self.thumbs or thumbs_from(self.pairs), split)

    @property
    def counts(self) -> dict[str, int]:
        """How much of each kind was there to learn from, and to watch it by."""
        counts = {
            "examples": len(self.examples),
            "examples to watch it": len(self.validation),
            "pairs": len(self.pairs_of("train")),
            "rated answers": len(_on(self.thumbs, "train")),
        }
        return {what: count for what, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Rows:
    """The dataset in tokens, as far as the plan can read it; `watched` rows are never trained on."""

    made: Plan
    parameters: int
    left_out: int  # examples that are longer than the plan reads
    answers: list[Row]
    watched: list[Row]
    decides: bool  # whether the watched answers say when to stop
    pairs: list[PairRow]
    watched_pairs: list[PairRow]
    thumbs: list[ThumbRow]
    watched_thumbs: list[ThumbRow]


def nothing(_split: str) -> list[Any]:
    """What a stage reads that is not taken."""
    return []


def read_taught(folder: Path) -> Taught:
    """The dataset of `folder`; PublicError names a line that cannot be read."""
    manifest = folder / MANIFEST
    sides = {side: read_examples(folder / f"{side}.jsonl") for side in ("train", "validation")}
    return Taught(
        examples=sides["train"],
        validation=sides["validation"],
        pairs=read_pairs(folder / PREFERENCES),
        thumbs=_with_liked(read_thumbs(folder / UNPAIRED), sides),
        manifest=json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {},
    )


def _with_liked(thumbs: list[Thumb], sides: Mapping[str, list[Example]]) -> list[Thumb]:
    """What was disliked, beside it all examples, which are what people liked; nothing where nothing was disliked."""
    if not thumbs or any(each.liked for each in thumbs):
        return thumbs
    liked = [
        Thumb(each.turns[:-1], each.turns[-1]["content"], True, side)
        for side, rows in sides.items()
        for each in rows
    ]
    return thumbs + liked


def _on(thumbs: list[Thumb], split: str) -> list[Thumb]:
    return [each for each in thumbs if each.split == split]
