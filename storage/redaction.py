"""Takes secrets and personal data out of a text before it is kept or trained on.

Pure and deterministic: patterns, and check sums where a number has one. It finds what has a shape: tokens of well-known
services, private keys, passwords in URLs, e-mail addresses, phone numbers, payment cards, IBANs and Slack mentions. It
refuses to guess: names and postal addresses in running text stay, and so does a number that nothing marks as a phone's.
The same thing gets the same placeholder within a text, such as <EMAIL_1>.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What was found; also the word in its placeholder."""

    SECRET = "SECRET"
    PERSON = "PERSON"
    EMAIL = "EMAIL"
    IBAN = "IBAN"
    CARD = "CARD"
    PHONE = "PHONE"


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what was found in it, and how often each kind was found."""

    text: str
    found: Mapping[Kind, int]


@dataclass(frozen=True, slots=True)
class _Finding:
    start: int
    end: int
    kind: Kind
    identity: str  # equal for two spellings of one thing


def redact(text: str) -> Redacted:
    """The text with placeholders. Redacting it again changes nothing."""
    numbers = _numbers_taken(text)
    names: dict[tuple[Kind, str], str] = {}
    found: dict[Kind, int] = {}
    pieces: list[str] = []
    done = 0
    for finding in _without_overlaps(text):
        key = (finding.kind, finding.identity)
        if key not in names:
            numbers[finding.kind] += 1
            names[key] = f"<{finding.kind}_{numbers[finding.kind]}>"
        found[finding.kind] = found.get(finding.kind, 0) + 1
        pieces += [text[done : finding.start], names[key]]
        done = finding.end
    return Redacted("".join([*pieces, text[done:]]), MappingProxyType(found))


PLACEHOLDER = re.compile(r"<(SECRET|PERSON|EMAIL|IBAN|CARD|PHONE)_(\d{1,6})>")


def _numbers_taken(text: str) -> dict[Kind, int]:
    """The highest placeholder of each kind that the text holds already."""
    taken = dict.fromkeys(Kind, 0)
    for kind, number in PLACEHOLDER.findall(text):
        taken[Kind(kind)] = max(taken[Kind(kind)], int(number))
    return taken


def _without_overlaps(text: str) -> list[_Finding]:
    """Findings in order of their place; where two overlap, the detector that comes first in DETECTORS wins."""
    chosen: list[_Finding] = []
    covered = bytearray(len(text))
    for detector in DETECTORS:
        for finding in detector(text):
            if not any(covered[finding.start : finding.end]):
                covered[finding.start : finding.end] = b"\x01" * (finding.end - finding.start)
                chosen.append(finding)
    return sorted(chosen, key=lambda finding: finding.start)


# Shapes as their services write them in their documentation of tokens. Every one is anchored, so that it cannot start
# inside a longer word, and bounded, so that a long text takes linear time.
TOKENS = (
    r"xox[a-z](?:\.xox[a-z])?-[0-9A-Za-z-]{10,400}",  # Slack: bot, user, refresh, workflow tokens
    r"xapp-\d-[0-9A-Za-z-]{10,400}",  # Slack: app-level token
    r"sk-(?=[\w-]*[A-Za-z0-9]{16})(?=[\w-]*\d)[\w-]{20,400}",  # OpenAI (sk-, sk-proj-, sk-svcacct-), Anthropic (sk-ant-)
    r"AIza[\w-]{35}",  # Google: API key
    r"ya29\.[\w-]{20,400}",  # Google: OAuth access token
    r"GOCSPX-[\w-]{28}",  # Google: OAuth client secret
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",  # AWS: access key id
    r"gh[pousr]_[0-9A-Za-z]{36,255}",  # GitHub: personal, OAuth, user, server and refresh tokens
    r"github_pat_[0-9A-Za-z_]{22,255}",  # GitHub: fine-grained token
    r"glpat-[\w-]{20,64}",  # GitLab
    r"npm_[0-9A-Za-z]{36}",  # npm
    r"pypi-AgEI[\w-]{50,400}",  # PyPI
    r"hf_[0-9A-Za-z]{30,64}",  # Hugging Face
    r"[srp]k_(?:live|test)_[0-9A-Za-z]{16,255}",  # Stripe
    r"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    r"eyJ[\w-]{8,4000}\.eyJ[\w-]{8,8000}\.[\w-]{0,4000}",  # JSON Web Token
)
TOKEN = re.compile(rf"(?<![\w-])(?:{'|'.join(TOKENS)})(?![\w-])")
SLACK_WEBHOOK = re.compile(
    r"https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([\w/-]{10,200})"
)
BEARER = re.compile(r"\b[Bb]earer\s{1,4}((?=[\w.~+/-]*\d)[\w.~+/-]{20,4000}=*)")
AWS_SECRET = re.compile(
    r"(?i:aws_?secret_?(?:access_?)?key)[\"']?\s{0,4}[:=]\s{0,4}[\"']?([0-9A-Za-z/+]{40})(?![0-9A-Za-z/+=])"
)
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:(?:(?!-----)[\s\S]){0,20000}-----END (?P=what)-----|[A-Za-z0-9+/=\s]{0,20000})"  # the end may be cut off
)
# The user's part may be empty; the password goes up to the last @ before the path.
URL_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@<>]{0,200}:([^\s/<>]{1,200})@(?=[\w\[])"
)
STAND_IN = re.compile(
    r"[*•.x]+|\$.*|\{.*\}|%\(?\w*\)?s?|(?i:password|passwd|pass|pw|secret|token)|\[.*\]|your.*", re.ASCII
)


def _secrets(text: str) -> Iterator[_Finding]:
    for pattern in (PRIVATE_KEY, TOKEN):
        for match in pattern.finditer(text):
            yield _Finding(*match.span(), Kind.SECRET, match[0].strip())
    for pattern in (SLACK_WEBHOOK, BEARER, AWS_SECRET):
        for match in pattern.finditer(text):
            yield _Finding(*match.span(1), Kind.SECRET, match[1])
    for match in URL_PASSWORD.finditer(text):
        if not STAND_IN.fullmatch(match[1]):
            yield _Finding(*match.span(1), Kind.SECRET, match[1])


MENTION = re.compile(r"<@([UW][0-9A-Z]{2,20})(?:\|[^<>\n]{0,100})?>")


def _people(text: str) -> Iterator[_Finding]:
    for match in MENTION.finditer(text):
        yield _Finding(*match.span(), Kind.PERSON, match[1])


ADDRESS = r"[\w.%+'-]{1,64}@(?:[\w](?:[\w-]{0,61}[\w])?\.){1,8}[^\W\d_]{2,24}"
SLACK_MAIL = re.compile(rf"<mailto:({ADDRESS})(?:\|[^<>\n]{{0,200}})?>")
EMAIL = re.compile(rf"(?<![\w.%+'@/-])({ADDRESS})(?![\w@-])")
IN_URL = re.compile(r"://[^\s/@<>]{0,200}$")  # what stands before a host there is a login
NO_MAIL_DOMAIN = re.compile(
    r"\d+x\.(?:png|jpe?g|gif|webp|svg)|.*\.(?:service|socket|timer|target|mount|png|jpe?g|gif|svg|webp|js|ts|css|py)"
)


def _emails(text: str) -> Iterator[_Finding]:
    for match in SLACK_MAIL.finditer(text):
        yield _Finding(*match.span(), Kind.EMAIL, match[1].casefold())
    for match in EMAIL.finditer(text):
        local, _, domain = match[1].casefold().partition("@")
        remote = local == "git" and text[match.end() : match.end() + 1] in {":", "/"}
        in_url = IN_URL.search(text[max(0, match.start() - 210) : match.start()])
        if not remote and not in_url and not NO_MAIL_DOMAIN.fullmatch(domain):
            start = match.start() + (len(local) - len(local.lstrip("'.")))
            yield _Finding(start, match.end(), Kind.EMAIL, match[1].casefold().lstrip("'."))


# Lengths of the IBANs of each country, from the IBAN registry (SWIFT, registrar of ISO 13616).
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH CR HR LI LV", 22: "BG BH DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")


def _ibans(text: str) -> Iterator[_Finding]:
    for match in IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        places = [place for place in range(*match.span()) if text[place].isalnum()][:length]
        if length == 0 or len(places) < length:
            continue
        end = places[-1] + 1
        number = "".join(text[place] for place in places).upper()
        if not text[end : end + 1].isalnum() and _iban_sum(number) == 1:
            yield _Finding(match.start(), end, Kind.IBAN, number)


def _iban_sum(number: str) -> int:
    """ISO 13616: the first four characters last, letters as 10 to 35, modulo 97."""
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97


CARD = re.compile(
    r"(?<![\w.,:/#=@+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)"
)
# The ranges that card networks number from (ISO/IEC 7812): without them one order number in ten would pass Luhn's sum.
ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:50|5[6-8])\d{11,17}"
)


def _cards(text: str) -> Iterator[_Finding]:
    for match in CARD.finditer(text):
        number = re.sub(r"\D", "", match[0])
        if ISSUER.fullmatch(number) and _luhn_sum(number) % 10 == 0:
            yield _Finding(*match.span(), Kind.CARD, number)


def _luhn_sum(number: str) -> int:
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])


SEPARATOR = r"[ \u00a0./-]"
STARTS_THERE = r"(?<![\w.,:/#=@+*-])(?<!\d )"
ENDS_THERE = r"(?![\w@-]|[.,:/]\d)"
INTERNATIONAL = re.compile(rf"(?<![\w.,:/#=@+-])\+[1-9](?:[ \u00a0./()-]{{0,3}}\d){{6,14}}{ENDS_THERE}")
DIALLED = re.compile(
    rf"{STARTS_THERE}00[1-9]\d{{0,2}}(?:{SEPARATOR}(?:\(\d{{1,5}}\)|\d{{1,8}})){{2,6}}{ENDS_THERE}"
)
NORTH_AMERICAN = re.compile(
    rf"{STARTS_THERE}(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{{4}}{ENDS_THERE}"
)
NATIONAL = re.compile(
    rf"{STARTS_THERE}(?:\(0[1-9]\d{{1,4}}\)|0[1-9]\d{{1,4}})(?: ?[/-] ?| )\d{{3,8}}(?:[ -]\d{{2,5}}){{0,3}}{ENDS_THERE}"
)
AFTER_A_WORD = re.compile(
    r"(?i:\b(?:phone|telephone|tel|call|mobile|cell|fax|whatsapp|sms|telefon|handy|mobil)\b"
    r"(?:[^\W\d]|[ ']){0,20}[.:]?\s{0,3})"
    rf"((?:(?:\(\d{{2,8}}\)|\d{{2,8}}){SEPARATOR}){{1,5}}\d{{2,8}}|\d{{9,12}}){ENDS_THERE}"
)
SLACK_TEL = re.compile(r"<tel:([+\d ()./-]{5,30})(?:\|[^<>\n]{0,60})?>")
DATE = re.compile(r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}.*|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)?\d\d")
OTHER_NUMBER = re.compile(
    r"(?i:\b(?:orders?|ticket|invoice|case|ref|reference|id|version|build|release|sku|serial|part|item|tracking|issue|isbn|"
    r"account|bestellung|auftrag|rechnung)(?:[ -]?(?:number|no|nr|id|code|nummer))?\s{0,2}[.:#]{0,2}\s{0,2})$|[#№]\s?$|\bv$"
)


def _phones(text: str) -> Iterator[_Finding]:
    for match in SLACK_TEL.finditer(text):
        yield _Finding(*match.span(), Kind.PHONE, re.sub(r"\D", "", match[1]))
    for pattern in (INTERNATIONAL, DIALLED, NORTH_AMERICAN, NATIONAL, AFTER_A_WORD):
        for match in pattern.finditer(text):
            start, end = match.span(1) if pattern is AFTER_A_WORD else match.span()
            digits = re.sub(r"\D", "", text[start:end])
            fewest = 9 if pattern is NATIONAL else 7
            binary = set(digits) <= {"0", "1"}
            counted = fewest <= len(digits) <= 15 and not binary and not DATE.fullmatch(text[start:end])
            if counted and not OTHER_NUMBER.search(text[max(0, start - 40) : start]):
                yield _Finding(start, end, Kind.PHONE, digits)


DETECTORS: tuple[Callable[[str], Iterator[_Finding]], ...] = (
    _secrets,
    _people,
    _emails,
    _ibans,
    _cards,
    _phones,
)
