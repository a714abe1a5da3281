"""Matrix products of the local model: plain, in bf16, or with int8 weights, and adapters that ride on a row each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional

Dense = Callable[[torch.Tensor], torch.Tensor]
Maker = Callable[[torch.Tensor, torch.Tensor | None], Dense]
"""(weight of shape (out, in), bias) -> the product for rows of shape (n, in)."""


def plain(weight: torch.Tensor, bias: torch.Tensor | None) -> Dense:
    """As the checkpoint has it."""
    return lambda x: functional.linear(x, weight, bias)


def halved(weight: torch.Tensor, bias: torch.Tensor | None) -> Dense:
    """bf16 weights for processors that multiply them directly; what flows between products stays fp32."""
    small = weight.to(torch.bfloat16)
    if bias is None:
        return lambda x: functional.linear(x.to(torch.bfloat16), small).float()
    return lambda x: functional.linear(x.to(torch.bfloat16), small).float() + bias


def int8(weight: torch.Tensor, bias: torch.Tensor | None) -> Dense:
    """int8 weights with a scale for each output, activations quantised as they come (FBGEMM)."""
    ops = torch.ops.quantized
    scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-9).double()
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)
    packed = ops.linear_prepack(
        torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8), bias
    )
    return lambda x: ops.linear_dynamic(x, packed, True)


@dataclass
class Riders:
    """Which adapter each row of the step under way has, None for the base."""

    names: list[str | None] = field(default_factory=list)
    active: tuple[str, ...] = ()
    _masks: dict[tuple[int, ...], torch.Tensor] = field(default_factory=dict)
    _places: torch.Tensor | None = None

    def seat(self, names: Sequence[str | None]) -> None:
        """The rows of the next step."""
        if list(names) != self.names:
            self.names = list(names)
            self.active = tuple(sorted({name for name in names if name is not None}))
            self._masks, self._places = {}, None

    @property
    def alike(self) -> bool:
        """Whether all rows have the same adapter."""
        return len(self.active) == 1 and None not in self.names

    def mask(self, adapters: Sequence[str], ranks: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """(rows, sum of ranks): 1 where a row has the adapter to which the rank belongs."""
        known = self._masks.get(ranks)
        if known is None:
            owns = [[float(name == adapter) for adapter in adapters] for name in self.names]
            wide = torch.tensor(owns, device=like.device, dtype=like.dtype)
            repeats = torch.tensor(ranks, device=like.device)
            known = self._masks[ranks] = wide.repeat_interleave(repeats, dim=1)
        return known

    def places(self, like: torch.Tensor) -> torch.Tensor:
        """(rows): the place of each row's adapter among the active ones, behind all of them for the base."""
        if self._places is None:
            at = {name: place for place, name in enumerate(self.active)}
            found = [at.get(name or "", len(at)) for name in self.names]
            self._places = torch.tensor(found, device=like.device)
        return self._places


@dataclass(frozen=True)
class Pair:
    """One adapter's share of a product, from its output `start` on: y -> gain * (y + (x down) up) + shift."""

    down: torch.Tensor | None  # (rank, in)
    up: torch.Tensor  # (out, rank), scaled
    start: int = 0
    gain: torch.Tensor | None = None  # (out)
    shift: torch.Tensor | None = None  # (out)


@dataclass(frozen=True)
class _Stack:
    """The adapters of the rows of a step, side by side."""

    active: tuple[str, ...]
    ranks: tuple[int, ...]
    down: torch.Tensor | None  # (sum of ranks, in)
    up: torch.Tensor  # (out, sum of ranks)
    gain: torch.Tensor | None  # (adapters + 1, out): the last is for rows of the base
    shift: torch.Tensor | None  # (adapters + 1, out)


class Lora:
    """All adapters of one product, stacked: two small products serve any mixture of rows, and a gain where one has any."""

    def __init__(self, outputs: int, riders: Riders) -> None:
        self._outputs = outputs
        self._riders = riders
        self._pairs: dict[str, list[Pair]] = {}
        self._stack: _Stack | None = None

    def put(self, adapter: str, pair: Pair) -> None:
        """Add one adapter's share."""
        self._pairs.setdefault(adapter, []).append(pair)
        self._stack = None

    def drop(self, adapter: str) -> None:
        """Forget one adapter."""
        self._pairs.pop(adapter, None)
        self._stack = None

    def add(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """`y` with what the rows' adapters add for `x`; both are (rows, ..., width)."""
        active = self._riders.active
        if not active or not self._pairs:
            return y
        if self._stack is None or self._stack.active != active:
            self._stack = self._stacked(active)
        stack = self._stack
        if stack.down is not None:
            hidden = functional.linear(x.to(stack.down.dtype), stack.down)
            if not self._riders.alike:
                mask = self._riders.mask(stack.active, stack.ranks, hidden)
                of_rows = hidden.view(len(mask), -1, hidden.shape[-1])  # (rows, tokens, ranks)
                hidden = (of_rows * mask[:, None]).view(hidden.shape)
            y = y + functional.linear(hidden, stack.up).to(y.dtype)
        return y if stack.gain is None else self._gained(y, stack.gain, stack.shift)

    def _gained(self, y: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
        if self._riders.alike:
            y = y * gain[0]
            return y if shift is None else y + shift[0]
        places = self._riders.places(y)
        of_rows = y.reshape(len(places), -1, y.shape[-1]) * gain[places, None]
        if shift is not None:
            of_rows = of_rows + shift[places, None]
        return of_rows.view(y.shape)

    def _stacked(self, active: tuple[str, ...]) -> _Stack:
        pairs = [pair for name in active for pair in self._pairs.get(name, [])]
        like = next(pair.up for each in self._pairs.values() for pair in each)
        ranks = tuple(sum(pair.up.shape[1] for pair in self._pairs.get(name, [])) for name in active)
        up = like.new_zeros((self._outputs, sum(ranks)))
        at = 0
        for pair in pairs:
            rank = pair.up.shape[1]
            up[pair.start : pair.start + len(pair.up), at : at + rank] = pair.up
            at += rank
        downs = [pair.down for pair in pairs if pair.down is not None]
        down = torch.cat(downs) if downs else None
        gain = shift = None
        if any(pair.gain is not None for pair in pairs):
            gain = like.new_ones((len(active) + 1, self._outputs))
        if any(pair.shift is not None for pair in pairs):
            shift = like.new_zeros((len(active) + 1, self._outputs))
        for place, name in enumerate(active):
            for pair in self._pairs.get(name, []):
                here = slice(pair.start, pair.start + len(pair.up))
                if gain is not None and pair.gain is not None:
                    gain[place, here] = pair.gain
                if shift is not None and pair.shift is not None:
                    shift[place, here] = pair.shift
        return _Stack(active, ranks, down, up, gain, shift)
