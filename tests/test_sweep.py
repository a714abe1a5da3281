"""A sweep: several ways of training are tried on the validation side, bad ones are stopped, the best one is the run's."""

import inspect
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bot.cli_show import run_stage
from bot.errors import PublicError
from bot.slack import report_blocks, text
from bot.train_options import read_options
from storage.records import DatasetVersion, RunState, TrainingRun, now
from training import rundir, sweep_words
from training.failures import LossIsNotANumber
from training.finetuners import Pending
from training.finetuners.local import LocalFineTuner, job_of
from training.plan import Machine, Plan, plan
from training.run_steps import order_of
from training.rundir import Event, Job, Status
from training.runs import RunRules
from training.sweep_space import BATCH, EPOCHS, RANK, RATE, derived_point, plan_at, space_of

ROOT = Path(__file__).parent.parent
STARTER = ROOT / "bot" / "starter"
RULES = RunRules(base_model="base", quantization="nf4", min_examples=1, timeout_s=600.0)


# --- what is tried -----------------------------------------------------------------------------------------------


def derived(job: Job) -> Plan:
    return plan(500_000_000, 400, 40.0, Machine("cuda", True), longest_tokens=120, context=4096, job=job)


def wish(options: str) -> Job:
    """The trainer's job for what somebody typed."""
    run = TrainingRun(
        id="r", team="T", number=3, occasion="x", requested_by="U0ANN", directory="/runs/r",
        progress={"started_at": now().isoformat()}, options=read_options(options),
    )  # fmt: skip
    data = DatasetVersion(id="d", team="T", path="/data", train=1, validation=1, test=1, manifest={})
    return job_of(order_of(run, RULES, data), None)


def test_the_number_of_trials_and_the_end_of_the_run_reach_the_trainer() -> None:
    job = wish("sweep trials=5")
    assert job.trials == 5
    assert job.ends_at == pytest.approx(time.time() + 600, abs=30)
    assert wish("sweep").trials == 12
    assert wish("epochs=2").trials is None


def test_what_is_named_is_not_tried() -> None:
    """An effort settles epochs and rank; a number settles itself; the rest is tried around the derived plan."""
    free = space_of(derived(wish("sweep")), wish("sweep"))
    assert free.slowest < derived(wish("sweep")).learning_rate < free.fastest
    assert len(free.ranks) == len(free.epochs) == 3
    job = wish("sweep effort=thorough")
    assert space_of(derived(job), job).ranks == (32,)
    assert space_of(derived(job), job).epochs == (derived(job).epochs,)
    job = wish("sweep lr=0.001 epochs=2 batch=4")
    made = space_of(derived(job), job)
    assert (made.slowest, made.fastest, made.epochs, made.batch) == (0.001, 0.001, (2.0,), (1.0,))
    assert made.points is not None
    assert [point[RANK] for point in made.points] == [8, 16, 32]


def test_no_trial_takes_more_rows_at_once_than_the_derived_plan() -> None:
    """The memory was estimated for that one."""
    job = wish("sweep")
    made = derived(job)
    for factor in space_of(made, job).batch:
        tried = plan_at(made, derived_point(made) | {BATCH: factor}, rows=400, mean_tokens=40.0, alpha=None)
        assert tried.batch_size <= made.batch_size
        assert tried.batch_size * tried.accumulation == made.batch_size * made.accumulation * factor
    same = plan_at(made, derived_point(made), rows=400, mean_tokens=40.0, alpha=None)
    assert same == made


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("sweep with=openai", "Write with=local"),
        ("with=gemini sweep trials=3", "Write with=local"),
        ("trials=3", "sweep trials=8"),
        ("sweep trials=1", "from 2 to 50"),
        ("sweep trials=900", "from 2 to 50"),
        ("sweep lr=1e-3 batch=8 effort=quick", "Leave away"),
        ("sweep lr=1e-3 batch=8 epochs=3 rank=4", "Leave away"),
    ],
)
def test_what_cannot_be_swept_is_refused_with_its_remedy(words: str, remedy: str) -> None:
    with pytest.raises(PublicError, match=remedy):
        read_options(words)


def test_both_helps_name_it() -> None:
    from bot.cli_learning import train

    for said in (text.TRAIN_HELP, inspect.getdoc(train) or ""):
        assert "sweep" in said
        assert "trials=" in said


# --- how it is told ----------------------------------------------------------------------------------------------


def told(number: int, loss: float | None, ended: str) -> dict[str, Any]:
    values = {RATE: 0.001, RANK: 8, EPOCHS: 3.0, BATCH: 16}
    return {"number": number, "ended": ended, "eval_loss": loss, "why": "", **values}


SWEPT: Mapping[str, Any] = {
    "tried": [told(1, 1.5, "finished"), told(2, None, "failed"), told(3, 1.25, "finished"), told(4, 1.1, "stopped early")],
    "chosen": 3,
    "sure": True,
}  # fmt: skip


