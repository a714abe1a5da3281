"""What may follow `/train` and `apprentice train`: `quantization=none epochs=5`, `with=openai method=dpo`. Pure."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bot.errors import PublicError
from training.method import adapter_named, answers_only
from training.sweep_space import TRIALS, TRIALS_AT_MOST
from training.sweep_words import SWEEP, SWEEPERS, no_sweep_at

QUANTIZATIONS = ("nf4", "none")
METHODS = ("sft", "dpo", "kto")
ADAPTERS = ("lora", "rslora", "dora", "ia3", "prompt")
WITHOUT_RANK = ("ia3", "prompt")
EFFORTS = ("quick", "normal", "thorough")
PLACES = ("local", "openai", "gemini", "ray")
OUR_TRAINER = ("local", "ray")
"""Where it is our own trainer that trains."""
LONGEST_VALUE = 40
LOCAL_ONLY = ("quantization", "adapter", "rank", "lr", "batch", "effort")
"""What a provider decides by itself."""


def read_options(words: str) -> dict[str, Any]:
    """The options as values. Raises PublicError that names the part and what may stand there."""
    options: dict[str, Any] = {}
    given = words.split()
    sweeps = SWEEP in given
    for word in given:
        if word == SWEEP:
            continue
        name, equals, value = word.partition("=")
        if not equals or name not in READERS:
            raise PublicError(
                f"I do not understand {word[:LONGEST_VALUE]!r}. Write NAME=VALUE with one of {', '.join(READERS)}, such as "
                "`effort=quick` or `quantization=none epochs=5`, `sweep`, or nothing. `/train help` explains them."
            )
        if len(value) > LONGEST_VALUE:
            raise PublicError(
                f"{name}={value[:LONGEST_VALUE]}… is too long for a value. `/train help` explains them."
            )
        if name in options:
            raise PublicError(f"{name}= stands there twice. Write it once.")
        options[name] = READERS[name](value)
    _fit_together(options)
    return _swept(options) if sweeps else _not_swept(options)


def _swept(options: dict[str, Any]) -> dict[str, Any]:
    """With the number of ways to try. Raises PublicError where nobody can try, or nothing is left to be tried."""
    place = options.get("with", "local")
    if place not in SWEEPERS:
        raise PublicError(no_sweep_at(place))
    named = {"lr", "batch"} <= options.keys() and (
        "effort" in options or {"epochs", "rank"} <= options.keys()
    )
    if named:
        raise PublicError(
            "A sweep tries learning rates, ranks, epochs and batches, and all of them are named. Leave away those that "
            "are to be tried, such as lr=."
        )
    return {**options, "trials": options.get("trials", TRIALS)}


def _not_swept(options: dict[str, Any]) -> dict[str, Any]:
    if "trials" in options:
        raise PublicError("trials= is how many ways a sweep tries. Write `sweep trials=8`, or leave it away.")
    return options


def _fit_together(options: Mapping[str, Any]) -> None:
    place = options.get("with", "local")
    useless = [f"{name}=" for name in LOCAL_ONLY if name in options]
    if place not in OUR_TRAINER and useless:
        raise PublicError(
            f"with={place} does not take {', '.join(useless)}; they are for the local trainer. "
            f"Leave them away, or write with=local."
        )
    answers_only(adapter_named(options.get("adapter", "")), options.get("method", "sft"))
    if "rank" in options and options.get("adapter") in WITHOUT_RANK:
        raise PublicError(
            f"adapter={options['adapter']} has no rank. Leave rank= away, or take another adapter."
        )


def _number(name: str, most: float, example: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not (math.isfinite(number) and 0 < number <= most):
        raise PublicError(
            f"{name}={value} does not work; write a number between 0 and {most:g}, such as {name}={example}."
        )
    return number


def _quantization(value: str) -> str:
    if value not in QUANTIZATIONS:
        raise PublicError(f"quantization={value} does not exist; write nf4 (4-bit) or none.")
    return value


def _one_of(name: str, known: tuple[str, ...], value: str) -> str:
    if value not in known:
        raise PublicError(f"{name}={value} does not exist; write one of {', '.join(known)}.")
    return value


def _whole(name: str, least: int, most: int, value: str) -> int:
    if not value.isdecimal() or not least <= int(value) <= most:
        raise PublicError(f"{name}={value} does not work; write a whole number from {least} to {most}.")
    return int(value)


READERS: Mapping[str, Callable[[str], Any]] = {
    "effort": partial(_one_of, "effort", EFFORTS),
    "method": partial(_one_of, "method", METHODS),
    "epochs": partial(_number, "epochs", 200, "5"),
    "lr": partial(_number, "lr", 1, "2e-4"),
    "rank": partial(_whole, "rank", 1, 256),
    "batch": partial(_whole, "batch", 1, 256),
    "trials": partial(_whole, "trials", 2, TRIALS_AT_MOST),
    "seed": partial(_whole, "seed", 0, 2_147_483_647),
    "quantization": _quantization,
    "adapter": partial(_one_of, "adapter", ADAPTERS),
    "with": partial(_one_of, "with", PLACES),
}
