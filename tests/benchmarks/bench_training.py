"""The trainer as it comes against a loop in the seed's style, on one thread: answer tokens a second, and what they teach.

The seed's style: every row padded to 512 tokens, the loss on prompt and padding alike, float32, nothing packed or grouped,
four rows at once. Ours takes bfloat16 where the processor is quick at it, as the product does. Both hold the same base model
in the same way (4 bits), train the same LoRA at the same rate on the same rows; times are of the processor, the arms take
turns, and each figure is a median of its turns.
"""

import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.settings import STARTER
from tests.benchmarks import stackfaq
from tests.benchmarks.bench_local import random_model
from tests.benchmarks.figure import Figure
from training import qlora, rundir
from training.material import Rows, read_taught
from training.notebook import Notebook
from training.plan import Machine, Plan
from training.rows import IGNORED, Row
from training.rundir import Job

PADDED_TO = 512
AT_ONCE = 4
SLACK_LONGEST = 420  # tokens; the rows below it have a mean of 160
TURNS = 3
SEED_STYLE = Machine("cpu", fast_bf16=False, threads=1)


@dataclass(frozen=True)
class Setting:
    """A base model with a dataset, and how much of it a turn trains on."""

    base: Path
    data: Path
    heldout: Sequence[dict[str, Any]]
    turn_rows: int
    seed_steps: int
    whole_run: dict[str, Any]  # the job's choices for the run whose loss is compared


def help_desk() -> Iterator[Figure]:
    """The starter on the help desk's answers."""
    if missing():
        return
    with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as place:
        data = stackfaq.write_answers(Path(place) / "data")
        heldout = [stackfaq.example(line) for line in stackfaq.asked("test")]
        setting = Setting(STARTER, data, heldout, 525, 4, {"effort": "quick"})
        yield Figure("training_tokens_ratio", ratio(setting, Path(place)), "ratio", 10, "higher")
        yield Figure("training_loss_gap", loss_gap(setting, Path(place)), "nats", 0, "lower")


def slack_length() -> Iterator[Figure]:
    """A model of 30 million random weights on rows with a mean of 160 tokens."""
    if missing():
        return
    with random_model("30m") as base, tempfile.TemporaryDirectory(prefix="apprentice-bench-") as place:
        data, heldout = long_rows(base, Path(place))
        setting = Setting(base, data, heldout, 80, 3, {"epochs": 0.4})
        yield Figure("training_tokens_ratio_long", ratio(setting, Path(place)), "ratio", 4.5, "higher")
        yield Figure("training_loss_gap_long", loss_gap(setting, Path(place)), "nats", 0, "lower")


def missing() -> bool:
    """Whether the help desk's data is not there; said where it is not."""
    if not stackfaq.STACKFAQ.exists():
        print("skipped: ../shared/data/stackfaq is not there", file=sys.stderr)
        return True
    return False


