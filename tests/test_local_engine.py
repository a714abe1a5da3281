"""Continuous batching: whoever joins and leaves, each row gets what `generate` gives it alone, token for token."""

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

import bot
from bot.models.local_adapters import DoesNotFit, read_adapter
from bot.models.local_batch import Batch
from bot.models.local_linear import halved, int8, plain
from bot.models.local_llama import LlamaNet, is_llama_shaped
from bot.models.local_net import AnyNet, Net
from bot.models.local_precision import Verdict, Verdicts, compare
from bot.models.local_rows import Row
from bot.models.local_text import TextPieces
from training.method import Adapter
from training.trainers.adapters import config_of

STARTER = Path(bot.__file__).parent / "starter"
SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "head_dim": 8,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"sliding_window": 6, "query_pre_attn_scalar": 8, "tie_word_embeddings": False},
    "gemma3_text": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "phi": {},
    "bloom": {"n_head": 4},
    "mamba": {},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads of torch beside a busy neighbour wait for each other most of the time."""
    torch.set_num_threads(1)


class Weights:
    """As much of the worker's weights as a batch needs."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.device = torch.device("cpu")
        self.end_tokens: frozenset[int] = frozenset()


class Listener:
    """Remembers who was refused."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}

    def on_text(self, row: Row, piece: str) -> None:
        """Texts are tested elsewhere."""

    def on_done(self, row: Row) -> None:
        """Rows are looked at afterwards."""

    def on_refused(self, row: Row, words: str) -> None:
        """Why."""
        self.refused[row.id] = words


def tiny(family: str) -> Any:
    """A random-weight model of a family."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})
    return AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]


UNEVEN, ALIKE = (2, 9, 23, 60), (9, 10, 11)


def prompts(vocabulary: int, count: int = 6, lengths: Sequence[int] = UNEVEN) -> list[list[int]]:
    """Of uneven length."""
    draw = random.Random(3)
    return [[draw.randrange(1, vocabulary) for _ in range(draw.choice(lengths))] for _ in range(count)]


def rows(texts: Sequence[list[int]], adapters: Sequence[str | None], *, tokens: int = 16) -> list[Row]:
    """Greedy rows, each a little longer than the one before."""
    return [
        Row(str(index), adapter, text, tokens + index, 0.0, False, TextPieces(lambda _: ""))
        for index, (text, adapter) in enumerate(zip(texts, adapters, strict=True))
    ]


def written(net: Net, asked: list[Row], *, first: int = 1) -> list[list[int]]:
    """What the batch writes where `first` join, at the next step one more than that, and so on."""
    told = Listener()
    batch = Batch(Weights(net), told)  # type: ignore[arg-type]
    waiting = list(asked)
    step = first - 1
    while waiting or batch.rows:
        step += 1
        for row in waiting[:step]:
            batch.join(row)
        waiting = waiting[step:]
        batch.step()
    assert told.refused == {}
    return [row.answer for row in asked]


