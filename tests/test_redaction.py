"""What is taken out of a text before anybody trains on it, and what stays as it is.

Tokens are put together here from pieces, so that no scanner takes them for real ones.
"""

import json
import random
import string
import time
from pathlib import Path

import pytest

from storage.redaction import Counting, Kind, Rules, install, installed, redact
from storage.redaction_names import HashedNames, name_keys

BASE62 = string.ascii_letters + string.digits


def random_text(length: int, alphabet: str = BASE62, *, seed: int = 1) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


TOKENS = {
    "Slack bot": "xox" + "b-" + "123456789012-1234567890123-" + random_text(24),
    "Slack user": "xox" + "p-" + "123456789012-123456789012-" + random_text(32, "0123456789abcdef"),
    "Slack refresh": "xox" + "e.xox" + "p-1-" + random_text(60),
    "Slack app": "xapp" + "-1-A0123456789-1234567890123-" + random_text(64, "0123456789abcdef"),
    "OpenAI": "sk" + "-" + random_text(48),
    "OpenAI project": "sk" + "-proj-" + random_text(40) + "_" + random_text(40) + "-" + random_text(20),
    "Anthropic": "sk" + "-ant-api03-" + random_text(93),
    "Google": "AI" + "za" + random_text(35, BASE62 + "-_"),
    "AWS": "AK" + "IA" + random_text(16, string.ascii_uppercase + string.digits),
    "GitHub": "gh" + "p_" + random_text(36),
    "GitHub fine-grained": "github" + "_pat_" + random_text(22) + "_" + random_text(59),
    "GitLab": "glp" + "at-" + random_text(20),
    "Hugging Face": "h" + "f_" + random_text(34),
    "Stripe": "sk" + "_live_" + random_text(24),
    "JWT": "ey" + "J" + random_text(33) + ".ey" + "J" + random_text(50) + "." + random_text(43),
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
@pytest.mark.parametrize(
    "sentence", ["{}", "My token is {}.", "export KEY='{}'", "(see `{}`), please", "key={}\nnext"]
)
def test_a_token_of_a_known_service_is_a_secret(token: str, sentence: str) -> None:
    """Whatever it stands in, it goes whole, and the words around it stay."""
    redacted = redact(sentence.format(token))
    assert redacted.text == sentence.format("<SECRET_1>")
    assert redacted.found == {Kind.SECRET: 1}


@pytest.mark.parametrize("kind", ["RSA ", "OPENSSH ", "EC ", ""])
@pytest.mark.parametrize("end", [True, False])
def test_a_private_key_goes_whole(kind: str, end: bool) -> None:
    """Also when its end was cut off in copying."""
    lines = "\n".join(random_text(64, seed=line) for line in range(5))
    text = f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}" + (
        f"\n-----END {kind}PRIVATE KEY-----" if end else ""
    )
    assert redact(f"Here: {text}").text == "Here: <SECRET_1>"


def test_a_public_key_or_certificate_stays() -> None:
    """It is made to be shown."""
    text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    assert redact(text).text == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "postgresql://bot:hunter2@db.example.com/apprentice",
            "postgresql://bot:<SECRET_1>@db.example.com/apprentice",
        ),
        ("https://me:p@ss:w0rd@host:8080/x?y=1", "https://me:<SECRET_1>@host:8080/x?y=1"),
        ("redis://:s3cr3t@localhost:6379/0", "redis://:<SECRET_1>@localhost:6379/0"),
        (
            "<https://me:hunter2@host/|https://me:hunter2@host/>",
            "<https://me:<SECRET_1>@host/|https://me:<SECRET_1>@host/>",
        ),
        (
            "https://hooks.slack.com/services/T0/B0/" + "abcd" * 6,
            "https://hooks.slack.com/services/<SECRET_1>",
        ),
        ("Authorization: Bearer " + random_text(40) + "1", "Authorization: Bearer <SECRET_1>"),
        ("AWS_SECRET_ACCESS_KEY=" + random_text(40), "AWS_SECRET_ACCESS_KEY=<SECRET_1>"),
    ],
)
def test_only_the_secret_part_is_taken_out(before: str, after: str) -> None:
    """An expert can still see which database or service is meant."""
    assert redact(before).text == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Write to ada@example.org.", "Write to <EMAIL_1>."),
        ("ada.lovelace+bot@mail.example.co.uk, please", "<EMAIL_1>, please"),
        ("'ada@example.org' or (ben@example.org)", "'<EMAIL_1>' or (<EMAIL_2>)"),
        ("mailto:ada@example.org?subject=x", "mailto:<EMAIL_1>?subject=x"),
        ("<mailto:ada@example.org|ada@example.org> said", "<EMAIL_1> said"),
        ("jürgen@müller.example is me", "<EMAIL_1> is me"),
        ("ADA@example.org and ada@EXAMPLE.org", "<EMAIL_1> and <EMAIL_1>"),
    ],
)
def test_an_e_mail_address_goes(before: str, after: str) -> None:
    """Both spellings of one address are one person's."""
    assert redact(before).text == after


