"""Secrets as they are really pasted: in commands, settings, headers and links, disguised by accident or on purpose."""

import json

import pytest
from redaction_members import hashed_names

from storage.redaction import Rules, redact

BOT = "xox" + "b-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx"
HUB = "gh" + "p_" + "AbCd1234EfGh5678IjKl9012MnOp3456QrSt"
WORD = "Pa55w0rdX"
KEY_LINE = "MIIEpAIBAAKCAQEA1234567890abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
PEM = f"-----BEGIN RSA PRIVATE{' KEY'}-----\n{KEY_LINE}\n{KEY_LINE}\n-----END RSA PRIVATE{' KEY'}-----\n"


def wide(text: str) -> str:
    """In full width."""
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)


PASTED = {
    "zero width everywhere": ("\u200b".join(BOT), BOT),
    "full width": (wide(BOT), BOT),
    "a card in full width": (wide("4111 1111 1111 1111"), "1111"),
    "a card in Arabic digits": ("٤١١١ ١١١١ ١١١١ ١١١١", "١١١١"),
    "percent signs": ("?q=ada%40example.com&x=1", "ada"),
    "percent signs twice": ("?q=ada%2540example.com", "ada"),
    "an escape of code": ("\\x67" + HUB[1:], HUB[1:]),
    "at and dot": ("ada.lovelace at example dot com", "lovelace"),
    "at and dot in capitals": ("ada AT example DOT com", "ada"),
    "at and dot joined": ("ada_at_example_dot_com", "ada"),
    "at and dot in brackets": ("ada [at] example [dot] co [dot] uk", "ada"),
    "an IP with brackets": ("192[.]168[.]5[.]77", "168"),
    "a link of Slack": (f"<https://example.org|{HUB}>", HUB),
    "a token in a link of Slack": (f"<https://example.org/?token={HUB}|the page>", HUB),
    "a password in a link of Slack": (f"<https://ada:{WORD}@example.org/x|the page>", WORD),
    "a mail link of Slack": ("<mailto:ada@example.com|Ada>", "ada@"),
    "a phone link of Slack": ("<tel:030901820|030 901820>", "901820"),
    "a phone link": ("[call](tel:+49-30-901820)", "901820"),
    "JSON": (json.dumps({"token": HUB}), HUB),
    "JSON of names and values": (json.dumps({"name": "DB_PASSWORD", "value": WORD}), WORD),
    "YAML of a container": (f"env:\n  - name: DB_PASSWORD\n    value: {WORD}\n", WORD),
    "XML of names and values": (f'<add key="Password" value="{WORD}"/>', WORD),
    "an environment": (f'export GH_TOKEN="{HUB}"', HUB),
    "a header": ("X-Api-Key: 3f2a9c81d4e6b7f0a1c2d3e4f5a6b7c8", "3f2a9c81"),
    "a cookie": ("Set-Cookie: session=abcdef1234567890; Path=/", "abcdef1234567890"),
    "curl with a header": (f"curl -H 'X-Auth-Token: {WORD}' https://example.org", WORD),
    "curl with a user": (f"curl --user ada:{WORD} https://example.org", WORD),
    "curl with a user, joined": (f"curl -uada:{WORD} https://example.org", WORD),
    "docker login": (f"docker login -u ada -p {WORD} registry.example.org", WORD),
    "Python's requests": (f'requests.get(url, auth=("ada", "{WORD}"))', WORD),
    "a connection string": (f"Server=tcp:x,1433;Uid=sa;Pwd={WORD};Encrypt=true", WORD),
    "a connection string of Java": (f"jdbc:postgresql://db/app?user=bot&password={WORD}", WORD),
    "a connection string of Mongo": (f"mongodb+srv://app:{WORD}@cluster0.ab1cd.mongodb.net/db", WORD),
    "npm's settings": ("//registry.example.org/:_authToken=npm_" + "a1B2c3D4e5F6" * 3, "a1B2c3D4"),
    "the cells of a table": (f"| what | value |\n|---|---|\n| password | {WORD} |\n", WORD),
    "without a sign": (f"user ada, password {WORD}, thanks", WORD),
    "a key in one line": (PEM.replace("\n", "\\n"), KEY_LINE),
    "a key in one line in JSON": (json.dumps(json.dumps({"key": PEM})), KEY_LINE),
    "a key in one line of an environment": ("KEY='" + PEM.replace("\n", " ") + "'", KEY_LINE),
}  # fmt: skip


@pytest.mark.parametrize("name", PASTED)
def test_it_is_struck_out_as_it_was_pasted(name: str) -> None:
    """The secret goes, and a second time nothing changes."""
    text, secret = PASTED[name]
    assert secret in text or "\u200b" in text or name.startswith(("full", "a card in full"))
    done = redact(text)
    assert secret not in done.text
    assert done.found
    assert redact(done.text).text == done.text


def test_what_stands_around_a_link_of_slack_stays() -> None:
    """Its words are no part of the token before them."""
    assert (
        redact(f"<https://example.org/?token={HUB}|the page>").text
        == "<https://example.org/?token=<SECRET_1>|the page>"
    )


NOT_COVERED = {
    "base64 that nothing names": "eG94Yi0xMjM0NTY3ODkwMTI=",
    "spaces between all letters": " ".join(BOT),
    "a token in the middle of a word": f"x{HUB}",
    "marks of Markdown in the middle": f"{HUB[:20]}**{HUB[20:]}",
    "ten digits that nothing marks": "4155552671",
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered_is_known(name: str) -> None:
    """So that nobody relies on it; whoever makes one of these work moves it up."""
    assert not redact(NOT_COVERED[name]).found


CALLED = "Admin,Expert,Will,Mark,Grace,May,Support,Test User,New,System,Rose,Priya Raman"
PEOPLE = {f"U{number}": name for number, name in enumerate(CALLED.split(","))}
ORDINARY = """
The Admin page is slow. Admin rights are needed; log in as Admin and press Save.
Ask an Expert, or ask Expert mode. Only the Expert can approve, and the Expert's word counts.
Contact Admin for help. Contact Support. Support has said no. Open Settings > Admin > Users, see Test User Guide.
Will it work? I hope it will. Mark this, press Mark to go on, the Mark is wrong.
Grace period is over, and the Grace is long. May I ask? In May it works, by May it is done.
Create a New user; the New is better. System is down. The System will restart. the Rose is red
hi Admin, can you help? thanks Admin! from Admin to Expert, by Admin, with Admin rights
"""


@pytest.mark.parametrize("line", ORDINARY.strip().splitlines())
def test_a_member_called_like_a_word_strikes_out_no_ordinary_sentence(line: str) -> None:
    """A role names nobody, and a word is a name only where the words around it speak of a person."""
    assert redact(line, rules=Rules(names=hashed_names(PEOPLE))).text == line


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("@Admin please", "@<PERSON_1> please"),
        ("@expert please", "@<PERSON_1> please"),
        ("Will, can you look?", "<PERSON_1>, can you look?"),
        ("thanks Mark, that helped", "thanks <PERSON_1>, that helped"),
        ("I asked Grace about it", "I asked <PERSON_1> about it"),
        ("Ask May", "Ask <PERSON_1>"),
        ("Rose said no", "<PERSON_1> said no"),
        ("I spoke with Priya", "I spoke with <PERSON_1>"),
        ("priya raman knows", "<PERSON_1> knows"),
    ],
)
def test_the_same_people_are_struck_out_where_they_are_meant(said: str, kept: str) -> None:
    """Mentioned, addressed, asked, thanked, or with their whole name."""
    assert redact(said, rules=Rules(names=hashed_names(PEOPLE))).text == kept
