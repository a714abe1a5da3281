"""The trainer: one fine-tune, told from top to bottom. `python -m training.qlora RUN_DIR [--resume]`.

It reads RUN_DIR/job.json and the frozen dataset, trains a LoRA adapter on the base model (in 4 bits, or as it is), and leaves
an adapter in safetensors and result.json. What it shares with the bot is `training.rundir` and nothing else: it opens no
database, talks to no network unless the job allows downloads, and runs no code that a model brings along.

Exit codes: 0 result.json says done; 1 result.json says failed; 3 another trainer is at work there; 75 stopped by SIGTERM with
a checkpoint to resume from (or, where the bot left the word `cancel`, result.json says cancelled).

torch and its friends are imported in the middle, not at the top: a SIGTERM that comes while they load (they take seconds) is
heard, and the bot can import this module's neighbours without them.
"""

import argparse
import errno
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from storage.errors import PublicError
from training import rundir
from training.chat import PLAIN_CHAT_TEMPLATE, prompt_and_answer
from training.plan import Machine, Plan, plan
from training.rundir import Event, Job, ProgressLine, Quantization, Status, TrainingResult

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from trl import SFTTrainer

IGNORED = -100  # torch's label for "no loss here"
WATCHED_AT_LEAST = 8  # fewer validation rows than this say nothing about when to stop
EVALUATED_AT_MOST = 128  # rows; an evaluation must stay cheap beside the steps it interrupts


class Stopped(Exception):
    """SIGTERM was heard; whatever can be resumed is on the disk."""


class LossIsNotANumber(Exception):
    """The loss left the numbers at a step: nothing that comes after can be used."""


@dataclass(slots=True)
class Notebook:
    """What this run has to carry from page to page: where it writes, whether it was asked to stop, and what it knows by now."""

    run_dir: Path
    progress: TextIO
    began: float
    stop_requested: bool = False
    result: TrainingResult = TrainingResult(Status.FAILED, "")

    def tell(self, line: ProgressLine) -> None:
        rundir.append_progress(self.progress, line)

    def know(self, **facts: Any) -> None:
        self.result = replace(self.result, **facts)

    def turn_page(self) -> None:
        """Between two stages: the place to stop if a SIGTERM came meanwhile."""
        if self.stop_requested:
            raise Stopped