@pytest.mark.parametrize(
    "phone",
    [
        "+49 30 1234567",
        "+4915112345678",
        "+1 (415) 555-2671",
        "+44 20 7946 0958",
        "+33 1 23 45 67 89",
        "0049 30 1234567",
        "(415) 555-2671",
        "415-555-2671",
        "1-800-555-2671",
        "415.555.2671",
        "020 7946 0958",
        "030/1234567",
        "0171-2345678",
        "(030) 123 456 78",
    ],
)
@pytest.mark.parametrize(
    "sentence", ["{}", "Call me at {}, please.", "Tel: {}\nBye", "my number ({}) is new"]
)
def test_a_phone_number_goes(phone: str, sentence: str) -> None:
    """As people of several countries write it."""
    redacted = redact(sentence.format(phone))
    assert redacted.text == sentence.format("<PHONE_1>")
    assert redacted.found == {Kind.PHONE: 1}


def test_a_bare_number_is_a_phone_where_a_word_says_so() -> None:
    """Ten digits alone could be anything."""
    assert redact("Call 4155552671 now").text == "Call <PHONE_1> now"
    assert redact("I counted 4155552671 rows").text == "I counted 4155552671 rows"
    assert redact("<tel:+49301234567|+49 30 1234567>").text == "<PHONE_1>"


@pytest.mark.parametrize(
    "card",
    [
        "4111 1111 1111 1111",
        "4111111111111111",
        "5555-5555-5555-4444",
        "3782 822463 10005",
        "6011111111111117",
    ],
)
def test_a_payment_card_goes(card: str) -> None:
    """With or without spaces; these are the networks' own test numbers."""
    assert redact(f"My card {card}, ok?").text == "My card <CARD_1>, ok?"


def test_a_number_that_fails_the_check_sum_is_no_card() -> None:
    """One digit off is an order number."""
    assert redact("It is 4111 1111 1111 1112.").text == "It is 4111 1111 1111 1112."


@pytest.mark.parametrize(
    "iban",
    [
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "NO93 8601 1117 947",
    ],
)
def test_an_iban_goes_and_the_words_after_it_stay(iban: str) -> None:
    """Its country says how long it is; examples of the IBAN registry."""
    assert redact(f"Pay to {iban} PLEASE").text == "Pay to <IBAN_1> PLEASE"


def test_an_iban_with_a_wrong_check_sum_stays() -> None:
    """Two letters and digits are also what part numbers look like."""
    text = "Part DE88 3704 0044 0532 0130 00"
    assert redact(text).text == text


def test_a_mentioned_person_keeps_one_number_throughout() -> None:
    """Who said what to whom stays readable; who they are does not."""
    before = (
        "<@U0123ABCD> asked <@W9876ZYXW|ben>, then <@U0123ABCD|ada> thanked <!here> in <#C024BE91L|general>"
    )
    after = "<PERSON_1> asked <PERSON_2>, then <PERSON_1> thanked <!here> in <#C024BE91L|general>"
    redacted = redact(before)
    assert (redacted.text, redacted.found) == (after, {Kind.PERSON: 3})


