"""Which precision serves: the fastest whose answers were checked to hold up on this machine, and fp32 otherwise."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from bot.models.local_cache import Columns
from bot.models.local_linear import Maker, halved, int8
from bot.models.local_llama import LlamaNet, is_llama_shaped
from bot.models.local_net import AnyNet, Net, in_one

Precision = Literal["auto", "fp32", "bf16", "int8", "4bit"]

WORTH_IT_FROM = 20_000_000
# Parameters. A smaller model is bound by the number of operations and stays in the processor's cache anyway; and fp32
# keeps answers the same alone and in company, which int8 does not: it quantises what a batch has in common.
_STEPS = 12
_MOST_KL = 0.02  # nats of mean divergence from fp32
_CLEAR = 0.5  # nats between first and second: here a different first token counts
_MOST_TURNED = 0.02
_FASTER = 0.9
_PROBES = (
    "What can you do?",
    "How do I reset my password? I tried it twice, and the page only says that the link has expired.",
    "Wie beantrage ich Urlaub, und wer genehmigt ihn?",
    "def mean(values):\n    return sum(values) / len(values)\n\nWhy does this fail for an empty list?",
    "The deployment of last night broke the search. Who is on call, and where is the runbook?",
    "Please summarise: 1. the budget was approved; 2. two people join in May; 3. the office moves.",
)


@dataclass(frozen=True)
class Verdict:
    """What a comparison with fp32 found: divergence, share of clear first tokens that changed, share of its time."""

    kl: float
    turned: float
    time: float

    @property
    def holds_up(self) -> bool:
        """Whether answers are as good as those in fp32."""
        return self.kl <= _MOST_KL and self.turned <= _MOST_TURNED

    @property
    def words(self) -> str:
        """For `doctor` and the log."""
        return (
            f"{self.time:.2f} of the time of fp32, {self.kl:.4f} nats from it, "
            f"{self.turned:.1%} of clear choices changed"
        )


class Verdicts:
    """Verdicts of earlier starts, in a file; a damaged or missing file only means that a check is made again."""

    def __init__(self, file: Path | None, model: str) -> None:
        self._file = file
        self._model = model

    def known(self, precision: str) -> Verdict | None:
        """What was found for this model on this machine."""
        try:
            return Verdict(**self._read()[self._key(precision)])
        except (KeyError, TypeError):
            return None

    def keep(self, precision: str, verdict: Verdict) -> None:
        """Remember it for the next start."""
        if self._file is None:
            return
        kept = {**self._read(), self._key(precision): asdict(verdict)}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        except OSError as error:
            print(f"{self._file} cannot be written ({error}); the check is made again at the next start.")

    def _read(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8")) if self._file is not None else {}
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _key(self, precision: str) -> str:
        files = sorted(Path(self._model).glob("*.safetensors"))
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        machine = (platform.processor(), torch.backends.cpu.get_cpu_capability(), torch.__version__)
        told = repr((self._model, stamps, machine, torch.get_num_threads(), _PROBES))
        return f"{precision} {hashlib.sha256(told.encode()).hexdigest()[:24]}"


def choose(model: PreTrainedModel, tokenizer: Any, wanted: Precision, verdicts: Verdicts) -> tuple[Net, str]:
    """What answers, and why in this precision."""
    if not is_llama_shaped(model):
        net = AnyNet(model)
        how = (
            "its rows share each step"
            if net.together
            else "its architecture answers one question after another"
        )
        return net, f"as transformers computes {type(model).__name__}; {how}"
    if model.device.type != "cpu":
        return LlamaNet(model), "the precision of this GPU"
    makers = _makers()
    if wanted in makers:
        return LlamaNet(model, makers[wanted], wanted), f"LOCAL_PRECISION={wanted}"
    exact = LlamaNet(model)
    if wanted != "auto":
        why = f"LOCAL_PRECISION={wanted}" if wanted == "fp32" else f"{wanted} cannot be had on this processor"
        return exact, why
    if model.num_parameters() < WORTH_IT_FROM:
        return exact, "small enough for full precision"
    return _audition(model, exact, _probes(tokenizer), makers, verdicts)


def _makers() -> dict[str, Maker]:
    """Faster products that this processor has, the fastest first."""
    found: dict[str, Maker] = {}
    if "fbgemm" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "fbgemm"
        found["int8"] = int8
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        found["bf16"] = halved
    return found


def _audition(
    model: PreTrainedModel,
    exact: LlamaNet,
    probes: Sequence[list[int]],
    makers: dict[str, Maker],
    verdicts: Verdicts,
) -> tuple[Net, str]:
    said = []
    for name, make in makers.items():
        verdict, net = verdicts.known(name), None
        if verdict is None:
            net = LlamaNet(model, make, name)
            verdict = compare(exact, net, probes)
            verdicts.keep(name, verdict)
        if verdict.holds_up and verdict.time < _FASTER:
            return net or LlamaNet(model, make, name), f"checked: {verdict.words}"
        said.append(f"{name} was not taken: {verdict.words}")
    return exact, "; ".join(said) or "nothing faster on this processor"


@torch.no_grad()
def compare(exact: Net, other: Net, probes: Sequence[list[int]]) -> Verdict:
    """Let both write the same greedy answers of `exact`, in a batch, and see how far they are from each other."""
    followed: list[torch.Tensor] = []

    def greedy(logits: torch.Tensor) -> torch.Tensor:
        followed.append(logits.argmax(dim=-1))
        return followed[-1]

    known, slow = _walk(exact, probes, greedy)
    steps = iter(followed)
    found, quick = _walk(other, probes, lambda _: next(steps))
    first = known.exp().mul(known - found).sum(dim=-1)
    best = known.topk(2, dim=-1).values
    clear = (best[:, 0] - best[:, 1]) >= _CLEAR
    turned = (known.argmax(dim=-1) != found.argmax(dim=-1)) & clear
    share = float(turned.sum()) / max(1, int(clear.sum()))
    kl = float(first.mean())
    return Verdict(round(kl, 5) if kl == kl else 99.0, round(share, 4), round(quick / slow, 3))


def _walk(
    net: Net, probes: Sequence[list[int]], follow: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, float]:
    """Log-probabilities of every step of all rows, and the seconds of the median step."""
    columns, cache = Columns(), net.fresh()
    net.riders.seat([None] * len(probes))
    ids, from_the_left, ends = in_one(probes, torch.device("cpu"))
    logits = net.logits(ids, from_the_left, cache, None, ends)
    for place, probe in enumerate(probes):
        columns.join(cache.layers, place, len(probe))
    seen, took = [], []
    for _ in range(_STEPS):
        seen.append(torch.log_softmax(logits, dim=-1))
        since = time.perf_counter()
        columns.prepare()
        positions = torch.tensor(columns.lengths())[:, None]
        mask = columns.keep_mask(torch.device("cpu"))
        logits = net.logits(follow(logits)[:, None], positions, columns, mask)
        columns.advance()
        took.append(time.perf_counter() - since)
    return torch.cat(seen), sorted(took)[len(took) // 2]


def _probes(tokenizer: Any) -> list[list[int]]:
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": probe}], tokenize=False, add_generation_prompt=True
        )
        for probe in _PROBES
    ]
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"])[:128] for text in texts]
