"""The trainer's promises: an adapter that works, a run that survives being stopped or killed, plain words when it fails."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from training import qlora, rundir
from training.plan import Machine
from training.rundir import Event, Job, Status
from training.trainers.base import load_base

pytestmark = pytest.mark.training

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "bot" / "starter"

FACTS = {
    "Ask for the key at the front desk.": [
        "Where is the key?",
        "who has the key",
        "I need the key",
        "key, please",
    ],
    "Lunch is served from noon to two.": [
        "When is lunch?",
        "lunch time",
        "what time do we eat lunch",
        "is there lunch",
    ],
    "The printer on floor three is broken.": [
        "Which printer is broken?",
        "printer?",
        "why no printer",
        "the printer fails",
    ],
    "Parking costs four euros a day.": [
        "What does parking cost?",
        "price of parking",
        "parking euros",
        "is parking free",
    ],
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of random weights that trains fifty steps in a second: enough to see a run from outside."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def order(run_dir: Path, base: Path | str, **job: Any) -> Path:
    """A run directory with a dataset of FACTS and a job, ready for the trainer."""
    data = run_dir / "data"
    data.mkdir(parents=True)
    rows = [(question, answer) for answer, questions in FACTS.items() for question in questions]
    write_split(data / "train.jsonl", rows)
    write_split(data / "validation.jsonl", [(f"Hello, {question}", answer) for question, answer in rows[::2]])
    rundir.write_job(run_dir, Job("run-1", str(base), str(data), "sha-of-facts", **job))
    return run_dir


def write_split(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, (question, answer) in enumerate(rows):
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"id": str(number), "messages": turns}) + "\n")


def child(run_dir: Path, *more: str) -> subprocess.Popen[bytes]:
    """The trainer as the bot starts it."""
    log = (run_dir / rundir.LOG).open("ab")
    command = [sys.executable, "-m", "training.qlora", str(run_dir), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def wait_for(what: Callable[[], bool], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def events(run_dir: Path, event: Event) -> list[dict[str, Any]]:
    return [line for line in rundir.read_progress(run_dir) if line["event"] == event]


def result_of(run_dir: Path) -> rundir.TrainingResult:
    result = rundir.read_result(run_dir)
    assert result is not None
    return result


def answers(model: Any, questions: list[str]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    turns = [[{"role": "user", "content": question}] for question in questions]
    texts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        written = model.generate(**batch, max_new_tokens=30, do_sample=False)
    return [
        text.strip()
        for text in tokenizer.batch_decode(
            written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
    ]


# --- a run that ends well --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_finished_run_leaves_an_adapter_that_has_learned_the_answers(
    tmp_path: Path, quantization: str
) -> None:
    """Loaded from the disk onto the untouched base, the adapter gives the taught answers; without it the base never did."""
    run_dir = order(tmp_path / "run", STARTER, quantization=quantization, epochs=30.0, batch_size=8)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE

    result = result_of(run_dir)
    assert result.status is Status.DONE
    assert result.eval_loss_before is not None
    assert result.eval_loss is not None
    assert result.eval_loss < result.eval_loss_before / 2
    assert result.dataset_hash == "sha-of-facts"
    assert set(result.versions) == {"torch", "transformers", "peft", "bitsandbytes", "trl"}
    assert sorted(path.name for path in (run_dir / result.adapter).iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]

    base = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    questions = [asked[0] for asked in FACTS.values()]
    untaught = answers(base, questions)
    taught = answers(PeftModel.from_pretrained(base, str(run_dir / result.adapter)), questions)
    assert sum(answer == expected for answer, expected in zip(taught, FACTS, strict=True)) >= 3
    assert not set(untaught) & set(FACTS)


def test_the_result_is_the_last_word(tmp_path: Path, tiny: Path) -> None:
    """When result.json exists all else is complete; nothing half-written stays, and starting again changes nothing."""
    run_dir = order(tmp_path / "run", tiny, epochs=3.0)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    written = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    assert max(written, key=lambda path: written[path]) == run_dir / rundir.RESULT
    assert not list(run_dir.rglob("*.part"))
    assert [line["event"] for line in rundir.read_progress(run_dir)][:1] == [Event.STARTED]
    assert [line["event"] for line in rundir.read_progress(run_dir)][-1:] == [Event.FINISHED]

    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert {path: path.stat().st_mtime_ns for path in written if path.name != rundir.LOCK} == {
        path: when for path, when in written.items() if path.name != rundir.LOCK
    }


def test_every_step_is_told_with_its_loss_and_how_long_it_will_take(tmp_path: Path, tiny: Path) -> None:
    """The bot can show a bar, a loss and an ETA from the lines alone."""
    run_dir = order(tmp_path / "run", tiny, epochs=4.0, batch_size=4)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    last = events(run_dir, Event.STEP)[-1]
    assert last["step"] == last["max_steps"] == 16
    assert last["eta_s"] == 0
    assert last["loss"] > 0
    assert last["grad_norm"] > 0
    assert last["tokens_per_s"] > 0
    assert events(run_dir, Event.EVALUATED)[0]["step"] == 0
    assert events(run_dir, Event.LOADED)[-1]["message"] == "16 examples"
    assert {line["stage"] for line in events(run_dir, Event.STEP)} == {"sft"}


# --- a run that is stopped, killed, cancelled --------------------------------------------------------------------

LONG: dict[str, Any] = {"epochs": 16.0, "batch_size": 4, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> rundir.TrainingResult:
    """What the LONG run comes to when nobody disturbs it."""
    run_dir = order(tmp_path_factory.mktemp("whole") / "run", tiny, **LONG)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    return result_of(run_dir)


def end_of(result: rundir.TrainingResult) -> dict[str, object]:
    same = ("steps", "eval_loss_before", "eval_loss", "train_loss", "best_step", "adapter_sha256")
    return {name: getattr(result, name) for name in same}


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_or_killed_ends_as_if_nothing_had_happened(
    tmp_path: Path, tiny: Path, uninterrupted: rundir.TrainingResult, signal_number: signal.Signals
) -> None:
    """SIGTERM saves a checkpoint and exits 75; after that or a kill -9, --resume comes to the same adapter, byte for byte.

    While it lives, a second trainer is refused at once.
    """
    run_dir = order(tmp_path / "run", tiny, **LONG)
    trainer = child(run_dir)
    wait_for(lambda: len(events(run_dir, Event.SAVED)) >= 1 or trainer.poll() is not None)
    assert rundir.is_locked(run_dir)
    assert rundir.trainer_pid(run_dir) == trainer.pid
    assert qlora.main([str(run_dir)]) == rundir.EXIT_LOCKED
    trainer.send_signal(signal_number)
    code = trainer.wait(30)
    assert code == (rundir.EXIT_STOPPED if signal_number == signal.SIGTERM else -signal.SIGKILL)
    assert rundir.read_result(run_dir) is None
    assert not rundir.is_locked(run_dir)
    if signal_number == signal.SIGTERM:
        stopped_at = events(run_dir, Event.STOPPING)[0]["step"]
        assert (run_dir / rundir.CHECKPOINTS / f"checkpoint-{stopped_at}").is_dir()

    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert end_of(result_of(run_dir)) == end_of(uninterrupted)


def test_a_half_written_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    """A kill -9 while saving leaves a folder without its last file; it goes, and the one before counts."""
    good, torn = (tmp_path / rundir.CHECKPOINTS / f"checkpoint-{step}" for step in (20, 100))
    good.mkdir(parents=True)
    torn.mkdir()
    (good / "trainer_state.json").write_text("{}")
    (torn / "trainer_state.json").write_text('{"epoch": 1.')
    assert rundir.last_good_checkpoint(tmp_path) == good
    assert not torn.exists()
    shutil.rmtree(good)
    assert rundir.last_good_checkpoint(tmp_path) is None


def test_a_cancelled_run_says_so_and_does_not_come_back(tmp_path: Path, tiny: Path) -> None:
    """With the word `cancel` in its directory a SIGTERM means the end: result.json says cancelled, also if started again."""
    run_dir = order(tmp_path / "run", tiny, **LONG)

    def cancel() -> None:
        wait_for(lambda: len(events(run_dir, Event.STEP)) >= 1)
        rundir.request_cancel(run_dir)
        os.kill(os.getpid(), signal.SIGTERM)

    with helper(cancel):
        assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    assert result_of(run_dir).status is Status.CANCELLED
    assert result_of(run_dir).steps < 64
    assert not (run_dir / rundir.ADAPTER).exists()
    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert result_of(run_dir).status is Status.CANCELLED


class helper:
    """Runs something beside the trainer, and lets no failure of it pass."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,))

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # told on leaving
            self._failure = failure

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure


