"""What each way of learning is worth, on the help desk with the starter, three seeds each; the worst of them is told.

Everything goes the product's way: a dataset folder, `training.qlora`, the adapter on the untouched base from the disk,
greedy answers, the metrics and intervals of evaluations. What is asked at the end are wordings nobody trained on.

    SFT  token F1 less the base's, the lower end of its interval with threads as the pieces of evidence
    KTO  simulated thumbs: people like the answer of the thread, and dislike another thread's. The share of answers that
         they would like, after KTO less before it (what SFT alone gives)
    DPO  the margin between the liked and the disliked answer in log-probability, after DPO less before it
"""

import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.settings import STARTER
from tests.benchmarks import stackfaq
from tests.benchmarks.bench_training import missing, one_thread
from tests.benchmarks.figure import Figure
from training import qlora, rundir
from training.metrics import token_f1
from training.promotion import paired_bootstrap
from training.rundir import Job

SEEDS = (0, 1, 2)
LIKED_FROM = 0.5  # token F1 with the thread's answer: what a simulated person takes for it
WATCHED_WORDING = 7  # of the eight wordings to train on, the one that watches


@dataclass(frozen=True)
class Desk:
    """The help desk, or a part of it: `threads` are counted from the first."""

    threads: int = 75

    def lines(self, split: str) -> list[dict[str, Any]]:
        """The questions of "train" or "test"."""
        return [line for line in stackfaq.asked(split) if line["thread"] < self.threads]

    def write(self, folder: Path, *, seed: int, thumbs: bool = False, pairs: bool = False) -> Path:
        """A dataset folder; of the wordings to train on, preferences take the same ones as answers."""
        lines = self.lines("train")
        last = {line["thread"]: line["id"] for line in lines}
        split = {
            line["id"]: "validation" if last[line["thread"]] == line["id"] else "train" for line in lines
        }
        for side in ("train", "validation"):
            taught = (stackfaq.example(line) for line in lines if split[line["id"]] == side)
            stackfaq.write(folder / f"{side}.jsonl", taught)
        drawn = random.Random(seed)
        preferred = [self.preference(line, split[line["id"]], drawn) for line in lines]
        if pairs:
            stackfaq.write(folder / "preferences.jsonl", preferred)
        if thumbs:
            stackfaq.write(
                folder / "unpaired.jsonl", [_thumb(each, liked) for each in preferred for liked in (1, 0)]
            )
        return folder

    def preference(self, line: dict[str, Any], split: str, drawn: random.Random) -> dict[str, Any]:
        """The thread's answer before that of another thread: what the model would mix up."""
        others = [each for each in self.lines("train") if each["thread"] != line["thread"]]
        return {
            "id": line["id"],
            "cluster": f"thread-{line['thread']}",
            "split": split,
            "messages": [{"role": "user", "content": line["question"]}],
            "chosen": line["short_answer"],
            "rejected": drawn.choice(others)["short_answer"],
        }


def _thumb(pair: dict[str, Any], liked: int) -> dict[str, Any]:
    kept = {name: pair[name] for name in ("cluster", "split", "messages")}
    said = pair["chosen"] if liked else pair["rejected"]
    return kept | {"id": f"{pair['id']}-{liked}", "completion": said, "label": bool(liked)}


def learning() -> Iterator[Figure]:
    """All three ways."""
    if missing():
        return
    with tempfile.TemporaryDirectory(prefix="apprentice-bench-") as place:
        yield _worst("learning_sft_f1_gain_low", [sft_gain(Path(place), seed) for seed in SEEDS], "F1")
        yield _worst("learning_kto_liked_gain", [kto_gain(Path(place), seed) for seed in SEEDS], "share")
        yield _worst("learning_dpo_margin_gain", [dpo_gain(Path(place), seed) for seed in SEEDS], "nats")


def _worst(name: str, gains: Sequence[float], unit: str) -> Figure:
    print(f"{name}: {', '.join(f'{gain:.3f}' for gain in gains)}", file=sys.stderr)
    return Figure(name, round(min(gains), 3), unit, 0, "higher")


# --- the three measurements ----------------------------------------------------------------------------------------


