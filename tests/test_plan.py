"""The hyper-parameters: derived from the model, the data and the machine, and overruled by the job."""

import math

import pytest

from training.plan import DEMO_SIZE, Machine, Plan, plan
from training.rundir import Job

CPU, FAST_CPU, GPU = Machine("cpu", False), Machine("cpu", True), Machine("cuda", True, 8)


def derived(
    parameters: int, rows: int, mean_tokens: float = 40.0, machine: Machine = CPU, **job: object
) -> Plan:
    asked = Job("r", "m", "d", "h", **job) if job else None  # type: ignore[arg-type]
    return plan(
        parameters, rows, mean_tokens, machine, longest_tokens=round(3 * mean_tokens), context=4096, job=asked
    )


@pytest.mark.parametrize(
    ("parameters", "machine", "rank", "learning_rate", "checkpointing"),
    [
        (500_000_000, CPU, 16, 2e-4, False),
        (494_000_000, GPU, 16, 2e-4, False),
        (1_500_000_000, GPU, 16, 2e-4, True),
        (8_000_000_000, GPU, 16, 2e-4, True),
        (8_000_000_000, CPU, 16, 2e-4, False),
        (135_000_000, CPU, 16, 5e-4, False),
    ],
)
def test_real_base_models_get_the_settings_that_qlora_recommends(
    parameters: int, machine: Machine, rank: int, learning_rate: float, checkpointing: bool
) -> None:
    """Rank 16, alpha twice that, 2e-4 from half a billion on; activations are recomputed only on a GPU short of room."""
    made = derived(parameters, 1000, machine=machine)
    assert (made.rank, made.alpha, made.learning_rate) == (rank, 2 * rank, learning_rate)
    assert made.activation_checkpointing is checkpointing
    assert made.epochs == 3


def test_a_demo_model_is_taught_faster_and_longer() -> None:
    """It has to learn the answers themselves, so it gets a higher rate and more looks than a real model."""
    demo, real = derived(DEMO_SIZE - 1, 500), derived(500_000_000, 500)
    assert demo.learning_rate > real.learning_rate
    assert demo.epochs > real.epochs


@pytest.mark.parametrize("rows", [1, 20, 100, 500, 1500, 20_000])
def test_steps_and_evaluations_follow_from_the_rows(rows: int) -> None:
    """Every row is seen `epochs` times, and the run is looked at about eight times, never more than every fifth step."""
    made = derived(2_400_000, rows)
    assert made.max_steps == math.ceil(math.ceil(rows / made.batch_size) * made.epochs)
    assert made.eval_every >= 5
    assert made.max_steps / made.eval_every <= 8


def test_more_examples_mean_fewer_epochs_for_a_demo_model() -> None:
    """The time a fine-tune takes grows more slowly than the data, within limits."""
    epochs = [derived(2_400_000, rows).epochs for rows in (50, 500, 1500, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] <= 30
    assert epochs[-1] >= 5


def test_bfloat16_only_where_it_is_fast() -> None:
    """On a processor without it, bfloat16 is ten times slower than float32."""
    assert not derived(2_400_000, 100, machine=CPU).bf16
    assert derived(2_400_000, 100, machine=FAST_CPU).bf16
    assert derived(8_000_000_000, 100, machine=GPU).bf16


def test_long_rows_are_packed_on_a_processor_and_short_ones_sorted_by_length() -> None:
    """Packing halves the time for rows of Slack's length and costs a little for short ones."""
    assert not derived(135_000_000, 1000, mean_tokens=40).packing
    packed = derived(135_000_000, 1000, mean_tokens=160)
    assert packed.packing
    assert packed.batch_size == 1
    assert packed.max_length >= 512


@pytest.mark.parametrize(
    ("longest", "context", "expected"), [(70, 4096, 128), (64, 4096, 64), (9000, 4096, 2048), (900, 512, 512)]
)
def test_the_length_fits_the_longest_row_and_never_exceeds_the_model(
    longest: int, context: int, expected: int
) -> None:
    """No row is cut that the model can read; memory is not paid for lengths that do not occur."""
    assert plan(2_400_000, 100, 40.0, CPU, longest_tokens=longest, context=context).max_length == expected


def test_what_the_job_names_is_kept() -> None:
    """A person's choice is never overruled, and alpha follows a chosen rank."""
    made = derived(2_400_000, 100, rank=4, learning_rate=1e-4, epochs=2.5, batch_size=3, max_length=64)
    assert (made.rank, made.alpha, made.learning_rate, made.epochs) == (4, 8, 1e-4, 2.5)
    assert (made.batch_size, made.max_length) == (3, 64)
    assert derived(2_400_000, 100, rank=4, alpha=4).alpha == 4
