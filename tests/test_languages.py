"""Which language a row is in: real sentences of twelve languages, and thousands of real English messages."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import DATABASES, TEAM, empty_database

from bot.settings import Settings
from bot.workshop import _run_rules
from storage.entries import NewEntry
from storage.errors import PublicError
from storage.store import Store
from training.datasets import freeze
from training.languages import OTHER_LANGUAGE, checked, language_of, unwanted, unwanted_pair

# The first article of the Universal Declaration of Human Rights, as the United Nations publish it.
DECLARATION = {
    "en": (
        "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
        "conscience and should act towards one another in a spirit of brotherhood."
    ),
    "de": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
        "begabt und sollen einander im Geist der Brüderlichkeit begegnen."
    ),
    "fr": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison "
        "et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité."
    ),
    "es": (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de "
        "razón y conciencia, deben comportarse fraternalmente los unos con los otros."
    ),
    "it": (
        "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e "
        "di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza."
    ),
    "pt": (
        "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
        "consciência, devem agir uns para com os outros em espírito de fraternidade."
    ),
    "nl": (
        "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met "
        "verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen."
    ),
    "pl": (
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni "
        "rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa."
    ),
    "sv": (
        "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och "
        "samvete och bör handla gentemot varandra i en anda av broderskap."
    ),
    "ru": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
        "совестью и должны поступать в отношении друг друга в духе братства."
    ),
    "ja": (
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。"
    ),
    "zh": (
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", DECLARATION)
def test_a_language_is_told_by_its_sentences(code: str) -> None:
    """Whole and by its sentences; it stays where it is wanted and goes where another is."""
    text = DECLARATION[code]
    assert language_of(text) == code
    assert unwanted_pair(text, text, wanted=(code,)) == ""
    assert unwanted_pair(text, text, wanted=("fi", "ko")) == OTHER_LANGUAGE
    assert unwanted_pair(text, text, wanted=()) == "", "none is named: any will do"


SHORT = [
    "Danke!",
    "VPN?",
    "Wie geht es?",
    "merci beaucoup",
    "",
    "42",
    "<PERSON_1> <EMAIL_1>",
    "はい",
    "foo_bar(x) = 12 / y",
]


@pytest.mark.parametrize("text", SHORT)
def test_what_is_too_short_to_tell_stays(text: str) -> None:
    """A guess drops nothing."""
    assert language_of(text) is None
    assert unwanted_pair(text, "", wanted=("en",)) == ""


def test_code_addresses_and_names_are_not_read() -> None:
    """A German row with an English command in it is German, and a log without sentences is nothing."""
    code = (
        "```\nfor each in the list of all the files that we have: print the name of it and then go on\n```\n"
    )
    assert language_of(code + DECLARATION["de"]) == "de"
    assert (
        language_of("https://example.org/the/way/to/go/with/this and/that/too `git push --force the branch`")
        is None
    )


def test_a_row_in_two_languages_stays() -> None:
    """Somebody asks in German what an English answer tells: one of the wanted is in it."""
    turns = [("user", DECLARATION["de"]), ("assistant", DECLARATION["en"])]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert unwanted(row, ["en"]) == unwanted(row, ["de"]) == unwanted(row, []) == ""
    assert unwanted(row, ["fr"]) == OTHER_LANGUAGE
    row["messages"][1]["content"] = "OK."
    assert unwanted(row, ["en"]) == OTHER_LANGUAGE, "the side that can be told decides"


def test_real_messages_of_a_help_desk_stay(shared_data: Path) -> None:
    """Not one of these English rows is dropped, and nearly all of them would be where only German is wanted."""
    lines = (shared_data / "stackfaq" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [(each["question"], each["short_answer"]) for each in map(json.loads, lines)]
    asked = (shared_data / "banking77" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:1_000]
    pairs += [(json.loads(line)["question"], "") for line in asked]
    assert [pair for pair in pairs if unwanted_pair(*pair, wanted=("en",))] == []
    dropped = sum(bool(unwanted_pair(*pair, wanted=("de",))) for pair in pairs)
    print(f"in another language: {dropped} of {len(pairs)}")
    assert dropped > 0.7 * len(pairs)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table comes with the package."""
    from training import languages

    def refused(*_args: object, **_more: object) -> None:
        raise AssertionError("it wanted the network")

    monkeypatch.setattr(socket, "socket", refused)
    languages._detector.cache_clear()
    assert language_of(DECLARATION["es"]) == "es"


def test_wanted_languages_are_codes() -> None:
    """In any case, each once; another word is refused with what to write."""
    assert checked(["EN", " de ", "en", ""]) == ("en", "de")
    assert checked([]) == ()
    with pytest.raises(PublicError, match=r"klingon is no language that I know\. Write codes such as en"):
        checked(["en", "klingon"])


@pytest.fixture(params=DATABASES)
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A fresh store on each kind of database."""
    opened = await Store.open(empty_database(request, tmp_path))
    yield opened
    await opened.close()


async def test_a_dataset_is_made_of_the_wanted_languages(either: Store, tmp_path: Path) -> None:
    """What is surely in another one is dropped with the reason; the manifest tells the rule; with none, all stays."""
    rows = [NewEntry(f"{code}? {text[:90]}", text, "the declaration") for code, text in DECLARATION.items()]
    await either.add_entries(TEAM, [*rows, NewEntry("VPN?", "Ja.", "short")])
    everything = await freeze(either, tmp_path / "all", team=TEAM, salt="s")
    some = await freeze(either, tmp_path / "some", team=TEAM, salt="s", languages=["EN", "de"])
    assert everything.examples == len(DECLARATION) + 1
    assert some.examples == 3
    assert some.summary["dropped"][OTHER_LANGUAGE] == len(DECLARATION) - 2
    assert some.summary["filters"]["languages"] == ["de", "en"]
    assert "languages" not in everything.summary["filters"]
    with pytest.raises(PublicError, match="xx is no language that I know"):
        await freeze(either, tmp_path / "none", team=TEAM, salt="s", languages=["xx"])


def test_the_setting_reaches_the_training_runs() -> None:
    """DATASET_LANGUAGES is what the runs freeze with."""
    settings = Settings(_env_file=None, dataset_languages="en, de")
    assert _run_rules(settings).languages == ("en", "de")
