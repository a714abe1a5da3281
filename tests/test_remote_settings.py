"""The settings that send the local model's traffic to a server: what they need, and what they are turned into."""

from pathlib import Path

import pytest
from vllm_standin import VllmStandIn, served

from bot import doctor
from bot.errors import PublicError
from bot.findings import Mark
from bot.lineup import has_local_model, server_engine
from bot.settings import Settings
from storage.values import Message

SERVER = {
    "local_engine": "openai-compatible",
    "local_engine_url": "http://gpu:8000/v1",
    "local_model": "qwen",
}


@pytest.mark.parametrize(
    ("without", "says"),
    [("local_engine_url", "needs LOCAL_ENGINE_URL"), ("local_model", "needs LOCAL_MODEL")],
)
def test_a_server_needs_its_address_and_the_models_name(without: str, says: str) -> None:
    """Said when the settings are read, with the setting's name."""
    with pytest.raises(PublicError, match=f"LOCAL_ENGINE: {says}"):
        Settings.read(None, **{**SERVER, without: ""})


@pytest.mark.parametrize(
    ("more", "base", "mark"),
    [
        ({}, "qwen", Mark.NOTE),
        ({"train_base_model": "Qwen/Qwen3-4B"}, "Qwen/Qwen3-4B", Mark.OK),
        ({"local_model": "Qwen/Qwen3-4B"}, "Qwen/Qwen3-4B", Mark.OK),
    ],
)
def test_training_starts_from_what_the_server_has(more: dict[str, str], base: str, mark: Mark) -> None:
    """A name that only the server knows is no base to train; the doctor says so before a run fails."""
    settings = Settings.read(None, **{**SERVER, **more})
    assert settings.base_to_train == base
    found = doctor._local_model(settings)
    assert found.mark is mark
    assert "http://gpu:8000/v1" in found.words
    assert ("set TRAIN_BASE_MODEL" in found.words) == (mark is Mark.NOTE)


def test_a_process_of_ours_trains_what_it_runs() -> None:
    """TRAIN_BASE_MODEL is for servers; an adapter for another base would fit nothing here."""
    settings = Settings.read(None, local_model="owner/name", train_base_model="owner/other")
    assert settings.base_to_train == "owner/name"


def test_answering_on_a_server_needs_no_torch_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra [local] is for training then."""
    monkeypatch.setattr("bot.lineup.has_local_extra", lambda: False)
    assert has_local_model(Settings.read(None, **SERVER))
    assert not has_local_model(Settings.read(None))


async def test_the_doctor_asks_the_server_online(tmp_path: Path) -> None:
    """Everything in one line, good or bad; the engine that the bot builds sees adapters where the server does."""
    async with served(VllmStandIn(key="k-right")) as vllm:
        usual = {
            **SERVER,
            "local_engine_url": vllm.url,
            "local_model": "parrot",
            "data_dir": tmp_path / "data",
        }
        right = Settings.read(None, **usual, local_engine_key="k-right", local_adapters_path=str(tmp_path))
        found = await doctor._served(right)
        assert (found.mark, "loads adapters" in found.words) == (Mark.OK, True)
        found = await doctor._served(Settings.read(None, **usual, local_engine_key="k-wrong"))
        assert (found.mark, "LOCAL_ENGINE_KEY" in found.words) == (Mark.PROBLEM, True)
        assert "k-wrong" not in found.words
        (tmp_path / "warm").mkdir()
        (tmp_path / "warm" / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
        engine = server_engine(right)
        await engine.load("v1", tmp_path / "data" / "models" / "warm")
        answer = await engine.answer([Message("user", "?")], version_id="v1")
        await engine.stop()
    assert answer.text == "warm says: ?"
