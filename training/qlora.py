"""The trainer: one fine-tune, told from top to bottom. `python -m training.qlora RUN_DIR [--resume]`.

It reads RUN_DIR/job.json and the frozen dataset, trains an adapter on the base model (held in 4 bits, or as it is) in one
stage or two (SFT, then DPO or KTO; `training.method` says which and why), and leaves the adapter in safetensors with its
card, and result.json. The trainers themselves are in `training.trainers`. It shares `training.rundir` with the bot and
nothing else: it opens no database, talks to no network unless the job allows downloads, and runs no code that a model
brings along.

Exit codes: 0 result.json says done (or cancelled); 1 it says failed; 3 another trainer is at work in RUN_DIR; 75 stopped
by SIGTERM, with a checkpoint to resume from and no result.json.

torch and its friends, which take seconds to import, come in the middle: a SIGTERM meanwhile must be heard.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from storage.errors import PublicError
from training import rundir
from training.adapter_card import adapter_card
from training.failures import in_plain_words, neighbour_is_gone
from training.material import Rows, Taught, nothing, read_taught
from training.memory import squeezed
from training.method import Adapter, Method, adapter_named, choose
from training.notebook import Notebook, Stopped
from training.plan import Machine, Plan, plan
from training.room import free_bytes
from training.rows import (
    IGNORED,
    PairRow,
    Row,
    ThumbRow,
    choose_watched,
    pair_row,
    row,
    thumb_row,
)
from training.rundir import Event, Job, Quantization, Status

STACK = ("torch", "transformers", "peft", "bitsandbytes", "trl")
SPLITS = ("train", "validation")
WAITED_EVERY_S = 0.5  # for a device; a SIGTERM meanwhile is heard as soon


# --- 1. The signal, the lock, the job, and how it can end ------------------------------------------------------


def main(arguments: Sequence[str] | None = None, *, rank: int = 0, ranks: int = 1) -> int:
    """The exit code, once the run directory says what happened.

    Of `ranks` processes that train together (`training.trainers.together`) the one of rank 0 keeps the directory.
    """
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
    if rank:
        return follow(run_dir, rank, ranks, resume=asked.resume)
    try:
        held = rundir.lock(run_dir)
    except rundir.AlreadyTraining as busy:
        print(busy, file=sys.stderr)
        return rundir.EXIT_LOCKED
    try:
        return run(run_dir, resume=asked.resume, ranks=ranks)
    finally:
        os.close(held)


def run(run_dir: Path, *, resume: bool, ranks: int = 1) -> int:
    """One run from its first line to its result. The caller holds the lock."""
    earlier = rundir.read_result(run_dir)
    if resume and earlier is not None and earlier.status is Status.DONE:
        return rundir.EXIT_DONE
    if not resume:
        for stage in Method:
            shutil.rmtree(rundir.checkpoints(run_dir, stage), ignore_errors=True)
        for folder in (rundir.ADAPTER, rundir.STAGES, rundir.SWEEP):
            shutil.rmtree(run_dir / folder, ignore_errors=True)
        (run_dir / rundir.PROGRESS).unlink(missing_ok=True)
    (run_dir / rundir.RESULT).unlink(missing_ok=True)
    with (run_dir / rundir.PROGRESS).open("a", encoding="utf-8") as progress:
        notebook = Notebook(run_dir, progress, time.monotonic(), ranks=ranks)

        def hear(_number: int, _frame: object) -> None:
            notebook.stop_requested = True

        if threading.current_thread() is not threading.main_thread():
            return _conclude(
                notebook
            )  # a worker of Ray: signals are the cluster's, `cancel` in the directory is ours
        before = signal.signal(signal.SIGTERM, hear)
        try:
            return _conclude(notebook)
        finally:
            signal.signal(signal.SIGTERM, before)


def follow(run_dir: Path, rank: int, ranks: int, *, resume: bool) -> int:
    """A process beside the first one: it learns along, and leaves all writing to that one."""
    earlier = rundir.read_result(run_dir)
    if resume and earlier is not None and earlier.status is Status.DONE:
        return rundir.EXIT_DONE
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        notebook = Notebook(run_dir, nowhere, time.monotonic(), rank=rank, ranks=ranks)
        try:
            train(notebook, rundir.read_job(run_dir))
        except Stopped:
            return rundir.EXIT_STOPPED
        except PublicError:
            return rundir.EXIT_FAILED  # the first one says it
        except Exception as error:
            traceback.print_exc()
            if not neighbour_is_gone(error):
                print(f"{rundir.BESIDE}{_why(error, notebook)}", file=sys.stderr, flush=True)
            return rundir.EXIT_STOPPED
    return rundir.EXIT_DONE


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
        if notebook.ranks > 1 and neighbour_is_gone(error):
            notebook.tell(Event.STOPPING, notebook.result.steps, message="A process beside this one ended.")
            return rundir.EXIT_STOPPED  # the bot starts all of them again, a few times
        return _end(notebook, Status.FAILED, _why(error, notebook))


def _why(error: Exception, notebook: Notebook) -> str:
    found = (rundir.last_good_checkpoint(notebook.run_dir, stage) for stage in reversed(Method))
    kept = next((checkpoint for checkpoint in found if checkpoint is not None), None)
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
    kind = adapter_named(job.adapter)
    notebook.know(dataset_hash=job.dataset_hash, quantization=str(job.quantization), adapter_kind=str(kind))
    taught = read_taught(Path(job.dataset_dir))
    if not taught.examples and not (taught.pairs or taught.thumbs):
        raise PublicError(
            f"{job.dataset_dir}/train.jsonl holds no examples. Rate or correct some answers first."
        )
    choice = choose(taught.material(asked=job.method), asked=job.method, kind=kind)
    notebook.know(method="+".join(choice.stages), method_reason=choice.reason)

    # The heavy imports: five seconds and half a gigabyte.
    machine = prepare_machine(notebook, job)
    with device_to_itself(notebook, machine):
        from transformers import set_seed

        from training.trainers.base import load_tokenizer

        notebook.know(versions={name: version(name) for name in STACK})
        notebook.turn_page()
        tokenizer = load_tokenizer(notebook, job)
        notebook.tell(Event.LOADED, message=choice.reason)
        rows = prepare_rows(notebook, job, machine, tokenizer, taught, choice.stages)
        notebook.turn_page()

        if job.trials:
            from training import sweep

            first = Stage(Method.SFT, kind, None, False)
            learn = partial(learn_stage, job=job, machine=machine, tokenizer=tokenizer, stage=first)
            rows = sweep.try_out(notebook, job, rows, learn)
        left: Path | None = None
        for stage in choice.stages:
            set_seed(job.seed)
            last = stage is choice.stages[-1]
            left = take_stage(notebook, job, machine, tokenizer, rows, Stage(stage, kind, left, last))
        if not notebook.rank:
            keep_adapter(notebook, job, taught, left)


@dataclass(frozen=True, slots=True)
class Stage:
    """One way of teaching; `begins_with` is the adapter that the stage before left, None: a fresh one."""

    method: Method
    kind: Adapter
    begins_with: Path | None
    last: bool


# --- 3. The machine, the tokenizer, the base model, the rows and the plan for them -----------------------------


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
    threads = max(1, cores // 2 // notebook.ranks)
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        notebook.know(device=f"cuda ({torch.cuda.get_device_name()})")
        return Machine("cuda", fast_bf16=True, threads=threads)
    notebook.know(device=f"cpu ({torch.backends.cpu.get_cpu_capability()}, threads: {threads})")
    # Autocast to bfloat16 is 1.6 to 2.5 times as fast as float32 with AVX512-BF16 (training.md 1). Without it, on a
    # processor with AVX2 only, it was 11 to 19 times slower (2.4 and 3.5 million parameters, one thread).
    return Machine("cpu", fast_bf16=bool(torch.cpu._is_avx512_bf16_supported()), threads=threads)


@contextlib.contextmanager
def device_to_itself(notebook: Notebook, machine: Machine) -> Iterator[None]:
    """One training on a device at a time, whatever run it belongs to: two of them are slower than one after the other, and
    a GPU has no room for both. Who comes second waits, and says so.

    A processor is shared by the runs of one data folder; a GPU by everybody who trains on this machine.
    """
    if notebook.ranks > 1:
        from training.trainers import together
    if notebook.rank:
        together.wait()
        yield
        return
    path = notebook.run_dir.parent / ".cpu.lock"
    if machine.device == "cuda":
        import torch

        place = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        path = Path(tempfile.gettempdir()) / f"apprentice-gpu-{place}.lock"
    held, told = rundir.lock_device(path), False
    while held is None:
        if not told:
            notebook.tell(
                Event.WAITING, message="Another training is at work on this device; this one waits for it."
            )
            told = True
        notebook.turn_page()
        time.sleep(WAITED_EVERY_S)
        held = rundir.lock_device(path)
    try:
        if notebook.ranks > 1:
            together.wait()
        yield
    finally:
        os.close(held)


def prepare_rows(
    notebook: Notebook, job: Job, machine: Machine, tokenizer: Any, taught: Taught, stages: Sequence[Method]
) -> Rows:
    """What the stages read, in tokens, and how to train on it; rows that are too long are left out whole, never cut."""
    rows = [row(tokenizer, each.turns, each.weight) for each in taught.examples]
    held_back = [row(tokenizer, each.turns) for each in taught.validation]
    pairs = taught.pairs_of if Method.DPO in stages else nothing
    thumbs = taught.thumbs_of if Method.KTO in stages else nothing
    paired = [[pair_row(tokenizer, each) for each in pairs(split)] for split in SPLITS]
    rated = [[thumb_row(tokenizer, each) for each in thumbs(split)] for split in SPLITS]

    made, parameters = plan_for(notebook, job, machine, rows, [*paired[0], *rated[0]])
    fitting = [each for each in rows if each.length <= made.max_length]
    if rows and not fitting:
        raise PublicError(
            f"Every example is longer than the {made.max_length} tokens that this run reads at once. "
            "Shorten the answers, or choose a larger max_length or a base model that reads more."
        )
    watched, decides = choose_watched(fitting, held_back, longest=made.max_length)

    def short(groups: list[list[Any]]) -> list[list[Any]]:
        return [[each for each in group if each.length <= made.max_length] for group in groups]

    left_out = len(rows) - len(fitting)
    return Rows(made, parameters, left_out, fitting, watched, decides, *short(paired), *short(rated))


def plan_for(
    notebook: Notebook, job: Job, machine: Machine, rows: Sequence[Row], rated: Sequence[PairRow | ThumbRow]
) -> tuple[Plan, int]:
    """How to train in the memory that there is (else PublicError with the remedy), and the base model's parameters."""
    from training.trainers.base import shape_of

    shape = shape_of(job)
    lengths = [each.length for each in rows or rated]
    made = plan(
        shape.parameters,
        len(lengths),
        sum(lengths) / len(lengths),
        machine,
        longest_tokens=max(each.length for each in (*rows, *rated)),
        context=shape.context,
        job=job,
    )
    learned = sum(label != IGNORED for each in rows for label in each.labels)
    scored = learned / sum(lengths) if rows else 1.0
    nf4 = job.quantization == Quantization.NF4
    made, needed = squeezed(
        made, shape, free_memory(job, machine), nf4=nf4, scored=scored, device=machine.device
    )
    notebook.know(memory=needed.line)
    notebook.tell(Event.LOADED, message=f"Memory: about {needed.line}.")
    return made, shape.parameters


