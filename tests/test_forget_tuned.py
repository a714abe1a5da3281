"""A model that was tuned at a provider on words of a person who is forgotten: it answers nobody, and it is deleted there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, empty_database
from forget_rig import MIRA, Place, traces_everywhere
from provider_standins import Failure, OpenAIServer, StandIn, served

from bot.lineup import api_model, region_of
from bot.models.gemini_files import GeminiFiles
from bot.models.openai_files import OpenAIFiles
from bot.settings import Settings
from bot.slack import forgetting_text
from storage.records import ModelVersion
from storage.store import Store

MODEL, STEP = "ft:gpt-4.1-mini:acme::9", "ft:gpt-4.1-mini:acme::9:ckpt-step-6"
ENDPOINT = "projects/acme/locations/europe-west4/endpoints/77"


@pytest.fixture(params=DATABASES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A data directory with Mira in all of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    store = await Store.open(empty_database(request, folder))
    yield await traces_everywhere(store, folder)
    await store.close()


async def tuned(place: Place, kind: str, model: str, name: str, *steps: str) -> ModelVersion:
    return await place.store.register_model(
        team=TEAM,
        name=name,
        base_model="b",
        path="",
        sha256="",
        run_id=None,
        dataset_id=place.dataset,
        card={"checkpoints": [{"model": step, "step": 6} for step in steps]},
        kind=kind,
        model=model,
    )


async def test_it_is_deleted_with_its_checkpoints_and_the_receipt_says_what_is_left(place: Place) -> None:
    """A provider that is down is asked again; what Google lets only people delete is named; nothing else goes."""
    other = "ft:gpt-4.1-mini:acme::other"
    stand_in = StandIn(models=dict.fromkeys([MODEL, STEP, other, "gpt-4.1-mini"]), files={"file-1": "rows"})
    mine = await tuned(place, "openai", MODEL, "openai-7", STEP)
    await tuned(place, "gemini", ENDPOINT, "gemini-8")
    async with served(stand_in, OpenAIServer(stand_in).routes()):
        shelf = OpenAIFiles(api_key="sk-right", base_url=f"{stand_in.url}/v1")
        google = GeminiFiles()
        privacy = place.privacy(shelves={"openai": shelf, "gemini": google})
        stand_in.fail_next.append(Failure(500, {"message": "down", "type": "server_error"}))
        receipt = await privacy.forget(MIRA, by=MIRA)
        assert receipt.finished
        assert {"openai-7", "gemini-8"} <= set(receipt.tainted)
        left = {each.file_id: each for each in await place.store.provider_files(TEAM)}
        assert len(left) == 2, "one that was answered 500, and Google's"
        said = forgetting_text.receipt(receipt.done, receipt.undone)
        assert f"model {ENDPOINT} at gemini: undeploy this endpoint in Vertex AI" in said
        assert "at openai: OpenAI answered 500. I try again" in said
        for file in left.values():
            await place.store.provider_file_stays(file.id, "", again_at=file.uploaded_at)
        await privacy.delete_provider_files()
        assert set(stand_in.models) == {other, "gpt-4.1-mini"}
        assert stand_in.files == {}
        version = await place.store.model(mine.id)
        assert version is not None
        assert version.tainted
        assert [each.file_id for each in await place.store.provider_files(TEAM)] == [ENDPOINT]
        await privacy.stop()


async def test_a_model_that_is_not_ours_to_delete_is_named(tmp_path: Path) -> None:
    """A key without the right to do so: what OpenAI answered stands there, and nothing is taken for deleted."""
    stand_in = StandIn(models={MODEL: None})
    async with served(stand_in, OpenAIServer(stand_in).routes()):
        shelf = OpenAIFiles(api_key="sk-right", base_url=f"{stand_in.url}/v1")
        stand_in.fail_next.append(Failure(403, {"message": "insufficient permissions", "type": "forbidden"}))
        with pytest.raises(Exception, match="OpenAI answered 403"):
            await shelf.delete(MODEL)
        await shelf.delete(MODEL)
        assert stand_in.models == {}
        await shelf.delete(
            MODEL
        )  # of a name that it does not know OpenAI says so, and that is what was wanted
        await shelf.close()


def test_an_endpoint_is_asked_where_it_stands() -> None:
    """The region of a tuned Gemini is in its name; every other model is asked where the settings say."""
    assert region_of(ENDPOINT) == "europe-west4"
    assert region_of("gemini-3.5-flash-lite") == region_of(MODEL) == region_of("projects/a/models/b") == ""
    settings = Settings(_env_file=None, gemini_vertex_project="acme", gemini_vertex_location="global")
    assert getattr(api_model(settings, "gemini", ENDPOINT), "_location") == "europe-west4"  # noqa: B009
    assert getattr(api_model(settings, "gemini", "gemini-x"), "_location") == "global"  # noqa: B009
