"""Planted secrets and personal data: fake, but valid by every check sum, in all the ways in which people paste.

`planted(seed)` gives the same items each time. What has to be gone is told by `survivors`: the secret as it was written, and
as a machine would find it again (the digits of a card, the parts of a token that a line break split). Everything is put
together here from pieces, so that no scanner takes the source for a leak.
"""

import html
import json
import random
import re
import string
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from urllib.parse import quote

from storage.redaction import Kind
from storage.redaction_ids import COUNTRIES
from storage.redaction_names import HashedNames, name_keys

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
BASE62 = string.ascii_letters + DIGITS
HEX = "0123456789abcdef"
Generator = Callable[[random.Random], str]


@dataclass(frozen=True, slots=True)
class Planted:
    """One message with something in it that must not be kept."""

    kind: Kind
    shape: str  # such as "slack bot"
    carrier: str  # such as "table"
    secret: str
    text: str
    survivors: tuple[str, ...]  # none of these may stand anywhere afterwards


def _some(rng: random.Random, length: int, alphabet: str = BASE62) -> str:
    """Random characters with at least one digit and, where there are any, letters of both cases."""
    must = [alphabet_of for alphabet_of in (DIGITS, UPPER, LOWER) if set(alphabet_of) & set(alphabet)]
    picked = [rng.choice(sorted(set(each) & set(alphabet))) for each in must][:length]
    picked += rng.choices(alphabet, k=length - len(picked))
    rng.shuffle(picked)
    return "".join(picked)


def _token(begin: str, length: int, alphabet: str = BASE62, end: str = "") -> Generator:
    return lambda rng: begin + _some(rng, length, alphabet) + end


def _slack(letter: str, tail: int, alphabet: str = BASE62) -> Generator:
    return lambda rng: (
        f"xox{letter}-{_some(rng, 12, DIGITS)}-{_some(rng, 13, DIGITS)}-{_some(rng, tail, alphabet)}"
    )


def _jwt(rng: random.Random) -> str:
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": _some(rng, 12), "iat": rng.randrange(10**9, 2 * 10**9)}]
    coded = [b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, _some(rng, 43)])


TOKENS: dict[str, Generator] = {
    "slack bot": _slack("b", 24),
    "slack user": lambda rng: (
        f"xox{'p'}-{_some(rng, 12, DIGITS)}-{_some(rng, 12, DIGITS)}-{_some(rng, 32, HEX)}"
    ),
    "slack legacy": _slack("a", 24),
    "slack session": _slack("s", 24),
    "slack refresh": _token("xox" + "e-1-", 140),
    "slack config": _token("xox" + "e.xox" + "p-1-", 150),
    "slack browser": _token("xox" + "c-", 60, DIGITS + HEX),
    "slack app": lambda rng: (
        "xapp" + f"-1-A{_some(rng, 10, UPPER + DIGITS)}-{_some(rng, 13, DIGITS)}-{_some(rng, 64, HEX)}"
    ),
    "slack workflow": _token("xw" + "fp-", 60),
    "openai": _token("sk" + "-", 48),
    "openai project": lambda rng: "sk" + f"-proj-{_some(rng, 40)}_{_some(rng, 40)}-{_some(rng, 20)}",
    "openai service": lambda rng: "sk" + f"-svcacct-{_some(rng, 60)}-{_some(rng, 30)}",
    "openai admin": _token("sk" + "-admin-", 80),
    "anthropic": lambda rng: "sk" + f"-ant-api03-{_some(rng, 93)}-{_some(rng, 6)}AA",
    "google key": _token("AI" + "za", 35),
    "google oauth": _token("ya" + "29.a0", 120),
    "google client": _token("GOC" + "SPX-", 28),
    "google refresh": _token("1/" + "/0", 60),
    "aws id": _token("AK" + "IA", 16, UPPER + "234567"),
    "aws temporary": _token("AS" + "IA", 16, UPPER + "234567"),
    "github": _token("gh" + "p_", 36),
    "github oauth": _token("gh" + "o_", 36),
    "github server": _token("gh" + "s_", 36),
    "github fine": lambda rng: "github" + f"_pat_{_some(rng, 22)}_{_some(rng, 59)}",
    "gitlab": _token("glp" + "at-", 20),
    "npm": _token("np" + "m_", 36),
    "pypi": _token("py" + "pi-AgEI", 150),
    "stripe": _token("sk" + "_live_", 24),
    "stripe restricted": _token("rk" + "_live_", 24),
    "stripe webhook": _token("wh" + "sec_", 32),
    "sendgrid": lambda rng: "S" + f"G.{_some(rng, 22)}.{_some(rng, 43)}",
    "twilio": _token("S" + "K", 32, HEX),
    "hugging face": _token("h" + "f_", 34),
    "databricks": _token("da" + "pi", 32, HEX),
    "digitalocean": _token("dop" + "_v1_", 64, HEX),
    "jwt": _jwt,
}
"""Tokens that are known wherever they stand."""


