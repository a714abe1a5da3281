"""What may follow `/train` and `apprentice train`: `quantization=none epochs=5`. Pure."""

from typing import Any

from bot.errors import PublicError

QUANTIZATIONS = ("nf4", "none")


def read_options(words: str) -> dict[str, Any]:
    """The options as values. Raises PublicError that names the part and what may stand there."""
    options: dict[str, Any] = {}
    for word in words.split():
        name, equals, value = word.partition("=")
        if not equals or name not in {"quantization", "epochs"}:
            raise PublicError(
                f"I do not understand {word!r}. Write `quantization=nf4`, `quantization=none` or `epochs=5`, or nothing."
            )
        options[name] = _epochs(value) if name == "epochs" else _quantization(value)
    return options


def _epochs(value: str) -> float:
    try:
        epochs = float(value)
    except ValueError:
        epochs = 0.0
    if not 0 < epochs <= 200:
        raise PublicError(
            f"epochs={value} does not work; write a number between 0 and 200, such as epochs=5."
        )
    return epochs


def _quantization(value: str) -> str:
    if value not in QUANTIZATIONS:
        raise PublicError(f"quantization={value} does not exist; write nf4 (4-bit) or none.")
    return value
