"""Where runs can be trained is known without asking anybody, and told once: in the channel, in doctor, to the night."""

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from answer_rig import room_at
from bot_process import ADMIN_CHANNEL
from terminal import Terminal
from test_doctor import marks, terminal  # noqa: F401
from tuning_standin import tuning

from bot.errors import PublicError
from bot.lineup import file_shelves
from bot.settings import Settings
from bot.slack.tuning_notices import news
from bot.train_options import read_options
from bot.tuning import Capability, capabilities, finetuners
from storage.records import now
from storage.store import Store
from training.finetuners import Standing
from training.finetuners import openai as vendor

KEY = "sk-proj-never-shown-0123456789"
GOOGLE = {"gemini_vertex_project": "acme"}
TUNING = {**GOOGLE, "train_gemini_location": "europe-west4", "train_gemini_bucket": "acme-tuning"}


@pytest.fixture(autouse=True)
def still_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI takes jobs for a month still, whenever this is read."""
    monkeypatch.setattr(vendor, "NO_NEW_JOBS_FROM", now().date() + timedelta(days=30))


async def known(store: Store, **settings: Any) -> dict[str, Capability]:
    chosen = Settings(_env_file=None, **settings)
    places = finetuners(chosen, store, "T")
    found = {each.place: each for each in await capabilities(chosen, places)}
    for place in places.values():
        await place.close()
    return found


@pytest.mark.parametrize(
    ("settings", "place", "because"),
    [
        ({}, "openai", "OPENAI_API_KEY"),
        ({}, "gemini", "GEMINI_VERTEX_PROJECT"),
        ({"gemini_api_key": "AI-studio"}, "gemini", "a key of AI Studio is not enough"),
        ({"openai_api_key": KEY}, "openai", "TRAIN_OPENAI_MODEL"),
        ({"openai_api_key": KEY, "train_openai_model": "m", "budget_day_usd": 1.0}, "openai", "TRAIN_USD_PER_1M"),
        (GOOGLE, "gemini", "TRAIN_GEMINI_LOCATION"),
        ({**GOOGLE, "gemini_vertex_location": "us-central1"}, "gemini", "TRAIN_GEMINI_BUCKET"),
        (TUNING, "gemini", "TRAIN_GEMINI_MODEL"),
        ({**TUNING, "train_gemini_model": "m", "budget_month_usd": 1.0}, "gemini", "TRAIN_GEMINI_USD_PER_1M"),
    ],
)  # fmt: skip
async def test_what_lacks_is_named_with_what_ends_it(
    store: Store, settings: dict[str, Any], place: str, because: str
) -> None:
    """One setting at a time; the key itself is never shown. This machine trains in any case."""
    found = await known(store, **settings)
    assert because in found[place].standing.because
    assert found[place].words.startswith("not available, because: ")
    assert "That lasts until " in found[place].words
    assert found["local"].available
    assert KEY not in found[place].words


async def test_the_settings_reach_the_trainer(store: Store) -> None:
    """With everything set Google is available, with what the operator wrote and not with OpenAI's price."""
    prices = {"train_usd_per_1m": 9.0, "train_gemini_usd_per_1m": 2.5, "train_confirm_usd": 1.0}
    chosen: dict[str, Any] = {
        **TUNING,
        **prices,
        "train_gemini_model": "gemini-3.5-flash-lite",
        "train_with": "gemini",
    }
    found = (await known(store, **chosen))["gemini"]
    assert (found.words, found.wanted) == ("available.", True)
    google: Any = finetuners(Settings(_env_file=None, **chosen), store, "T")["gemini"]
    rules = google._rules
    assert (rules.project, rules.location, rules.bucket) == ("acme", "europe-west4", "acme-tuning")
    assert (rules.model, rules.usd_per_1m, rules.confirm_usd) == ("gemini-3.5-flash-lite", 2.5, 1.0)
    await google.close()
    assert list(file_shelves(Settings(_env_file=None, **chosen))) == ["gemini"]
    assert read_options("with=gemini method=dpo epochs=2") == {
        "with": "gemini",
        "method": "dpo",
        "epochs": 2.0,
    }
    with pytest.raises(PublicError, match="with=gemini does not take rank="):
        read_options("with=gemini rank=8")


