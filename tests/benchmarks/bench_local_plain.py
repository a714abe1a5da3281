"""The baseline: fp32 `generate`, one question after another, as a plain user runs it. Prints tokens/s and s/token."""

import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.benchmarks.bench_local import questions


def main(folder: str, threads: int) -> None:
    """A part of the questions is enough for one after another; 0 threads leaves the number to torch."""
    if threads:
        torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seconds, tokens, each = 0.0, 0, []
    for index, (text, most) in enumerate([questions()[0], *questions()[:9]]):
        turns = [{"role": "user", "content": text}]
        written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(written, add_special_tokens=False, return_tensors="pt")["input_ids"]
        since = time.perf_counter()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False)
        took = time.perf_counter() - since
        if index:  # the first one warms up
            seconds += took
            tokens += out.shape[1] - ids.shape[1]
            each.append(took / (out.shape[1] - ids.shape[1]))
    print(tokens / seconds, statistics.median(each))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