def _pem(what: str, lines: int, ending: str = "\n") -> Generator:
    def made(rng: random.Random) -> str:
        body = ending.join(_some(rng, 64, BASE62 + "+/") for _ in range(lines))
        return (
            f"-----BEGIN {what}PRIVATE"
            + f" KEY-----{ending}{body}{ending}-----END {what}PRIVATE"
            + " KEY-----"
        )

    return made


BLOCKS: dict[str, Generator] = {
    "pem rsa": _pem("RSA ", 6),
    "pem": _pem("", 5),
    "pem openssh": _pem("OPENSSH ", 4),
    "pem ec": _pem("EC ", 3),
    "pem windows": _pem("", 4, "\r\n"),
}

WORDS = ["Corr3ct", "h0rse", "b4ttery", "St4ple", "Winter", "tr0ub4dor", "Kaffee", "Sommer", "s3same"]


def password(rng: random.Random) -> str:
    """As people choose them: words, digits and something odd."""
    return (
        "".join(rng.sample(WORDS, 2)) + str(rng.randrange(10, 99)) + rng.choice("!_-+~") + rng.choice(LOWER)
    )


# Each with the secret's own maker: the secret alone must be gone, what stands around it may stay.
NAMED: dict[str, tuple[str, Generator]] = {
    "url password": ("postgresql://bot:{}@db.internal.example/app", password),
    "url password of redis": ("redis://:{}@cache:6379/0", password),
    "url password of http": ("clone https://ada:{}@git.example.org/team/repo.git please", password),
    "slack webhook": ("https://hooks.sl" + "ack.com/services/{}", lambda rng: f"T{_some(rng, 8, UPPER + DIGITS)}/B{_some(rng, 8, UPPER + DIGITS)}/{_some(rng, 24)}"),
    "aws secret": ("aws_secret_access_key = {}", _token("", 40, BASE62 + "+/")),
    "aws pair": ("AK" + "IAABCDEFGHIJ234567\n{}", _token("", 40, BASE62 + "+/")),
    "azure storage": ("DefaultEndpointsProtocol=https;AccountName=box;AccountKey={};EndpointSuffix=core.windows.net", _token("", 86, BASE62 + "+/", "==")),
    "azure bus": ("Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey={}", _token("", 43, BASE62 + "+/", "=")),
    "azure sas": ("https://box.blob.core.windows.net/c/f.txt?sv=2024-01-01&se=2027&sig={}&sp=r", _token("", 43, BASE62, "%3D")),
    "bearer": ("curl -H 'Authorization: Bearer {}' https://api.example.org", _token("", 40)),
    "basic": ("Authorization: Basic {}", _token("", 32, BASE62, "==")),
    "assignment": ("export DB_PASSWORD={}", password),
    "assignment of an app": ("SLACK_SIGNING_SECRET={}", _token("", 32, HEX)),
    "yaml": ("database:\n  user: bot\n  password: {}\n  host: db", password),
    "json": ('{{"user": "bot", "password": "{}", "port": 5432}}', password),
    "json key": ('{{"type": "service_account", "private_key_id": "{}"}}', _token("", 40, HEX)),
    "python": ("client = Client(api_key='{}')", _token("", 32, HEX)),
    "ini": ("[db]\npasswd = {}\n", password),
    "said": ("my password is {} if you need it", password),
    "said with a colon": ("The Wi-Fi password: {}", password),
    "said in German": ("Das Passwort lautet {} für alle", password),
    "query token": ("https://example.org/callback?user=7&access_token={}&next=/", _token("", 40)),
    "query api key": ("GET /v1/things?api_key={}&page=2", _token("", 32, HEX)),
    "option": ("mysql --user=root --password={} app", password),
    "curl": ("curl -u admin:{} https://example.org/api", password),
    "xml": ("<server><password>{}</password></server>", password),
    "bracketed": ("Login: root / Password: `{}`", password),
    "connection string": ("Server=db;Database=app;User Id=sa;Password={};Encrypt=true", password),
}  # fmt: skip


