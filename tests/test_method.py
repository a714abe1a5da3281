"""Which method, how much memory, when a loss goes astray, and what an adapter's card says: decisions without torch."""

from dataclasses import replace
from itertools import repeat

import pytest

from storage.errors import PublicError
from training.adapter_card import adapter_card
from training.course import OPENING, PATIENCE, Course
from training.memory import Shape, estimate, load_of, squeezed
from training.method import Adapter, Material, Method, adapter_named, choose
from training.plan import Machine, plan, preference_plan
from training.room import free_bytes

SFT, DPO, KTO = Method.SFT, Method.DPO, Method.KTO


@pytest.mark.parametrize(
    ("material", "stages", "said"),
    [
        (
            Material(50),
            (SFT,),
            "200 pairs are needed for DPO (there are 0).",
        ),
        (Material(1), (SFT,), "SFT on 1 example;"),
        (Material(50, pairs=200), (SFT, DPO), "200 pairs of a better and a worse answer are enough for DPO"),
        (
            Material(50, pairs=199, liked=270, disliked=30),
            (SFT,),
            "270 liked and 30 disliked answers would do for KTO",
        ),
        (Material(50, liked=290, disliked=29), (SFT,), "200 pairs are needed for DPO (there are 0)."),
        (Material(50, liked=150, disliked=149), (SFT,), "200 pairs are needed for DPO (there are 0)."),
    ],
)
def test_the_method_is_what_the_data_allows_and_the_reason_is_said(
    material: Material, stages: tuple[Method, ...], said: str
) -> None:
    """A preference method needs enough of its kind, and comes after SFT."""
    choice = choose(material)
    assert choice.stages == stages
    assert said in choice.reason


@pytest.mark.parametrize(
    ("asked", "material", "stages"),
    [
        ("sft", Material(5, pairs=900), (SFT,)),
        ("dpo", Material(5, pairs=1), (SFT, DPO)),
        ("dpo", Material(0, pairs=9), (DPO,)),
        ("kto", Material(0, liked=1, disliked=1), (KTO,)),
    ],
)
def test_who_asks_for_a_method_gets_it(asked: str, material: Material, stages: tuple[Method, ...]) -> None:
    """However little there is; without examples a preference method stands alone."""
    choice = choose(material, asked=asked)
    assert choice.stages == stages
    assert "as asked" in choice.reason


@pytest.mark.parametrize(
    ("asked", "material", "said"),
    [
        ("", Material(0, pairs=500), "no examples to learn from"),
        ("dpo", Material(5), "this dataset has none"),
        ("kto", Material(5, liked=9), "9 and 0"),
        ("ppo", Material(5), "There is no method 'ppo'"),
    ],
)
def test_a_method_without_its_material_is_refused_with_the_remedy(
    asked: str, material: Material, said: str
) -> None:
    """What is missing is named."""
    with pytest.raises(PublicError, match=said):
        choose(material, asked=asked)


def test_a_learned_prompt_has_one_stage() -> None:
    """However many pairs there are; who asks for preferences with it is told at once."""
    choice = choose(Material(5, pairs=900), kind=Adapter.PROMPT)
    assert choice.stages == (SFT,)
    assert "no second stage" in choice.reason
    assert choose(Material(5, pairs=900), kind=Adapter.IA3).stages == (SFT, DPO)
    with pytest.raises(PublicError, match="take another adapter"):
        choose(Material(5, pairs=900), asked="dpo", kind=Adapter.PROMPT)


def test_an_unknown_adapter_is_refused_and_the_known_ones_named() -> None:
    """Nobody has to look them up."""
    with pytest.raises(PublicError, match="lora, dora, rslora, prompt, ia3"):
        adapter_named("bitfit")


# --- memory --------------------------------------------------------------------------------------------------------

QWEN_HALF = Shape(494_000_000, 136_000_000, 24 * 7 * 3500, 24, 896, 14, 151_936)
LLAMA_8B = Shape(8_030_000_000, 1_050_000_000, 32 * 70_000, 32, 4096, 32, 128_256)
GPU = Machine("cuda", fast_bf16=True, threads=8)


def test_the_estimate_agrees_with_what_was_measured() -> None:
    """0.5 B, 2 rows of 128, one thread: LoRA in float32 took 4.9 GB, in bfloat16 2.9 GB, at the peak."""
    for bf16, measured_gb in ((False, 4.9), (True, 2.9)):
        made = replace(plan(494_000_000, 100, 128, GPU, longest_tokens=128, context=2048), batch_size=2)
        load = load_of(replace(made, bf16=bf16, optimizer="adamw_torch_fused"), QWEN_HALF, nf4=False)
        assert estimate(QWEN_HALF, load, device="cpu").total / 1e9 == pytest.approx(measured_gb, rel=0.35)


def test_four_bits_take_a_quarter_of_sixteen() -> None:
    """8 B parameters: QLoRA's base fits a GPU of 8 GB, the 16-bit one does not."""
    made = plan(8_030_000_000, 100, 128, GPU, longest_tokens=128, context=2048)
    small, large = (
        estimate(LLAMA_8B, load_of(made, LLAMA_8B, nf4=nf4), device="cuda") for nf4 in (True, False)
    )
    assert small.base < 6e9
    assert large.base > 15e9