def sft_gain(place: Path, seed: int, desk: Desk = Desk(), **choices: Any) -> float:
    """The lower end of the interval of what SFT adds to token F1."""
    run_dir = trained(place / f"sft-{seed}", desk, seed, method="sft", **choices)
    lines = desk.lines("test")
    before, after = f1s(answers(None, lines), lines), f1s(answers(run_dir / rundir.ADAPTER, lines), lines)
    gains = [more - less for more, less in zip(after, before, strict=True)]
    found = paired_bootstrap(gains, [str(line["thread"]) for line in lines], seed=seed)
    print(
        f"SFT, seed {seed}: F1 {statistics.fmean(before):.3f} to {statistics.fmean(after):.3f}, "
        f"gain {found.mean:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]",
        file=sys.stderr,
    )
    return found.interval.low


def kto_gain(place: Path, seed: int, desk: Desk = Desk(), **choices: Any) -> float:
    """How much larger the share of liked answers is after KTO than before it."""
    run_dir = trained(place / f"kto-{seed}", desk, seed, thumbs=True, method="kto", **choices)
    lines = desk.lines("test")
    shares = [
        statistics.fmean(f1 >= LIKED_FROM for f1 in f1s(answers(run_dir / folder, lines), lines))
        for folder in (Path(rundir.STAGES) / "sft", Path(rundir.ADAPTER))
    ]
    print(f"KTO, seed {seed}: liked {shares[0]:.3f} to {shares[1]:.3f}", file=sys.stderr)
    return shares[1] - shares[0]


def dpo_gain(place: Path, seed: int, desk: Desk = Desk(), **choices: Any) -> float:
    """How much wider the margin is after DPO than before it, in nats per pair of answers to unseen wordings."""
    run_dir = trained(place / f"dpo-{seed}", desk, seed, pairs=True, method="dpo", **choices)
    drawn = random.Random(seed + 1000)
    pairs = [desk.preference(line, "test", drawn) for line in desk.lines("test")]
    before, after = (
        statistics.fmean(margins(run_dir / folder, pairs))
        for folder in (Path(rundir.STAGES) / "sft", Path(rundir.ADAPTER))
    )
    print(f"DPO, seed {seed}: margin {before:.2f} to {after:.2f} nats", file=sys.stderr)
    return after - before


def trained(
    run_dir: Path, desk: Desk, seed: int, *, thumbs: bool = False, pairs: bool = False, **choices: Any
) -> Path:
    """A finished run of the trainer."""
    data = desk.write(run_dir / "data", seed=seed, thumbs=thumbs, pairs=pairs)
    rundir.write_job(run_dir, Job(run_dir.name, str(STARTER), str(data), "", seed=seed, **choices))
    assert qlora.main([str(run_dir)]) == rundir.EXIT_DONE, rundir.read_result(run_dir)
    return run_dir


# --- asking --------------------------------------------------------------------------------------------------------


def model_with(adapter: Path | None) -> tuple[Any, Any]:
    """The untouched base, with an adapter from the disk; and its tokenizer."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    one_thread()
    model: Any = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    return model.eval(), AutoTokenizer.from_pretrained(STARTER)


def answers(adapter: Path | None, lines: Sequence[dict[str, Any]], *, at_once: int = 32) -> list[str]:
    """Greedy answers."""
    import torch

    model, tokenizer = model_with(adapter)
    said: list[str] = []
    for start in range(0, len(lines), at_once):
        asked = [[{"role": "user", "content": line["question"]}] for line in lines[start : start + at_once]]
        texts = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        batch = tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        )
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            written = model.generate(**batch, max_new_tokens=96, do_sample=False)
        said += tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def f1s(said: Sequence[str], lines: Sequence[dict[str, Any]]) -> list[float]:
    """Token F1 with the thread's answer."""
    return [token_f1(text, line["short_answer"]) for text, line in zip(said, lines, strict=True)]


def margins(adapter: Path, pairs: Sequence[dict[str, Any]]) -> list[float]:
    """Log-probability of the chosen answer less that of the rejected one, in nats per token of each."""
    import torch

    from training.chat import prompt_and_answer

    model, tokenizer = model_with(adapter)

    def likely(pair: dict[str, Any], said: str) -> float:
        turns = [*pair["messages"], {"role": "assistant", "content": said}]
        prompt, answer = prompt_and_answer(tokenizer, turns)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return -float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(answer)))

    return [likely(pair, pair["chosen"]) - likely(pair, pair["rejected"]) for pair in pairs]
