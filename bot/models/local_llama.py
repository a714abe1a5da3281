"""A step of a Llama-shaped model with as few operations as it takes: small models are bound by their number.

Llama, Mistral, Qwen2 and Qwen3 are written out here, with fused products; `tests/test_local_engine.py` holds them equal
to `generate`. Everything else takes `bot.models.local_net.AnyNet`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from bot.models.local_adapters import Adapter, DoesNotFit, Update, riding
from bot.models.local_linear import Dense, Lora, Maker, Pair, Riders, plain
from bot.models.local_prompts import Prompts

_FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_ROPE = ("default", "linear", "llama3")  # those whose angles do not depend on the prompt's length


def is_llama_shaped(model: PreTrainedModel) -> bool:
    """Whether `LlamaNet` computes what this model does."""
    config = model.config
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    slides = slides or (
        type(model).__name__ == "MistralForCausalLM"
        and window is not None
        and window < config.max_position_embeddings
    )
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model).__name__ in _FAMILY
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPE
        and float(rope.get("partial_rotary_factor", 1.0)) == 1.0
        and not slides
        and getattr(model, "quantization_method", None) is None
    )


class _Product:
    """Several products of one input in one, each with its place for adapters."""

    def __init__(self, modules: list[Any], make: Maker, riders: Riders) -> None:
        weight = torch.cat([module.weight for module in modules]) if len(modules) > 1 else modules[0].weight
        biases = [module.bias for module in modules]
        bias = None if biases[0] is None else torch.cat(biases)
        self.inputs = weight.shape[1]
        self.sizes = [len(module.weight) for module in modules]
        self._dense: Dense = make(weight.detach(), None if bias is None else bias.detach())
        self._bias = None if bias is None else bias.detach()
        self._lengths = torch.linalg.vector_norm(weight.detach(), dim=1, dtype=torch.float32)
        self.lora = Lora(sum(self.sizes), riders)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.lora.add(self._dense(x), x)

    def ridden(self, update: Update, part: int, like: torch.Tensor) -> Pair:
        """The update as it rides on one of the products. Raises `DoesNotFit`."""
        start = sum(self.sizes[:part])
        here = slice(start, start + self.sizes[part])
        bias = None if self._bias is None else self._bias[here]

        def base(x: torch.Tensor) -> torch.Tensor:
            y = self._dense(x)[:, here]
            return y if bias is None else y - bias

        return riding(update, like, start=start, base_lengths=self._lengths[here], base=base, bias=bias)


@dataclass(frozen=True)
class _Block:
    before: torch.Tensor
    qkv: _Product
    out: _Product
    after: torch.Tensor
    gate_up: _Product
    down: _Product
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None


class LlamaNet:
    """The model's weights without its modules."""

    def __init__(self, model: PreTrainedModel, make: Maker = plain, precision: str = "") -> None:
        source: Any = model
        config = source.config
        self.riders = Riders()
        self.precision = precision or str(model.dtype).removeprefix("torch.")
        self.together = True
        self.device = model.device
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._width = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._eps = config.rms_norm_eps
        self._embed = source.model.embed_tokens.weight.detach()
        self.prompts = Prompts(len(self._embed))
        self._rotary = source.model.rotary_emb
        self._angles = self._embed.new_zeros((2, 0, self._width))
        self._norm = source.model.norm.weight.detach()
        self._places: dict[str, tuple[_Product, int]] = {}
        self._blocks = [self._block(index, layer, make) for index, layer in enumerate(source.model.layers)]
        self._head = _Product([source.lm_head], make, self.riders)
        self._places["lm_head"] = (self._head, 0)

    def fresh(self) -> Cache:
        """An empty cache for one row."""
        return DynamicCache()

    def logits(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: Cache,
        keep: torch.Tensor | None,
        ends: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """One row with any number of tokens, many rows with one token each, or many whole prompts."""
        rows, tokens = ids.shape
        cos, sin = self._angles_at(positions)
        mask = self._mask(tokens, cache.get_seq_length(), keep)
        x = self._embedded(ids).view(rows * tokens, -1)
        for index, block in enumerate(self._blocks):
            read = functional.rms_norm(x, x.shape[-1:], block.before, self._eps)
            x = x + block.out(self._attend(block, index, read, (rows, tokens), cos, sin, mask, cache))
            read = functional.rms_norm(x, x.shape[-1:], block.after, self._eps)
            gate, up = block.gate_up(read).chunk(2, dim=-1)
            x = x + block.down(functional.silu(gate) * up)
        if tokens == 1:
            last = x
        elif ends is None:
            last = x.view(rows, tokens, -1)[:, -1]
        else:
            last = x.view(rows, tokens, -1)[range(rows), ends]
        return self._head(functional.rms_norm(last, last.shape[-1:], self._norm, self._eps)).float()

    @torch.no_grad()
    def put(self, adapter: str, read: Adapter) -> None:
        """Each update goes to its place in a fused product."""
        for name, update in read.updates.items():
            self._check(name, update)
        if read.prompt is not None and read.prompt.shape[1] != self._embed.shape[1]:
            raise DoesNotFit(
                f"Its words have {read.prompt.shape[1]} numbers each, those of the base model {self._embed.shape[1]}."
            )
        places = {name: self._places[name] for name in read.updates}
        pairs = [
            (product, product.ridden(read.updates[name], part, self._embed))
            for name, (product, part) in places.items()
        ]
        for product, pair in pairs:
            product.lora.put(adapter, pair)
        if read.prompt is not None:
            self.prompts.put(adapter, read.prompt.to(self._embed))

    def drop(self, adapter: str) -> None:
        """Forget an adapter."""
        for product, _ in self._places.values():
            product.lora.drop(adapter)
        self.prompts.drop(adapter)

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.prompts.stand_in(ids):
            return functional.embedding(ids, self._embed)
        return self.prompts.placed(ids, functional.embedding(self.prompts.words(ids), self._embed))

    def _attend(
        self,
        block: _Block,
        index: int,
        x: torch.Tensor,
        shape: tuple[int, int],
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
        cache: Cache,
    ) -> torch.Tensor:
        rows, tokens = shape
        both = self._heads + self._kv_heads
        qkv = block.qkv(x).view(rows, tokens, both + self._kv_heads, self._width)
        if block.q_norm is not None and block.k_norm is not None:
            q = functional.rms_norm(qkv[:, :, : self._heads], (self._width,), block.q_norm, self._eps)
            k = functional.rms_norm(qkv[:, :, self._heads : both], (self._width,), block.k_norm, self._eps)
            turning = torch.cat([q, k], dim=2)
        else:
            turning = qkv[:, :, :both]
        first, second = turning.chunk(2, dim=-1)
        turned = turning * cos + torch.cat([-second, first], dim=-1) * sin
        q = turned[:, :, : self._heads]
        keys, values = cache.update(
            turned[:, :, self._heads :].transpose(1, 2), qkv[:, :, both:].transpose(1, 2), index
        )
        group = self._heads // self._kv_heads
        if tokens == 1:  # the heads that share keys are a query's "tokens": nothing is repeated
            seen = functional.scaled_dot_product_attention(
                q.view(rows, self._kv_heads, group, self._width), keys, values, attn_mask=mask
            )
            return seen.reshape(rows, -1)
        if group > 1:
            keys, values = (each.repeat_interleave(group, dim=1) for each in (keys, values))
        seen = functional.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask)
        return seen.transpose(1, 2).reshape(rows * tokens, -1)

    def _mask(self, tokens: int, before: int, keep: torch.Tensor | None) -> torch.Tensor | None:
        if keep is not None:
            away = torch.zeros(keep.shape, device=keep.device, dtype=self._embed.dtype)
            return away.masked_fill_(keep == 0, float("-inf"))[:, None, None]
        if tokens == 1:
            return None
        return torch.ones(tokens, before + tokens, dtype=torch.bool, device=self.device).tril(before)

    def _angles_at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        furthest = int(positions.max()) + 1
        if furthest > self._angles.shape[1]:
            known = torch.arange(max(512, 2 * furthest), device=self.device)[None]
            cos, sin = self._rotary(self._embed, known)
            self._angles = torch.stack([cos[0], sin[0]]).to(self._embed.dtype)
        cos, sin = self._angles[:, positions]
        return cos[:, :, None], sin[:, :, None]

    def _block(self, index: int, layer: Any, make: Maker) -> _Block:
        attention, mlp = layer.self_attn, layer.mlp
        norm = getattr(attention, "q_norm", None)

        def product(part: str, names: tuple[str, ...], owner: Any) -> _Product:
            made = _Product([getattr(owner, name) for name in names], make, self.riders)
            for place, name in enumerate(names):
                self._places[f"model.layers.{index}.{part}.{name}"] = (made, place)
            return made

        return _Block(
            before=layer.input_layernorm.weight.detach(),
            qkv=product("self_attn", ("q_proj", "k_proj", "v_proj"), attention),
            out=product("self_attn", ("o_proj",), attention),
            after=layer.post_attention_layernorm.weight.detach(),
            gate_up=product("mlp", ("gate_proj", "up_proj"), mlp),
            down=product("mlp", ("down_proj",), mlp),
            q_norm=None if norm is None else norm.weight.detach(),
            k_norm=None if norm is None else attention.k_norm.weight.detach(),
        )

    def _check(self, name: str, update: Update) -> None:
        if name not in self._places:
            raise DoesNotFit(f"The base model has no {name} that an adapter could change.")
        product, part = self._places[name]
        if not update.fits(product.sizes[part], product.inputs):
            wanted = (product.sizes[part], product.inputs)
            raise DoesNotFit(
                f"{name} is of shape {wanted} in the base model and {update.shape} in the adapter."
            )
