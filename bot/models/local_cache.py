"""Keys and values of all rows that are being answered, in buffers that rows join and leave at any step.

Rows are right-aligned: all end in the same column, so that a step writes one column for everybody and any transformers
model can read the buffers as it reads a left-padded batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_SLACK = 128  # columns of room for answers, so that buffers are not moved at every step


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's buffers; what it gives away are views of them."""

    def __init__(self, owner: "Columns") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._owner = owner
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the newest column of every row; all columns of them."""
        at, rows, low = self._owner.high, self._owner.rows, self._owner.low
        assert self.keys is not None
        assert self.values is not None
        self.keys[:rows, :, at : at + 1] = key_states
        self.values[:rows, :, at : at + 1] = value_states
        return self.keys[:rows, :, low : at + 1], self.values[:rows, :, low : at + 1]

    def get_seq_length(self) -> int:
        """Columns before the one that is being written."""
        return self._owner.high - self._owner.low


class Columns(Cache):
    """Ragged rows in preallocated buffers that grow; row `i` starts at column `starts[i]` and ends before `high`."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.layers: list[Any]
        self.rows = 0
        self.low = 0
        self.high = 0
        self.starts: list[int] = []
        self._room = (0, 0)  # rows, columns

    def join(self, layers: Sequence[Any], row: int, length: int) -> None:
        """Append the first `length` tokens of a row of another cache, whose tensors are (rows, heads, tokens, width)."""
        self._make_room(layers, length)
        for mine, theirs in zip(self.layers, layers, strict=True):
            mine.keys[self.rows, :, self.high - length : self.high] = theirs.keys[row, :, :length]
            mine.values[self.rows, :, self.high - length : self.high] = theirs.values[row, :, :length]
        self.starts.append(self.high - length)
        self.rows += 1
        self.low = min(self.starts)

    def advance(self) -> None:
        """The column that the step wrote is part of every row now."""
        self.high += 1

    def prepare(self) -> None:
        """Before a step: there is a free column."""
        if self.high >= self._room[1]:
            self._move(rows=self._room[0], width=self.high - self.low)

    def leave(self, row: int) -> None:
        """Give a row up; the last row takes its place."""
        last = self.rows - 1
        if row != last:
            for layer in self.layers:
                for kept in (layer.keys, layer.values):
                    kept[row, :, self.low : self.high] = kept[last, :, self.low : self.high]
            self.starts[row] = self.starts[last]
        self.starts.pop()
        self.rows = last
        if not self.rows:
            self.low = self.high = 0
        else:
            self.low = min(self.starts)

    def clear(self) -> None:
        """Give all rows and all memory back."""
        self.layers = []
        self.rows = self.low = self.high = 0
        self.starts = []
        self._room = (0, 0)

    @property
    def even(self) -> bool:
        """Whether all rows have the same length, so that no column is to be skipped."""
        return len(set(self.starts)) <= 1

    def keep_mask(self, device: torch.device) -> torch.Tensor:
        """(rows, columns with the one to be written): 1 where a row has a token."""
        starts = torch.tensor(self.starts, device=device)
        return (torch.arange(self.low, self.high + 1, device=device)[None] >= starts[:, None]).long()

    def lengths(self) -> list[int]:
        """How many tokens of each row are written."""
        return [self.high - start for start in self.starts]

    def _make_room(self, layers: Sequence[Any], length: int) -> None:
        if not self.layers:
            self.layers = [_Layer(self) for _ in layers]
            self._room = (0, 0)
        if not self.rows:
            self.low = self.high = min(length, self._room[1])
        rows = self._room[0] if self.rows < self._room[0] else max(4, 2 * self.rows)
        if rows > self._room[0] or length > self.high or self.layers[0].keys is None:
            self._move(rows, max(length, self.high - self.low), like=layers)

    def _move(self, rows: int, width: int, like: Sequence[Any] = ()) -> None:
        """Put everything into buffers with the last column at `width`, larger where that is needed."""
        columns = max(self._room[1], 0)
        if width + 1 > columns * 3 // 4 or not columns:
            columns = max(columns, width + max(_SLACK, width // 2))
        size = self.high - self.low
        for index, layer in enumerate(self.layers):
            for name in ("keys", "values"):
                old = getattr(layer, name)
                model = old if old is not None else getattr(like[index], name)
                new = model.new_zeros((rows, model.shape[1], columns, model.shape[3]))
                if old is not None and self.rows:
                    new[: self.rows, :, width - size : width] = old[: self.rows, :, self.low : self.high]
                setattr(layer, name, new)
        shift = width - self.high
        self.starts = [start + shift for start in self.starts]
        self.low, self.high, self._room = self.low + shift, width, (rows, columns)
