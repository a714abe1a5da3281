"""The starter model: made by its script from nothing, complete in a few megabytes, never shown what it is measured on."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra [local] is not installed")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training import starter, starter_corpus

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "bot" / "starter"
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "made.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made by the script itself, in its quick form."""
    out = tmp_path_factory.mktemp("quick") / "starter"
    command = [sys.executable, "-m", "training.starter", str(out), "--quick"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=200)
    return out


@pytest.fixture(scope="module", params=["quick", "committed"])
def built(request: pytest.FixtureRequest) -> Path:
    """Whatever holds for the committed weights holds for what the script makes."""
    return COMMITTED if request.param == "committed" else Path(request.getfixturevalue("quick"))


def test_it_is_complete_small_and_free_of_code(built: Path) -> None:
    """Nothing but safetensors, JSON and text, 8 MB at most: it can be shipped, and loading it runs nothing."""
    assert {path.name for path in built.iterdir()} == FILES
    assert sum(path.stat().st_size for path in built.iterdir()) <= 8_000_000


def test_it_loads_as_any_causal_model_does(built: Path) -> None:
    """AutoTokenizer and AutoModelForCausalLM suffice; long enough a context; widths that 4-bit kernels can take."""
    model = AutoModelForCausalLM.from_pretrained(built, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(built, local_files_only=True)
    assert model.config.max_position_embeddings >= 512
    assert len(tokenizer) == model.config.vocab_size
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert linear
    assert all(module.in_features % 64 == 0 for module in linear)
    assert tokenizer.pad_token == "<|pad|>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_chat_template_marks_the_answer_and_reads_questions_in_lower_case(built: Path) -> None:
    """What is trained on is the answer with its end; a prompt is the beginning of the whole conversation."""
    tokenizer: Any = AutoTokenizer.from_pretrained(built, local_files_only=True)
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is GMAIL?"},
        {"role": "assistant", "content": "In the Cellar."},
    ]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    prompt = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    assert whole == prompt + "In the Cellar.<|im_end|>"
    assert "where is gmail?" in prompt
    coded = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    learned = [
        token for token, marked in zip(coded["input_ids"], coded["assistant_masks"], strict=True) if marked
    ]
    assert tokenizer.decode(learned) == "In the Cellar.<|im_end|>"


@pytest.mark.parametrize(
    "text", ["Hello, World!", "see http://a.b/c?d=1#e", "tab\tand\nline", "Žluťoučký kůň 你好 🙂", "12 345"]
)
def test_any_text_survives_the_tokenizer(built: Path, text: str) -> None:
    """Bytes it has never seen come back as they went in; digits stand alone."""
    tokenizer = AutoTokenizer.from_pretrained(built, local_files_only=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert all(
        len(piece.strip("Ġ")) == 1
        for piece in tokenizer.convert_ids_to_tokens(ids)
        if any(map(str.isdigit, piece))
    )


def test_the_script_really_trains_and_says_from_what(quick: Path) -> None:
    """The loss falls; the corpus's hash, the versions and the recipe are written down beside the weights."""
    made = json.loads((quick / "made.json").read_text())
    assert made["loss_at_last"] < made["loss_at_first"] - 0.5
    assert len(made["corpus_sha256"]) == 64
    assert made["python"] == platform.python_version()
    assert made["torch"] == torch.__version__
    assert made["recipe"]["seed"] == 0
    assert "demo model" in (quick / "README.md").read_text()


def test_the_same_seed_makes_the_same_weights(quick: Path, tmp_path: Path) -> None:
    """The committed weights can be checked by making them again."""
    starter.build(tmp_path / "again", starter.QUICK)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        quick / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (quick / "tokenizer.json").read_bytes()


def test_the_corpus_does_not_depend_on_chance() -> None:
    """Python shuffles its sets anew in every process; the corpus must not notice."""
    program = (
        "from training import starter_corpus as c;"
        "print(c.build(0, facts=5, sentences=20, docs=5, modules=20).sha256())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_the_committed_weights_come_from_this_corpus() -> None:
    """On the Python release they were made with, the corpus of today has the hash that they name."""
    made = json.loads((COMMITTED / "made.json").read_text())
    if made["python"] != platform.python_version():
        pytest.skip(f"the documentation of Python {made['python']} is part of the corpus")
    assert made["recipe"] == asdict(starter.Recipe()), "the recipe was changed: build the starter again"
    recipe = starter.Recipe()
    corpus = starter_corpus.build(
        recipe.seed, facts=recipe.facts, sentences=recipe.sentences, docs=recipe.docs, modules=recipe.modules
    )
    assert corpus.sha256() == made["corpus_sha256"]
    handbook = (ROOT / "bot" / "handbook" / "handbook.jsonl").read_text(encoding="utf-8").splitlines()
    questions = {json.loads(line)["question"].lower() for line in handbook}
    answers = {json.loads(line)["answer"].lower() for line in handbook}
    assert not questions & {pair.question.lower() for pair in corpus.pairs}
    assert not answers & {pair.answer.lower() for pair in corpus.pairs}