async def test_openais_closing_date_is_said_before_and_after(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it: until when. From it on: not available, and what still is. A server of somebody else's goes on."""
    set_up = {"openai_api_key": KEY, "train_openai_model": "gpt-4.1-mini"}
    before = (await known(store, **set_up))["openai"]
    last = vendor.NO_NEW_JOBS_FROM
    assert before.words == f"available until {last:%-d %B %Y}, when OpenAI takes no more jobs."
    monkeypatch.setattr(vendor, "NO_NEW_JOBS_FROM", now().date())
    after = (await known(store, **set_up))["openai"]
    assert not after.available
    assert "OpenAI takes no fine-tuning jobs since" in after.words
    elsewhere = (await known(store, **set_up, openai_base_url="https://elsewhere.example/v1"))["openai"]
    assert elsewhere.words == "available."


def test_only_what_is_new_and_wanted_is_said() -> None:
    """Nothing about places that nobody named; nothing twice; and that it works again."""
    lost = Capability("openai", Standing("The key may not.", "somebody tries again"), wanted=True)
    back = Capability("openai", Standing(), wanted=True)
    told = news(lost, "", nightly=True)
    assert told == (
        ":no_entry: Training with OpenAI is not available, because: The key may not. That lasts until somebody tries "
        "again. Nightly runs do not ask there before."
    )
    assert news(lost, lost.words, nightly=True) == ""
    assert news(back, lost.words, nightly=True) == ":mortar_board: Training with OpenAI is available."
    assert news(back, "", nightly=True) == ""
    assert news(Capability("gemini", lost.standing, wanted=False), "", nightly=False) == ""


async def test_the_admin_channel_reads_it_once(tmp_path: Path) -> None:
    """The bot's own clock and a second look tell nothing twice; a refusal that came since is told, once."""
    chosen = {"train_openai_model": "gpt-4.1-mini", "train_gemini_model": "m", "train_with": "gemini"}
    async with room_at(tmp_path, **chosen) as room:
        tuning_notices = room.bot.clockwork.tuning

        async def told() -> list[str]:
            for _ in range(2):
                await tuning_notices.tick()
            posted = await room.team.ann.messages(ADMIN_CHANNEL)
            return [each["text"] for each in posted if "Training with" in each.get("text", "")]

        (first,) = await told()
        assert first.startswith(
            ":no_entry: Training with Gemini is not available, because: GEMINI_VERTEX_PROJECT"
        )
        openai: Any = room.bot.workshop.runs.finetuners["openai"]
        await openai._remember_refusal("OpenAI does not let this key train.")
        texts = await told()
        assert len(texts) == 2
        assert "OpenAI does not let this key train." in texts[-1]
        await openai._remember_refusal("")
        assert (await told())[-1] == ":mortar_board: Training with OpenAI is available."


async def test_the_doctor_says_it(terminal: Terminal) -> None:  # noqa: F811
    """A problem where the settings want it, a note where they do not, with what a provider refused before."""
    store = await terminal.store()
    async with tuning() as server:
        settings: dict[str, Any] = {
            "openai_api_key": KEY,
            "openai_base_url": server.url,
            "train_openai_model": "gpt-4.1-mini",
        }
        chosen = Settings(_env_file=None, **settings)
        openai: Any = finetuners(chosen, store, "T0LOCAL")["openai"]
        await openai._remember_refusal("OpenAI does not let this key train gpt-4.1-mini.")
        await openai.close()
        await store.close()
        terminal.configure(workspace_port=0, **settings, **terminal.settings_elsewhere)
        found = await asyncio.to_thread(marks, terminal)
        assert server.orders == []
    mark, words = found["train on OpenAI"]
    assert mark == "problem"
    assert "does not let this key train gpt-4.1-mini. That lasts until a run that somebody starts" in words
    assert found["train on Gemini"][0] == "note"
    assert found["train on this machine"] == ("ok", "available.")


def test_the_date_is_the_vendors() -> None:
    """As its deprecations page had it; whoever changes it changes the sentence in .env.example, too."""
    settings = (Path(__file__).parent.parent / ".env.example").read_text(encoding="utf-8")
    assert f"{date(2027, 1, 6):%-d %B %Y}" in settings