def free_memory(job: Job, machine: Machine) -> int:
    """Bytes that training may take on its device."""
    if machine.device == "cpu":
        return free_bytes(job.memory_mb)
    import torch

    free = int(torch.cuda.mem_get_info()[0])
    return min(free, job.memory_mb << 20) if job.memory_mb else free


# --- 4. A stage --------------------------------------------------------------------------------------------


def take_stage(
    notebook: Notebook, job: Job, machine: Machine, tokenizer: Any, rows: Rows, stage: Stage
) -> Path:
    """Learns one stage, or finds that it is learned; returns the folder of the adapter that it leaves."""
    folder = notebook.run_dir / rundir.STAGES / stage.method
    facts = rundir.kept_stage(notebook.run_dir, stage.method)
    if facts is None:
        facts = learn_stage(notebook, job, machine, tokenizer, rows, stage)
    _remember(notebook, facts)
    return folder


def learn_stage(
    notebook: Notebook, job: Job, machine: Machine, tokenizer: Any, rows: Rows, stage: Stage
) -> dict[str, Any]:
    """Measures, trains (on from the last checkpoint, if there is one), measures again; keeps the adapter and says what came.

    Every stage loads the base afresh: the first evaluation of a 4-bit model shifts what it computes for good
    (training.md 10), and a run that is resumed here must find what one that was not interrupted found.
    """
    from training.trainers import adapters, diary, together
    from training.trainers.base import load_base, unfolded
    from training.trainers.stage import facts_of, lesson, make_trainer, measured

    began = time.monotonic()
    model = load_base(job, machine)
    notebook.turn_page()
    taught = lesson(rows, stage.method, notebook.ranks)
    if taught.made.unfold:
        model = unfolded(model)
    if stage.begins_with is None:
        model = adapters.made_on(model, taught.made, stage.kind)
    else:
        model = adapters.taken_up(model, stage.begins_with)
    if not notebook.result.stages:  # what is known if it stops half-way
        notebook.know(hyperparameters=asdict(taught.made))
    notebook.tell(Event.LOADED, 0, taught.made.max_steps, message=taught.said, stage=stage.method)
    trainer = make_trainer(notebook, job, taught, model, tokenizer)

    before = measured_before(notebook, trainer, stage.method) if taught.watched else None
    together.not_yet_prepared(trainer)
    notebook.turn_page()
    checkpoint = rundir.last_good_checkpoint(notebook.run_dir, stage.method)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    facts = facts_of(trainer, taught)
    if notebook.to_be_closed and trainer.state.global_step < trainer.state.max_steps:
        _remember(notebook, facts)
        raise Stopped
    facts |= {
        "eval_loss_before": before,
        "stopped_early": diary.stopped_early(trainer, taught.made, decides=taught.decides),
    }
    if taught.watched:
        facts |= measured(trainer.evaluate())
    facts["seconds"] = round(time.monotonic() - began, 2)
    if not notebook.rank:
        keep_stage(notebook, trainer.model, stage.method, facts)
    together.wait()
    return facts


