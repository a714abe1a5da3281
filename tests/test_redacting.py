"""What the operator decides about striking out reaches every text: from .env to the table."""

from pathlib import Path

import pytest

from bot.cli_options import opened
from bot.errors import PublicError
from bot.redacting import rules_of
from bot.settings import Settings
from storage.redaction import Rules, redact


def settings(tmp_path: Path, **wanted: object) -> Settings:
    return Settings.read(None, data_dir=tmp_path, **wanted)


def test_the_settings_become_rules(tmp_path: Path) -> None:
    """Lists with commas, in any case."""
    made = rules_of(
        settings(tmp_path, redact_keep="help@example.org, @example.com", redact_national_ids="US, de")
    )
    assert made == Rules(frozenset({"help@example.org", "@example.com"}), ("de", "us"))
    assert rules_of(settings(tmp_path)) == Rules()


def test_a_country_without_rules_is_named(tmp_path: Path) -> None:
    """With those that have some."""
    with pytest.raises(PublicError, match=r"REDACT_NATIONAL_IDS: has no rules for xx; known are at, au"):
        settings(tmp_path, redact_national_ids="us,xx")


async def test_whoever_opens_the_store_strikes_out_by_the_settings(tmp_path: Path) -> None:
    """A command of the terminal and the bot alike, before anything is stored."""
    chosen = settings(tmp_path, redact_keep="help@example.org", redact_national_ids="us")
    text = "help@example.org, ada@example.org, SSN 536-22-1234"
    async with opened(chosen):
        assert redact(text).text == "help@example.org, <EMAIL_1>, SSN <ID_1>"