def generated(model: Any, asked: list[Row]) -> list[list[int]]:
    """What `generate` writes for each alone."""
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    answers = []
    for row in asked:
        config = GenerationConfig(max_new_tokens=row.max_new_tokens, do_sample=False, pad_token_id=0)  # type: ignore[no-untyped-call]
        ids = torch.tensor([row.prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        answers.append(out[0, len(row.prompt) :].tolist())
    return answers


def adapter(base: Any, folder: Path, seed: int, kind: str = "lora") -> Path:
    """A strong random adapter, of the settings that the trainer gives its kind."""
    torch.manual_seed(seed)
    made: Any = SimpleNamespace(rank=4 * seed, alpha=8)
    tuned = get_peft_model(base, config_of(made, Adapter(kind), base))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(strong(name, parameter))
    tuned.save_pretrained(str(folder))
    return folder


def strong(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Far from where it began."""
    if "magnitude" in name or "ia3" in name:
        return parameter * (0.3 + 1.4 * torch.rand_like(parameter))
    return torch.randn_like(parameter)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_writes_what_generate_writes(family: str) -> None:
    """Rows that join one by one, of uneven length, with sliding windows shorter than the prompts."""
    model = tiny(family)
    asked = rows(prompts(120), [None] * 6)
    expected = generated(model, asked)
    net: Net = LlamaNet(model) if is_llama_shaped(model) else AnyNet(model)
    assert isinstance(net, LlamaNet) == (family in ("llama", "qwen2", "qwen3"))
    assert net.together == (family != "mamba")
    assert written(net, asked) == expected


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "kinds", [("lora", "lora"), ("dora", "ia3"), ("prompt", "rslora"), ("prompt", "dora")]
)
@pytest.mark.parametrize(("first", "lengths"), [(1, UNEVEN), (6, ALIKE)])
def test_base_and_two_adapters_share_a_batch(
    family: str, kinds: tuple[str, str], first: int, lengths: Sequence[int], tmp_path: Path
) -> None:
    """Each row has its own adapter, also where prompts are read together; one that left leaves nothing behind."""
    folders = [adapter(tiny(family), tmp_path / str(seed), seed, kinds[seed - 1]) for seed in (1, 2)]
    versions: list[str | None] = [None, "one", "two", "one", None, "two"]
    asked = rows(prompts(120, lengths=lengths), versions)
    of_the_base = generated(tiny(family), asked)
    expected = []
    for row in asked:
        model = tiny(family)
        if row.adapter is not None:
            model = PeftModel.from_pretrained(model, str(folders[row.adapter == "two"])).eval()
        expected += generated(model, [row])
    assert all(
        (said == of_base) == (row.adapter is None)
        for row, said, of_base in zip(asked, expected, of_the_base, strict=True)
    )
    model = tiny(family)
    net: Net = LlamaNet(model) if is_llama_shaped(model) else AnyNet(model)
    net.put("one", read_adapter(folders[0]))
    net.put("two", read_adapter(folders[1]))
    for row in asked:
        row.prompt = net.prompts.ids(row.adapter) + row.prompt
    assert written(net, asked, first=first) == expected
    alone = [row for row in rows(prompts(120, lengths=lengths), versions) if row.adapter == "one"]
    for row in alone:
        row.prompt = net.prompts.ids("one") + row.prompt
    assert written(net, alone, first=first) == [expected[1], expected[3]]
    net.drop("one")
    net.drop("two")
    again = rows(prompts(120), [None] * 6)
    assert written(net, again) == generated(tiny(family), again)


def test_a_dora_on_eight_bits_says_what_it_says_on_floats(tmp_path: Path) -> None:
    """What its gain depends on is measured on the product that serves."""
    torch.backends.quantized.engine = "fbgemm"
    read = read_adapter(adapter(tiny("llama"), tmp_path / "dora", 1, "dora"))
    ids = torch.tensor(prompts(120, 1, lengths=(60,)))
    told = []
    for make in (plain, int8, halved):
        net = LlamaNet(tiny("llama"), make)
        net.put("one", read)
        net.riders.seat(["one"])
        told.append(torch.log_softmax(net.logits(ids, torch.arange(60)[None], net.fresh(), None), dim=-1)[0])
    exact = told[0].exp()
    assert all(float((exact * (told[0] - other)).sum()) < 0.02 for other in told[1:])


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "prompt"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_of_another_base_is_refused_whole(family: str, kind: str, tmp_path: Path) -> None:
    """In words that name what does not fit; nothing of it stays."""
    torch.manual_seed(0)
    sizes = {**SIZES, **FAMILIES[family], "hidden_size": 64, "n_embd": 64, "intermediate_size": 96}
    wide = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).eval()  # type: ignore[no-untyped-call]
    read = read_adapter(adapter(wide, tmp_path / "wide", 1, kind))
    model = tiny(family)
    net: Net = LlamaNet(model) if is_llama_shaped(model) else AnyNet(model)
    with pytest.raises(DoesNotFit, match=r"is of shape|numbers each"):
        net.put("one", read)
    assert net.prompts.ids("one") == []
    asked = rows(prompts(120, 2), ["one"] * 2)
    assert written(net, asked) == generated(tiny(family), asked)


@pytest.mark.parametrize(
    ("kind", "spoil", "said"),
    [
        ("lora", {"base_model.model.odd": torch.zeros(2)}, "tensors are unexpected"),
        ("dora", "lora_magnitude_vector", "no length for each"),
        ("lora", "lora_B.weight", "is missing"),
        ("prompt", {"prompt_embeddings": torch.zeros(3, 32)}, "no prompt of 16 learned words"),
        (
            "ia3",
            {"base_model.model.model.layers.0.mlp.up_proj.ia3_l": torch.full((48, 1), float("nan"))},
            "not finite",
        ),
    ],
)
def test_a_damaged_adapter_is_refused_in_words(
    kind: str, spoil: dict[str, torch.Tensor] | str, said: str, tmp_path: Path
) -> None:
    """Tensors that should not be there, are missing, or hold no numbers."""
    file = adapter(tiny("llama"), tmp_path / "one", 1, kind) / "adapter_model.safetensors"
    tensors = load_file(file)
    if isinstance(spoil, str):
        tensors.pop(next(name for name in tensors if name.endswith(spoil)))
    else:
        tensors |= spoil
    save_file(tensors, file)
    with pytest.raises(DoesNotFit, match=said):
        read_adapter(file.parent)


def test_the_starter_and_real_weights_write_what_generate_writes(shared_data: Path) -> None:
    """Trained weights, sixteen at once."""
    for folder in (STARTER, *sorted((shared_data / "tinylm").glob("*-hf"))):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()  # type: ignore[no-untyped-call]
        asked = rows(prompts(100, 16), [None] * 16, tokens=4)
        expected = generated(model, asked)
        assert written(LlamaNet(model), asked) == expected


class Cramped(AnyNet):
    """A model on a device that has room for two rows at once, and for prompts of fifty tokens."""

    def logits(self, ids: Any, positions: Any, cache: Any, keep: Any, ends: Any = None) -> torch.Tensor:
        if len(ids) > 2 or ids.shape[1] > 50:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return super().logits(ids, positions, cache, keep, ends)


def test_rows_that_do_not_fit_together_are_answered_one_after_another() -> None:
    """Out of memory costs time; only the row that cannot fit alone is refused, in words."""
    model = tiny("gpt2")
    asked = rows(prompts(120), [None] * 6)
    expected = {row.id: answer for row, answer in zip(asked, generated(model, asked), strict=True)}
    told = Listener()
    batch = Batch(Weights(Cramped(model)), told)  # type: ignore[arg-type]
    waiting = list(asked)
    while waiting or batch.rows:
        while waiting and len(batch.rows) < batch.most:
            batch.join(waiting.pop())
        batch.step()
        waiting += batch.put_back()
    long = {row.id for row in asked if len(row.prompt) > 50}
    assert set(told.refused) == long
    assert long
    assert all("needs more memory" in words for words in told.refused.values())
    assert all(row.answer == expected[row.id] for row in asked if row.id not in long)


def test_how_sure_it_was_is_told_for_each_token() -> None:
    """Margins and the first token's entropy are those of the model's own distribution."""
    model = tiny("llama")
    (row,) = rows(prompts(120, 1), [None])
    written(LlamaNet(model), [row])
    logits = model(input_ids=torch.tensor([row.prompt])).logits[0, -1].detach()
    known = torch.log_softmax(logits, dim=-1)
    first, second = known.topk(2).values.tolist()
    assert row.margins[0] == pytest.approx(first - second, abs=1e-3)
    assert row.first_entropy == pytest.approx(float(-(known.exp() * known).sum()), abs=1e-3)
    assert len(row.margins) == len(row.logprobs) == len(row.answer)


def test_a_faster_precision_must_say_the_same(tmp_path: Path) -> None:
    """int8 of sane weights holds up; weights that int8 spoils are found out, and verdicts are remembered."""
    model = tiny("llama")
    exact = LlamaNet(model)
    same = compare(exact, LlamaNet(model), prompts(120))
    assert same.kl == pytest.approx(0, abs=1e-5)
    assert same.holds_up
    for name, weight in model.named_parameters():
        if name.endswith("proj.weight"):
            weight.data[:, 0] *= 3000.0  # one input drowns the others in eight bits
    torch.backends.quantized.engine = "fbgemm"
    spoilt = compare(LlamaNet(model), LlamaNet(model, int8), prompts(120))
    assert not spoilt.holds_up
    kept = Verdicts(tmp_path / "verdicts.json", str(STARTER))
    kept.keep("int8", spoilt)
    assert Verdicts(tmp_path / "verdicts.json", str(STARTER)).known("int8") == spoilt
    assert kept.known("bf16") is None
    (tmp_path / "verdicts.json").write_text("damaged")
    assert kept.known("int8") is None
    assert not Verdict(kl=99.0, turned=0.0, time=0.1).holds_up