def _luhn(body: str) -> str:
    total = sum(
        sum(divmod(2 * int(digit), 10)) if place % 2 == 0 else int(digit)
        for place, digit in enumerate(reversed(body))
    )
    return body + str(-total % 10)


def _card(begin: str, length: int, groups: tuple[int, ...], between: str) -> Generator:
    def made(rng: random.Random) -> str:
        number = _luhn(begin + "".join(rng.choices(DIGITS, k=length - len(begin) - 1)))
        return _grouped(number, groups, between)

    return made


def _grouped(number: str, groups: tuple[int, ...], between: str) -> str:
    pieces, at = [], 0
    for size in groups:
        pieces.append(number[at : at + size])
        at += size
    return between.join(piece for piece in [*pieces, number[at:]] if piece)


def _iban(country: str, form: str, *, spaced: bool) -> Generator:
    """`form`: n for a digit, a for a letter, as the registry writes it."""

    def made(rng: random.Random) -> str:
        bban = "".join(rng.choice(DIGITS if each == "n" else UPPER) for each in form)
        value = int("".join(str(int(each, 36)) for each in f"{bban}{country}00"))
        number = f"{country}{98 - value % 97:02d}{bban}"
        return _grouped(number, (4,) * 8, " ") if spaced else number

    return made


def _name(rng: random.Random) -> str:
    return (
        rng.choice(["ada", "ben", "chloe", "dmitri", "emre"])
        + "."
        + rng.choice(["lovelace", "okafor", "petrova", "novak"])
    )


