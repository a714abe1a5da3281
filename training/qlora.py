"""The trainer: one fine-tune, told from top to bottom. `python -m training.qlora RUN_DIR [--resume]`.

It reads RUN_DIR/job.json and the frozen dataset, trains a LoRA adapter on the base model (held in 4 bits, or as it
is), and leaves the adapter in safetensors and result.json. It shares `training.rundir` with the bot and nothing else: it
opens no database, talks to no network unless the job allows downloads, and runs no code that a model brings along.

Exit codes: 0 result.json says done (or cancelled); 1 it says failed; 3 another trainer is at work in RUN_DIR; 75 stopped
by SIGTERM, with a checkpoint to resume from and no result.json.

torch and its friends, which take seconds to import, come in the middle: a SIGTERM meanwhile must be heard.
"""

import argparse
import contextlib
import hashlib
import logging
import math
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import PublicError
from training import rundir
from training.chat import PLAIN_CHAT_TEMPLATE
from training.failures import LossIsNotANumber, cannot_load, disk_is_full, in_plain_words
from training.notebook import Notebook, Stopped
from training.plan import Machine, Plan, plan
from training.rows import IGNORED, Row, choose_watched, read_conversations, row
from training.rundir import Event, Job, Quantization, Status

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from trl import SFTTrainer

STACK = ("torch", "transformers", "peft", "bitsandbytes", "trl")
TOLD_EVERY_S = 0.5  # a tiny model makes twenty steps a second; nobody reads that many lines


# --- 1. The signal, the lock, the job, and how it can end ------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code, once the run directory says what happened."""
    parser = argparse.ArgumentParser(
        prog="python -m training.qlora", description="Fine-tune as job.json says."
    )
    parser.add_argument("run_dir", type=Path, help="the directory with job.json; everything is written there")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint, if there is one"
    )
    asked = parser.parse_args(arguments)
    run_dir: Path = asked.run_dir.resolve()
    if not run_dir.is_dir():
        print(f"{run_dir} does not exist. Name the directory that holds job.json.", file=sys.stderr)
        return rundir.EXIT_FAILED
    try:
        held = rundir.lock(run_dir)
    except rundir.AlreadyTraining as busy:
        print(busy, file=sys.stderr)
        return rundir.EXIT_LOCKED
    try:
        return run(run_dir, resume=asked.resume)
    finally:
        os.close(held)


def run(run_dir: Path, *, resume: bool) -> int:
    """One run from its first line to its result. The caller holds the lock."""
    earlier = rundir.read_result(run_dir)
    if resume and earlier is not None and earlier.status is Status.DONE:
        return rundir.EXIT_DONE
    if not resume:
        shutil.rmtree(run_dir / rundir.CHECKPOINTS, ignore_errors=True)
        shutil.rmtree(run_dir / rundir.ADAPTER, ignore_errors=True)
        (run_dir / rundir.PROGRESS).unlink(missing_ok=True)
    (run_dir / rundir.RESULT).unlink(missing_ok=True)
    with (run_dir / rundir.PROGRESS).open("a", encoding="utf-8") as progress:
        notebook = Notebook(run_dir, progress, time.monotonic())

        def hear(_number: int, _frame: object) -> None:
            notebook.stop_requested = True

        before = signal.signal(signal.SIGTERM, hear)
        try:
            return _conclude(notebook)
        finally:
            signal.signal(signal.SIGTERM, before)


def _conclude(notebook: Notebook) -> int:
    """Trains, and turns every way in which that can end into a result, or into "go on later"."""
    try:
        notebook.tell(Event.STARTED)
        train(notebook, rundir.read_job(notebook.run_dir))
        return _end(notebook, Status.DONE, "")
    except Stopped:
        if rundir.cancel_requested(notebook.run_dir):
            return _end(notebook, Status.CANCELLED, "Cancelled on request.")
        notebook.tell(
            Event.STOPPING, notebook.result.steps, message="Stopped; a new start goes on from here."
        )
        return rundir.EXIT_STOPPED
    except Exception as error:
        traceback.print_exc()
        return _end(notebook, Status.FAILED, _why(error, notebook))


def _why(error: Exception, notebook: Notebook) -> str:
    kept = rundir.last_good_checkpoint(notebook.run_dir)
    rate, size = (notebook.result.hyperparameters.get(name) for name in ("learning_rate", "batch_size"))
    return in_plain_words(error, checkpoint=kept.name if kept else None, learning_rate=rate, batch_size=size)


