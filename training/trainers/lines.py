"""Rows as lines of a batch: one row a line, or several packed into one, none of them cut.

Packed rows are told apart by their positions, which begin again at 0; without an attention mask transformers keeps
each to itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.rows import IGNORED, Row

COLUMNS = ("input_ids", "labels", "pulls", "openings")


def lines_of(
    rows: Sequence[Row], *, opening_weight: float, fades: float, packed_to: int = 0
) -> list[dict[str, Any]]:
    """A line for each row; `packed_to` tokens: several rows a line, with `position_ids`."""
    lines = [_line(each, opening_weight, fades) for each in rows]
    if not packed_to:
        return lines
    for line in lines:
        line["position_ids"] = list(range(len(line["input_ids"])))
        line["labels"] = [IGNORED, *line["labels"][1:]]  # nothing predicts it but the end of another row
    bins = packed([each.length for each in rows], packed_to)
    return [
        {name: [one for place in each for one in lines[place][name]] for name in (*COLUMNS, "position_ids")}
        for each in bins
    ]


def _line(row: Row, opening_weight: float, fades: float) -> dict[str, Any]:
    prompt = sum(label == IGNORED for label in row.labels)
    openings = [0.0] * prompt + [
        1 + opening_weight * fades**place for place in range(len(row.labels) - prompt)
    ]
    return {
        "input_ids": row.ids,
        "labels": row.labels,
        "pulls": [row.weight] * row.length,
        "openings": openings,
    }


def packed(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Places of rows that share a line of at most `longest` tokens: the longest first, each where least is left over."""
    bins: list[list[int]] = []
    left_by_space: dict[int, list[int]] = {}  # free tokens -> lines with so many
    for place in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        length = lengths[place]
        fitting = min((space for space in left_by_space if space >= length), default=None)
        if fitting is None:
            bins.append([])
            line, space = len(bins) - 1, longest
        else:
            line, space = left_by_space[fitting].pop(), fitting
            if not left_by_space[fitting]:
                del left_by_space[fitting]
        bins[line].append(place)
        left_by_space.setdefault(space - length, []).append(line)
    return bins


@dataclass(frozen=True, slots=True)
class Joined:
    """Lines to tensors, padded on the right to the longest of them."""

    pad_token: int

    def __call__(self, lines: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch; packed lines come with positions and without a mask."""
        longest = max(len(line["input_ids"]) for line in lines)

        def filled(name: str, filler: float) -> torch.Tensor:
            return torch.tensor([[*line[name], *[filler] * (longest - len(line[name]))] for line in lines])

        batch = {
            "input_ids": filled("input_ids", self.pad_token),
            "labels": filled("labels", IGNORED),
            "pulls": filled("pulls", 0.0),
            "openings": filled("openings", 0.0),
        }
        if "position_ids" in lines[0]:
            return batch | {"position_ids": filled("position_ids", 0)}
        mask = [[1] * len(line["input_ids"]) + [0] * (longest - len(line["input_ids"])) for line in lines]
        return batch | {"attention_mask": torch.tensor(mask)}