EVERYTHING = (
    f"<@U0123ABCD> wrote from ada@example.org with {TOKENS['OpenAI']} and {TOKENS['GitHub']}; "
    "call +49 30 1234567, card 4111 1111 1111 1111, DE89370400440532013000, db https://a:hunter2@host/ ada@example.org"
)


def test_every_kind_is_counted() -> None:
    """A report can say what was taken out, without saying what it was."""
    found = redact(EVERYTHING).found
    assert found == {Kind.PERSON: 1, Kind.EMAIL: 2, Kind.SECRET: 3, Kind.PHONE: 1, Kind.CARD: 1, Kind.IBAN: 1}


def test_redacting_again_changes_nothing() -> None:
    """Texts are redacted when they are kept and again when a dataset is frozen."""
    once = redact(EVERYTHING)
    assert redact(EVERYTHING) == once
    again = redact(once.text)
    assert (again.text, again.found) == (once.text, {})


def test_new_finds_get_numbers_that_are_free() -> None:
    """An <EMAIL_1> from before is somebody else."""
    assert redact("<EMAIL_1> knows ada@example.org").text == "<EMAIL_1> knows <EMAIL_2>"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ping 203.0.113.7, then 10.23.4.5:8080", "ping <IP_1>, then <IP_2>:8080"),
        ("http://198.51.100.23/x from [2001:db8::7]:443", "http://<IP_1>/x from [<IP_2>]:443"),
        ("2001:DB8::7 and 2001:db8:0:0:0:0:0:7", "<IP_1> and <IP_1>"),
        ("our host is 1.2.3.4", "our host is <IP_1>"),
    ],
)
def test_an_ip_address_goes(before: str, after: str) -> None:
    """Of any version, with or without a port; two spellings of one are one."""
    assert redact(before).text == after


@pytest.mark.parametrize(
    ("text", "country"),
    [
        ("SSN 536-22-1234", "us"),
        ("Steuer-ID 36574261809", "de"),
        ("CPF 390.533.447-05", "br"),
        ("AHV 756.9217.0769.85", "ch"),
    ],
)
def test_a_national_id_goes_where_its_country_is_named(text: str, country: str) -> None:
    """And stays where it is not: the operator chooses."""
    name = text.split()[0]
    assert redact(text, rules=Rules(national_ids=(country,))).text == f"{name} <ID_1>"
    assert redact(text, rules=Rules()).text == text


KEPT = frozenset(
    {"help@example.org", "@support.example.org", "*.example.net", "10.0.0.0/8", "+49 30 1234567"}
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("help@example.org, ada@example.org", "help@example.org, <EMAIL_1>"),
        ("HELP@example.org", "HELP@example.org"),
        ("it@support.example.org, it@x.support.example.org", "it@support.example.org, <EMAIL_1>"),
        ("a@x.example.net, a@example.net", "a@x.example.net, <EMAIL_1>"),
        ("10.23.4.5 and 11.23.4.5", "10.23.4.5 and <IP_1>"),
        ("+49 30 1234567, 0049 30 1234567, +49 30 7654321", "+49 30 1234567, 0049 30 1234567, <PHONE_1>"),
    ],
)
def test_what_the_operator_keeps_stays(before: str, after: str) -> None:
    """The help desk's own address is no secret."""
    assert redact(before, rules=Rules(keep=KEPT)).text == after


def test_a_secret_is_never_kept() -> None:
    """Whatever somebody writes into the settings."""
    assert redact(TOKENS["GitHub"], rules=Rules(keep=frozenset([TOKENS["GitHub"]]))).text == "<SECRET_1>"


def test_one_numbering_counts_several_texts_together() -> None:
    """A question and its answer speak of the same address."""
    together = Counting()
    texts = ["ada@example.org", "ben@example.org asked ada@example.org", "<EMAIL_7> knows cem@example.org"]
    done = [redact(text, numbering=together).text for text in texts]
    assert done == ["<EMAIL_1>", "<EMAIL_2> asked <EMAIL_1>", "<EMAIL_7> knows <EMAIL_8>"]


