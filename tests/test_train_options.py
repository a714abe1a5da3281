"""What follows `/train`: read, refused with the remedy, carried to the trainer, and told in the report."""

import inspect
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.errors import PublicError
from bot.slack import report_blocks, report_text, text
from bot.train_options import ADAPTERS, READERS, read_options
from storage.records import DatasetVersion, RunState, TrainingRun
from storage.store import Store
from training import rundir
from training.finetuners import Order, Pending
from training.finetuners.local import LocalFineTuner, job_of
from training.method import ON_SERVERS, Adapter
from training.plan import Machine, Plan, plan, preference_plan
from training.run_steps import order_of
from training.runs import Declined, RunRules, Runs

EVERYTHING = "effort=thorough method=dpo epochs=4 lr=3e-4 rank=8 batch=6 seed=7 quantization=none adapter=rslora with=local"
RULES = RunRules(base_model="base", quantization="nf4", min_examples=1, timeout_s=60.0, epochs=9.0)


def made(options: str, rows: int = 400, parameters: int = 500_000_000) -> Plan:
    order = ordered(options)
    job = job_of(order, None)
    return plan(parameters, rows, 40.0, Machine("cuda", True), longest_tokens=120, context=4096, job=job)


def ordered(options: str, rules: RunRules = RULES) -> Order:
    run = TrainingRun(
        id="r", team="T", number=3, occasion="x", requested_by="U0ANN", progress={},
        options=read_options(options), directory="/runs/r",
    )  # fmt: skip
    data = DatasetVersion(id="d", team="T", path="/data", train=1, validation=1, test=1, manifest={})
    return order_of(run, rules, data)


def test_every_option_reaches_the_trainer() -> None:
    """From the words to job.json: nothing that a person typed is dropped on the way."""
    job = job_of(ordered(EVERYTHING), None)
    assert (job.effort, job.method, job.epochs, job.learning_rate) == ("thorough", "dpo", 4.0, 3e-4)
    assert (job.rank, job.batch_size, job.seed) == (8, 6, 7)
    assert (job.quantization, job.adapter) == ("none", "rslora")


def test_effort_moves_what_is_derived_and_nothing_that_was_asked_for() -> None:
    """A third of the epochs and half the rank; twice both; the operator's epochs give way, the person's do not."""
    quick, usual, thorough = (made(f"effort={effort}") for effort in ("quick", "normal", "thorough"))
    assert quick.max_steps < usual.max_steps < thorough.max_steps
    assert (quick.rank, usual.rank, thorough.rank) == (8, 16, 32)
    assert (quick.alpha, thorough.alpha) == (16, 64)
    assert quick.patience < usual.patience < thorough.patience
    asked = made("effort=thorough epochs=2 rank=4")
    assert (asked.epochs, asked.rank, asked.alpha) == (2.0, 4, 8)
    assert made("").epochs == 9.0
    seconds = [
        preference_plan(each, 400, parameters=500_000_000, mean_tokens=80.0) for each in (quick, thorough)
    ]
    assert seconds[0].max_steps < seconds[1].max_steps


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("lr=fast", "lr=2e-4"),
        ("lr=nan", "between 0 and 1"),
        ("lr=0", "between 0 and 1"),
        ("rank=0", "from 1 to 256"),
        ("batch=1.5", "from 1 to 256"),
        ("batch=" + "9" * 5000, "too long"),
        ("batch=" + "9" * 30, "from 1 to 256"),
        ("effort=max", "quick, normal, thorough"),
        ("epochs=2 epochs=3", "Write it once"),
        ("adapter=none", "lora, rslora, dora, ia3, prompt"),
        ("method=dpo adapter=prompt", "adapter=prompt learns from answers alone, not by dpo"),
        ("adapter=ia3 rank=8", "adapter=ia3 has no rank. Leave rank= away"),
        ("with=openai rank=8", "with=openai does not take rank="),
        ("faster", "/train help"),
    ],
)
def test_what_does_not_work_is_refused_with_its_remedy(words: str, remedy: str) -> None:
    """Before anything is frozen or trained."""
    with pytest.raises(PublicError, match=remedy.replace("+", r"\+")):
        read_options(words)


