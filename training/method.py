"""Which method of training a dataset allows, and why, in words for the report. Pure.

SFT teaches the answers themselves and always comes first where there are any: DPO and KTO move what a model already says
towards what people prefer, and alone they widen a margin without making the good answer likely (a 2 M base gained nothing by
DPO). KTO is taken where it is asked for: on simulated thumbs after SFT it never raised the share of liked answers of the
starter, at rates from 3e-5 to 2e-3 (tests/benchmarks/bench_learning, eight threads, one seed). So a preference method is
a second stage on the same adapter, measured against the adapter that SFT left, and reported as a stage of its own.
"""

from dataclasses import dataclass
from enum import StrEnum

from storage.errors import PublicError

PAIRS_FOR_DPO = 200  # fewer pairs sharpen noise
THUMBS_FOR_KTO = 300
MINORITY_FOR_KTO = 0.1  # with fewer of one kind there is nothing to tell apart


class Method(StrEnum):
    """How an adapter is taught."""

    SFT = "sft"
    DPO = "dpo"
    KTO = "kto"


class Adapter(StrEnum):
    """What is trained beside the frozen base model."""

    LORA = "lora"
    DORA = "dora"
    RSLORA = "rslora"
    PROMPT = "prompt"
    IA3 = "ia3"


ON_SERVERS = (Adapter.LORA, Adapter.RSLORA)
"""What vLLM and its like load beside a model; the embedded engine answers with every kind."""


STAGE_NAMES = {
    Method.SFT: "learning the answers",
    Method.DPO: "learning what is preferred",
    Method.KTO: "learning from thumbs",
}


def stage_name(stage: object) -> str:
    """What a stage of a run does, in words; "" for one that is not known (or not begun)."""
    return STAGE_NAMES[Method(stage)] if isinstance(stage, str) and stage in set(Method) else ""


@dataclass(frozen=True, slots=True)
class Material:
    """What the training side of a dataset holds; `liked` and `disliked` are answers with thumbs or their like."""

    examples: int
    pairs: int = 0
    liked: int = 0
    disliked: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The stages of a run, in order, and why."""

    stages: tuple[Method, ...]
    reason: str


def choose(material: Material, *, asked: str = "", kind: Adapter = Adapter.LORA) -> Choice:
    """The stages for this material; `asked` ("sft", "dpo", "kto") overrules. PublicError where there is nothing to learn."""
    if asked:
        return _as_asked(material, answers_only(kind, asked))
    if not material.examples:
        raise PublicError("There are no examples to learn from. Rate or correct some answers first.")
    if kind is Adapter.PROMPT:
        return Choice(
            (Method.SFT,),
            f"SFT on {_many(material.examples, 'example')}; a learned prompt has no second stage.",
        )
    if material.pairs >= PAIRS_FOR_DPO:
        return Choice(
            (Method.SFT, Method.DPO),
            f"{_many(material.pairs, 'pair')} of a better and a worse answer are enough for DPO "
            f"({PAIRS_FOR_DPO} are needed), after SFT on {_many(material.examples, 'example')}.",
        )
    return Choice((Method.SFT,), f"SFT on {_many(material.examples, 'example')}; {_lacking(material)}.")


def adapter_named(asked: str) -> Adapter:
    """The adapter of that name; PublicError names those there are."""
    try:
        return Adapter(asked or Adapter.LORA)
    except ValueError:
        raise PublicError(f"There is no adapter {asked!r}. There are: {', '.join(Adapter)}.") from None


def answers_only(kind: Adapter, asked: str) -> Method:
    """The method asked for. PublicError for one that does not exist, and for preferences with a learned prompt.

    PEFT does not take up a saved prompt to train it further, which is what DPO and KTO begin with.
    """
    method = _known(asked)
    if kind is Adapter.PROMPT and method is not Method.SFT:
        raise PublicError(
            f"adapter=prompt learns from answers alone, not by {method}. Leave method= away, or take another adapter."
        )
    return method


def _known(asked: str) -> Method:
    try:
        return Method(asked)
    except ValueError:
        raise PublicError(f"There is no method {asked!r}. There are: {', '.join(Method)}.") from None


def _as_asked(material: Material, method: Method) -> Choice:
    first = (Method.SFT,) if material.examples else ()
    if method is Method.SFT:
        if not first:
            raise PublicError("There are no examples to learn from. Rate or correct some answers first.")
        return Choice(first, "SFT, as asked.")
    if method is Method.DPO and not material.pairs:
        raise PublicError(
            "DPO learns from pairs of a better and a worse answer, and this dataset has none. Correct some answers "
            "or vote in duels, or train with method=sft."
        )
    if method is Method.KTO and not (material.liked and material.disliked):
        raise PublicError(
            f"KTO learns from answers that people liked and answers that they did not; this dataset has "
            f"{material.liked} and {material.disliked}. Collect more thumbs, or train with method=sft."
        )
    after = f", after SFT on {_many(material.examples, 'example')}" if first else ""
    return Choice((*first, method), f"{method.upper()}, as asked{after}.")


def _lacking(material: Material) -> str:
    pairs = f"{PAIRS_FOR_DPO} pairs are needed for DPO (there are {material.pairs})"
    if _thumbs(material) >= THUMBS_FOR_KTO and _minority(material) >= MINORITY_FOR_KTO:
        liked = f"{material.liked} liked and {material.disliked} disliked answers"
        return f"{pairs}; {liked} would do for KTO, which method=kto tries"
    return pairs


def _thumbs(material: Material) -> int:
    return material.liked + material.disliked


def _minority(material: Material) -> float:
    return min(material.liked, material.disliked) / max(1, _thumbs(material))


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