def test_installed_rules_hold_where_none_are_given() -> None:
    """The bot installs the operator's once; what is passed in still wins."""
    before = installed()
    install(Rules(keep=KEPT))
    try:
        assert redact("help@example.org").text == "help@example.org"
        assert redact("help@example.org", rules=Rules()).text == "<EMAIL_1>"
    finally:
        install(before)


PEOPLE = {
    "U100": ["Ada Lovelace", "ada.l"],
    "U200": ["Will Grant"],
    "U300": ["Jürgen Müller"],
    "U400": ["May"],
    "U500": ["O'Brien, Siobhan"],
}
BOOK = {key: who for who, names in PEOPLE.items() for key in name_keys(names)}
NAMED = Rules(names=HashedNames(BOOK.get, {key[0] for key in BOOK}.__contains__))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Ada Lovelace, ada lovelace and LOVELACE, ADA", "<PERSON_1>, <PERSON_1> and <PERSON_1>"),
        ("<@U100> is Lovelace", "<PERSON_1> is <PERSON_1>"),
        ("ask @ada.l", "ask @<PERSON_1>"),
        ("Jürgen, Jurgen Muller and JÜRGEN MÜLLER", "<PERSON_1>, <PERSON_1> and <PERSON_1>"),
        ("ju\u0308rgen mu\u0308ller", "<PERSON_1>"),
        ("Siobhan O'Brien's and O’Brien", "<PERSON_1>'s and <PERSON_1>"),
        ("Will Grant will grant it", "<PERSON_1> will grant it"),
        ("Hi Will, thanks. I asked May.", "Hi <PERSON_1>, thanks. I asked <PERSON_2>."),
        ("Will, can you look? It is Will's laptop", "<PERSON_1>, can you look? It is <PERSON_1>'s laptop"),
        ("Will it work? In May it did, and May I ask?", "Will it work? In May it did, and May I ask?"),
        ("adagio, lovelaces, willing, ADA_KEY and ada.py", "adagio, lovelaces, willing, ADA_KEY and ada.py"),
    ],
)
def test_members_are_struck_out_by_name(before: str, after: str) -> None:
    """Two words in any spelling; one where it is clear that somebody is meant. A mention is the same person."""
    assert redact(before, rules=NAMED).text == after


