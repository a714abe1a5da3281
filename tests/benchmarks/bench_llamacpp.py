"""The local engine against llama.cpp, by way of llama-cpp-python: sixteen concurrent questions, the same weights as q8_0.

llama-cpp-python answers one question after another, each from its token ids, with the number of threads that is the
faster one at the moment; it runs in a process of its own, with the engine stopped. Needs the extra `bench`.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_local import ASKERS, Measured, asked_engine, questions, random_model
from tests.benchmarks.figure import Figure

_NEEDED = ("llama_cpp", "gguf")


def against_llamacpp() -> Iterator[Figure]:
    """A model of 135 million parameters; nothing where llama-cpp-python is absent."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "install them with: pip install -e '.[bench]'"
        print(f"local_vs_llamacpp_16 is left out: {', '.join(missing)} missing; {remedy}", file=sys.stderr)
        return
    with random_model("135m") as folder:
        written = write_q8_0(folder)
        mine, theirs = asked_engine(folder), _llamacpp(folder, written)
    print(f"alone: ours {1 / mine.alone_s:.1f}, llama.cpp {1 / theirs.alone_s:.1f} tokens/s", file=sys.stderr)
    print(
        f"{ASKERS} askers: ours {mine.tokens_per_s:.1f}, llama.cpp {theirs.tokens_per_s:.1f} tokens/s",
        file=sys.stderr,
    )
    yield Figure(
        "local_vs_llamacpp_16", round(mine.tokens_per_s / theirs.tokens_per_s, 3), "ratio", 1, "higher"
    )


def write_q8_0(folder: Path) -> Path:
    """A Llama-shaped checkpoint with tied embeddings as a GGUF file beside it; its vocabulary has numbers for words."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    path = folder / "model-q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer, config)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>".encode() for index in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        written = names.get_name(name, try_suffixes=(".weight",))
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                weight = _interleaved(weight, config[heads])
        if weight.ndim == 1:
            writer.add_tensor(written, weight)
        else:
            q8_0 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(written, gguf.quantize(weight, q8_0), raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_shape(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _interleaved(weight: Any, heads: int) -> Any:
    """llama.cpp turns neighbouring places of a head against each other, transformers the two halves."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _llamacpp(folder: Path, written: Path) -> Measured:
    counts = sorted({1, max(1, len(os.sched_getaffinity(0)) // 2), len(os.sched_getaffinity(0))})
    return max((_child(folder, written, count) for count in counts), key=lambda each: each.tokens_per_s)


def _child(folder: Path, written: Path, threads: int) -> Measured:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_llamacpp",
        str(folder),
        str(written),
        str(threads),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tokens_per_s, alone_s = map(float, done.stdout.split()[-2:])
    print(f"llama.cpp, {threads} threads, {folder.name}: {tokens_per_s:.1f} tokens/s", file=sys.stderr)
    return Measured(tokens_per_s, alone_s)


def main(folder: str, written: str, threads: int) -> None:
    """Answer one after another; print tokens per second and the median seconds of a token."""
    from llama_cpp import Llama
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Llama(written, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)
    seconds, tokens, each = 0.0, 0, []
    for index, (text, most) in enumerate([questions()[0], *questions()]):
        turns = [{"role": "user", "content": text}]
        ready = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(ready, add_special_tokens=False)["input_ids"]
        since = time.perf_counter()
        for _ in zip(range(most), model.generate(ids, temp=0.0), strict=False):
            pass
        took = time.perf_counter() - since
        if index:  # the first one warms up
            seconds += took
            tokens += most
            each.append(took / most)
    print(tokens / seconds, statistics.median(each[:9]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
