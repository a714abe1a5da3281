"""Continuous batching: rows join and leave at every step, and a newcomer's prompt is read in chunks between steps.

It knows nothing of the protocol: rows go in, and a listener is told when a row has a new piece of text and when it is
done. Nothing here blocks for longer than one step and one chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache

from bot.models.local_cache import Columns
from bot.models.local_net import in_one
from bot.models.local_rows import Listener, Row
from bot.models.local_weights import Weights

_CHUNK = 128  # tokens of prompts read between two steps while somebody is being answered
_CHUNK_ALONE = 512
_GROUP = (
    128  # tokens of prompts read at once, what fills them up included; beyond it the gain per token is small
)
_FILLED = 1.5  # times as many tokens as the prompts have
_NO_MEMORY = (
    "The question needs more memory than is free on {device}. "
    "Please shorten it, or set LOCAL_MODEL to a smaller model."
)


@dataclass(eq=False)
class _Newcomer:
    """A row whose prompt is being read into a cache of its own; `ids` includes what was answered before it was moved."""

    row: Row
    ids: list[int]
    cache: Cache
    read: int = 0


class Batch:
    """The rows that are being answered. `step` takes everybody one token further."""

    def __init__(self, weights: Weights, listener: Listener) -> None:
        self._weights = weights
        self._listener = listener
        self._columns = Columns()
        self._rows: list[Row] = []
        self._lone: list[_Newcomer] = []  # rows of a model that cannot share a step
        self._newcomers: list[_Newcomer] = []
        self._put_back: list[Row] = []
        self.most = 10**6  # rows at once; shrinks when memory runs out

    @property
    def rows(self) -> list[Row]:
        """Everybody who is being answered."""
        return [*self._rows, *(each.row for each in self._lone), *(each.row for each in self._newcomers)]

    def join(self, row: Row) -> None:
        """Take a row in; its prompt is read from the next step on."""
        self._newcomers.append(_Newcomer(row, [*row.prompt, *row.answer], self._weights.net.fresh()))

    def put_back(self) -> list[Row]:
        """Rows that did not fit into memory together and want to join again later, with what they have."""
        rows, self._put_back = self._put_back, []
        return rows

    @torch.no_grad()
    def step(self) -> None:
        """Read the next chunk of prompts, then write one token for every row that has been read."""
        self._sweep()
        self._read_prompts(_CHUNK if self._rows or self._lone else _CHUNK_ALONE)
        try:
            self._write_together()
        except (MemoryError, RuntimeError) as error:
            self._give_way(error)
        for each in list(self._lone):
            self._forward(each, [each.row.answer[-1]])
        self._sweep()

    def abandon(self) -> list[Row]:
        """Forget everybody, after an error that nobody expected."""
        rows = self.rows
        self._rows, self._lone, self._newcomers = [], [], []
        self._columns.clear()
        return rows

    def _sweep(self) -> None:
        for index in reversed(range(len(self._rows))):
            if self._rows[index].finish is not None:
                self._remove(index)
        self._lone = [each for each in self._lone if each.row.finish is None]
        self._newcomers = [each for each in self._newcomers if each.row.finish is None]

    def _remove(self, index: int) -> None:
        self._columns.leave(index)
        last = self._rows.pop()
        if index < len(self._rows):
            self._rows[index] = last

    def _read_prompts(self, room: int) -> None:
        """The shortest rest first, so that a long prompt delays nobody who would be quickly done."""
        waiting = sorted(self._newcomers, key=lambda each: len(each.ids) - each.read)
        while waiting and room > 0:
            group = self._group(waiting, room)
            waiting = waiting[len(group) :]
            if len(group) > 1:
                room -= len(group) * len(group[-1].ids)
                self._read_together(group)
            else:
                chunk = group[0].ids[group[0].read : group[0].read + room]
                room -= len(chunk)
                self._forward(group[0], chunk)

    def _group(self, waiting: Sequence[_Newcomer], room: int) -> list[_Newcomer]:
        """The first, and those after it whose whole prompts can be read with it at little cost."""
        group: list[_Newcomer] = []
        tokens = 0
        for each in waiting if self._weights.net.together else ():
            tokens += len(each.ids)
            filled = (len(group) + 1) * len(each.ids)
            if each.read or filled > min(room, _GROUP, _FILLED * tokens):
                break
            group.append(each)
        return group or [waiting[0]]

    def _read_together(self, group: Sequence[_Newcomer]) -> None:
        net, cache = self._weights.net, self._weights.net.fresh()
        net.riders.seat([each.row.adapter for each in group])
        ids, positions, ends = in_one([each.ids for each in group], self._weights.device)
        try:
            logits = net.logits(ids, positions, cache, None, ends)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._free()
            for each in group:
                self._forward(each, each.ids)
            return
        read = []
        for place, each in enumerate(group):
            try:
                self._has_been_read(each, cache, place)
                read.append(place)
            except (MemoryError, RuntimeError) as error:
                self._refuse_or_wait(each, error)
        self._take([group[place].row for place in read], logits[read])

    def _forward(self, each: _Newcomer, chunk: list[int]) -> None:
        net, device = self._weights.net, self._weights.device
        net.riders.seat([each.row.adapter])
        positions = torch.arange(each.read, each.read + len(chunk), device=device)[None]
        try:
            logits = net.logits(torch.tensor([chunk], device=device), positions, each.cache, None)
            each.read += len(chunk)
            if each.read == len(each.ids):
                self._has_been_read(each, each.cache, 0)
        except (MemoryError, RuntimeError) as error:
            self._refuse_or_wait(each, error)
            return
        if each.read >= len(each.ids):
            self._take([each.row], logits)

    def _has_been_read(self, each: _Newcomer, cache: Cache, place: int) -> None:
        if self._weights.net.together:
            self._columns.join(cache.layers, place, len(each.ids))
            self._rows.append(each.row)
        else:
            self._lone.append(each)
        self._newcomers.remove(each)

    def _write_together(self) -> None:
        rows = [row for row in self._rows if row.finish is None]
        if not rows:
            return
        self._sweep()
        net, device, columns = self._weights.net, self._weights.device, self._columns
        columns.prepare()
        net.riders.seat([row.adapter for row in self._rows])
        ids = torch.tensor([[row.answer[-1]] for row in self._rows], device=device)
        positions = torch.tensor(columns.lengths(), device=device)[:, None]
        keep = None if columns.even else columns.keep_mask(device)
        logits = net.logits(ids, positions, columns, keep)
        columns.advance()
        self._take(self._rows, logits)

    def _take(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        tokens, logprobs, margins = _chosen(rows, logits)
        for index, row in enumerate(rows):
            if not row.answer:
                known = torch.log_softmax(logits[index], dim=-1)
                row.first_entropy = round(float(-(known.exp() * known).nansum()), 5)
            row.logprobs.append(round(logprobs[index], 5))
            row.margins.append(round(margins[index], 5))
            piece = row.take(tokens[index], ends=tokens[index] in self._weights.end_tokens)
            if piece and row.streams:
                self._listener.on_text(row, piece)
            if row.finish is not None:
                self._listener.on_done(row)

    def _refuse_or_wait(self, each: _Newcomer, error: Exception) -> None:
        """A newcomer for whom there is no memory waits while others are answered, and is refused alone."""
        if not is_out_of_memory(error):
            raise error
        self._newcomers = [other for other in self._newcomers if other is not each]
        self._lone = [other for other in self._lone if other is not each]
        self._free()
        if self._rows or self._lone:
            self.most = max(1, len(self._rows) + len(self._lone))
            self._put_back.append(each.row)
        else:
            each.row.finish = "failed"
            self._listener.on_refused(each.row, _NO_MEMORY.format(device=self._weights.device))

    def _give_way(self, error: Exception) -> None:
        """Half of the rows wait until the others are done; a row that is alone is refused."""
        if not is_out_of_memory(error):
            raise error
        rows, stay = list(self._rows), len(self._rows) // 2
        self.most = max(1, stay)
        if len(rows) == 1:
            rows[0].finish = "failed"
            self._listener.on_refused(rows[0], _NO_MEMORY.format(device=self._weights.device))
        for row in rows[stay:]:
            if row.finish is None:
                self._put_back.append(row)
            self._remove(self._rows.index(row))
        self._free()

    def _free(self) -> None:
        if self._weights.device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """torch says it in an exception of its own on a GPU, and in words on a processor."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or (
        "out of memory" in said or "can't allocate memory" in said or "not enough memory" in said
    )


def _chosen(rows: Sequence[Row], logits: torch.Tensor) -> tuple[list[int], list[float], list[float]]:
    """For each row: a token, its log-probability, and by how much the likeliest leads the second."""
    best, tokens = logits.max(dim=-1)
    total = logits.logsumexp(dim=-1)
    second = logits.scatter(1, tokens[:, None], float("-inf")).amax(dim=-1)
    said = best - total
    warm = [index for index, row in enumerate(rows) if row.temperature > 0]
    if warm:
        heat = torch.tensor([rows[index].temperature for index in warm], device=logits.device)
        drawn = torch.softmax(logits[warm] / heat[:, None], dim=-1).multinomial(1)[:, 0]
        tokens[warm] = drawn
        said[warm] = logits[warm].gather(1, drawn[:, None])[:, 0] - total[warm]
    return tokens.tolist(), said.tolist(), (best - second).tolist()