def long_rows(base: Path, place: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The help desk's whole answers, without those that are longer than people write in Slack."""
    length = {line["id"]: _length(base, line) for line in stackfaq.asked("train") + stackfaq.asked("test")}
    too_long = [name for name, tokens in length.items() if tokens > SLACK_LONGEST]
    kept = [tokens for name, tokens in length.items() if name not in set(too_long)]
    print(f"slack length: mean {statistics.fmean(kept):.0f} tokens, at most {max(kept)}", file=sys.stderr)
    data = stackfaq.write_answers(place / "data", answer="top_answer", leave_out=too_long)
    rest = [line for line in stackfaq.asked("test") if line["id"] not in set(too_long)]
    return data, [stackfaq.example(line, "top_answer") for line in rest[::3]]


def _length(base: Path, line: dict[str, Any]) -> int:
    return _row(base, stackfaq.example(line, "top_answer")).length


_TOKENIZERS: dict[Path, Any] = {}


def _row(base: Path, example: dict[str, Any]) -> Row:
    from transformers import AutoTokenizer

    from training.rows import row

    if base not in _TOKENIZERS:
        _TOKENIZERS[base] = AutoTokenizer.from_pretrained(base)
    return row(_TOKENIZERS[base], example["messages"])


# --- tokens a second -----------------------------------------------------------------------------------------------


def ratio(setting: Setting, place: Path) -> float:
    """Answer tokens per second of the processor, ours against the seed's style."""
    turns = [
        (ours_per_s(setting, place / f"turn-{turn}", turn), seed_per_s(setting, turn))
        for turn in range(TURNS)
    ]
    ours, seed = (statistics.median(arm) for arm in zip(*turns, strict=True))
    print(f"{setting.base.name}: ours {ours:.0f} answer tokens/s, seed style {seed:.0f}", file=sys.stderr)
    return round(ours / seed, 2)


def ours_per_s(setting: Setting, run_dir: Path, turn: int) -> float:
    """One epoch of the real trainer over some of the rows, its bookkeeping and checkpoints included."""
    lines = (setting.data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    some = random.Random(turn).sample(lines, min(setting.turn_rows, len(lines)))
    (run_dir / "data").mkdir(parents=True)
    (run_dir / "data" / "train.jsonl").write_text("\n".join(some) + "\n", encoding="utf-8")
    with prepared(setting.base, run_dir, epochs=1.0) as (trainer, rows):
        since = time.process_time()
        trainer.train()
        return sum(map(learned, rows.answers)) / (time.process_time() - since)


@contextlib.contextmanager
def prepared(base: Path, run_dir: Path, **choices: Any) -> Iterator[tuple[Any, Rows]]:
    """The trainer's own parts, up to its first step, on one thread."""
    from training.trainers import adapters
    from training.trainers.base import load_base, load_tokenizer, unfolded
    from training.trainers.stage import lesson, make_trainer

    job = Job(run_dir.name, str(base), str(run_dir / "data"), "", **choices)
    rundir.write_job(run_dir, job)
    one_thread()
    with (run_dir / rundir.PROGRESS).open("a", encoding="utf-8") as progress:
        notebook = Notebook(run_dir, progress, time.monotonic())
        tokenizer = load_tokenizer(notebook, job)
        taught = read_taught(Path(job.dataset_dir))
        rows = qlora.prepare_rows(notebook, job, ours_here(), tokenizer, taught, [qlora.Method.SFT])
        made = lesson(rows, qlora.Method.SFT)
        base_model = load_base(job, ours_here())
        base_model = unfolded(base_model) if made.made.unfold else base_model
        model = adapters.made_on(base_model, made.made, qlora.Adapter.LORA)
        yield make_trainer(notebook, job, made, model, tokenizer), rows


def ours_here() -> Machine:
    """The precision that the trainer takes on this processor, on one thread."""
    import torch

    return Machine("cpu", fast_bf16=bool(torch.cpu._is_avx512_bf16_supported()), threads=1)


def one_thread() -> None:
    """Both arms compute on one."""
    import torch

    torch.set_num_threads(1)


def learned(row: Row) -> int:
    """Its tokens that carry a loss which teaches: those of the answer."""
    return sum(label != IGNORED for label in row.labels)


def seed_per_s(setting: Setting, turn: int) -> float:
    """A few steps of the seed's loop."""
    loop = SeedLoop(setting.base, plan_of(setting), rows_of(setting), seed=turn)
    loop.step(1.0)  # the first one makes room
    loop.seconds, loop.useful = 0.0, 0
    for _ in range(setting.seed_steps):
        loop.step(1.0)
    return loop.useful / loop.seconds


def rows_of(setting: Setting) -> list[Row]:
    return [_row(setting.base, _example(each.turns)) for each in read_taught(setting.data).examples]


def _example(turns: list[dict[str, str]]) -> dict[str, Any]:
    return {"messages": turns}


def plan_of(setting: Setting) -> Plan:
    """What our trainer derives: the seed's loop takes its rank and its rate."""
    from training.plan import plan
    from training.trainers.base import shape_of

    rows = rows_of(setting)
    shape = shape_of(Job("shape", str(setting.base), "", ""))
    lengths = [each.length for each in rows]
    return plan(
        shape.parameters,
        len(rows),
        statistics.fmean(lengths),
        SEED_STYLE,
        longest_tokens=max(lengths),
        context=shape.context,
    )


class SeedLoop:
    """A training loop as the seed had it, with a clean optimiser step and nothing else that costs time."""

    def __init__(self, base: Path, made: Plan, rows: Sequence[Row], *, seed: int) -> None:
        """`made` gives the LoRA's rank and the learning rate."""
        import torch

        from training.trainers import adapters
        from training.trainers.base import load_base

        one_thread()
        torch.manual_seed(seed)
        job = Job("seed", str(base), "", "")
        self.model = adapters.made_on(load_base(job, SEED_STYLE), made, qlora.Adapter.LORA)
        adapters.keep_float32(self.model)
        self.model.train()
        self._learned = [each for each in self.model.parameters() if each.requires_grad]
        self._optimizer = torch.optim.AdamW(self._learned, lr=made.learning_rate, fused=True)
        self._rate = made.learning_rate
        self._drawn = random.Random(seed)
        self._rows, self._left = list(rows), list[Row]()
        self._pad = self.model.config.pad_token_id
        self.seconds, self.useful, self.steps = 0.0, 0, 0

    def step(self, rate: float) -> None:
        """Four rows, at this share of the learning rate."""
        import torch

        since = time.process_time()
        if len(self._left) < AT_ONCE:
            self._left = self._drawn.sample(self._rows, len(self._rows))
        taken, self._left = self._left[:AT_ONCE], self._left[AT_ONCE:]
        ids = torch.tensor([each.ids + [self._pad] * (PADDED_TO - each.length) for each in taken])
        mask = torch.tensor([[1] * each.length + [0] * (PADDED_TO - each.length) for each in taken])
        self.model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(self._learned, 1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.seconds += time.process_time() - since
        self.useful += sum(map(learned, taken))
        self.steps += 1


# --- what the time teaches -----------------------------------------------------------------------------------------


def loss_gap(setting: Setting, place: Path) -> float:
    """Our held-out loss less the seed style's, in nats per answer token, once both had the same time of the processor."""
    from peft import PeftModel

    from training.trainers.base import load_base

    run_dir = place / "whole"
    job = Job("whole", str(setting.base), str(setting.data), "", method="sft", **setting.whole_run)
    rundir.write_job(run_dir, job)
    since = time.process_time()
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE, rundir.read_result(run_dir)
    seconds = time.process_time() - since
    base = load_base(job, SEED_STYLE)
    rows = [_row(setting.base, each) for each in setting.heldout]
    ours = heldout_loss(PeftModel.from_pretrained(base, str(run_dir / rundir.ADAPTER)), rows)
    loop = SeedLoop(setting.base, plan_of(setting), rows_of(setting), seed=0)
    while loop.seconds < seconds:
        loop.step(max(0.02, 1 - loop.seconds / seconds))
    seed = heldout_loss(loop.model, rows)
    print(
        f"{setting.base.name}: after {seconds:.0f} s ours {ours:.3f}, seed style {seed:.3f} ({loop.steps} steps)",
        file=sys.stderr,
    )
    return round(ours - seed, 3)


def heldout_loss(model: Any, rows: Sequence[Row]) -> float:
    """Nats per answer token."""
    import torch

    model.eval()
    lost = tokens = 0.0
    with torch.no_grad():
        for row in rows:
            labels = torch.tensor(row.labels[1:])
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
            lost += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            tokens += learned(row)
    return lost / tokens
