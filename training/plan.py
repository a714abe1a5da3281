"""How to train: hyper-parameters derived from the model's size, the data and the machine. Pure; imports no torch.

Every number has its reason beside it. Real base models (tens of millions of parameters and more) get the settings that
QLoRA's authors and TRL recommend; models of demo size need a far higher learning rate and many more looks at the data,
because they must learn the answers and not only a manner.
"""

import math
from dataclasses import dataclass, replace

from training.method import Adapter, adapter_named
from training.rundir import Job

DEMO_SIZE = 20_000_000  # below this a model knows nothing that a fine-tune could spoil
LONGEST = 2048  # tokens; beyond it memory grows faster than what is learned from a help desk's answers
DEMO_ROWS = 4000  # rows a demo model is shown in all: two to three minutes on one slow core


@dataclass(frozen=True, slots=True)
class Effort:
    """The one dial: how far it moves what is derived. What a job names itself stays."""

    epochs: float
    rank: float
    patience: int  # evaluations without a gain before it stops


NORMAL = "normal"
EFFORTS = {
    "quick": Effort(epochs=1 / 3, rank=0.5, patience=2),
    NORMAL: Effort(epochs=1.0, rank=1.0, patience=3),
    "thorough": Effort(epochs=2.0, rank=2.0, patience=5),
}

RATE_TIMES = {Adapter.IA3: 20.0, Adapter.PROMPT: 60.0}
"""How many times a LoRA's learning rate they take: few numbers that count much each.

They teach a manner, not facts: on the starter with 10 threads of stackfaq token F1 came to 0.13 and 0.10 where LoRA's came
to 0.85, rsLoRA's to 0.86 and DoRA's to 0.83 (effort quick, seed 0); at LoRA's rate to 0.06 and 0.07.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it runs: `fast_bf16` is whether bfloat16 is faster than float32 there, `threads` what torch may use."""

    device: str  # "cpu" or "cuda"
    fast_bf16: bool
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the trainer is told. Lengths are tokens; `eval_every` counts steps."""

    rank: int
    alpha: int
    learning_rate: float
    epochs: float
    batch_size: int
    accumulation: int
    max_length: int
    packing: bool
    bf16: bool
    activation_checkpointing: bool
    eval_every: int
    max_steps: int
    opening_weight: float = 0.0  # extra loss on an answer's first token; it fades over the next ones
    warmup: float = 0.05  # share of the steps
    patience: int = 3  # evaluations without a gain before it stops
    optimizer: str = "adamw_torch_fused"
    beta: float = 0.1  # of DPO and KTO: how dear it is to leave the reference
    effort: str = NORMAL
    rate_times: float = 1.0  # of LoRA's learning rate, for the kind of adapter
    unfold: bool = (
        False  # 4-bit weights are written out as floats: a processor would unpack them in every step
    )


def plan(
    parameters: int,
    rows: int,
    mean_tokens: float,
    machine: Machine,
    *,
    longest_tokens: int,
    context: int,
    job: Job | None = None,
) -> Plan:
    """The plan for training a model of `parameters` weights on `rows` conversations; what `job` names is kept.

    `longest_tokens` is the longest conversation and `context` the longest the model can read.
    """
    demo = parameters < DEMO_SIZE
    max_length = min(context, LONGEST, 64 * math.ceil(longest_tokens / 64))
    packing = not demo and mean_tokens >= 64 and machine.device == "cpu"
    if packing:
        max_length = min(context, max(512, max_length))
    batch_size, accumulation = _batch(parameters, machine, packing=packing)
    rank = 64 if demo else 16
    times = RATE_TIMES.get(adapter_named(job.adapter), 1.0) if job else 1.0
    derived = Plan(
        rank=rank,
        alpha=2 * rank,
        learning_rate=times * _learning_rate(parameters),
        epochs=_epochs(rows, demo=demo),
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        packing=packing,
        bf16=machine.fast_bf16,
        activation_checkpointing=machine.device == "cuda" and parameters >= 1_000_000_000,
        eval_every=0,
        max_steps=0,
        opening_weight=10.0 if demo else 0.0,
        # Moments in 8 bits, paged out when the GPU is full; on a processor that falls back, at twice the time a step.
        optimizer="paged_adamw_8bit" if machine.device == "cuda" else "adamw_torch_fused",
        rate_times=times,
    )
    dialled = _dialled(derived, job.effort if job else "")
    return counted(_as_asked(dialled, job), rows, mean_tokens)


def preference_plan(
    first: Plan, rows: int, *, parameters: int, mean_tokens: float, thumbs: bool = False
) -> Plan:
    """The plan of a DPO or KTO stage, given that of the stage before it; `rows` are pairs, or thumbs.

    KTO's and DPO's authors train all weights at 5e-7 to 5e-6 and advise more epochs before a higher rate; an adapter takes
    ten times as much. At 5e-4 a demo model's held-out margin after DPO rose by 0.29, 0.11 and 0.18 nats per token (starter,
    20 threads of stackfaq, effort quick, seeds 0 to 2). KTO on simulated `thumbs` lowered the share of liked answers there
    from 0.79 to 0.60 at that rate, also where the liked answers' own loss was added; at 1e-4 and with it the share changed
    by 0.00, 0.02 and -0.04, so it does no harm and no good. No other setting that was tried did better.
    A batch is at least 4, or KTO's estimate of the distance to the reference is poor (1 is refused by TRL).
    """
    demo = parameters < DEMO_SIZE
    batch = max(4, min(8, first.batch_size))
    made = replace(
        first,
        learning_rate=first.rate_times * ((1e-4 if thumbs else 5e-4) if demo else 2e-5),
        epochs=EFFORTS[first.effort].epochs * _preference_epochs(rows, demo=demo),
        batch_size=batch,
        accumulation=max(1, round(16 / batch)) if not demo else 1,
        packing=False,
        opening_weight=0.0,
        warmup=0.1,
    )
    return counted(made, rows, mean_tokens)


def shared_out(made: Plan, ranks: int) -> Plan:
    """The part of one of several processes: a step takes as many rows as before, of all processes together."""
    if ranks == 1:
        return made
    batch = max(1, made.batch_size // ranks)
    gathered = max(1, round(made.batch_size * made.accumulation / (batch * ranks)))
    return replace(made, batch_size=batch, accumulation=gathered)


def _preference_epochs(rows: int, *, demo: bool) -> float:
    if demo:
        return float(min(6, max(2, round(DEMO_ROWS / 4 / rows))))
    return 1.0 if rows >= 2000 else 2.0


def _learning_rate(parameters: int) -> float:
    """Found by trial on the starter (2.8 million); 2e-4 is QLoRA's figure; between them it falls with the size."""
    if parameters < 5_000_000:
        return 4e-3
    if parameters < DEMO_SIZE:
        return 1e-3
    return 5e-4 if parameters < 200_000_000 else 2e-4