PERSONAL: dict[str, tuple[Kind, Generator]] = {
    "email": (Kind.EMAIL, lambda rng: f"{_name(rng)}{rng.randrange(99)}@mail{rng.randrange(99)}.example.org"),
    "email with a plus": (Kind.EMAIL, lambda rng: f"{_name(rng)}+bot{rng.randrange(99)}@example.co.uk"),
    "email in capitals": (Kind.EMAIL, lambda rng: f"{_name(rng)}{rng.randrange(99)}@Example.COM".title()),
    "phone": (Kind.PHONE, lambda rng: f"+49 30 {rng.randrange(2000000, 9999999)}"),
    "phone mobile": (Kind.PHONE, lambda rng: f"+4915{rng.randrange(100000000, 999999999)}"),
    "phone american": (Kind.PHONE, lambda rng: f"({rng.randrange(201, 989)}) {rng.randrange(201, 989)}-{rng.randrange(1000, 9999)}"),
    "phone dashed": (Kind.PHONE, lambda rng: f"{rng.randrange(201, 989)}-{rng.randrange(201, 989)}-{rng.randrange(1000, 9999)}"),
    "phone british": (Kind.PHONE, lambda rng: f"+44 20 7946 {rng.randrange(2000, 9999)}"),
    "phone french": (Kind.PHONE, lambda rng: f"06 {rng.randrange(12, 99)} {rng.randrange(12, 99)} {rng.randrange(12, 99)} {rng.randrange(12, 99)}"),
    "phone national": (Kind.PHONE, lambda rng: f"0171-{rng.randrange(2000000, 9999999)}"),
    "card visa": (Kind.CARD, _card("4", 16, (4, 4, 4), " ")),
    "card visa bare": (Kind.CARD, _card("4", 16, (), "")),
    "card mastercard": (Kind.CARD, _card("53", 16, (4, 4, 4), "-")),
    "card amex": (Kind.CARD, _card("37", 15, (4, 6), " ")),
    "card discover": (Kind.CARD, _card("6011", 16, (4, 4, 4), " ")),
    "iban German": (Kind.IBAN, _iban("DE", "n" * 18, spaced=True)),
    "iban German bare": (Kind.IBAN, _iban("DE", "n" * 18, spaced=False)),
    "iban British": (Kind.IBAN, _iban("GB", "aaaa" + "n" * 14, spaced=True)),
    "iban French": (Kind.IBAN, _iban("FR", "n" * 23, spaced=True)),
    "iban Dutch": (Kind.IBAN, _iban("NL", "aaaa" + "n" * 10, spaced=False)),
    "ip": (Kind.IP, lambda rng: ".".join(str(rng.randrange(11, 223)) for _ in range(4)).replace("127.", "126.")),
    "ip private": (Kind.IP, lambda rng: f"10.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}.{rng.randrange(12, 254)}"),
    "ip 6": (Kind.IP, lambda rng: f"2001:db8:{rng.randrange(4096, 65535):x}::{rng.randrange(4096, 65535):x}"),
    "ip 6 whole": (Kind.IP, lambda rng: "2a02:" + ":".join(f"{rng.randrange(4096, 65535):x}" for _ in range(7))),
    "mention": (Kind.PERSON, lambda rng: f"<@U{_some(rng, 10, UPPER + DIGITS)}>"),
}  # fmt: skip


def _checked(country: str, template: str) -> Generator:
    """An id of this form whose check sum holds; # is a digit, ? a capital letter."""
    module = import_module(f"stdnum.{country}")

    def made(rng: random.Random) -> str:
        while True:
            number = "".join(
                rng.choice(DIGITS) if each == "#" else rng.choice(UPPER) if each == "?" else each
                for each in template
            )
            if module.is_valid(number):
                return number

    return made


IDS: dict[str, tuple[str, Generator]] = {
    "us ssn": ("His SSN is {}", _checked("us.ssn", "###-##-####")),
    "us ssn bare": ("social security number {}", _checked("us.ssn", "#########")),
    "gb nino": ("NI number {} please", lambda rng: f"AB {rng.randrange(10, 99)} {rng.randrange(10, 99)} {rng.randrange(10, 99)} C"),
    "de idnr": ("Meine Steuer-ID: {}", _checked("de.idnr", "###########")),
    "fr nir": ("NIR {}", _checked("fr.nir", "1 85 0# ## ### ### ##")),
    "es dni": ("DNI {}", _checked("es.dni", "########?")),
    "es nie": ("mi NIE es {}", _checked("es.nie", "X#######?")),
    "it codice": ("codice fiscale {}", _checked("it.codicefiscale", "RSSMRA85T10A562?")),
    "nl bsn": ("BSN: {}", _checked("nl.bsn", "#########")),
    "pl pesel": ("PESEL {}", _checked("pl.pesel", "850#########"[:11])),
    "br cpf": ("CPF {}", _checked("br.cpf", "###.###.###-##")),
    "in aadhaar": ("Aadhaar no {}", _checked("in_.aadhaar", "#### #### ####")),
    "ch ahv": ("AHV {}", _checked("ch.ssn", "756.####.####.##")),
    "be nn": ("registre national {}", _checked("be.nn", "85.07.30-033.##")),
    "se personnummer": ("personnummer {}", _checked("se.personnummer", "850730-####")),
    "fi hetu": ("hetu {}", _checked("fi.hetu", "131052-308?")),
}  # fmt: skip

