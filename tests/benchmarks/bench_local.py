"""The local engine against plain `generate`: through its process and its JSON lines, as the bot asks it.

Plain `generate` answers one question after another in fp32, with torch's own choice of threads or with one, whichever
is faster on this machine at the moment; it is run alone, with the engine stopped. Models but the starter get random
weights here. The load of sixteen is closed: each asker asks the next question when the last is answered, so that
questions come while others are written.
"""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.models.local import LocalEngine
from bot.settings import STARTER
from storage.values import Message
from tests.benchmarks.figure import Figure

ASKERS, EACH = 16, 2
LENGTHS = (16, 64, 32, 48)  # tokens of the answers
TOPICS = ("the lantern", "the blue door and its key", "a holiday in spring, and who approves of it", "pay")
SHAPES = {
    "30m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6},
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
    },
}


@dataclass(frozen=True)
class Measured:
    """What one way of answering reached."""

    tokens_per_s: float
    alone_s: float  # the median question alone
    first_alone_s: float = 0.0
    first_loaded_s: float = 0.0
    lag_p99_ms: float = 0.0


def small() -> Iterator[Figure]:
    """The starter and a model of 30 million parameters; the worse of the two."""
    with random_model("30m") as folder:
        pairs = [(asked_engine(model), _plain(model)) for model in (STARTER, folder)]
    yield _ratio(
        "local_throughput_ratio", min(ours.tokens_per_s / plain.tokens_per_s for ours, plain in pairs), 4
    )
    yield _ratio(
        "local_latency_ratio", max(ours.alone_s / plain.alone_s for ours, plain in pairs), 1.15, "lower"
    )
    yield _ratio(
        "local_first_token_ratio_16",
        max(ours.first_loaded_s / ours.first_alone_s for ours, _ in pairs),
        3,
        "lower",
    )
    lag = round(max(ours.lag_p99_ms for ours, _ in pairs), 1)
    yield Figure("loop_lag_p99_ms", lag, "ms", 20, "lower")


def large() -> Iterator[Figure]:
    """A model of 135 million parameters."""
    with random_model("135m") as folder:
        ours, plain = asked_engine(folder), _plain(folder)
        yield _ratio("local_throughput_ratio_135m", ours.tokens_per_s / plain.tokens_per_s, 6)
        yield _ratio("local_latency_ratio_135m", ours.alone_s / plain.alone_s, 1.15, "lower")


def questions() -> list[tuple[str, int]]:
    """Uneven ones: text and the tokens of the answer."""
    return [
        (f"Number {index}: please tell me about {TOPICS[index % 4]}.", LENGTHS[index % 4])
        for index in range(ASKERS * EACH)
    ]


def _ratio(name: str, value: float, bar: float, better: str = "higher") -> Figure:
    return Figure(name, round(value, 3), "ratio", bar, better)


def asked_engine(model: Path) -> Measured:
    return asyncio.run(_asked(model))


async def _asked(model: Path) -> Measured:
    engine = LocalEngine(model=str(model), label=model.name, start_timeout_s=300)
    try:
        info = await engine.start()
        print(f"{model.name}: {info.dtype}, {info.why}", file=sys.stderr)
        await _one(engine, *questions()[0])
        alone = [await _one(engine, *question) for question in questions()[:9]]
        lags: list[float] = []
        ticking = asyncio.create_task(_tick(lags))
        since = time.perf_counter()
        shares = [questions()[index::ASKERS] for index in range(ASKERS)]
        loaded = await asyncio.gather(*(_keep_asking(engine, share) for share in shares))
        took = time.perf_counter() - since
        ticking.cancel()
    finally:
        await engine.stop()
    answers = [answer for share in loaded for answer in share]
    arriving = [share[-1][1] for share in loaded]  # the first ones come all at once, which no team does
    burst = statistics.median(share[0][1] for share in loaded)
    first = statistics.median(answer[1] for answer in alone)
    print(
        f"{model.name}: first token alone {first:.4f} s, all sixteen at once {burst:.4f} s", file=sys.stderr
    )
    return Measured(
        tokens_per_s=sum(answer[2] for answer in answers) / took,
        alone_s=statistics.median(answer[0] / answer[2] for answer in alone),
        first_alone_s=first,
        first_loaded_s=statistics.median(arriving),
        lag_p99_ms=sorted(lags)[int(len(lags) * 0.99)] * 1000,
    )


async def _keep_asking(
    engine: LocalEngine, share: Sequence[tuple[str, int]]
) -> list[tuple[float, float, int]]:
    return [await _one(engine, *question) for question in share]


async def _one(engine: LocalEngine, text: str, tokens: int) -> tuple[float, float, int]:
    """Seconds, seconds to the first piece of text, and tokens."""
    since, first = time.perf_counter(), 0.0

    async def note(_: str) -> None:
        nonlocal first
        first = first or time.perf_counter() - since

    proposal = await engine.answer(
        [Message("user", text)], version_id=None, on_text=note, max_new_tokens=tokens
    )
    took = time.perf_counter() - since
    return took, first or took, proposal.tokens_out


async def _tick(lags: list[float]) -> None:
    while True:
        since = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(max(0.0, time.perf_counter() - since - 0.005))


def _plain(model: Path) -> Measured:
    return max((_child(model, threads) for threads in ("0", "1")), key=lambda each: each.tokens_per_s)


def _child(model: Path, threads: str) -> Measured:
    """Run the baseline in a process of its own; it prints tokens per second and the median seconds of a token."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_local_plain", str(model), threads]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tokens_per_s, alone_s = map(float, done.stdout.split()[-2:])
    named = "torch's own number of" if threads == "0" else threads
    print(f"plain generate, {named} threads, {model.name}: {tokens_per_s:.1f} tokens/s", file=sys.stderr)
    return Measured(tokens_per_s, alone_s)


@contextlib.contextmanager
def random_model(name: str) -> Iterator[Path]:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = SHAPES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape,
        vocab_size=32_000,
        num_key_value_heads=shape["num_attention_heads"] // 3,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=3,
    )
    with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(STARTER)
        # Every token says something, so that the first piece of text is seen when there is one.
        tokenizer.add_tokens([f"~{index}~" for index in range(len(tokenizer), config.vocab_size)])
        tokenizer.save_pretrained(folder)
        yield Path(folder)