# --- 1. Begin: the signal, the lock, the job ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, once the run directory says what happened."""
    parser = argparse.ArgumentParser(prog="python -m training.qlora", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("run_dir", type=Path, help="directory with job.json; everything is written there")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if there is one")
    asked = parser.parse_args(arguments)
    run_dir: Path = asked.run_dir.resolve()
    if not run_dir.is_dir():
        print(f"{run_dir} does not exist. Give the directory that holds job.json.", file=sys.stderr)
        return rundir.EXIT_FAILED
    try:
        held = rundir.lock(run_dir)
    except rundir.AlreadyTraining as busy:
        print(busy, file=sys.stderr)
        return rundir.EXIT_LOCKED
    try:
        return _keep(run_dir, resume=asked.resume)
    finally:
        os.close(held)


def _keep(run_dir: Path, *, resume: bool) -> int:
    """One run, from its first line to its result."""
    before = rundir.read_result(run_dir)
    if resume and before is not None and before.status == Status.DONE:
        return rundir.EXIT_DONE
    if not resume:
        _start_over(run_dir)
    (run_dir / rundir.RESULT).unlink(missing_ok=True)
    with (run_dir / rundir.PROGRESS).open("a", encoding="utf-8") as progress:
        notebook = Notebook(run_dir, progress, time.monotonic())
        previous = signal.signal(signal.SIGTERM, lambda number, frame: _hear(notebook, number, frame))
        try:
            return _conclude(notebook)
        finally:
            signal.signal(signal.SIGTERM, previous)


def _hear(notebook: Notebook, _number: int, _frame: FrameType | None) -> None:
    notebook.stop_requested = True


def _start_over(run_dir: Path) -> None:
    for name in (rundir.CHECKPOINTS, rundir.ADAPTER):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    (run_dir / rundir.PROGRESS).unlink(missing_ok=True)


def _conclude(notebook: Notebook) -> int:
    """Trains, and turns every way in which that can end into a result (or into "go on later")."""
    try:
        notebook.tell(ProgressLine(Event.STARTED))
        train(notebook, rundir.read_job(notebook.run_dir))
        return _end(notebook, Status.DONE, "")
    except Stopped:
        if rundir.cancel_requested(notebook.run_dir):
            return _end(notebook, Status.CANCELLED, "Cancelled on request.")
        notebook.tell(ProgressLine(Event.STOPPING, message="Stopped; the last checkpoint is kept."))
        return rundir.EXIT_STOPPED
    except Exception as error:
        traceback.print_exc()
        return _end(notebook, Status.FAILED, _in_plain_words(error, notebook))


def _end(notebook: Notebook, status: Status, reason: str) -> int:
    notebook.know(status=status, reason=reason, seconds=round(time.monotonic() - notebook.began, 2))
    notebook.tell(ProgressLine(Event.FINISHED, step=notebook.result.steps, message=reason or None))
    rundir.write_result(notebook.run_dir, notebook.result)
    return rundir.EXIT_FAILED if status is Status.FAILED else rundir.EXIT_DONE


# --- 2. The run --------------------------------------------------------------------------------------------------------------


def train(notebook: Notebook, job: Job) -> None:
    """The whole experiment. Raises PublicError for what a person can put right, Stopped after a SIGTERM."""
    notebook.know(dataset_hash=job.dataset_hash, quantization=str(Quantization(job.quantization)))
    conversations = read_rows(Path(job.dataset_dir) / "train.jsonl")
    if not conversations:
        raise PublicError(f"{job.dataset_dir}/train.jsonl holds no examples. Rate or correct some answers first.")
    validation = read_rows(Path(job.dataset_dir) / "validation.jsonl")
    notebook.turn_page()

    # The heavy imports: five seconds and half a gigabyte.
    machine = _prepare_machine(job)
    notebook.turn_page()
    import torch
    from transformers import AutoTokenizer, set_seed

    notebook.know(versions=_versions(), device=_device_name(machine))
    set_seed(job.seed)

    # Tokens. An answer-only loss: what people ask is read, never learned by heart. (training.md 3: with the loss on
    # everything the same budget brought 30 % right answers, with it on the answers alone 49 %.)
    tokenizer = _load(job, "tokenizer", lambda: AutoTokenizer.from_pretrained(job.base_model, trust_remote_code=False))
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
        notebook.tell(ProgressLine(Event.LOADED, message="The base model has no chat template; a plain one is used."))
    rows = [Row.of(tokenizer, conversation) for conversation in conversations]
    held_back = [Row.of(tokenizer, conversation) for conversation in validation]
    notebook.turn_page()

    # The base model, in 4 bits or as it is, and the plan for it.
    model = load_base(job, machine)
    context = int(getattr(model.config, "max_position_embeddings", None) or 2048)
    lengths = [len(row.ids) for row in rows]
    made = plan(
        model.num_parameters(), len(rows), sum(lengths) / len(lengths), machine,
        longest_tokens=max(lengths), context=context, job=job,
    )  # fmt: skip
    short = [row for row in rows if len(row.ids) <= made.max_length]
    if not short:
        raise PublicError(
            f"Every example is longer than {made.max_length} tokens, which is all this run reads at once. "
            "Shorten the answers, or choose a larger max_length or a base model with a longer context."
        )
    notebook.know(hyperparameters=asdict(made))
    left_out = len(rows) - len(short)
    said = f"{len(short)} examples" + (f"; {left_out} longer than {made.max_length} tokens left out" if left_out else "")
    notebook.tell(ProgressLine(Event.LOADED, max_steps=made.max_steps, message=said))
    notebook.turn_page()

    # Validation rows whose answer was never taught tell how surprising new facts are, not whether the taught ones were
    # learned: on them the loss rises from the first step, and "best" would always be "untrained". So only rows that
    # are other wordings of taught answers decide when to stop; where there are too few, the last step is kept.
    taught = {row.answer for row in short}
    watched = [row for row in held_back if row.answer in taught and len(row.ids) <= made.max_length]
    decides = len(watched) >= WATCHED_AT_LEAST
    evaluated = (watched if decides else [row for row in held_back if len(row.ids) <= made.max_length])[:EVALUATED_AT_MOST]

    trainer = make_trainer(notebook, job, made, model, tokenizer, short, evaluated, decides=decides)
    learn(notebook, trainer, made, evaluated=bool(evaluated))
    del torch


# --- 3. The data -------------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[list[dict[str, str]]]:
    """The conversations of a frozen split, each ending with the assistant's answer; PublicError names the line that is not so.

    A split without a file is an empty one: a small dataset has no validation rows.
    """
    if not path.exists():
        return []
    conversations = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            messages = json.loads(line)["messages"]
            turns = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages]
        except (ValueError, KeyError, TypeError) as broken:
            raise PublicError(f"{path}, line {number}: not an example ({broken}). Freeze the dataset again.") from broken
        if len(turns) < 2 or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
            raise PublicError(f"{path}, line {number}: the answer is missing. Add it or leave the example out, and freeze again.")
        conversations.append(turns)
    return conversations


