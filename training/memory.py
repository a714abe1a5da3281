"""How much memory a fine-tune takes, before it begins, and what to do where there is less. Pure.

    base       parameters of matrices x bytes each (NF4 with double quantisation: 4.127 bit / 8), plus those that stay as
               they are (embeddings, head, norms) x bytes of a float
    adapter    parameters of the adapter x 16: float32 weight, gradient, and AdamW's two moments (8-bit moments: x 10)
    activations  tokens at once x layers x (34 x width + 2 x heads x length), in bytes of a float: what a transformer's
               layer keeps for the backward pass (Korthikanti and others, 2022, for 16 bit: half of that a number); with
               checkpointing only each layer's input, and one layer whole
    logits     scored tokens at once x vocabulary x 4 bytes x 3 (logits, their log-softmax, its gradient)
    started    the process with its libraries before any weight is loaded

It is meant to be right within a third, and errs upwards.
"""

from dataclasses import dataclass, replace

from storage.errors import PublicError
from training.plan import Plan

MB = 1 << 20
NF4_BYTES = 4.127 / 8
STARTED = {"cpu": 650 * MB, "cuda": 600 * MB}  # on a GPU: the CUDA context and its workspace
SPARE = 0.1  # of what is free stays free


@dataclass(frozen=True, slots=True)
class Shape:
    """A base model's measures, as its config.json gives them."""

    parameters: int
    outside: int  # parameters of embeddings, head and norms, which are not held in 4 bits
    sides: (
        int  # inputs and outputs of all the matrices inside, summed: LoRA adds rank times as many parameters
    )
    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int = 2048  # tokens it reads at once


@dataclass(frozen=True, slots=True)
class Load:
    """What a plan asks of it: rows and tokens at once, and how numbers are held. `scored` is the share with a loss."""

    rows: int
    tokens: int
    adapter_parameters: int
    nf4: bool
    float_bytes: int
    checkpointing: bool = False
    eight_bit_moments: bool = False
    scored: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes, by what they are for."""

    base: int
    adapter: int
    activations: int
    logits: int
    started: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.base + self.adapter + self.activations + self.logits + self.started

    @property
    def line(self) -> str:
        """For the report: "1.2 GB: base 0.4, adapter 0.1, activations 0.5, logits 0.1, libraries 0.6"."""
        parts = {
            "base": self.base,
            "adapter": self.adapter,
            "activations": self.activations,
            "logits": self.logits,
            "libraries": self.started,
        }
        return f"{_gb(self.total)} GB: " + ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())


def estimate(shape: Shape, load: Load, *, device: str) -> Estimate:
    """What training takes at its peak."""
    inside = shape.parameters - shape.outside
    base = inside * (NF4_BYTES if load.nf4 else load.float_bytes) + shape.outside * load.float_bytes
    tokens = load.rows * load.tokens
    layer = tokens * (17 * shape.width + shape.heads * load.tokens) * load.float_bytes
    whole = (
        shape.layers * tokens * shape.width * load.float_bytes + layer
        if load.checkpointing
        else shape.layers * layer
    )
    return Estimate(
        base=round(base),
        adapter=load.adapter_parameters * (10 if load.eight_bit_moments else 16),
        activations=round(whole),
        logits=round(tokens * load.scored * shape.vocabulary * 4 * 3),
        started=STARTED[device],
    )


def load_of(made: Plan, shape: Shape, *, nf4: bool, scored: float = 1.0) -> Load:
    """What a plan asks of the memory; `scored` is the share of the tokens that are answers."""
    return Load(
        rows=made.batch_size,
        tokens=made.max_length,
        adapter_parameters=made.rank * shape.sides,
        nf4=nf4 and not made.unfold,
        float_bytes=2 if made.bf16 else 4,
        checkpointing=made.activation_checkpointing,
        eight_bit_moments="8bit" in made.optimizer,
        scored=scored,
    )


def squeezed(
    made: Plan, shape: Shape, free: int, *, nf4: bool, scored: float, device: str
) -> tuple[Plan, Estimate]:
    """The plan with as many rows at once as fit, and what it takes; the rows of a step stay the same in number.

    4-bit weights are written out as floats on a processor that has the room. Where it has not, packing them comes first,
    fewer rows at once and more gathered next, for both cost little; then activations are computed twice, at a fifth of
    the speed. PublicError with the remedy where even that does not fit.
    """
    tried = replace(made, unfold=nf4 and device == "cpu")
    needed = estimate(shape, load_of(tried, shape, nf4=nf4, scored=scored), device=device)
    while needed.total > free * (1 - SPARE):
        if tried.unfold:
            tried = replace(tried, unfold=False)
        elif tried.batch_size > 1:
            tried = replace(tried, batch_size=tried.batch_size // 2, accumulation=tried.accumulation * 2)
        elif not tried.activation_checkpointing:
            tried = replace(tried, activation_checkpointing=True)
        else:
            raise PublicError(_too_large(needed, free, nf4=nf4, device=device))
        needed = estimate(shape, load_of(tried, shape, nf4=nf4, scored=scored), device=device)
    return tried, needed


def _too_large(needed: Estimate, free: int, *, nf4: bool, device: str) -> str:
    where = "graphics memory" if device == "cuda" else "memory"
    said = f"This training needs at least {_gb(needed.total)} GB of {where}, and {_gb(free)} GB are free."
    if not nf4:
        return f"{said} Hold the base model in 4 bits (TRAIN_QUANTIZATION=nf4), or choose a smaller one (LOCAL_MODEL)."
    return f"{said} Choose a smaller base model (LOCAL_MODEL), or train on a machine with more memory."


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}" if size >= 1e8 else f"{size / 1e9:.2f}"
