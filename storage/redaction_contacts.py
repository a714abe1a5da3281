"""Finds how people are reached: Slack mentions, e-mail addresses, phone numbers.

A phone number is one by its form (a plus, brackets, the groups of a country) or because a word such as "call" stands before
it. Ten digits alone could be anything, and stay.
"""

import re
from collections.abc import Iterator

from storage.redaction_findings import Finding, Kind, View

MENTION = re.compile(
    r"<@([UW][0-9A-Z]{2,20})(?:\|[^<>\n]{0,100})?>|(?<![\w@])@([UW][0-9A-Z]{8,12})(?!\w)"
    r"|slack(?:-gov)?\.com/team/([UW][0-9A-Z]{8,12})(?!\w)"
)


def mentions(view: View) -> Iterator[Finding]:
    """People of Slack by their id."""
    if "@" in view.text or "/team/" in view.text:
        for match in MENTION.finditer(view.text):
            group = match.lastindex or 0
            start, end = match.span() if group < 3 else match.span(group)
            yield Finding(start, end, Kind.PERSON, match[group])


ADDRESS = r"[\w.%+'-]{1,64}@(?:[\w](?:[\w-]{0,61}[\w])?\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})"
SLACK_MAIL = re.compile(rf"<mailto:({ADDRESS})(?:\|[^<>\n]{{0,200}})?>")
EMAIL = re.compile(rf"(?<![\w.%+'@-])({ADDRESS})(?![\w@-])")
# An address as somebody says it, with words for its signs, or with spaces around the @.
SPOKEN = re.compile(
    r"(?<![\w.+-])(?:[\w.+-]{2,40}(?: (?i:at) [\w-]{2,40}(?: (?i:dot) [A-Za-z]{2,20}){1,3}"
    r"| @ (?:[\w-]{2,40}\.){1,3}[A-Za-z]{2,6})|[A-Za-z0-9.-]{2,40}_at_[A-Za-z0-9-]{2,40}(?:_dot_[A-Za-z]{2,20}){1,3})"
    r"(?![\w@-])"
)
A_SUFFIX = re.compile(r"[\])}]\Z")  # (Group Name)+subscribe@ is how to make an address, and none
IN_URL = re.compile(r"://[^\s/?#@<>]{0,200}/?$")  # what stands before a host there is a login
NO_MAIL_DOMAIN = re.compile(
    r"\d+x\.(?:png|jpe?g|gif|webp|svg)|.*\.(?:service|socket|timer|target|mount|png|jpe?g|gif|svg|webp|js|ts|css|py)"
)


def emails(view: View) -> Iterator[Finding]:
    """E-mail addresses; logins on a host, such as git@github.com:, are none."""
    text = view.text
    lower = text.lower()
    if " @ " in text or ("dot" in lower and ("_at_" in lower or " at " in lower)):
        for match in SPOKEN.finditer(text):
            said = match[0].casefold().replace("_at_", " at ").replace("_dot_", " dot ")
            said = said.replace(" at ", "@").replace(" dot ", ".").replace(" ", "")
            yield Finding(*match.span(), Kind.EMAIL, said)
    if "@" not in text:
        return
    for match in SLACK_MAIL.finditer(text):
        yield Finding(*match.span(), Kind.EMAIL, match[1].casefold())
    for match in EMAIL.finditer(text):
        local, _, domain = match[1].casefold().partition("@")
        remote = local == "git" and text[match.end() : match.end() + 1] in {":", "/"}
        suffix = local[0] == "+" and A_SUFFIX.search(text[max(0, match.start() - 1) : match.start()])
        in_url = IN_URL.search(text[max(0, match.start() - 210) : match.start()])
        if not remote and not in_url and not suffix and not NO_MAIL_DOMAIN.fullmatch(domain):
            start = match.start() + (len(local) - len(local.lstrip("'.")))
            yield Finding(start, match.end(), Kind.EMAIL, match[1].casefold().lstrip("'."))