@dataclass(frozen=True, slots=True)
class Row:
    """An example as the model reads it: token ids, the labels (IGNORED before the answer), and the answer's text."""

    ids: list[int]
    labels: list[int]
    answer: str

    @classmethod
    def of(cls, tokenizer: Any, conversation: Sequence[dict[str, str]]) -> "Row":
        """One conversation; the loss is on its last turn."""
        prompt, answer = prompt_and_answer(tokenizer, conversation)
        return cls(prompt + answer, [IGNORED] * len(prompt) + answer, conversation[-1]["content"].strip())


# --- 4. The machine and the base model ---------------------------------------------------------------------------------------


def _prepare_machine(job: Job) -> Machine:
    """Imports torch with its settings in place, and says what it can do here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not job.allow_downloads:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # bitsandbytes looks for an optional kernel at every import and complains that it would have to download it.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.CRITICAL)
    import torch

    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    # Two threads beside a busy bot are eight times slower than one (training.md 10); a core belongs to the bot.
    threads = 1 if cores <= 2 else max(1, cores // 2)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return Machine("cuda", fast_bf16=True, threads=threads)
    # Measured: with AVX512-BF16 autocast is 1.6 to 2.5 times as fast as float32, without it (AVX2) 10 to 18 times slower.
    return Machine("cpu", fast_bf16=bool(torch.cpu._is_avx512_bf16_supported()), threads=threads)


def _device_name(machine: Machine) -> str:
    import torch

    if machine.device == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return f"cpu ({machine.threads} thread{'s' if machine.threads > 1 else ''}, {torch.backends.cpu.get_cpu_capability()})"


def load_base(job: Job, machine: Machine) -> "PreTrainedModel":
    """The base model ready for an adapter: its weights frozen, in NF4 with double quantisation or in floating point."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if machine.fast_bf16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if machine.device == "cuda":
        options["device_map"] = {"": torch.cuda.current_device()}
    if job.quantization == Quantization.NF4:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    model = _load(job, "base model", lambda: AutoModelForCausalLM.from_pretrained(job.base_model, **options))
    keep_gradients(model)
    # peft.prepare_model_for_kbit_training is left out on purpose: it turns embeddings and norms to float32, which costs
    # 400 to 1000 MB on a 0.5B model and brought nothing measurable (training.md 2c). What it does otherwise is here.
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def keep_gradients(model: "torch.nn.Module") -> None:
    """bitsandbytes, up to 0.50.2 at least: an evaluation on a CPU with AVX512-BF16 repacks 4-bit weights for a kernel without
    autograd and never goes back; from then on most LoRA gradients are exactly 0, silently (training.md 2a). This flag keeps
    the layers on the path that has gradients."""
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _load[T](job: Job, what: str, load: Any) -> Any:
    return None