MEMBERS = {
    "U0SVETLANA": "Svetlana Petrova", "U0PRIYARAMA": "Priya Raman", "U0WILLGRANT": "Will Grant", "U0MARKROSEX": "Mark Rose",
    "U0MAYCHASEX": "May Chase", "U0JURGENMUE": "Jürgen Müller", "U0BILLFRANK": "Bill Frank", "U0ARTDREWXX": "Art Drew",
    "U0OBRIENXXX": "Siobhan O'Brien", "U0VANDYKEXX": "Lotte van Dijk", "U0TANAKAXXX": "田中太郎",
}  # fmt: skip
"""People of the workspace in which all this is planted, by Slack id."""
SPOKEN = [
    ("{} said it works", "Svetlana Petrova"), ("ask priya raman about it", "priya raman"), ("Hi Priya, can you look?", "Priya"),
    ("I talked with Svetlana yesterday", "Svetlana"), ("thanks Will, that helped", "Will"), ("it was Mark Rose who broke it", "Mark Rose"),
    ("hey Mark, the build is red", "Mark"), ("mail petrova, svetlana", "petrova, svetlana"), ("see svetlana.petrova for keys", "svetlana.petrova"),
    ("Svetlana's laptop is lost", "Svetlana"), ("JÜRGEN MÜLLER hat Urlaub", "JÜRGEN MÜLLER"), ("frag Jürgen", "Jürgen"),
    ("Jurgen Muller is away", "Jurgen Muller"), ("@priya please", "priya"), ("Siobhan O'Brien signed", "Siobhan O'Brien"),
    ("call lotte van dijk", "lotte van dijk"), ("Ask May about it", "May"), ("BILL FRANK wrote this", "BILL FRANK"),
    ("Svetlana\nPetrova wrote", "Petrova"), ("田中太郎さんに聞いて", "田中太郎"), ("cc Drew", "Drew"), ("| owner | Priya Raman |", "Priya Raman"),
]  # fmt: skip


