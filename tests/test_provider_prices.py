"""The operator's own prices, and the estimate of tokens where nobody counted."""

import json
from pathlib import Path

import pytest

from bot.errors import PublicError
from bot.lineup import api_models
from bot.models.bills import Till, most_tokens
from bot.models.prices import Price, Prices
from bot.settings import Settings
from storage.values import Message


def file_with(folder: Path, **told: object) -> Path:
    file = folder / "our-prices.json"
    file.write_text(json.dumps({"as_of": "2026-12-01", **told}), encoding="utf-8")
    return file


def test_the_operators_prices_are_laid_over_ours(tmp_path: Path) -> None:
    """A new model gets a price, a known one another; each bill can name the table."""
    over = {
        "gpt-6-luna": {"input": 0.2, "cached": 0.02, "output": 1.0},
        "our-deployment": {"input": 3, "cached": 3, "output": 4, "cache_write": 5},
    }
    prices = Prices.chosen(file_with(tmp_path, models=over))
    assert prices.cost("gpt-6-luna", 1_000_000, 0, 0) == pytest.approx(0.2)
    assert prices.cost("our-deployment", 1_000_000, 0, 0, tokens_cache_written=1_000_000) == pytest.approx(
        5.0
    )
    assert prices.cost("gemini-3.5-flash", 0, 0, 1_000_000) == pytest.approx(9.0)
    assert prices.version("our-deployment") == "2026-12-01 (our-prices.json)"
    assert prices.version("gemini-3.5-flash") == Prices.read().as_of
    assert prices.version("nobody-knows") == ""


def test_without_a_file_the_prices_are_ours() -> None:
    assert Prices.chosen(None).as_of == Prices.chosen("").as_of == Prices.read().as_of


@pytest.mark.parametrize(
    "models",
    [
        {"m": {"input": 1}},
        {"m": {"input": -1, "cached": 0, "output": 0}},
        {"m": {"input": "1", "cached": 0, "output": 0}},
        {"m": {"input": float("inf"), "cached": 0, "output": 0}},
        {"m": {"in": 1, "cached": 0, "output": 0}},
        {"m": 3},
        [],
    ],
)
def test_a_file_of_prices_that_is_none_is_named_with_the_remedy(tmp_path: Path, models: object) -> None:
    """Nobody wants to find out at the end of the month."""
    with pytest.raises(PublicError, match=r"our-prices\.json cannot be read .*PRICES_FILE"):
        Prices.chosen(file_with(tmp_path, models=models))
    with pytest.raises(PublicError, match=r"absent\.json cannot be read"):
        Prices.chosen(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("chosen", "kinds"),
    [
        ({}, set()),
        ({"openai_api_key": "k"}, {"openai"}),
        ({"openai_base_url": "http://127.0.0.1:1/v1"}, {"openai"}),
        ({"gemini_api_key": "k"}, {"gemini"}),
        ({"gemini_vertex_project": "acme"}, {"gemini"}),
    ],
)
def test_the_settings_say_which_models_there_are(
    tmp_path: Path, chosen: dict[str, object], kinds: set[str]
) -> None:
    """Vertex needs no key; the operator's prices are everybody's."""
    file = file_with(tmp_path, models={"gpt-6-luna": {"input": 7, "cached": 7, "output": 7}})
    models = api_models(Settings.read(None, prices_file=file, **chosen))
    assert set(models) == kinds


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello there", 4),
        ("1234", 4),
        ("a,b;c", 3),
        ("日本語", 5),
        ("\ud83d", 1),
    ],
)
def test_tokens_are_estimated_rather_too_high(text: str, tokens: int) -> None:
    """Letters by threes, signs and digits one by one, all else two bytes to a token."""
    assert most_tokens(text) == tokens


def test_a_call_is_announced_with_the_most_that_it_can_take() -> None:
    """The prompt with what is wrapped around each message, and the whole of the output limit."""
    till = Till("openai", "m", Prices({"m": Price(1.0, 0.1, 10.0)}), 500)
    call = till.call([Message("system", "abc"), Message("user", "abcdef")])
    assert (call.kind, call.model, call.tokens_in, call.tokens_out) == ("openai", "m", 8 + 8 + 1 + 8 + 2, 500)