def measured_before(notebook: Notebook, trainer: Any, method: Method) -> float:
    """The held-out loss before the first step; an earlier part of this run may have told it."""
    told = rundir.eval_loss_before(notebook.run_dir, stage=method)
    before = float(trainer.evaluate()["eval_loss"]) if told is None else told
    if not notebook.result.stages:
        notebook.know(eval_loss_before=before)
    return before


def _remember(notebook: Notebook, facts: dict[str, Any]) -> None:
    """The result's own numbers are those of the first stage; each stage's stand beside them."""
    if not notebook.result.stages:
        own = {name: facts[name] for name in OF_THE_FIRST if name in facts}
        notebook.know(**own)
    said = " ".join(filter(None, (notebook.result.stopped_early, str(facts.get("stopped_early") or ""))))
    notebook.know(stages=(*notebook.result.stages, facts), stopped_early=said)


OF_THE_FIRST = (
    *("steps", "epochs", "best_step", "train_loss", "trained_tokens", "hyperparameters"),
    *("eval_loss_before", "eval_loss"),
)


# --- 5. Keeping what was learned -----------------------------------------------------------------------------


def keep_stage(notebook: Notebook, model: Any, method: Method, facts: dict[str, Any]) -> None:
    """A stage's adapter and facts, whole or not at all: under another name, which is changed at the end."""
    from training.trainers import adapters

    final = notebook.run_dir / rundir.STAGES / method
    partial = final.with_name(f"{method}.part")
    final.parent.mkdir(exist_ok=True)
    facts["adapter_sha256"] = adapters.write(model, partial)
    (partial / rundir.STAGE).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def keep_adapter(notebook: Notebook, job: Job, taught: Taught, left: Path | None) -> None:
    """The last stage's adapter becomes the run's, with its card."""
    assert left is not None
    final = notebook.run_dir / rundir.ADAPTER
    partial = final.with_name(f"{rundir.ADAPTER}.part")
    result = notebook.result
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(left, partial, ignore=shutil.ignore_patterns(rundir.STAGE))
        card = adapter_card(
            base_model=job.base_model,
            run_id=job.run_id,
            kind=result.adapter_kind,
            quantization=result.quantization,
            dataset_hash=job.dataset_hash,
            counts=taught.counts,
            manifest=taught.manifest,
            reason=result.method_reason,
            stages=result.stages,
            versions=result.versions,
            device=result.device,
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    notebook.know(adapter=rundir.ADAPTER, adapter_sha256=str(result.stages[-1]["adapter_sha256"]))


if __name__ == "__main__":
    sys.exit(main())
