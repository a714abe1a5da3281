"""What SFT's loss is: answers alone, each row as hard as its weight says, however rows are spread over lines and batches."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

import torch
from peft import LoraConfig, get_peft_model
from test_qlora import tiny
from transformers import AutoModelForCausalLM

from storage.errors import PublicError
from training.plan import Machine, Plan, plan
from training.rows import IGNORED, Row, read_examples
from training.trainers import sft
from training.trainers.lines import packed

__all__ = ["tiny"]

pytestmark = pytest.mark.training

FIRST = ([5, 6, 7], [8, 9, 10, 11])
SECOND = ([12, 13, 14, 15, 16], [17, 18])


def a_row(parts: tuple[list[int], list[int]], weight: float = 1.0) -> Row:
    prompt, answer = parts
    return Row(prompt + answer, [IGNORED] * len(prompt) + answer, "", weight)


def a_plan(**choices: Any) -> Plan:
    from dataclasses import replace

    made = plan(100_000, 2, 8.0, Machine("cpu", False), longest_tokens=8, context=512)
    return replace(made, batch_size=2, max_length=64, opening_weight=0.0, **choices)


def gradients(base: Path, folder: Path, rows: list[Row], made: Plan) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one step over these rows: the loss, and what it asks of the adapter."""
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, each in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(each, std=0.1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = sft.make(model, made, folder, tokenizer, rows, [], seed=0, decides=False, callbacks=[])
    lines = list(trainer.train_dataset)
    batches = [
        trainer.data_collator(lines[at : at + made.batch_size])
        for at in range(0, len(lines), made.batch_size)
    ]
    whole = trainer._get_num_items_in_batch(batches, "cpu")
    model.train()
    losses = [trainer.compute_loss(model, batch, num_items_in_batch=whole) for batch in batches]
    total = torch.stack(losses).sum()
    total.backward()  # type: ignore[no-untyped-call]
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return float(total), found


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("opening_weight", [0.0, 10.0])
def test_a_row_of_weight_a_quarter_pulls_a_quarter_as_hard(
    tmp_path: Path, tiny: Path, packing: bool, opening_weight: float
) -> None:
    """Beside a whole row, its part of the gradient is exactly a quarter of what it is with weight 1."""
    from dataclasses import replace

    made = replace(a_plan(packing=packing), opening_weight=opening_weight)

    def of(first: float, second: float) -> tuple[float, dict[str, torch.Tensor]]:
        return gradients(tiny, tmp_path, [a_row(FIRST, first), a_row(SECOND, second)], made)

    (alone, without), (both, whole), (less, quarter) = of(1.0, 1e-30), of(1.0, 1.0), of(1.0, 0.25)
    assert less == pytest.approx(alone + (both - alone) / 4, rel=1e-5)
    close(quarter, {name: without[name] + (whole[name] - without[name]) / 4 for name in whole})
    assert any(gradient.abs().max() > 1e-3 for gradient in whole.values())


def test_the_loss_is_the_mean_over_the_answers_tokens_however_rows_are_spread(
    tmp_path: Path, tiny: Path
) -> None:
    """Together, one after the other, or packed into a line: the same as transformers' own loss on those labels."""
    rows = [a_row(FIRST), a_row(SECOND)]
    together, wanted = gradients(tiny, tmp_path, rows, a_plan())
    from dataclasses import replace

    for made in (replace(a_plan(), batch_size=1, accumulation=2), a_plan(packing=True)):
        loss, found = gradients(tiny, tmp_path, rows, made)
        assert loss == pytest.approx(together, rel=1e-5)
        close(found, wanted)
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    plain = [
        model(input_ids=torch.tensor([each.ids]), labels=torch.tensor([each.labels])).loss.item() * tokens
        for each, tokens in zip(rows, (4, 2), strict=True)
    ]
    untouched, _ = gradients_of_fresh(tiny, tmp_path, rows)
    assert untouched == pytest.approx(sum(plain) / 6, rel=1e-5)


def gradients_of_fresh(base: Path, folder: Path, rows: list[Row]) -> tuple[float, None]:
    """The loss of the base itself, as the trainer watches it."""
    from transformers import AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = sft.make(model, a_plan(), folder, tokenizer, rows, rows, seed=0, decides=False, callbacks=[])
    return float(trainer.evaluate()["eval_loss"]), None


def test_packing_cuts_nothing_and_leaves_little_over() -> None:
    """Every row is in one line, no line is too long, and there are few of them."""
    lengths = [300, 200, 200, 100, 90, 60, 50, 12, 12]
    lines = packed(lengths, 512)
    assert sorted(place for line in lines for place in line) == list(range(len(lengths)))
    assert len(lines) == 2
    assert all(sum(lengths[place] for place in line) <= 512 for line in lines)


def test_the_weight_of_a_line_is_read_and_a_senseless_one_is_refused(tmp_path: Path) -> None:
    """No weight is a whole one."""
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    path = tmp_path / "train.jsonl"
    path.write_text(
        "\n".join(json.dumps(each) for each in ({"messages": turns}, {"messages": turns, "weight": 0.25}))
    )
    assert [each.weight for each in read_examples(path)] == [1.0, 0.25]
    path.write_text(json.dumps({"messages": turns, "weight": -1}))
    with pytest.raises(PublicError, match=r"line 1: the weight -1 is not above 0"):
        read_examples(path)
