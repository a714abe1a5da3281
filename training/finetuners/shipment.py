"""What of a frozen dataset goes to a provider: the lines in its format, checked and counted. Nothing is sent here."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import PublicError
from training.dataset_files import ROWS
from training.dataset_files import lines_of as lines_of_file
from training.examples import DISTILLED_FROM
from training.fitness import VERTEX_VALIDATION, VERTEX_VALIDATION_SHARE
from training.formats.writing import lines_of, pieces_of

SFT, DPO = "sft", "dpo"
FEWEST = 10  # OpenAI's minimum; Vertex advises 100
MOST_BYTES = 512_000_000
USUAL_EPOCHS = 3
MOST_EPOCHS = 50


@dataclass(frozen=True, slots=True)
class Shipment:
    """Two files in a provider's format. `tokens` is what one epoch is thought to have, rather too many."""

    method: str
    train: bytes
    validation: bytes
    examples: int
    held_out: int
    tokens: int
    epochs: int

    @property
    def billed_tokens(self) -> int:
        """Over all epochs."""
        return self.tokens * self.epochs


def method_of(asked: str) -> str:
    """SFT or DPO; a provider offers nothing else. Raises PublicError."""
    if asked in {"", SFT}:
        return SFT
    if asked == DPO:
        return DPO
    raise PublicError(
        f"A provider cannot train with method={asked}. Write method=sft or method=dpo, or train with=local."
    )


def pack(dataset: Path, *, vendor: str, asked: str = "", epochs: float | None = None) -> Shipment:
    """The training and validation side of a dataset as `vendor` ("openai", "vertex") reads it.

    Raises PublicError that says what is missing. The test side never leaves this machine.
    """
    method = method_of(asked)
    name = vendor if method == SFT else f"{vendor}-preference"
    train, validation = _lines(dataset, "train", name), _lines(dataset, "validation", name)
    if len(train) < FEWEST:
        what = "pairs of a better and a worse answer" if method == DPO else "examples"
        raise PublicError(
            f"A provider needs at least {FEWEST} {what}, and the training side has {len(train)}. "
            "Rate and correct more answers, or train with=local."
        )
    common = set(train) & set(validation)
    held_out = [line for line in validation if line not in common][: _most_held_out(vendor, len(train))]
    shipment = Shipment(
        method=method,
        train="".join(train).encode(),
        validation="".join(held_out).encode(),
        examples=len(train),
        held_out=len(held_out),
        tokens=sum(map(tokens, train)),
        epochs=min(MOST_EPOCHS, max(1, round(epochs or USUAL_EPOCHS))),
    )
    if max(len(shipment.train), len(shipment.validation)) > MOST_BYTES:
        raise PublicError("The dataset is larger than the 512 MB that a provider takes. Train with=local.")
    return shipment


def _most_held_out(vendor: str, train: int) -> int | None:
    """How many validation rows a provider takes beside so many to train on; None: any number."""
    if vendor != "vertex":
        return None
    return min(VERTEX_VALIDATION, int(train * VERTEX_VALIDATION_SHARE / (1 - VERTEX_VALIDATION_SHARE)))


def _lines(dataset: Path, split: str, name: str) -> list[str]:
    lines = list(lines_of(pieces_of(dataset, split, name, Counter(), without=_distilled(dataset)), name))
    for number, line in enumerate(lines, start=1):
        if any(not text.strip() for text in _texts(json.loads(line))):
            raise PublicError(
                f"Row {number} of the dataset's {split} side holds an empty turn, which providers refuse. "
                "Leave it out in `apprentice review`, then train again."
            )
    return lines


def _distilled(dataset: Path) -> frozenset[str]:
    """What one provider's model said is not sent to be learned by another's: their terms differ, and none needs it."""
    rows = lines_of_file(dataset / ROWS)
    return frozenset(
        row["id"] for row in rows if row.get("origin") == DISTILLED_FROM and not row.get("erased")
    )


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key in {"content", "text"} and isinstance(each, str):
                yield each
            else:
                yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def tokens(text: str) -> int:
    """How many tokens a text may have, rather too many: three letters each, two bytes where they are not ASCII."""
    plain = sum(map(str.isascii, text))
    return -(-plain // 3) + -(-(len(text.encode()) - plain) // 2)
