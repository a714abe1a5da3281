"""A run stops by itself where going on makes it worse: on rows learned by heart, and at a rate that throws it about."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

from test_qlora import FACTS, STARTER, answers, events, order, result_of, write_split
from transformers import AutoModelForCausalLM

from training import qlora, rundir
from training.rundir import Event

pytestmark = pytest.mark.training


def test_rows_learned_by_heart_stop_the_run_and_the_best_adapter_is_kept(tmp_path: Path) -> None:
    """What is held out wants other answers: its loss climbs soon, and the rest of the steps is not taken."""
    run_dir = order(tmp_path / "run", STARTER, epochs=20.0, batch_size=4, learning_rate=1e-2)
    wrong = dict(zip(FACTS, [*list(FACTS)[1:], next(iter(FACTS))], strict=True))
    rows = [(question, wrong[answer]) for answer, questions in FACTS.items() for question in questions]
    write_split(run_dir / "data" / "validation.jsonl", rows)
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE
    result = result_of(run_dir)
    assert result.steps < events(run_dir, Event.STEP)[-1]["max_steps"]
    assert "overfitting" in result.stopped_early
    looks = {line["step"]: line["eval_loss"] for line in events(run_dir, Event.EVALUATED) if line["step"]}
    assert result.best_step == min(looks, key=lambda step: looks[step])
    assert result.best_step is not None
    assert result.best_step < (result.steps or 0)
    assert result.eval_loss == pytest.approx(min(looks.values()), rel=1e-3)


def test_a_rate_that_throws_the_loss_about_ends_the_run_with_the_remedy(tmp_path: Path) -> None:
    """Numbers all the way, far above where they began: nothing of it is kept. The rows are what the model says anyway."""
    run_dir = order(tmp_path / "run", STARTER, epochs=30.0, batch_size=4, learning_rate=0.1)
    asked = [question for questions in FACTS.values() for question in questions]
    said = answers(AutoModelForCausalLM.from_pretrained(STARTER), asked)
    for split in ("train", "validation"):
        write_split(run_dir / "data" / f"{split}.jsonl", list(zip(asked, said, strict=True)))
    assert qlora.main([str(run_dir)]) == rundir.EXIT_FAILED, [
        line["loss"] for line in events(run_dir, Event.STEP)
    ]
    result = result_of(run_dir)
    assert "began at" in result.reason
    assert "learning rate (0.1) is probably too high" in result.reason
    assert result.adapter == ""
    steps = events(run_dir, Event.STEP)
    assert steps[-1]["step"] < steps[-1]["max_steps"]