def _epochs(rows: int, *, demo: bool) -> float:
    """A real model: three looks at the data, five if there is little. A demo model: 5 to 30, DEMO_ROWS rows in all."""
    if not demo:
        return 3.0 if rows >= 300 else 5.0
    return float(min(30, max(5, round(DEMO_ROWS / rows))))


def _batch(parameters: int, machine: Machine, *, packing: bool) -> tuple[int, int]:
    """(rows at once, steps gathered): steps matter more than batches; a packed row already holds several conversations.

    The held-out loss after 0.4 epochs was 9.99 where four of them were gathered, and 9.92 where two were (30 million random
    weights, rows of 160 tokens, one seed).
    """
    if packing:
        return 1, 2
    if parameters < DEMO_SIZE:
        return 8, 1
    if parameters < 1_000_000_000:
        return 16, 1
    return (8, 2) if machine.device == "cuda" else (2, 8)


def _dialled(derived: Plan, effort: str) -> Plan:
    if not effort:
        return derived
    dial = EFFORTS[effort]
    rank = max(1, round(dial.rank * derived.rank))
    epochs = dial.epochs * derived.epochs
    return replace(derived, rank=rank, alpha=2 * rank, epochs=epochs, patience=dial.patience, effort=effort)


def _as_asked(derived: Plan, job: Job | None) -> Plan:
    if job is None:
        return derived
    rank = job.rank or derived.rank
    return replace(
        derived,
        rank=rank,
        alpha=job.alpha or 2 * rank,
        learning_rate=job.learning_rate or derived.learning_rate,
        epochs=job.epochs or derived.epochs,
        batch_size=job.batch_size or derived.batch_size,
        max_length=min(job.max_length or derived.max_length, derived.max_length),
    )


def counted(derived: Plan, rows: int, mean_tokens: float) -> Plan:
    """With the number of steps, and an evaluation eight times in the run, yet at most once in five steps."""
    rows_per_line = max(1.0, derived.max_length / mean_tokens) if derived.packing else 1.0
    per_step = derived.batch_size * derived.accumulation * rows_per_line
    steps = max(1, math.ceil(math.ceil(rows / per_step) * derived.epochs))
    return replace(derived, max_steps=steps, eval_every=max(5, math.ceil(steps / 8)))