ORDINARY = [
    "",
    "How do I reset my password?",
    "Version 3.11.2 replaces 2.7.18, see 10.0.0.1:8080 and 127.0.0.1",
    "On 2026-11-22 at 03:00, 22.11.2026, 11/22/2026 or 2026-11-22T03:00:00+01:00",
    "call 2026-11-22 a good day, call at 2026 11 22",
    "Order number 415-555-2671 and ticket #4155552671, invoice no. 030/1234567",
    "Bestellung 0171-2345678, Rechnung Nr. 030 1234567",
    "Slack says ts 1700000000.123456 and thread 1700000000.000100",
    "550e8400-e29b-41d4-a716-446655440000",
    "git commit 3c184030c1819b462e29f665465ab4968657440e",
    "Room 4.12, 1,000,000 rows, 99.9 %, 1 000 000 EUR, +5 points, 0100 0000 0110 0001",
    "ISBN 978-3-16-148410-0",
    "pi is 3.14159265358979, e is 2.718281828459045",
    "pip install sqlmodel==0.0.50 'apscheduler>=3.11.2,<4'",
    "npm install lodash@4.17.21 react@18.2.0 @types/node@20.1.0",
    "git clone git@github.com:team/repo.git",
    "systemctl restart getty@tty1.service and icon@2x.png",
    "@app.route('/') and @channel, @ada: a@b",
    "postgresql://user:password@host/database and https://user:${PASSWORD}@host and https://u:***@host",
    "http://localhost:8080/a@b and https://example.com:443/@ada",
    "class='sk-fading-circle sk-circle-container-item-number' and task-based risk-averse desk-12345678901234567890",
    "AKIA is a prefix, so are xoxb- and sk- and ghp_ and AIza",
    "x = [0x1F, 1e10, 12345678901234, 0b1010] # 1234567890",
    "for i in range(100): print(f'{i:>10}')",
    "SELECT * FROM answer WHERE id = 'a_0123456789abcdef0123456789abcdef'",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "if (a<b && c>d) { return a[0]+b[1]-c[2]; } // 50% <b>bold</b> <https://example.org|link>",
    "Sat 10:30-12:45, 9-5, 24/7, 1:1, 16:9, 2-3-4, 01-02-03",
    "Grüße 🙂 日本語のテキスト ١٢٣٤٥٦٧٨٩",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_and_code_stay_as_they_are(text: str) -> None:
    """A model trained on <PHONE_1> where a version stood would learn nonsense."""
    redacted = redact(text)
    assert (redacted.text, redacted.found) == (text, {})


def test_the_questions_of_a_real_help_desk_stay_as_they_are(shared_data: Path) -> None:
    """824 questions that people asked on the web, and their short answers."""
    lines = (shared_data / "stackfaq" / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    changed = [pair["id"] for pair in pairs if redact(pair["question"]).text != pair["question"]]
    assert (len(pairs), changed) == (824, [])


def test_in_its_long_answers_only_e_mail_addresses_are_found(shared_data: Path) -> None:
    """Shortcuts, prices, dates and URLs are left alone, and each thing found has an @."""
    lines = (shared_data / "stackfaq" / "threads.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [answer for line in lines for answer in json.loads(line)["answers"]]
    touched = [(answer, redact(answer)) for answer in answers if redact(answer).found]
    assert {kind for _, redacted in touched for kind in redacted.found} == {Kind.EMAIL}
    assert len(touched) < len(answers) / 20
    assert all(answer.count("@") > redacted.text.count("@") for answer, redacted in touched)


def test_our_own_code_holds_nothing_to_redact() -> None:
    """The product's source is ordinary code: no phone numbers, cards or keys are seen in it."""
    sources = sorted(Path(__file__).parent.parent.glob("storage/**/*.py"))
    found = {source.name: dict(redact(source.read_text(encoding="utf-8")).found) for source in sources}
    assert len(found) > 8
    assert {name: kinds for name, kinds in found.items() if kinds} == {}


HOSTILE = [
    "a",
    "1 ",
    "a.",
    "a@",
    "eyJaaaaaaaa.",
    "sk-",
    "-----BEGIN PRIVATE KEY-----",
    "a://:",
    "DE89 ",
    "call ",
    "+1 2",
]


MORE = [
    *(
        "bearer ",
        "<mailto:",
        "012 345 ",
        "<@U",
        "(",
        "4111 ",
        "password=",
        "password: ",
        "key=",
        "a:b:",
        "::",
        "aa:",
        "1.1.",
        "10.1.1.",
    ),
    *(
        "&amp;",
        "%25",
        "\\u00",
        "\\",
        " (at) ",
        "\n",
        " \n",
        "1\n",
        "@\n",
        "> \n",
        '"\n"',
        "sk-a1\n",
        "AKIA" + "A" * 15,
        "=a1",
        "--token a1",
    ),
    *(
        "password is ",
        "Will ",
        "Ada ",
        "Ada Ada\n",
        "ada.",
        "田",
        "curl -u ",
        "mysql -p",
        "Cookie: =",
        "a at b dot ",
        "-----BEGIN PRIVATE KEY-----\n",
    ),
]


@pytest.mark.parametrize("piece", [*HOSTILE, *MORE])
def test_a_hostile_text_takes_no_time(piece: str) -> None:
    """60 kB made to confuse the patterns are read in linear time (a quadratic one would take minutes)."""
    book = dict.fromkeys(name_keys(["Ada Lovelace", "Will Grant", "田中"]), "U100")
    names = HashedNames(book.get, {key[0] for key in book}.__contains__)
    text = piece * (60_000 // len(piece))
    begun = time.process_time()
    redact(text, rules=Rules(national_ids=("us", "gb", "fr"), names=names))
    assert time.process_time() - begun < 10
