"""What a billed answer costs: a table of prices with its date and source, and nothing that guesses.

A model that is not in the table has no price: `cost` says None, and `apprentice doctor` says so instead of showing 0.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bot.errors import PublicError

_FILE = Path(__file__).with_name("prices.json")
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; `cache_write` is None where writing the cache costs what other input costs."""

    input: float
    cached: float
    output: float
    cache_write: float | None = None


class Prices:
    """The prices of models by name."""

    def __init__(self, table: Mapping[str, Price], *, as_of: str = "", source: str = "") -> None:
        self._table = dict(table)
        self.as_of = as_of
        self.source = source

    @classmethod
    def read(cls, file: Path = _FILE) -> Self:
        """The table that comes with the bot. Raises `PublicError` where the file was edited into something else."""
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            table = {name: Price(**price) for name, price in told["models"].items()}
            return cls(table, as_of=told["as_of"], source=told["source"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PublicError(
                f"{file} cannot be read as a table of prices: {error!r}. Restore it."
            ) from error

    def known(self, model: str) -> bool:
        """Whether costs of this model can be told."""
        return self._price(model) is not None

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
        write = price.input if price.cache_write is None else price.cache_write
        millionths = (
            fresh * price.input
            + tokens_cached * price.cached
            + tokens_cache_written * write
            + tokens_out * price.output
        )
        return millionths / 1_000_000

    def _price(self, model: str) -> Price | None:
        """By name; a dated snapshot costs what its model costs, and a fine-tune what fine-tunes of its base cost."""
        name = model.removeprefix("models/")
        if name.startswith("ft:"):
            name = ":".join(name.split(":")[:2])
        return self._table.get(name) or self._table.get(_SNAPSHOT.sub("", name))
