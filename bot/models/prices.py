"""What a billed answer costs: a table of prices with its date and source, and nothing that guesses.

A model that is not in the table has no price: `cost` says None, and `apprentice doctor` says so instead of showing 0. An
operator's own table (PRICES_FILE) is laid over ours, and each price knows which table it is from.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bot.errors import PublicError

_FILE = Path(__file__).with_name("prices.json")
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_PATH = re.compile(r"^(.*/)?models/|^google/")
_FORM = 'It has the form {"as_of": "2026-11-22", "models": {"NAME": {"input": 0.1, "cached": 0.01, "output": 0.5}}}'


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; `cache_write` is None where writing the cache costs what other input costs.

    `version` says which table it is from.
    """

    input: float
    cached: float
    output: float
    cache_write: float | None = None
    version: str = ""

    def __post_init__(self) -> None:
        for name in ("input", "cached", "output", "cache_write"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value < float("inf")):
                raise ValueError(f"{name} is {value!r}, not US dollars per million tokens")

    @property
    def written(self) -> float:
        """For input that is put into the cache."""
        return self.input if self.cache_write is None else self.cache_write


class Prices:
    """The prices of models by name."""

    def __init__(self, table: Mapping[str, Price], *, as_of: str = "", source: str = "") -> None:
        self._table = {
            name: price if price.version else replace(price, version=as_of) for name, price in table.items()
        }
        self.as_of = as_of
        self.source = source

    @classmethod
    def read(cls, file: Path = _FILE, *, remedy: str = "Restore it.") -> Self:
        """The table that comes with the bot. Raises `PublicError` where the file was edited into something else."""
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            table = {str(name): Price(**price) for name, price in told["models"].items()}
            return cls(table, as_of=str(told["as_of"]), source=str(told.get("source", file.name)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise PublicError(f"{file} cannot be read as a table of prices: {error!r}. {remedy}") from error

    @classmethod
    def chosen(cls, file: str | Path | None) -> Self:
        """Our table with the operator's laid over it, if there is one. Raises `PublicError` naming their file."""
        ours = cls.read()
        if not file:
            return ours
        path = Path(file).expanduser()
        theirs = cls.read(path, remedy=f"{_FORM}. Correct it, or unset PRICES_FILE.")
        version = f"{theirs.as_of} ({path.name})"
        over = {name: replace(price, version=version) for name, price in theirs._table.items()}
        return cls({**ours._table, **over}, as_of=version, source=f"{theirs.source}, over {ours.source}")

    def known(self, model: str) -> bool:
        """Whether costs of this model can be told."""
        return self._price(model) is not None

    def version(self, model: str) -> str:
        """The date of the table that has this model's price, and its name where it is the operator's; "" without one."""
        price = self._price(model)
        return price.version if price is not None else ""

    def cost(
        self,
        model: str,
        tokens_in: int,
        tokens_cached: int,
        tokens_out: int,
        *,
        tokens_cache_written: int = 0,
    ) -> float | None:
        """US dollars, None for a model without a price. `tokens_in` includes cached and cache-written tokens."""
        price = self._price(model)
        if price is None:
            return None
        fresh = max(0, tokens_in - tokens_cached - tokens_cache_written)
        millionths = (
            fresh * price.input
            + tokens_cached * price.cached
            + tokens_cache_written * price.written
            + tokens_out * price.output
        )
        return millionths / 1_000_000

    def ceiling(self, model: str, tokens_in: int, tokens_out: int) -> float | None:
        """The most that so many tokens can cost, whatever of them is cached or put into the cache."""
        price = self._price(model)
        if price is None:
            return None
        dearest = max(price.input, price.cached, price.written)
        return (tokens_in * dearest + tokens_out * price.output) / 1_000_000

    def _price(self, model: str) -> Price | None:
        """By name; a dated snapshot costs what its model costs, and a fine-tune what fine-tunes of its base cost."""
        name = _PATH.sub("", model)
        if name.startswith("ft:"):
            name = ":".join(name.split(":")[:2])
        found = (self._table.get(each) for each in (model, name, _SNAPSHOT.sub("", name)))
        return next((price for price in found if price is not None), None)


def unpriced(model: str) -> str:
    """What an operator reads about a model without a price."""
    return (
        f"The price of {model} is not known, so its costs are counted as 0: write it into a file of prices and name "
        "that in PRICES_FILE."
    )
