"""Every export is held to what its reader's maker says: OpenAI's and Google's descriptions, TRL's and datasets' own code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from provider_schema import CHAT, SPECS, GoogleSpec, OpenAISpec, modern
from test_formats import pieces

from bot.settings import STARTER
from training.formats.pieces import Piece
from training.formats.writing import PAIRED, lines_of, write_hugging_face

ASSISTANT = "ChatCompletionRequestAssistantMessage"
VERTEX = "GoogleCloudAiplatformV1"


def written(name: str) -> list[Any]:
    """Conversations with system prompts, earlier answers and odd characters, as the format writes them."""
    made = pieces(3, rejected=name in PAIRED, plain=False)
    return [json.loads(line) for line in lines_of(made, name)]


def openai_line(preference: bool) -> Any:
    """A line of a file for fine-tuning (FineTuneChatRequestInput, FineTunePreferenceRequestInput).

    The cut of OpenAI's description beside this checkout leaves these two names out, as no path refers to them; what they are
    made of is in it: the messages of a chat, and a weight of 0 or 1 for an assistant's.
    """
    if not SPECS.exists():
        pytest.skip("the vendors' descriptions are not beside this checkout")
    spec = modern(json.loads((SPECS / "openai_subset.json").read_text(encoding="utf-8")))
    schemas = spec["components"]["schemas"]
    assert "FineTuneChatRequestInput" not in schemas, "the description has it now: use it instead of this"
    assistant = {**schemas[ASSISTANT], "properties": dict(schemas[ASSISTANT]["properties"])}
    assistant["properties"]["weight"] = {"type": "integer", "enum": [0, 1]}
    kinds = [schemas[f"ChatCompletionRequest{who}Message"] for who in ("System", "User")]
    turns = {
        "type": "array",
        "minItems": 1,
        "items": {"oneOf": [closed(each) for each in (*kinds, assistant)]},
    }
    said = {"type": "array", "minItems": 1, "maxItems": 1, "items": closed(schemas[ASSISTANT])}
    if preference:
        wanted = {
            name: schemas[CHAT]["allOf"][-1]["properties"][name] for name in ("tools", "parallel_tool_calls")
        }
        line = closed_object(
            input=closed_object(messages=turns, **wanted), preferred_output=said, non_preferred_output=said
        )
    else:
        line = closed_object(messages=turns)
    return jsonschema.Draft202012Validator({**line, "components": spec["components"]})


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that takes no other fields."""
    return {**schema, "additionalProperties": False}


def closed_object(**fields: Any) -> dict[str, Any]:
    """An object of exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


@pytest.mark.parametrize("name", ["openai", "openai-preference"])
def test_openai_takes_every_line(name: str) -> None:
    """By its own description of messages; an unknown field or a wrong role is a fault."""
    line = openai_line(preference=name in PAIRED)
    for row in written(name):
        line.validate(row)
    spoilt = json.loads(json.dumps(written(name)[0]))
    turns = spoilt["input"]["messages"] if "input" in spoilt else spoilt["messages"]
    turns[0]["role"] = "human"
    assert not line.is_valid(spoilt)


def test_openai_checks_what_we_check() -> None:
    """The same messages as a request for an answer pass the whole description, which nobody put together here."""
    if not SPECS.exists():
        pytest.skip("the vendors' descriptions are not beside this checkout")
    for row in written("openai-preference"):
        body = {"model": "gpt-4.1-mini", "messages": row["input"]["messages"] + row["preferred_output"]}
        OpenAISpec.read().check_request("POST", "/v1/chat/completions", body)


def google(name: str) -> Any:
    """One schema of Google's discovery document."""
    if not SPECS.exists():
        pytest.skip("the vendors' descriptions are not beside this checkout")
    known: Any = GoogleSpec.read().generate.schema
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{VERTEX}{name}", "$defs": known["$defs"]})


