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
from collections.abc import Callable, Sequence
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
WATCHED_METRIC = "eval_loss"
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

    @property
    def to_be_closed(self) -> bool:
        """Whether somebody asked this run to stop: by SIGTERM, or by the word `cancel` in its directory."""
        return self.stop_requested or rundir.cancel_requested(self.run_dir)

    def turn_page(self) -> None:
        """Between two stages: the place to stop."""
        if self.to_be_closed:
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
    learn(notebook, trainer, evaluated=bool(evaluated))


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


def _load(job: Job, what: str, load: Callable[[], Any]) -> Any:
    """`load()`, or a PublicError that names the base model and what to do."""
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        if _disk_is_full(error):
            raise
        here = Path(job.base_model)
        remedy = (
            "Set LOCAL_MODEL to a folder with config.json, model.safetensors and tokenizer.json."
            if here.is_absolute() or here.exists() or job.allow_downloads
            else "It is not on this machine and downloads are off. Set ALLOW_DOWNLOADS=true, or LOCAL_MODEL to a folder."
        )
        first_line = str(error).strip().split("\n", 1)[0]
        raise PublicError(f"The {what} {job.base_model!r} could not be loaded: {first_line} {remedy}") from error


# --- 5. The trainer ----------------------------------------------------------------------------------------------------------


def make_trainer(
    notebook: Notebook, job: Job, made: Plan, model: "PreTrainedModel", tokenizer: Any, rows: list[Row], evaluated: list[Row],
    *, decides: bool,
) -> "SFTTrainer":  # fmt: skip
    """TRL's trainer with a LoRA adapter on every linear layer; `decides` is whether the evaluated rows tell when to stop."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    on_gpu = model.device.type == "cuda"
    config = SFTConfig(
        output_dir=str(notebook.run_dir / rundir.CHECKPOINTS),
        # Speed. Rows of like length share a batch, long ones are packed whole ("bfd": nothing is cut); training.md 5.
        use_cpu=not on_gpu, bf16=made.bf16, optim="adamw_torch_fused", dataloader_pin_memory=on_gpu,
        per_device_train_batch_size=made.batch_size, gradient_accumulation_steps=made.accumulation,
        per_device_eval_batch_size=32, max_length=made.max_length, packing=made.packing, packing_strategy="bfd",
        eval_packing=False, train_sampling_strategy="random" if made.packing else "group_by_length",
        gradient_checkpointing=None, activation_checkpointing=made.activation_checkpointing,
        # Learning.
        num_train_epochs=made.epochs, learning_rate=made.learning_rate, lr_scheduler_type="cosine", warmup_steps=made.warmup,
        weight_decay=0.0, max_grad_norm=1.0, seed=job.seed, data_seed=job.seed,
        # Looking and keeping. The best checkpoint and the newest one stay.
        eval_strategy="steps" if evaluated else "no", eval_steps=made.eval_every,
        save_strategy="steps", save_steps=made.eval_every, save_total_limit=2, load_best_model_at_end=decides,
        metric_for_best_model=WATCHED_METRIC, greater_is_better=WATCHED_METRIC != "eval_loss",
        restore_callback_states_from_checkpoint=True,
        # Telling. Every step is looked at (a NaN must not live on), and the filter that hides NaNs is off.
        logging_steps=1, logging_nan_inf_filter=False, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in rows]),
        eval_dataset=Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in evaluated]) if evaluated else None,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=made.rank, lora_alpha=made.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[_diary(notebook), *([EarlyStoppingCallback(made.patience)] if decides else [])],
    )
    trainer.remove_callback(PrinterCallback)
    # TRL turns the adapters of a 4-bit model to bfloat16. In 8 bits of mantissa small steps are lost, and on a CPU without
    # bfloat16 they are slow as well; PEFT's own default is float32, and autocast computes in bfloat16 where that pays.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def _diary(notebook: Notebook) -> Any:
    """The callback that writes progress, hears SIGTERM between two steps, and refuses a loss that is no number."""
    from transformers import TrainerCallback

    class Diary(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first_step, self.told, self.tokens = time.monotonic(), state.global_step, 0.0, 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if notebook.to_be_closed and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True
                notebook.tell(ProgressLine(Event.STOPPING, state.global_step, state.max_steps, message="Saving, then stopping."))

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            facts, now = logs or {}, time.monotonic()
            for name in ("loss", "eval_loss"):
                if name in facts and not math.isfinite(facts[name]):
                    raise LossIsNotANumber(f"the {name.replace('_', ' ')} is {facts[name]} at step {state.global_step}")
            if "loss" not in facts or (now - self.told < 0.5 and state.global_step < state.max_steps):
                return
            self.told, steps = now, max(1, state.global_step - self.first_step)
            each = (now - self.began) / steps
            notebook.tell(ProgressLine(
                Event.STEP, state.global_step, state.max_steps, loss=facts["loss"], grad_norm=facts.get("grad_norm"),
                learning_rate=facts.get("learning_rate"), eta_s=round(each * (state.max_steps - state.global_step), 1),
                tokens_per_s=round(facts.get("num_tokens", 0.0) / max(now - self.began, 1e-6), 1),
            ))  # fmt: skip

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **_: Any) -> None:
            loss = (metrics or {}).get("eval_loss")
            notebook.tell(ProgressLine(Event.EVALUATED, state.global_step, state.max_steps, eval_loss=loss))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            notebook.tell(ProgressLine(Event.SAVED, state.global_step, state.max_steps))

    return Diary()


# --- 6. Learning, and keeping what was learned ---------------------------------------------------------------------------------


def learn(notebook: Notebook, trainer: "SFTTrainer", *, evaluated: bool) -> None:
    """Measures, trains (from the last checkpoint, if there is one), measures again, and saves the adapter."""
    checkpoint = last_good_checkpoint(notebook.run_dir)
    if evaluated:
        before = _told_before(notebook.run_dir)
        notebook.know(eval_loss_before=before if before is not None else trainer.evaluate()["eval_loss"])
        notebook.turn_page()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    best = state.best_global_step if trainer.args.load_best_model_at_end else None
    notebook.know(
        steps=state.global_step,
        epochs=round(state.epoch or 0.0, 3),
        best_step=best or state.global_step,
        train_loss=sum(last) / len(last) if last else None,
        trained_tokens=round(sum(len(ids) for ids in trainer.train_dataset["input_ids"]) * (state.epoch or 0.0)),
    )
    if notebook.to_be_closed and state.global_step < state.max_steps:
        raise Stopped
    if evaluated:
        notebook.know(eval_loss=trainer.evaluate()["eval_loss"])
    save_adapter(notebook, trainer.model)


def _told_before(run_dir: Path) -> float | None:
    """The loss before the first step, if an earlier part of this run has measured it."""
    told = (line for line in rundir.read_progress(run_dir) if line["event"] == Event.EVALUATED and line.get("step") == 0)
    return next((float(line["eval_loss"]) for line in told if line.get("eval_loss") is not None), None)


def save_adapter(notebook: Notebook, model: Any) -> None:
    """Writes the adapter whole or not at all: into a folder of another name first, which is then renamed."""
    final = notebook.run_dir / rundir.ADAPTER
    partial = final.with_name(final.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(str(partial), safe_serialization=True)
        (partial / "README.md").unlink(missing_ok=True)  # PEFT's empty form of a model card
        digest = hashlib.sha256((partial / "adapter_model.safetensors").read_bytes()).hexdigest()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    notebook.know(adapter=rundir.ADAPTER, adapter_sha256=digest)


def last_good_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole checkpoint. Half-written ones (a full disk, a kill -9 while saving) are removed.

    transformers writes trainer_state.json last, so a checkpoint is whole if that file can be read.
    """
    found = (run_dir / rundir.CHECKPOINTS).glob("checkpoint-*")
    for checkpoint in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
            continue
        return checkpoint
    return None