# --- gradients ---------------------------------------------------------------------------------------------------


def gradient_norms(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    model.train()
    model.zero_grad()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    return {
        name: float(p.grad.norm())
        for name, p in model.named_parameters()
        if "lora_B" in name and p.grad is not None
    }


def four_bit(base: Path, machine: Machine, *, stock: bool) -> Any:
    """A 4-bit model with a fresh adapter; `stock` leaves bitsandbytes as it comes."""
    model = load_base(Job("r", str(base), "d", "h", quantization="nf4"), machine)
    if stock:
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                setattr(module, "support_avx512bf16_for_cpu", True)  # noqa: B010 - bitsandbytes has no types
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))


@pytest.mark.parametrize("fast_bf16", [False, True])
def test_gradients_before_and_after_an_evaluation_agree(tiny: Path, fast_bf16: bool) -> None:
    """bitsandbytes loses them silently on some processors once the model was evaluated; the trainer's model never does."""
    model = four_bit(tiny, Machine("cpu", fast_bf16=fast_bf16), stock=False)
    layers = [module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    batch = {"input_ids": torch.arange(1, 41).reshape(4, 10)}
    before = gradient_norms(model, batch)
    model.eval()
    with torch.no_grad():
        model(**batch)
    after = gradient_norms(model, batch)
    assert len(before) == 14
    assert all(norm > 0 for norm in before.values())
    assert after == pytest.approx(before, rel=1e-3)


def test_stock_bitsandbytes_still_needs_the_remedy(tiny: Path) -> None:
    """Says when the remedy can go: on a processor with AVX512-BF16 the untouched layers lose their gradients."""
    import bitsandbytes.functional

    if not bitsandbytes.functional.has_avx512bf16():
        pytest.skip("this processor has no AVX512-BF16, so bitsandbytes does not take that path here")
    model = four_bit(tiny, Machine("cpu", fast_bf16=True), stock=True)
    batch = {"input_ids": torch.arange(1, 41).reshape(4, 10)}
    before = gradient_norms(model, batch)
    model.eval()
    with torch.no_grad():
        model(**batch)
    after = gradient_norms(model, batch)
    assert sum(after.values()) < 0.9 * sum(before.values()), "bitsandbytes is mended: keep_gradients can go"


# --- a run that fails ----------------------------------------------------------------------------------------------


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Makes the system refuse to let any file grow beyond so many bytes, as a full disk does; undone at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_last_checkpoint_and_fails_in_plain_words(
    tmp_path: Path, tiny: Path, file_size_limit: Callable[[int], None]
) -> None:
    """The write error is the system's own. What was good before stays and can be resumed once there is room."""
    run_dir = order(tmp_path / "run", tiny, **LONG)

    def fill_the_disk() -> None:
        wait_for(lambda: len(events(run_dir, Event.SAVED)) >= 1)
        file_size_limit(60_000)  # progress and result fit, an adapter does not

    with helper(fill_the_disk):
        assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    file_size_limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    result = result_of(run_dir)
    assert result.status is Status.FAILED
    assert result.reason.startswith("The disk is full")
    kept = rundir.last_good_checkpoint(run_dir)
    assert kept is not None
    assert kept.name in result.reason
    assert not (run_dir / rundir.ADAPTER).exists()

    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert result_of(run_dir).status is Status.DONE


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, tiny: Path) -> None:
    """Nothing learned after a NaN is worth keeping; the reason names the learning rate."""
    run_dir = order(tmp_path / "run", tiny, learning_rate=1e30, epochs=10.0)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    result = result_of(run_dir)
    assert "learning rate (1e+30) is probably too high" in result.reason
    assert result.adapter == ""