def test_every_kind_of_adapter_is_offered_and_has_a_rate_of_its_own() -> None:
    """What scales a few numbers takes larger steps than LoRA, in a second stage, too; a rate that is asked for stays."""
    assert set(ADAPTERS) == set(map(str, Adapter))
    usual, small, asked = (made(f"adapter={words}") for words in ("dora", "prompt", "ia3 lr=0.5"))
    assert usual.learning_rate == made("").learning_rate
    assert small.learning_rate == 60 * usual.learning_rate
    assert asked.learning_rate == 0.5
    seconds = [
        preference_plan(each, 400, parameters=500_000_000, mean_tokens=80.0) for each in (usual, small)
    ]
    assert seconds[1].learning_rate == 60 * seconds[0].learning_rate


async def test_a_server_is_given_only_adapters_that_it_can_load(tmp_path: Path) -> None:
    """Said before anything is frozen, with those it takes."""
    store = await Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    nobody: Any = None
    runs = Runs(
        store,
        team="T",
        folder=tmp_path,
        finetuners={"local": LocalFineTuner(environment={})},
        evaluations=nobody,
        rules=replace(RULES, adapters=ON_SERVERS),
        report=nobody,
        worker="w",
    )
    declined = await runs.request(by="U0ANN", occasion="x", options=read_options("adapter=dora"))
    assert isinstance(declined, Declined)
    assert declined.reason.endswith("cannot answer with adapter=dora. Write one of: lora, rslora.")
    taken = await runs.request(by="U0ANN", occasion="x", options=read_options("adapter=rslora"))
    assert isinstance(taken, Declined)
    assert "examples to learn from" in taken.reason
    await store.close()


def test_both_helps_name_every_option() -> None:
    from bot.cli_learning import train

    for said in (text.TRAIN_HELP, inspect.getdoc(train) or ""):
        assert [name for name in READERS if f"{name}=" not in said] == []


def test_a_report_tells_the_stage_how_fast_it_is_and_what_was_asked_for() -> None:
    """The line of a run under way, and the report's last line."""
    run = TrainingRun(
        id="0123456789", team="T", number=3, occasion="x", state=RunState.TRAINING, requested_by="U0ANN",
        options=read_options("effort=quick lr=0.001") | {"scheduled": True},
        progress={"stage": "dpo", "step": 5, "max_steps": 40, "loss": 0.5, "eval_loss": 0.625,
                  "tokens_per_s": 1234.5, "eta_s": 70.0, "method_reason": "200 pairs are enough for DPO."},
    )  # fmt: skip
    assert report_blocks.stage_details(run, report_blocks.TRAIN) == (
        "learning what is preferred, step 5 of 40, loss 0.500, held-out loss 0.625, 1,234 tokens/s, about 70 s left"
    )
    assert report_text.asked_by(run) == (
        "Asked for by <@U0ANN> with effort=quick lr=0.001 · run `23456789` · 200 pairs are enough for DPO."
    )


async def test_a_new_stage_does_not_show_the_figures_of_the_one_before(tmp_path: Path) -> None:
    """SFT's loss beside DPO's first step would be taken for DPO's."""
    lines = [
        {"event": "step", "stage": "sft", "step": 9, "max_steps": 9, "loss": 0.1, "tokens_per_s": 50.0},
        {"event": "loaded", "stage": "dpo", "step": 0, "max_steps": 4, "loss": None},
    ]
    (tmp_path / rundir.PROGRESS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    holder = rundir.lock(tmp_path)  # a trainer is at work there
    seen = await LocalFineTuner(environment={}).poll(str(tmp_path))
    os.close(holder)
    assert isinstance(seen, Pending)
    assert seen.progress["stage"] == "dpo"
    assert seen.progress["loss"] is None
    assert seen.progress["tokens_per_s"] is None