# --- 7. When it goes wrong -----------------------------------------------------------------------------------------------------


def _in_plain_words(error: Exception, notebook: Notebook) -> str:
    """Why the run failed, and what to do. An error nobody foresaw is named as it is."""
    if isinstance(error, PublicError):
        return str(error)
    kept = last_good_checkpoint(notebook.run_dir)
    if _disk_is_full(error):
        keeps = f"The last good checkpoint ({kept.name}) is kept" if kept else "No checkpoint was written yet"
        return f"The disk is full: the model could not be saved in {notebook.run_dir}. {keeps}. Free some space and train again."
    if isinstance(error, LossIsNotANumber):
        rate = notebook.result.hyperparameters.get("learning_rate")
        return f"Training went astray: {error}. The learning rate ({rate}) is probably too high for this model; try a tenth of it."
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        size = notebook.result.hyperparameters.get("batch_size")
        return f"The memory is full. Choose a smaller batch_size (now {size}), 4-bit quantization, or a smaller base model."
    return f"{type(error).__name__}: {error}"


def _disk_is_full(error: BaseException) -> bool:
    """Whether this, or what caused it, is "no space left": safetensors and torch have errors of their own for it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return True
    text = str(error)
    signs = ("No space left on device", "File too large", "Disk quota exceeded", "PytorchStreamWriter failed", "inline_container")
    if not isinstance(error, PublicError) and any(sign in text for sign in signs):
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and _disk_is_full(cause)


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "bitsandbytes", "trl")
    return {name: importlib.metadata.version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