SEPARATOR = r"[ \u00a0./-]"
STARTS_THERE = r"(?<![\w.,:/#@+-])(?<!\d[ *])(?<![^A-Za-z]=)"
ENDS_THERE = r"(?![\w@-]|[.,:/]\d)"
INTERNATIONAL = re.compile(rf"(?<![\w.,/#@+-])\+[1-9](?:[ \u00a0./()-]{{0,3}}\d){{6,14}}{ENDS_THERE}")
DIALLED = re.compile(
    rf"{STARTS_THERE}00[1-9]\d{{0,2}}(?:{SEPARATOR}(?:\(\d{{1,5}}\)|\d{{1,8}})){{2,6}}{ENDS_THERE}"
)
NORTH_AMERICAN = re.compile(
    rf"{STARTS_THERE}(?:1[-. ])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{{4}}{ENDS_THERE}"
)
NATIONAL = re.compile(
    rf"{STARTS_THERE}(?:\(0[1-9]\d{{1,4}}\)|0[1-9]\d{{1,4}})(?: ?[/-] ?| )\d{{3,8}}(?:[ -]\d{{2,5}}){{0,3}}{ENDS_THERE}"
)
IN_PAIRS = re.compile(
    rf"{STARTS_THERE}(?:0[1-9]([ .])\d\d(?:\1\d\d){{3}}|\(?0[2-9]\)? \d{{4}} \d{{4}}){ENDS_THERE}"  # France, Australia
)
WORDS = (
    r"phone|telephone|tel|call|mobile|cell|fax|whatsapp|sms|telefon|handy|mobil|telefoon|téléphone|teléfono"
)
AFTER_A_WORD = re.compile(
    rf"(?i:\b(?:{WORDS})\b(?:[^\W\d]|[ ']){{0,20}}[.:]?\s{{0,3}})"
    rf"((?:(?:\(\d{{2,8}}\)|\d{{2,8}}){SEPARATOR}){{1,5}}\d{{2,8}}|\d{{9,12}}){ENDS_THERE}"
)
IN_DATA = re.compile(
    r"(?i:(?:phone|telephone|tel|mobile|cell|fax|whatsapp|sms)(?:[_-]?(?:number|no|nr))?)\\?[\"']?\s{0,2}[:=]\s{0,2}\\?[\"']?"
    r"(\+?\(?\d[\d ()./-]{6,22}\d)(?![\w@-])"
)
LINKED = re.compile(r"\btel:([+\d][\d()./-]{5,24}\d)")
SLACK_TEL = re.compile(r"<tel:([+\d ()./-]{5,30})(?:\|[^<>\n]{0,60})?>")
DATE = re.compile(r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}.*|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)?\d\d")
OTHER_NUMBER = re.compile(
    r"(?i:\b(?:orders?|ticket|invoice|case|ref|reference|id|version|build|release|sku|serial|part|item|tracking|issue|isbn|"
    r"account|bestellung|auftrag|rechnung)(?:[ -]?(?:number|no|nr|id|code|nummer))?\s{0,2}[.:#=]{0,2}\s{0,2})$|[#№]\s?$|\bv$"
)
A_WORD = re.compile(rf"(?i:{WORDS})")
TOLD = (AFTER_A_WORD, IN_DATA, LINKED)


def phones(view: View) -> Iterator[Finding]:
    """Phone numbers of any country by their form, others where a word says so."""
    text = view.text
    if "<tel:" in text:
        for match in SLACK_TEL.finditer(text):
            yield Finding(*match.span(), Kind.PHONE, _dialled(match[1]))
    for pattern in _worth_trying(text):
        for match in pattern.finditer(text):
            start, end = match.span(1) if pattern in TOLD else match.span()
            if _is_phone(text, start, end, fewest=9 if pattern is NATIONAL else 7):
                yield Finding(start, end, Kind.PHONE, _dialled(text[start:end]))


def _worth_trying(text: str) -> Iterator[re.Pattern[str]]:
    """Most numbers in most texts are no phone's: a form is looked for where its first character is there."""
    if "+" in text:
        yield INTERNATIONAL
    if "00" in text:
        yield DIALLED
    yield NORTH_AMERICAN
    if "0" in text:
        yield NATIONAL
        yield IN_PAIRS
    if A_WORD.search(text):
        yield from TOLD


def _is_phone(text: str, start: int, end: int, *, fewest: int) -> bool:
    digits = re.sub(r"\D", "", text[start:end])
    if not fewest <= len(digits) <= 15 or set(digits) <= {"0", "1"} or DATE.fullmatch(text[start:end]):
        return False
    return not OTHER_NUMBER.search(text[max(0, start - 40) : start])


def _dialled(number: str) -> str:
    """The digits from the country on, where it is named."""
    return re.sub(r"\D", "", number).removeprefix("00")
