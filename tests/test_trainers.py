"""Stages of a run: preferences after answers, other adapters than LoRA, limits that hold before anything is loaded."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

import torch
from peft import PeftModel
from test_qlora import FACTS, child, end_of, events, order, result_of, tiny, wait_for
from transformers import AutoModelForCausalLM

from bot.models.local_adapters import read_adapter
from bot.models.local_llama import LlamaNet
from training import qlora, rundir
from training.failures import Diverged, in_plain_words, neighbour_is_gone
from training.finetuners.local import last_words
from training.method import Method
from training.rundir import Event, Status
from training.trainers import preferences

__all__ = ["tiny"]

pytestmark = pytest.mark.training

WRONG = "Nobody knows that, sorry."


def with_preferences(run_dir: Path) -> Path:
    """To each fact's question, the right answer is preferred to a wrong one; two wordings of each are held back."""
    rows = [
        {
            "messages": [{"role": "user", "content": asked}],
            "chosen": answer,
            "rejected": WRONG,
            "split": split,
        }
        for answer, questions in FACTS.items()
        for asked, split in zip(questions * 2, ["train"] * 6 + ["validation"] * 2, strict=True)
    ]
    lines = (json.dumps({"id": str(n), "cluster": "c", **row}) for n, row in enumerate(rows))
    (run_dir / "data" / "preferences.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run_dir


SHORT: dict[str, Any] = {"epochs": 8.0, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def dpo(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A finished run of two stages."""
    run_dir = with_preferences(order(tmp_path_factory.mktemp("dpo") / "run", tiny, method="dpo", **SHORT))
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    return run_dir


def test_dpo_comes_after_sft_and_is_told_as_a_stage_of_its_own(dpo: Path) -> None:
    """It begins at what SFT left, widens the margin on pairs that were held back, and the adapter that counts is its own."""
    result = result_of(dpo)
    assert result.status is Status.DONE
    assert result.method == "sft+dpo"
    first, second = result.stages
    assert (first["stage"], second["stage"]) == ("sft", "dpo")
    assert second["margin"] > 0
    assert second["accuracy"] > 0.9
    assert result.adapter_sha256 == second["adapter_sha256"] != first["adapter_sha256"]
    assert result.eval_loss == first["eval_loss"]  # of the answers; a preference loss is no such number
    assert [line["stage"] for line in events(dpo, Event.EVALUATED) if not line["step"]] == ["sft", "dpo"]
    card = (dpo / "adapter" / "README.md").read_text()
    assert "## DPO: learning what is preferred" in card
    assert 'dataset: "sha-of-facts"' in card


def test_the_reference_of_dpo_is_what_sft_left(dpo: Path) -> None:
    """Measured against itself nothing is preferred: its first loss is that of a coin, and no copy of it is saved."""
    lines = [line for line in events(dpo, Event.EVALUATED) if line["stage"] == "dpo"]
    sft_share = lines[0]["eval_loss"] - 0.6931
    assert 0 < sft_share < 2  # KEEP_SAYING times the loss of the chosen answers
    assert not list(dpo.rglob("ref"))


def test_kto_learns_from_thumbs_alone(tmp_path: Path, tiny: Path) -> None:
    """Liked and disliked answers to different questions; nothing is paired."""
    run_dir = with_preferences(order(tmp_path / "run", tiny, method="kto", **SHORT))
    rows = [json.loads(line) for line in (run_dir / "data" / "preferences.jsonl").read_text().splitlines()]
    (run_dir / "data" / "preferences.jsonl").unlink()
    thumbs = [
        {**row, "completion": row["chosen"] if n % 2 else row["rejected"], "label": bool(n % 2)}
        for n, row in enumerate(rows)
    ]
    (run_dir / "data" / "unpaired.jsonl").write_text("\n".join(map(json.dumps, thumbs)), encoding="utf-8")
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    result = result_of(run_dir)
    assert result.method == "sft+kto"
    assert result.stages[1]["margin"] > 0
    assert result.stages[1]["rows"] == "24 rated answers"


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_second_stage_that_is_killed_goes_on_where_it_was(tmp_path: Path, tiny: Path, method: str) -> None:
    """kill -9: the first stage is not learned again, and the adapter is that of an undisturbed run, byte for byte."""
    whole = with_preferences(order(tmp_path / "whole" / "run", tiny, method=method, **SHORT))
    assert qlora.main([str(whole)]) == rundir.EXIT_DONE
    run_dir = with_preferences(order(tmp_path / "killed" / "run", tiny, method=method, **SHORT))
    trainer = child(run_dir)

    def second_is_saved() -> bool:
        return (
            any(line["stage"] == method for line in events(run_dir, Event.SAVED))
            or trainer.poll() is not None
        )

    wait_for(second_is_saved, seconds=200)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait(30)
    assert rundir.kept_stage(run_dir, Method.SFT) is not None
    assert rundir.read_result(run_dir) is None
    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert end_of(result_of(run_dir)) == end_of(result_of(whole))
    assert len([line for line in events(run_dir, Event.EVALUATED) if not line["step"]]) == 2


@pytest.mark.parametrize("kind", ["dora", "rslora", "prompt", "ia3"])
def test_other_adapters_are_trained_and_answer(tmp_path: Path, tiny: Path, kind: str) -> None:
    """Each is saved in PEFT's own form, lowers the held-out loss, and what serves says what PEFT says."""
    run_dir = order(tmp_path / "run", tiny, adapter=kind, quantization="none", epochs=12.0, batch_size=8)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    result = result_of(run_dir)
    assert result.adapter_kind == kind
    assert result.eval_loss is not None
    assert result.eval_loss_before is not None
    assert result.eval_loss < result.eval_loss_before
    ids = list(range(5, 45))
    base: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    base.eval()
    plain = base(input_ids=torch.tensor([ids])).logits[0, -1]
    net = LlamaNet(base)
    net.put("new", read_adapter(run_dir / "adapter"))
    asked = net.prompts.ids("new") + ids
    net.riders.seat(["new"])
    said = net.logits(torch.tensor([asked]), torch.arange(len(asked))[None], net.fresh(), None)[0]
    tuned = PeftModel.from_pretrained(base, str(run_dir / "adapter")).eval()
    meant = tuned(input_ids=torch.tensor([ids])).logits[0, -1]
    assert torch.allclose(said, meant, atol=1e-3)
    assert not torch.allclose(plain, meant, atol=1e-2)


@pytest.mark.parametrize("kind", ["dora", "ia3"])
def test_preferences_are_learned_with_other_adapters(tmp_path: Path, tiny: Path, kind: str) -> None:
    """The second stage goes on with the adapter of the first, whatever its kind."""
    run_dir = with_preferences(
        order(tmp_path / "run", tiny, adapter=kind, method="dpo", **SHORT, quantization="none")
    )
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    result = result_of(run_dir)
    first, second = (stage["adapter_sha256"] for stage in result.stages)
    assert first != second
    read_adapter(run_dir / "adapter")


# --- limits --------------------------------------------------------------------------------------------------------


def test_too_little_memory_is_said_before_anything_is_loaded(tmp_path: Path, tiny: Path) -> None:
    """The operator's limit is one of those that count; the remedy is named, and no checkpoint was begun."""
    run_dir = order(tmp_path / "run", tiny, memory_mb=300, quantization="none")
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    reason = result_of(run_dir).reason
    assert "0.3 GB are free" in reason
    assert "TRAIN_QUANTIZATION=nf4" in reason
    assert not (run_dir / rundir.CHECKPOINTS).exists()


def test_memory_that_runs_out_all_the_same_is_said_in_plain_words(tmp_path: Path, tiny: Path) -> None:
    """The system refuses more address space in the middle of the run: failed, with the remedy in plain words.

    Where torch or Python hears it first. Some libraries do not look and fall over instead; then that is said.
    """
    run_dir = order(tmp_path / "run", tiny, epochs=400.0, batch_size=4)
    trainer = child(run_dir)
    wait_for(lambda: bool(events(run_dir, Event.STEP)) or trainer.poll() is not None)
    used = int((Path("/proc") / str(trainer.pid) / "statm").read_text().split()[0]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    resource.prlimit(trainer.pid, resource.RLIMIT_AS, (used // 2, used // 2))
    if (code := trainer.wait(120)) == rundir.EXIT_FAILED:
        said = result_of(run_dir).reason
        assert said.startswith("The memory is full. Choose a smaller batch_size (now 4)")
    else:
        assert code in {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}
        assert rundir.read_result(run_dir) is None
        assert "in a library, as happens where memory runs out" in last_words(run_dir)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_all_ways_of_running_out_of_memory_read_alike(error: Exception) -> None:
    """The GPU's error class and the system's words mean the same to people."""
    said = in_plain_words(error, checkpoint=None, learning_rate=1e-4, batch_size=8)
    assert said.startswith("The memory is full.")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            f"{rundir.BESIDE}The memory is full. Choose less.\nRuntimeError: Connection closed by peer [127.0.0.1]\n====\n",
            f"{rundir.BESIDE}The memory is full. Choose less.",
        ),
        (
            "RuntimeError: Connection closed by peer\n traceback : Signal 9 (SIGKILL) received by PID 7\n====\n",
            "one of its processes was killed (SIGKILL), as happens where memory runs out",
        ),
    ],
)
def test_of_several_processes_the_one_that_ended_is_quoted(tmp_path: Path, log: str, said: str) -> None:
    """The others only say that it is gone, and torchrun draws a box around it."""
    (tmp_path / rundir.LOG).write_text(log)
    assert last_words(tmp_path) == said
    assert neighbour_is_gone(RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:9"))
    assert not neighbour_is_gone(RuntimeError("shape mismatch"))


def test_a_loss_that_went_astray_names_the_learning_rate() -> None:
    """Where it began and where it is."""
    said = in_plain_words(Diverged(2.0, 9.0, 40), checkpoint=None, learning_rate=0.1, batch_size=8)
    assert "began at 2.000 and is at 9.000 by step 40" in said
    assert "learning rate (0.1)" in said


def test_one_training_at_a_time_on_a_device(tmp_path: Path, tiny: Path) -> None:
    """A second run of the same data folder waits, says so, and can be cancelled while it waits."""
    held = rundir.lock_device(tmp_path / ".cpu.lock")
    assert held is not None
    run_dir = order(tmp_path / "run", tiny, epochs=1.0)
    waiting = child(run_dir)
    wait_for(lambda: bool(events(run_dir, Event.WAITING)) or waiting.poll() is not None)
    rundir.request_cancel(run_dir)
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(30) == rundir.EXIT_DONE
    assert result_of(run_dir).status is Status.CANCELLED
    os.close(held)
    again = rundir.lock_device(tmp_path / ".cpu.lock")
    assert again is not None
    os.close(again)


def test_kto_keeps_the_liked_answers_likely() -> None:
    """Their own mean loss is added, of answers' tokens alone; a batch of dislikes adds nothing."""
    likely = torch.tensor([[-1.0, -2.0, -4.0], [-8.0, -8.0, -8.0]])
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    both = {"completion_mask": mask, "label": [True, False]}
    assert float(preferences._unlikely(likely, both)) == 3.0
    assert float(preferences._unlikely(likely, {**both, "label": [False, False]})) == 0.0
