"""Learned prompts of adapters, as ids behind the vocabulary: a row that has one begins with them.

A step knows such an id from a word of the model and puts what was learned in the place of an embedding.
"""

import torch


class Prompts:
    """Those of all adapters beside one model. An id is given once and never again, as rows may still hold it."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._next = vocabulary
        self._learned: dict[str, tuple[int, torch.Tensor]] = {}

    def put(self, adapter: str, learned: torch.Tensor) -> None:
        """`learned` is (tokens, width)."""
        self._learned[adapter] = (self._next, learned)
        self._next += len(learned)

    def drop(self, adapter: str) -> None:
        """Forget one adapter's, if it has any."""
        self._learned.pop(adapter, None)

    def ids(self, adapter: str | None) -> list[int]:
        """What a row of this adapter begins with."""
        if adapter is None or adapter not in self._learned:
            return []
        start, learned = self._learned[adapter]
        return list(range(start, start + len(learned)))

    def stand_in(self, ids: torch.Tensor) -> bool:
        """Whether there is one among these ids: only where prompts are read, never at a single step."""
        return bool(self._learned) and ids.shape[1] > 1 and int(ids.max()) >= self._vocabulary

    def words(self, ids: torch.Tensor) -> torch.Tensor:
        """The ids with a word of the model in the place of each that is none."""
        return ids.clamp(max=self._vocabulary - 1)

    def placed(self, ids: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """`embedded` (rows, tokens, width) with what was learned where it belongs."""
        embedded = embedded.clone()
        for start, learned in self._learned.values():
            here = (ids >= start) & (ids < start + len(learned))
            embedded[here] = learned[ids[here] - start].to(embedded)
        return embedded