def test_vertex_takes_every_line() -> None:
    """A line for tuning is a request for an answer with the answer behind it."""
    request = google("GenerateContentRequest")
    for row in written("vertex"):
        request.validate(row)
        assert [turn["role"] for turn in row["contents"]] == ["user", "model"] * (len(row["contents"]) // 2)
    assert not request.is_valid({"content": []})


def test_vertex_takes_every_preference() -> None:
    """Two completions of score 1 and 0 behind a user's turn. The system prompt is in Google's words about it only."""
    example, content = google("GeminiPreferenceExample"), google("Content")
    for row in written("vertex-preference"):
        system = row.pop("system_instruction", None)
        if system:
            content.validate(system)
        example.validate(row)
        assert row["contents"][-1]["role"] == "user"
        assert [each["score"] for each in row["completions"]] == [1, 0]
        assert {each["completion"]["role"] for each in row["completions"]} == {"model"}
    assert not example.is_valid({"contents": [], "completions": [{"score": "best"}]})


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The starter model's, with its chat template."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(str(STARTER), local_files_only=True)


@pytest.mark.parametrize("name", ["trl", "trl-preference", "trl-unpaired", "openai"])
def test_trl_reads_every_line_as_a_conversation(name: str, tokenizer: Any) -> None:
    """Its own code puts them into the chat template: the prompt first, and the answer behind it and nowhere else."""
    data = pytest.importorskip("trl.data_utils")
    for piece, row in zip(pieces(3, rejected=name in PAIRED, plain=False), written(name), strict=True):
        assert data.is_conversational(row)
        said = data.maybe_apply_chat_template(row, tokenizer)
        for field in set(said) & {"completion", "chosen"}:
            assert plain(said[field]).startswith(plain(piece.answer))
            assert not plain(said["prompt"]).endswith(plain(piece.answer))
        if name == "trl-preference":
            assert plain(said["rejected"]).startswith(plain(piece.rejected))
        if name == "openai":
            assert plain(piece.answer) in plain(said["text"])
        if name == "trl-unpaired":
            assert said["label"] is True


def plain(text: str) -> str:
    """Templates trim."""
    return text.strip()


def test_trl_makes_our_unpaired_rows_of_our_pairs() -> None:
    """What its own function makes of preferences is what we write as unpaired."""
    datasets, data = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    made = pieces(3, rejected=True, plain=False)
    paired = datasets.Dataset.from_list(written("trl-preference"))
    theirs = data.unpair_preference_dataset(paired).to_list()
    ours = [json.loads(line) for line in lines_of(both(made), "trl-unpaired")]
    assert sorted(map(str_of, theirs)) == sorted(map(str_of, ours))


def str_of(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def both(made: list[Piece]) -> Iterator[Piece]:
    """A pair as two opinions."""
    for each in made:
        yield Piece(each.prompt, each.answer)
        yield Piece(each.prompt, each.rejected, liked=False)


def test_datasets_reads_the_parquet_files(tmp_path: Path, tokenizer: Any) -> None:
    """Offline, by `load_dataset("parquet")`, split by split; TRL knows the rows as conversations."""
    datasets, data = pytest.importorskip("datasets"), pytest.importorskip("trl.data_utils")
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    rows = [
        {"id": str(n), "cluster": f"c{n}", **row, "weight": 0.25 * (n % 5)}
        for n, row in enumerate(written("openai"))
    ]
    for row in rows:
        row["messages"] = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    for split, part in (("train", rows[:30]), ("test", rows[30:])):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
        (frozen / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    assert write_hugging_face(frozen, tmp_path / "hf") == {"train": 30, "test": 10}
    files = {split: str(tmp_path / "hf" / "data" / f"{split}-*.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: loaded[split].num_rows for split in files} == {"train": 30, "test": 10}
    assert [row for split in files for row in loaded[split].to_list()] == rows
    assert data.is_conversational(loaded["train"][0])
    assert tokenizer.apply_chat_template(loaded["train"][0]["messages"], tokenize=False)