def _end(notebook: Notebook, status: Status, reason: str) -> int:
    notebook.know(status=status, reason=reason, seconds=round(time.monotonic() - notebook.began, 2))
    with contextlib.suppress(
        OSError
    ):  # on a full disk the news may not fit; the result replaces what is there
        notebook.tell(Event.FINISHED, notebook.result.steps, message=reason or None)
    rundir.write_result(notebook.run_dir, notebook.result)
    return rundir.EXIT_FAILED if status is Status.FAILED else rundir.EXIT_DONE


# --- 2. The run --------------------------------------------------------------------------------------------


def train(notebook: Notebook, job: Job) -> None:
    """The experiment. Raises PublicError for what a person can put right, and Stopped when asked to stop."""
    notebook.know(dataset_hash=job.dataset_hash, quantization=str(job.quantization))
    conversations = read_conversations(Path(job.dataset_dir) / "train.jsonl")
    validation = read_conversations(Path(job.dataset_dir) / "validation.jsonl")
    if not conversations:
        raise PublicError(
            f"{job.dataset_dir}/train.jsonl holds no examples. Rate or correct some answers first."
        )

    # The heavy imports: five seconds and half a gigabyte.
    machine = prepare_machine(notebook, job)
    from transformers import set_seed

    set_seed(job.seed)
    notebook.know(versions={name: version(name) for name in STACK})
    notebook.turn_page()

    tokenizer = load_tokenizer(notebook, job)
    rows = [row(tokenizer, conversation) for conversation in conversations]
    held_back = [row(tokenizer, conversation) for conversation in validation]
    model = load_base(job, machine)
    notebook.turn_page()

    made, fitting = plan_for(notebook, job, machine, model, rows)
    watched, decides = choose_watched(fitting, held_back, longest=made.max_length)
    trainer = make_trainer(notebook, job, made, model, tokenizer, fitting, watched, decides=decides)
    learn(notebook, trainer, evaluated=bool(watched))


# --- 3. The machine, the tokenizer, the base model and the plan for it -----------------------------------------


def prepare_machine(notebook: Notebook, job: Job) -> Machine:
    """Imports torch with its settings in place, and says what it can do here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not job.allow_downloads:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # bitsandbytes looks for an optional kernel at every import, and complains that it would have to be downloaded.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.CRITICAL)
    import torch

    # Two threads beside a busy neighbour are eight times slower than one (training.md 10): a core belongs to the bot.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = 1 if cores <= 2 else cores // 2
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        notebook.know(device=f"cuda ({torch.cuda.get_device_name()})")
        return Machine("cuda", fast_bf16=True, threads=threads)
    notebook.know(device=f"cpu ({torch.backends.cpu.get_cpu_capability()}, threads: {threads})")
    # Autocast to bfloat16 is 1.6 to 2.5 times as fast as float32 with AVX512-BF16 (training.md 1). Without it, on a
    # processor with AVX2 only, it was 11 to 19 times slower (2.4 and 3.5 million parameters, one thread).
    return Machine("cpu", fast_bf16=bool(torch.cpu._is_avx512_bf16_supported()), threads=threads)


def load_tokenizer(notebook: Notebook, job: Job) -> Any:
    """The base model's tokenizer, with a chat template in any case."""
    from transformers import AutoTokenizer

    tokenizer = _loaded(job, lambda: AutoTokenizer.from_pretrained(job.base_model, **_kept(job)))
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
        notebook.tell(Event.LOADED, message="The base model has no chat template; a plain one is used.")
    return tokenizer