def test_a_plan_that_does_not_fit_is_made_to_fit_and_teaches_as_many_rows_a_step() -> None:
    """First fewer rows at once, then activations computed twice."""
    made = plan(494_000_000, 100, 128, GPU, longest_tokens=128, context=2048)
    whole = estimate(QWEN_HALF, load_of(made, QWEN_HALF, nf4=True), device="cuda").total
    tight, needed = squeezed(made, QWEN_HALF, whole // 2, nf4=True, scored=1.0, device="cuda")
    assert tight.batch_size < made.batch_size
    assert tight.batch_size * tight.accumulation == made.batch_size * made.accumulation
    assert needed.total <= whole // 2
    same, _ = squeezed(made, QWEN_HALF, 4 * whole, nf4=True, scored=1.0, device="cuda")
    assert same == made


@pytest.mark.parametrize(("nf4", "remedy"), [(False, "TRAIN_QUANTIZATION=nf4"), (True, "LOCAL_MODEL")])
def test_what_can_never_fit_is_refused_before_it_begins(nf4: bool, remedy: str) -> None:
    """The need, what there is, and what to do."""
    made = plan(8_030_000_000, 100, 128, GPU, longest_tokens=128, context=2048)
    with pytest.raises(PublicError, match=remedy) as refused:
        squeezed(made, LLAMA_8B, 4_000_000_000, nf4=nf4, scored=1.0, device="cuda")
    assert "4.0 GB are free" in str(refused.value)


def test_the_room_is_the_least_of_all_limits() -> None:
    """The operator's own limit holds where it is less than what the machine has."""
    assert free_bytes(100) == 100 << 20
    assert 100 << 20 < free_bytes(None) < 1 << 50


# --- the course of a loss ------------------------------------------------------------------------------------------


def stopped_after(losses: list[float], *, before: float | None = None) -> int | None:
    course = Course(before)
    return next((step for step, loss in enumerate(losses) if course.note(loss)), None)


def test_a_loss_that_climbs_and_stays_ends_the_run() -> None:
    """Within two patiences; a loss that falls, swings or peaks once never does."""
    start = [2.0] * OPENING
    stopped = stopped_after([*start, *repeat(9.0, 60)])
    assert stopped is not None
    assert stopped < OPENING + 2 * PATIENCE
    assert stopped_after([*start, *(2.0 * 0.99**step for step in range(200))]) is None
    assert stopped_after([*start, *([4.0, 1.0] * 100)]) is None
    assert stopped_after([*start, *[9.0] * 10, *[1.5] * 100]) is None


def test_a_loss_that_is_lost_with_the_first_step_ends_the_run_too() -> None:
    """Two must say that it began low: one easy batch, or held-out rows that are easy, end nothing."""
    lost = [0.4, *repeat(6.0, 60)]
    assert stopped_after(lost) is None
    assert stopped_after(lost, before=0.5) is not None
    assert stopped_after([6.0, *repeat(6.0, 60)], before=0.5) is None
    assert stopped_after(lost, before=5.5) is None


# --- the second stage's plan, the card -----------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [2_400_000, 500_000_000])
def test_a_preference_stage_is_gentler_than_the_first(parameters: int) -> None:
    """A tenth of the rate, no packing, and never one row at once, which KTO cannot use."""
    first = plan(parameters, 300, 160, Machine("cpu", False), longest_tokens=300, context=1024)
    second = preference_plan(first, 200, parameters=parameters, mean_tokens=160)
    assert second.learning_rate <= first.learning_rate / 8
    assert second.batch_size >= 4
    assert not second.packing
    assert second.max_steps >= 1


def test_the_card_says_what_where_from_how_and_on_what_terms() -> None:
    """Programs read its front matter; a path with quotes breaks nothing."""
    stage = {
        "stage": "sft",
        "rows": "16 examples",
        "steps": 8,
        "train_loss": 1.23456,
        "eval_loss_before": 4.0,
        "eval_loss": 2.0,
        "hyperparameters": {"rank": 64},
        "stopped_early": "",
    }
    card = adapter_card(
        base_model='my "base"',
        run_id="r1",
        kind="lora",
        quantization="nf4",
        dataset_hash="abc",
        counts={"examples": 16},
        manifest={"licence": "No licence is granted.", "consent": "All opted in."},
        reason="SFT on 16 examples.",
        stages=[stage, {**stage, "stage": "dpo", "margin": 0.5}],
        versions={"torch": "2.13"},
        device="cpu",
    )
    front = card.split("---")[1]
    assert 'base_model: "my \\"base\\""' in front
    assert 'method: "sft+dpo"' in front
    assert 'dataset: "abc"' in front
    for said in (
        "| Training loss | 1.235 |",
        "| rank | 64 |",
        "| Held-out margin | 0.5 |",
        "torch 2.13; cpu.",
    ):
        assert said in card
    assert "No licence is granted.\nAll opted in." in card