def test_the_table_begins_with_the_chosen_one_and_ends_with_what_failed() -> None:
    assert [row[0] for row in sweep_words.table(SWEPT)[1:]] == ["3", "1", "4", "2"]
    assert sweep_words.table(SWEPT)[1][-1] == "chosen"
    assert "number 3 has the best held-out loss: learning rate 0.001, rank 8" in sweep_words.why(SWEPT)
    many = {
        **SWEPT,
        "tried": [told(number, 1.0 + number, "finished") for number in range(1, 51)],
        "chosen": 1,
    }
    assert "and 30 more" in sweep_words.plainly(many)
    assert len(sweep_words.plainly(many)) < 2_900


async def test_slack_and_the_terminal_say_how_far_it_is(tmp_path: Path) -> None:
    """And a new trial does not show the figures of the one before."""
    at = {"stage": "sweep", "trials": 12, "max_steps": 40}
    lines: list[dict[str, Any]] = [
        {"event": "step", "step": 9, "loss": 0.5, "trial": 2, **at},
        {"event": "loaded", "step": 0, "trial": 3, "best_loss": 1.2341, **at},
    ]
    (tmp_path / rundir.PROGRESS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    holder = rundir.lock(tmp_path)
    seen = await LocalFineTuner(environment={}).poll(str(tmp_path))
    os.close(holder)
    assert isinstance(seen, Pending)
    run = TrainingRun(
        id="0123456789", team="T", number=3, occasion="x", state=RunState.TRAINING, requested_by="U0ANN",
        options={}, progress=seen.progress,
    )  # fmt: skip
    expected = "trying 3 of 12, best held-out loss 1.234, step 0 of 40"
    assert report_blocks.stage_details(run, report_blocks.TRAIN) == expected
    assert run_stage(run)[1] == expected


# --- what it does ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of random weights that trains a hundred steps in a second."""
    torch = pytest.importorskip("torch", reason="the extra [local] is not installed")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def order(run_dir: Path, base: Path, **job: Any) -> Path:
    """A run directory with sixteen examples, eight to watch, and a sweep of three."""
    data = run_dir / "data"
    data.mkdir(parents=True)
    answers = ("At the desk.", "At noon.", "On floor three.", "Four euros.")
    rows = [
        (f"{word} {number}?", answer)
        for number in range(4)
        for word, answer in zip("abcd", answers, strict=True)
    ]
    for split, chosen in (("train", rows), ("validation", rows[::2]), ("test", rows[:2])):
        turns = [
            {
                "id": str(at),
                "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}],
            }
            for at, (asked, said) in enumerate(chosen)
        ]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in turns))
    options = {"quantization": "none", "epochs": 6.0, "trials": 3, "seed": 1, **job}
    rundir.write_job(run_dir, Job("run-1", str(base), str(data), "sha", **options))
    return run_dir


def result_of(run_dir: Path) -> rundir.TrainingResult:
    result = rundir.read_result(run_dir)
    assert result is not None
    return result


def swept(run_dir: Path) -> dict[str, Any]:
    found = sweep_words.sweep_of(result_of(run_dir).card)
    assert found is not None
    return dict(found)


OPENED: list[str] = []


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(note_opened)


@pytest.mark.training
def test_the_best_is_kept_and_bad_ones_are_stopped(tmp_path: Path, tiny: Path) -> None:
    """The adapter is that of the trial with the lowest held-out loss; the test side is not even opened."""
    from training import qlora

    run_dir = order(tmp_path / "run", tiny, trials=6)
    OPENED.clear()
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    data = str(run_dir / "data")
    assert {Path(each).name for each in OPENED if each.startswith(data)} == {
        "train.jsonl",
        "validation.jsonl",
    }

    found = swept(run_dir)
    finished = {each["number"]: each["eval_loss"] for each in found["tried"] if each["ended"] == "finished"}
    assert [each["number"] for each in found["tried"]] == list(range(1, 7))
    assert found["chosen"] == min(finished, key=lambda number: finished[number])
    assert "stopped early" in {each["ended"] for each in found["tried"]}
    result = result_of(run_dir)
    assert result.eval_loss == pytest.approx(finished[found["chosen"]])
    best = next(each for each in found["tried"] if each["number"] == found["chosen"])
    assert result.hyperparameters["learning_rate"] == best[RATE]
    assert result.hyperparameters["rank"] == best[RANK]
    assert (run_dir / rundir.ADAPTER / "adapter_model.safetensors").exists()
    assert "### What was tried" in (run_dir / rundir.ADAPTER / "README.md").read_text(encoding="utf-8")
    assert f"number {found['chosen']} has the best" in result.method_reason

    course = sweep_words.chosen_course(rundir.read_progress(run_dir))
    assert {line["trial"] for line in course if line.get("trial")} == {found["chosen"]}
    assert not list(run_dir.glob("sweep/*/checkpoints"))