def member_names() -> HashedNames:
    """The book of those people."""
    book = {key: who for who, name in MEMBERS.items() for key in name_keys([name])}
    begins = {key[0] for key in book}
    return HashedNames(book.get, begins.__contains__)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way in which something is pasted: the whole text, and whether the thing itself is written in another way."""

    name: str
    write: Callable[[str, random.Random], str]


def _halves(secret: str, rng: random.Random) -> tuple[str, str]:
    """Broken somewhere in its middle, and not beside a space."""
    places = [
        place
        for place in range(len(secret) * 2 // 5, len(secret) * 3 // 5 + 1)
        if " " not in secret[place - 1 : place + 1]
    ]
    place = rng.choice(places or [len(secret) // 2])
    return secret[:place], secret[place:]


def _broken(between: str) -> Callable[[str, random.Random], str]:
    return lambda secret, rng: f"Look at this:\n> {between.join(_halves(secret, rng))}\nand help me."


def _percent(secret: str) -> str:
    return "".join(f"%{ord(each):02X}" if each in "@+:/ <>|" else each for each in secret)


PLAIN_CARRIERS = (
    Carrier("plain", lambda secret, rng: f"Please use {secret} for now, thanks."),
    Carrier("markdown", lambda secret, rng: f"# Notes\n\n- **value**: *{secret}*\n- done"),
    Carrier("inline code", lambda secret, rng: f"Run it with `{secret}` and tell me."),
    Carrier("code block", lambda secret, rng: f"```python\nvalue = '{secret}'\nrun(value)\n```"),
    Carrier("table", lambda secret, rng: f"| what | value |\n|---|---|\n| it | {secret} |\n"),
    Carrier("quoted", lambda secret, rng: f"> On Monday somebody wrote:\n> here: {secret}\n\nIs that right?"),
    Carrier("json", lambda secret, rng: json.dumps({"note": f"line\n{secret}", "n": 1})),
    Carrier("json in json", lambda secret, rng: json.dumps(json.dumps({"note": f"see {secret} there"}))),
    Carrier("slack link", lambda secret, rng: f"<https://example.org/x|{secret}> in the wiki"),
)
ESCAPED_CARRIERS = (
    Carrier(
        "html",
        lambda secret, rng: (
            f"<p>Value: {html.escape(secret).replace('@', '&#64;').replace('-', '&#45;')}</p>"
        ),
    ),
    Carrier("zero width", lambda secret, rng: "it is " + "\u200b".join(_halves(secret, rng)) + " ok"),
    Carrier("soft hyphen", lambda secret, rng: "it is " + "\u00ad".join(_halves(secret, rng)) + " ok"),
    Carrier("url", lambda secret, rng: f"https://example.org/find?q={_percent(secret)}&page=2"),
    Carrier(
        "url twice",
        lambda secret, rng: f"https://example.org/find?q={quote(_percent(secret), safe='')}&page=2",
    ),
)
BROKEN_CARRIERS = (
    Carrier("broken line", _broken("\n")),
    Carrier("broken quote", _broken("\n> ")),
    Carrier("broken windows", _broken("\r\n")),
    Carrier("broken mail", _broken("=\n")),
)
MAIL_CARRIERS = (
    Carrier("slack mailto", lambda secret, rng: f"write to <mailto:{secret}|{secret}> today"),
    Carrier("spelt", lambda secret, rng: f"write to {secret.replace('@', ' (at) ')} today"),
)
TEL_CARRIERS = (
    Carrier("slack tel", lambda secret, rng: f"call <tel:{re.sub(r'[^0-9+]', '', secret)}|{secret}> today"),
)
DIGIT_CARRIERS = (
    Carrier(
        "full width",
        lambda secret, rng: f"it is {secret.translate({ord(d): 0xFEE0 + ord(d) for d in DIGITS})} here",
    ),
    Carrier(
        "odd dashes", lambda secret, rng: f"it is {secret.replace('-', '‑').replace(' ', chr(0xA0))} here"
    ),
)


def planted(seed: int) -> list[Planted]:
    """Everything, always the same for the same seed: each shape in each carrier that can hold it."""
    rng = random.Random(seed)
    return [*_tokens(rng), *_blocks(rng), *_named(rng), *_personal(rng), *_national(rng), *_people()]


def _item(kind: Kind, shape: str, carrier: Carrier, secret: str, rng: random.Random) -> Planted:
    text = carrier.write(secret, rng)
    return Planted(kind, shape, carrier.name, secret, text, _survivors(kind, secret, text, carrier))


def _survivors(kind: Kind, secret: str, text: str, carrier: Carrier) -> tuple[str, ...]:
    """The secret, its digits, and the halves of it that stand in the text."""
    spellings = {secret}
    if kind in {Kind.CARD, Kind.PHONE, Kind.IBAN}:
        spellings.add(re.sub(r"[^0-9A-Z]", "", secret))
    if carrier.name.startswith(("broken", "zero", "soft")) and kind in {Kind.SECRET, Kind.CARD, Kind.IBAN}:
        lines = re.split(r"[\s>\u200b\u00ad=]+", text)
        spellings |= {line for line in lines if len(line) >= 8 and line in secret}
    return tuple(sorted(spellings))


def _tokens(rng: random.Random) -> Iterator[Planted]:
    for shape, make in TOKENS.items():
        for carrier in (*PLAIN_CARRIERS, *ESCAPED_CARRIERS, *BROKEN_CARRIERS):
            yield _item(Kind.SECRET, shape, carrier, make(rng), rng)


def _blocks(rng: random.Random) -> Iterator[Planted]:
    carriers = (
        *PLAIN_CARRIERS[:4],
        Carrier("json", lambda secret, rng: json.dumps({"type": "service_account", "private_key": secret})),
        Carrier("quoted", lambda secret, rng: "> " + secret.replace("\n", "\n> ")),
        Carrier("one line", lambda secret, rng: f"KEY='{' '.join(secret.split(chr(10)))}'"),
        Carrier("cut off", lambda secret, rng: secret.rsplit("\n", 2)[0]),
    )
    for shape, make in BLOCKS.items():
        for carrier in carriers:
            secret = make(rng)
            lines = tuple(line for line in secret.split() if len(line) == 64)
            text = carrier.write(secret, rng)
            there = tuple(line for line in lines if line in text)
            yield Planted(Kind.SECRET, shape, carrier.name, secret, text, there)


def _named(rng: random.Random) -> Iterator[Planted]:
    carriers = (
        Carrier("plain", lambda told, rng: told),
        Carrier("code block", lambda told, rng: f"It fails:\n```\n{told}\n```\nWhy?"),
        Carrier("quoted", lambda told, rng: "> " + told.replace("\n", "\n> ")),
        Carrier("json", lambda told, rng: json.dumps({"body": f"hello\n{told}"})),
    )
    for shape, (template, make) in NAMED.items():
        for carrier in carriers:
            secret = make(rng)
            yield Planted(
                Kind.SECRET,
                shape,
                carrier.name,
                secret,
                carrier.write(template.format(secret), rng),
                (secret,),
            )


def _personal(rng: random.Random) -> Iterator[Planted]:
    for shape, (kind, make) in PERSONAL.items():
        carriers = [*PLAIN_CARRIERS, *ESCAPED_CARRIERS]
        if kind is Kind.PERSON:
            carriers = [
                each
                for each in carriers
                if each.name not in {"slack link", "url", "url twice", "json in json"}
            ]
        if kind in {Kind.CARD, Kind.IBAN}:
            carriers += [*BROKEN_CARRIERS, *DIGIT_CARRIERS]
        carriers += [*MAIL_CARRIERS, *BROKEN_CARRIERS[:2]] if kind is Kind.EMAIL else []
        carriers += [*TEL_CARRIERS, *DIGIT_CARRIERS] if kind is Kind.PHONE else []
        for carrier in carriers:
            yield _item(kind, shape, carrier, make(rng), rng)


def _national(rng: random.Random) -> Iterator[Planted]:
    carriers = (PLAIN_CARRIERS[0], PLAIN_CARRIERS[3], PLAIN_CARRIERS[4], PLAIN_CARRIERS[5])
    for shape, (template, make) in IDS.items():
        for carrier in carriers:
            secret = make(rng)
            text = carrier.write(template.format(secret), rng)
            yield Planted(Kind.ID, shape, carrier.name, secret, text, (secret,))


def _people() -> Iterator[Planted]:
    for template, name in SPOKEN:
        text = template.format(name)
        yield Planted(Kind.PERSON, "name", "said", name, text, (name,))


LONGEST_REST = {Kind.EMAIL: 12, Kind.SECRET: 11, Kind.CARD: 7, Kind.IBAN: 9, Kind.PHONE: 6, Kind.ID: 6}


def remains(item: Planted, text: str) -> list[str]:
    """What of an item is left in a text: a survivor, or more in one piece of the bare secret than anybody may know."""
    left = [survivor for survivor in item.survivors if survivor in text]
    longest = LONGEST_REST.get(item.kind)
    if longest is not None and "pem" not in item.shape:
        bare, rest = _bare(item.secret), _bare(text)
        left += [piece for at in range(len(bare) - longest) if (piece := bare[at : at + longest + 1]) in rest]
    return left


def _bare(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text)


__all__ = ["COUNTRIES", "MEMBERS", "Planted", "member_names", "planted", "remains"]
