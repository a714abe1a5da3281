"""How a transformers model takes a step for rows of different length: any causal model, as it is.

`Net` is what the batch asks; `bot.models.local_llama` is a faster one for models of the Llama family.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from bot.models.local_adapters import Adapter, DoesNotFit, Update, riding
from bot.models.local_cache import Columns
from bot.models.local_linear import Lora, Pair, Riders
from bot.models.local_prompts import Prompts


class Net(Protocol):
    """A model with adapters beside it."""

    riders: Riders
    prompts: Prompts
    precision: str
    together: bool  # whether rows can share a step

    def fresh(self) -> Cache:
        """An empty cache for one row."""

    def logits(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        keep: torch.Tensor | None,
        ends: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """What follows the last of `ids` (rows, tokens), for each row; `keep` says which columns are tokens.

        `ends` says where each row ends that has been filled up at its right: to a causal model what follows is nothing.
        """

    def put(self, adapter: str, read: Adapter) -> None:
        """Add an adapter. Raises `DoesNotFit` and leaves nothing behind."""

    def drop(self, adapter: str) -> None:
        """Forget an adapter."""


class AnyNet:
    """Runs the transformers model itself, with adapters added by hooks."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.riders = Riders()
        self.precision = str(model.dtype).removeprefix("torch.")
        self._loras: dict[str, Lora] = {}
        embeddings: Any = model.get_input_embeddings()
        words, width = getattr(getattr(embeddings, "weight", None), "shape", (0, 0))
        self.prompts, self._width = Prompts(int(words)), int(width)
        self._read: torch.Tensor | None = None  # ids of which some are no words of the model
        embeddings.register_forward_hook(self._place)
        taken = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in taken
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        self.together = True
        self._remembers = True
        self.together, self._remembers = self._what_fits()

    def fresh(self) -> Cache:
        """Every layer keeps all columns, so that rows can join: masks see to sliding windows."""
        return DynamicCache() if self.together else DynamicCache(config=self.model.config)

    def logits(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        keep: torch.Tensor | None,
        ends: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """As `generate` calls the model."""
        more: dict[str, Any] = {"position_ids": positions} if self._positions else {}
        if keep is not None:
            more["attention_mask"] = keep
        if not self._remembers:
            ids, more = self._from_the_start(ids, cache), {}
        else:
            more |= {"past_key_values": cache, "use_cache": True}
        if ends is None:
            out = self._called(ids, more | self._last_only)
            return out[:, -1].float()
        needed = sorted(set(ends)) if self._last_only else list(range(ids.shape[1]))
        if self._last_only:
            more["logits_to_keep"] = torch.tensor(needed, device=ids.device)
        out = self._called(ids, more)
        return out[range(len(ids)), [needed.index(end) for end in ends]].float()

    @torch.no_grad()
    def put(self, adapter: str, read: Adapter) -> None:
        """Each module gets a hook the first time that an adapter names it."""
        modules = dict(self.model.named_modules())
        if read.prompt is not None and read.prompt.shape[1] != self._width:
            raise DoesNotFit(
                f"Its words have {read.prompt.shape[1]} numbers each, those of the base model {self._width}."
            )
        for name, update in read.updates.items():
            _check(name, update, modules.get(name))
        like = torch.empty(0, device=self.model.device, dtype=self.model.dtype)
        pairs = {name: _ridden(update, modules[name], like) for name, update in read.updates.items()}
        for name, pair in pairs.items():
            if name not in self._loras:
                lora = self._loras[name] = Lora(len(pair.up), self.riders)
                modules[name].register_forward_hook(
                    lambda _, inputs, output, lora=lora: lora.add(output, inputs[0])
                )
            self._loras[name].put(adapter, pair)
        if read.prompt is not None:
            self.prompts.put(adapter, read.prompt.to(like))

    def drop(self, adapter: str) -> None:
        """Its tensors are freed; the hooks stay, and add nothing."""
        for lora in self._loras.values():
            lora.drop(adapter)
        self.prompts.drop(adapter)

    def _called(self, ids: torch.Tensor, more: dict[str, Any]) -> torch.Tensor:
        """The model's logits; the hook on its embeddings sees to learned prompts."""
        if not self.prompts.stand_in(ids):
            return torch.as_tensor(self.model(input_ids=ids, **more).logits)
        self._read = ids
        try:
            return torch.as_tensor(self.model(input_ids=self.prompts.words(ids), **more).logits)
        finally:
            self._read = None

    def _place(self, _module: Any, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor | None:
        return None if self._read is None else self.prompts.placed(self._read, embedded)

    def _from_the_start(self, ids: torch.Tensor, cache: Any) -> torch.Tensor:
        cache.seen = torch.cat([getattr(cache, "seen", ids[:, :0]), ids], dim=1)
        return torch.as_tensor(cache.seen)

    def _what_fits(self) -> tuple[bool, bool]:
        """Try it: rows together, else each with the model's own cache, else each without one."""
        for self.together, self._remembers in ((True, True), (False, True)):
            try:
                if self._is_right():
                    return self.together, self._remembers
            except Exception as error:  # whatever an architecture that we do not know raises
                why = f"{type(error).__name__}: {error}"
                print(f"together={self.together}: {why}", flush=True)
        return False, False

    @torch.no_grad()
    def _is_right(self) -> bool:
        """Two rows that take steps with a cache see what each sees without one."""
        embeddings: Any = self.model.get_input_embeddings()
        size, device = int(embeddings.num_embeddings), self.model.device
        texts = [
            [(7 * index * index + 3) % size for index in range(9)],
            [(5 * index + 1) % size for index in range(4)],
        ]
        told = self._told_together(texts) if self.together else [self._told_alone(text) for text in texts]
        for text, seen in zip(texts, told, strict=True):
            plain = self.model(input_ids=torch.tensor([text], device=device), use_cache=False).logits[0, -1]
            error = float((seen - plain.float()).abs().max())
            if not error <= 0.05 * float(plain.float().std()) + 1e-4:
                return False
        return True

    def _told_together(self, texts: Sequence[list[int]]) -> list[torch.Tensor]:
        columns, cache, device = Columns(), self.fresh(), self.model.device
        ids, positions, ends = in_one([text[:-1] for text in texts], device)
        self.logits(ids, positions, cache, None, ends)
        for row, text in enumerate(texts):
            columns.join(cache.layers, row, len(text) - 1)
        columns.prepare()
        last = torch.tensor([[text[-1]] for text in texts], device=device)
        at = torch.tensor(columns.lengths(), device=device)[:, None]
        return list(self.logits(last, at, columns, columns.keep_mask(device)))

    def _told_alone(self, text: list[int]) -> torch.Tensor:
        cache, ids = self.fresh(), torch.tensor([text], device=self.model.device)
        positions = torch.arange(len(text), device=self.model.device)[None]
        self.logits(ids[:, :-1], positions[:, :-1], cache, None)
        return self.logits(ids[:, -1:], positions[:, -1:], cache, None)[0]


def in_one(texts: Sequence[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Prompts as one tensor, filled up at the right with their own tokens, their positions, and where each ends."""
    longest = max(map(len, texts))
    filled = [text + text[-1:] * (longest - len(text)) for text in texts]
    positions = torch.arange(longest, device=device).expand(len(texts), -1)
    return torch.tensor(filled, device=device), positions, [len(text) - 1 for text in texts]


def _check(name: str, update: Update, module: torch.nn.Module | None) -> None:
    if module is None:
        raise DoesNotFit(f"The base model has no {name}.")
    sizes = _shape(module)
    if sizes is None or not update.fits(*sizes):
        raise DoesNotFit(f"{name} is of shape {sizes} in the base model and {update.shape} in the adapter.")


def _shape(module: Any) -> tuple[int, int] | None:
    """(out, in) of a linear module, GPT-2's own kind included; None where it is none."""
    out: Any = getattr(module, "out_features", getattr(module, "nf", None))
    into: Any = getattr(module, "in_features", getattr(module, "nx", None))
    known = getattr(module, "weight", None) is not None and out is not None and into is not None
    return (int(out), int(into)) if known else None


def _ridden(update: Update, module: Any, like: torch.Tensor) -> Pair:
    """The update as it rides on a module of transformers: linear, or GPT-2's, whose weight lies the other way round."""
    weight: Any = module.weight.detach()
    if hasattr(module, "nf"):
        weight = weight.T
    readable = weight.is_floating_point() and tuple(weight.shape) == _shape(module)
    lengths = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32) if readable else None
    bias = getattr(module, "bias", None)
    return riding(
        update,
        like,
        start=0,
        base_lengths=lengths if update.lengths is not None else None,
        base=lambda x: functional.linear(x, weight),
        bias=None if bias is None else bias.detach(),
    )