def test_an_unknown_base_model_is_named_with_the_remedy(tmp_path: Path) -> None:
    """Offline, a hub id cannot be had: which one, why, and what to set."""
    run_dir = order(tmp_path / "run", "nobody/no-such-model")
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    reason = result_of(run_dir).reason
    assert "nobody/no-such-model could not be loaded" in reason
    assert "LOCAL_MODEL" in reason
    assert "downloads are switched off" in reason


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "holds no examples"),
        (
            '{"id": "1", "messages": [{"role": "user", "content": "Where?"}]}\n',
            "line 1: the answer is missing",
        ),
        (
            '{"id": "1", "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": " "}]}\n',
            "is missing",
        ),
        ("\n{oops\n", "line 2: not an example"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_is_refused_in_plain_words(
    tmp_path: Path, tiny: Path, lines: str, expected: str
) -> None:
    """No examples, no answer, no JSON: the file and the line are named."""
    run_dir = order(tmp_path / "run", tiny)
    (run_dir / "data" / "train.jsonl").write_text(lines)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    assert expected in result_of(run_dir).reason
    assert "train.jsonl" in result_of(run_dir).reason


def test_a_missing_or_foreign_job_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trainer never guesses what it should do."""
    assert qlora.main([str(tmp_path / "nowhere")]) == rundir.EXIT_FAILED
    assert "does not exist" in capsys.readouterr().err
    assert qlora.main([str(tmp_path)]) == rundir.EXIT_FAILED
    assert "job.json is missing" in result_of(tmp_path).reason
    (tmp_path / rundir.JOB).write_text('{"run_id": "r", "colour": "red"}')
    assert qlora.main([str(tmp_path)]) == rundir.EXIT_FAILED
    assert "colour" in result_of(tmp_path).reason


def test_examples_that_are_too_long_are_left_out_and_counted(tmp_path: Path, tiny: Path) -> None:
    """Nothing is cut in the middle; if nothing is left, the reason says so."""
    run_dir = order(tmp_path / "run", tiny, epochs=1.0, max_length=64)
    with (run_dir / "data" / "train.jsonl").open("a") as file:
        turns = [{"role": "user", "content": "why " * 80}, {"role": "assistant", "content": "Because."}]
        file.write(json.dumps({"id": "long", "messages": turns}) + "\n")
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    assert events(run_dir, Event.LOADED)[-1]["message"] == "16 examples; 1 with more than 64 tokens left out"

    impossible = order(tmp_path / "impossible", tiny, max_length=3)
    assert qlora.main([str(impossible)]) == rundir.EXIT_FAILED
    assert "Every example is longer than the 3 tokens" in result_of(impossible).reason


# --- other base models -----------------------------------------------------------------------------------------------


def test_a_base_model_without_a_chat_template_gets_a_plain_one(tmp_path: Path, shared_data: Path) -> None:
    """A model that nobody here made is trained as well, and the run says which template was used."""
    run_dir = order(
        tmp_path / "run", shared_data / "tinylm" / "stories260K-hf", quantization="none", epochs=1.0
    )
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    assert any("no chat template" in line["message"] for line in events(run_dir, Event.LOADED))


def test_long_rows_are_packed_and_learned_from(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing, which real base models get for rows of Slack's length, works on a processor and lowers the loss."""
    from dataclasses import replace

    from training.plan import plan

    def packed(*sizes: Any, **more: Any) -> Any:
        return replace(plan(*sizes, **more), packing=True, batch_size=1, max_length=256)

    monkeypatch.setattr(qlora, "plan", packed)
    run_dir = order(tmp_path / "run", tiny, epochs=20.0, learning_rate=3e-3)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    result = result_of(run_dir)
    assert result.eval_loss is not None
    assert result.eval_loss_before is not None
    assert result.eval_loss < result.eval_loss_before