@pytest.mark.training
def test_killed_in_a_trial_it_goes_on_and_repeats_none_that_finished(tmp_path: Path, tiny: Path) -> None:
    run_dir = order(tmp_path / "run", tiny)
    trainer = child(run_dir)
    wait_for(trainer, run_dir, trial=2, event=Event.SAVED)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    before = len(rundir.read_progress(run_dir))
    first = (run_dir / "sweep" / "trial-01" / rundir.PROGRESS).read_bytes()
    with (run_dir / "sweep" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"torn')

    from training import qlora

    assert qlora.main([str(run_dir), "--resume"]) == rundir.EXIT_DONE
    assert (run_dir / "sweep" / "trial-01" / rundir.PROGRESS).read_bytes() == first
    after = [line["trial"] for line in rundir.read_progress(run_dir)[before:] if line.get("stage") == "sweep"]
    assert set(after) == {2, 3}
    assert [each["number"] for each in swept(run_dir)["tried"]] == [1, 2, 3]


def test_what_is_tried_next_depends_on_the_journal_alone(tmp_path: Path) -> None:
    """Interrupted in every trial, a sweep tries the same values as one that is not."""
    pytest.importorskip("optuna", reason="the extra [local] is not installed")
    from training.sweep_study import Study

    job = wish("sweep trials=5")
    tried: list[list[Any]] = []
    for often in (1, 2):
        home, values = tmp_path / str(often), []
        for loss in (3.0, 1.0, 2.0, 4.0, 5.0):
            for _ in range(often):
                study = Study(
                    home, space_of(derived(job), job), derived_point(derived(job)), trials=5, seed=0
                )
                trial = study.next()
            assert trial is not None
            values.append(study.point(trial))
            study.begin(trial, rows=8)
            study.finished(trial, loss, 1.0)
        assert study.next() is None
        assert study.best == (2, 1.0)
        tried.append(values)
    assert tried[0] == tried[1]
    assert tried[0][0] == derived_point(derived(job))
    assert len({each[RATE] for each in tried[0]}) == 5


def child(run_dir: Path) -> subprocess.Popen[bytes]:
    with (run_dir / rundir.LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "training.qlora", str(run_dir), "--resume"],
            cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def wait_for(trainer: subprocess.Popen[bytes], run_dir: Path, *, trial: int, event: Event) -> None:
    deadline = time.monotonic() + 90
    while not any(
        line.get("trial") == trial and line["event"] == event for line in rundir.read_progress(run_dir)
    ):
        assert trainer.poll() is None, (run_dir / rundir.LOG).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.training
@pytest.mark.parametrize("within", [True, False])
def test_it_is_cancelled_within_a_trial_and_between_two(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    from training import qlora, sweep

    run_dir = order(tmp_path / "run", tiny)
    home, name = (sweep._Page, "tell") if within else (sweep._Sweep, "_tidy")
    usual = getattr(home, name)

    def and_cancel(self: Any, *arguments: Any, **facts: Any) -> None:
        if not within or (arguments[0] is Event.EVALUATED and arguments[1] > 0):
            rundir.request_cancel(run_dir)
        usual(self, *arguments, **facts)

    monkeypatch.setattr(home, name, and_cancel)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    assert result_of(run_dir).status is Status.CANCELLED
    assert not (run_dir / rundir.ADAPTER).exists()
    trials = {line["trial"] for line in rundir.read_progress(run_dir) if line.get("trial")}
    assert trials == {1}


@pytest.mark.training
def test_when_the_time_is_up_the_best_so_far_is_kept(tmp_path: Path, tiny: Path) -> None:
    """The run's limit would make it fail with nothing; one trial always runs to its end."""
    from training import qlora

    run_dir = order(tmp_path / "run", tiny, ends_at=time.time(), trials=50)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    assert [each["ended"] for each in swept(run_dir)["tried"]] == ["finished"]


@pytest.mark.training
def test_without_held_out_examples_there_is_nothing_to_compare_on(tmp_path: Path, tiny: Path) -> None:
    from training import qlora

    run_dir = order(tmp_path / "run", tiny)
    (run_dir / "data" / "validation.jsonl").write_text("")
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED
    assert "train without `sweep`" in result_of(run_dir).reason


@pytest.mark.training
def test_a_trial_that_goes_astray_ends_itself_and_not_the_sweep(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import qlora, sweep

    usual = sweep._Page.tell

    def astray(self: Any, event: Event, *arguments: Any, **facts: Any) -> None:
        usual(self, event, *arguments, **facts)
        if event is Event.EVALUATED and self._trial.number == 0:
            raise LossIsNotANumber("loss is nan at step 3")

    monkeypatch.setattr(sweep._Page, "tell", astray)
    run_dir = order(tmp_path / "run", tiny, trials=2)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    found = swept(run_dir)
    assert [each["ended"] for each in found["tried"]] == ["failed", "finished"]
    assert math.isfinite(found["tried"][1]["eval_loss"])