def load_base(job: Job, machine: Machine) -> "PreTrainedModel":
    """The base model ready for an adapter: frozen, in NF4 with double quantisation or in floating point."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if machine.fast_bf16 else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, **_kept(job)}
    if machine.device == "cuda":
        options["device_map"] = {"": torch.cuda.current_device()}
    if job.quantization == Quantization.NF4:
        nf4 = {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
        options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, **nf4)  # type: ignore[no-untyped-call]

    model: PreTrainedModel = _loaded(
        job, lambda: AutoModelForCausalLM.from_pretrained(job.base_model, **options)
    )
    keep_gradients(model)
    # peft.prepare_model_for_kbit_training is left out on purpose: it turns embeddings and norms to float32, and without
    # that a 0.5B model trains in a gigabyte less at the same speed (training.md 2c). What else it does is this:
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def keep_gradients(model: "torch.nn.Module") -> None:
    """Keeps 4-bit layers on the path that has gradients. Call it before the first forward pass.

    bitsandbytes (0.50.2 and before) repacks 4-bit weights in an evaluation pass on a processor with AVX512-BF16, for a
    kernel without autograd, and never goes back: from then on most LoRA gradients are exactly 0, silently
    (training.md 2a; tests/test_qlora.py holds that gradient norms before and after an evaluation agree).
    """
    import bitsandbytes

    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _kept(job: Job) -> dict[str, bool]:
    return {"trust_remote_code": False, "local_files_only": not job.allow_downloads}


def _loaded(job: Job, load: Callable[[], Any]) -> Any:
    """`load()`, or a PublicError that names the base model and what to do."""
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        if disk_is_full(error):
            raise
        raise cannot_load(job.base_model, error, allow_downloads=job.allow_downloads) from error


def plan_for(
    notebook: Notebook, job: Job, machine: Machine, model: "PreTrainedModel", rows: list[Row]
) -> tuple[Plan, list[Row]]:
    """How to train, and the rows that are short enough for it; the others are left out whole, never cut."""
    lengths = [len(each.ids) for each in rows]
    made = plan(
        model.num_parameters(),
        len(rows),
        sum(lengths) / len(lengths),
        machine,
        longest_tokens=max(lengths),
        context=int(getattr(model.config, "max_position_embeddings", None) or 2048),
        job=job,
    )
    fitting = [each for each in rows if len(each.ids) <= made.max_length]
    if not fitting:
        raise PublicError(
            f"Every example is longer than the {made.max_length} tokens that this run reads at once. "
            "Shorten the answers, or choose a larger max_length or a base model that reads more."
        )
    notebook.know(hyperparameters=asdict(made))
    said = f"{len(fitting)} examples"
    if len(fitting) < len(rows):
        said += f"; {len(rows) - len(fitting)} with more than {made.max_length} tokens left out"
    notebook.tell(Event.LOADED, 0, made.max_steps, message=said)
    return made, fitting


# --- 4. The trainer ----------------------------------------------------------------------------------------


def make_trainer(
    notebook: Notebook,
    job: Job,
    made: Plan,
    model: "PreTrainedModel",
    tokenizer: Any,
    rows: list[Row],
    watched: list[Row],
    *,
    decides: bool,
) -> "SFTTrainer":
    """TRL's trainer with a LoRA adapter on every linear layer. `decides`: the watched rows say when to stop."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback, PrinterCallback
    from transformers.trainer_pt_utils import LengthGroupedSampler
    from trl import SFTConfig, SFTTrainer

    def dataset(of: list[Row]) -> Dataset:
        return Dataset.from_list([{"input_ids": each.ids, "labels": each.labels} for each in of])

    class Resumable(SFTTrainer):  # type: ignore[misc]
        """Rows of like length together, in an order that is drawn from the seed and the epoch alone.

        The stock sampler draws from torch's running state: resumed within an epoch, the rest comes in another order.
        """

        def compute_loss(self, model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            if not model.training or not made.opening_weight or made.packing:
                return super().compute_loss(model, inputs, *more, **named)
            # Which answer it is, is decided in its first tokens; the rest follows by heart, and would drown them.
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[
                :, :-1
            ]
            labels = inputs["labels"][:, 1:]
            learned = labels != IGNORED
            place = learned.cumsum(dim=1)[learned] - 1
            weights = 1 + made.opening_weight * 0.7**place
            each = torch.nn.functional.cross_entropy(
                logits[learned].float(), labels[learned], reduction="none"
            )
            return (each * weights).sum() / weights.sum()

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            trainer, at_once = self, made.batch_size * made.accumulation

            class Order(LengthGroupedSampler):
                def __iter__(self) -> Any:
                    seed = job.seed + 1_000_003 * int(trainer.state.epoch or 0)
                    self.generator = torch.Generator().manual_seed(seed)
                    return super().__iter__()  # type: ignore[no-untyped-call]

            return Order(at_once, lengths=list(map(len, self.train_dataset["input_ids"])))

    on_gpu = model.device.type == "cuda"
    # fmt: off
    config = SFTConfig(
        output_dir=str(notebook.run_dir / rundir.CHECKPOINTS),
        # Speed: rows of like length share a batch, long ones are packed whole ("bfd" cuts none); training.md 5.
        use_cpu=not on_gpu, bf16=made.bf16, optim="adamw_torch_fused", dataloader_pin_memory=on_gpu,
        per_device_train_batch_size=made.batch_size, gradient_accumulation_steps=made.accumulation,
        per_device_eval_batch_size=32, max_length=made.max_length,
        packing=made.packing, packing_strategy="bfd", eval_packing=False,
        # TRL's default for the first, the old name of the second, is True.
        gradient_checkpointing=None, activation_checkpointing=made.activation_checkpointing,
        # Learning.
        num_train_epochs=made.epochs, learning_rate=made.learning_rate, lr_scheduler_type="cosine",
        warmup_steps=made.warmup, weight_decay=0.0, seed=job.seed, data_seed=job.seed,
        # Looking and keeping: the best checkpoint stays, and the newest one.
        eval_strategy="steps" if watched else "no", eval_steps=made.eval_every,
        save_strategy="steps", save_steps=made.eval_every, save_total_limit=2,
        load_best_model_at_end=decides, metric_for_best_model="eval_loss", greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        # Telling: every step is looked at (a NaN must not live on), so the filter that hides NaNs is off.
        logging_steps=1, logging_nan_inf_filter=False, report_to="none", disable_tqdm=True,
    )
    # fmt: on
    lora = LoraConfig(
        r=made.rank,
        lora_alpha=made.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = Resumable(
        model=model,
        args=config,
        train_dataset=dataset(rows),
        eval_dataset=dataset(watched) if watched else None,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[
            diary(notebook, tokens=sum(len(each.ids) for each in rows)),
            *([EarlyStoppingCallback(made.patience)] if decides else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    # TRL turns the adapters of a 4-bit model to bfloat16. Small steps are lost in its 8 bits of mantissa, and a processor
    # without bfloat16 is slow at it; in float32, PEFT's own default, autocast still computes in bfloat16 where that pays.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def diary(notebook: Notebook, *, tokens: int) -> Any:
    """The callback that writes progress, stops when asked to, and refuses a loss that is no number; `tokens` per epoch."""
    from transformers import TrainerCallback

    class Diary(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.told = time.monotonic(), 0.0
            self.first_step, self.first_epoch = state.global_step, state.epoch or 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if notebook.to_be_closed and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True
                notebook.tell(
                    Event.STOPPING, state.global_step, state.max_steps, message="Saving, then stopping."
                )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            for name in {"loss", "eval_loss"} & logs.keys():
                if not math.isfinite(logs[name]):
                    raise LossIsNotANumber(f"{name} is {logs[name]} at step {state.global_step}")
            now = time.monotonic()
            if "loss" in logs and (now - self.told >= TOLD_EVERY_S or state.global_step == state.max_steps):
                self.told = now
                self._tell_step(state, logs, seconds=max(now - self.began, 1e-6))

        def _tell_step(self, state: Any, logs: dict[str, Any], *, seconds: float) -> None:
            each = seconds / max(1, state.global_step - self.first_step)
            notebook.tell(
                Event.STEP,
                state.global_step,
                state.max_steps,
                loss=logs["loss"],
                grad_norm=logs.get("grad_norm"),
                learning_rate=logs.get("learning_rate"),
                tokens_per_s=round(tokens * (state.epoch - self.first_epoch) / seconds, 1),
                eta_s=round(each * (state.max_steps - state.global_step), 1),
            )

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            notebook.tell(Event.EVALUATED, state.global_step, state.max_steps, eval_loss=metrics["eval_loss"])

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            notebook.tell(Event.SAVED, state.global_step, state.max_steps)

    return Diary()


# --- 5. Learning, and keeping what was learned -------------------------------------------------------------


def learn(notebook: Notebook, trainer: "SFTTrainer", *, evaluated: bool) -> None:
    """Measures, trains (on from the last checkpoint, if there is one), measures again, and saves the adapter."""
    checkpoint = rundir.last_good_checkpoint(notebook.run_dir)
    if evaluated:
        before = rundir.eval_loss_before(notebook.run_dir)
        notebook.know(eval_loss_before=trainer.evaluate()["eval_loss"] if before is None else before)
    notebook.turn_page()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _note(notebook, trainer)
    if notebook.to_be_closed and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped
    if evaluated:
        notebook.know(eval_loss=trainer.evaluate()["eval_loss"])
    save_adapter(notebook, trainer.model)


def _told_before(run_dir: Path) -> float | None:
    """The loss before the first step, where an earlier part of this run has measured it."""
    told = (
        line
        for line in rundir.read_progress(run_dir)
        if line["event"] == Event.EVALUATED and not line["step"]
    )
    return next((float(line["eval_loss"]) for line in told), None)


def _note(notebook: Notebook, trainer: "SFTTrainer") -> None:
    """Keeps what the trainer's state tells; the training loss is the mean over the last tenth of the steps."""
    state, epochs = trainer.state, trainer.state.epoch or 0.0
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    best = state.best_global_step if trainer.args.load_best_model_at_end else None
    seen = round(sum(map(len, trainer.train_dataset["input_ids"])) * epochs)
    notebook.know(steps=state.global_step, epochs=round(epochs, 3), best_step=best or state.global_step)
    notebook.know(train_loss=sum(last) / len(last) if last else None, trained_tokens=seen)


def save_adapter(notebook: Notebook, model: Any) -> None:
    """Writes the adapter whole or not at all: under another name, which is changed at the end."""
    final = notebook.run_dir / rundir.ADAPTER
    partial = final.with_name(f"{rundir.ADAPTER}.part")
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


if __name__ == "__main__":
    sys.exit(main())
