"""Matrix products of the local model: plain, in bf16, or with int8 weights, and LoRA adapters that ride on a row each."""

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

    def seat(self, names: Sequence[str | None]) -> None:
        """The rows of the next step."""
        if list(names) != self.names:
            self.names = list(names)
            self.active = tuple(sorted({name for name in names if name is not None}))
            self._masks = {}

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


@dataclass(frozen=True)
class Pair:
    """One adapter's share of one product: x -> (x down) up; `start` is its first output in a fused product."""

    down: torch.Tensor  # (rank, in)
    up: torch.Tensor  # (out, rank), scaled
    start: int = 0


class Lora:
    """All adapters of one product, stacked: two small products serve any mixture of rows."""

    def __init__(self, outputs: int, riders: Riders) -> None:
        self._outputs = outputs
        self._riders = riders
        self._pairs: dict[str, list[Pair]] = {}
        self._stack: tuple[tuple[str, ...], list[str], tuple[int, ...], torch.Tensor, torch.Tensor] | None = (
            None
        )

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
        if self._stack is None or self._stack[0] != active:
            self._stack = self._stacked(active)
        if self._stack is None:
            return y
        _, adapters, ranks, down, up = self._stack
        hidden = functional.linear(x.to(down.dtype), down)
        if not self._riders.alike:
            mask = self._riders.mask(adapters, ranks, hidden)
            of_rows = hidden.view(len(mask), -1, hidden.shape[-1])  # (rows, tokens, ranks)
            hidden = (of_rows * mask[:, None]).view(hidden.shape)
        return y + functional.linear(hidden, up).to(y.dtype)

    def _stacked(
        self, active: tuple[str, ...]
    ) -> tuple[tuple[str, ...], list[str], tuple[int, ...], torch.Tensor, torch.Tensor] | None:
        adapters = list(active)
        ranks = tuple(sum(len(pair.down) for pair in self._pairs.get(name, [])) for name in adapters)
        pairs = [pair for name in adapters for pair in self._pairs.get(name, [])]
        if not pairs:
            return None
        up = pairs[0].up.new_zeros((self._outputs, sum(ranks)))
        at = 0
        for pair in pairs:
            rank = len(pair.down)
            up[pair.start : pair.start + len(pair.up), at : at + rank] = pair.up
            at += rank
        return active, adapters, ranks, torch.cat([pair.down for pair in pairs]), up
