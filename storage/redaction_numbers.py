"""Finds numbers that prove themselves: IBANs and payment cards by their check sums, IP addresses by their form.

Addresses that are everybody's stay: the machine itself, netmasks, whole networks (10.0.0.0/8), the routers of every home,
the resolvers of every handbook. Private ones go, because they draw the map of somebody's network. A version with four parts
stays where it is told as one or where each part has a single digit.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from storage.redaction_findings import Finding, Kind, View

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
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2} ?\d{2}(?:[ ./-]?[A-Za-z0-9]){11,30}", re.ASCII)


def ibans(view: View) -> Iterator[Finding]:
    """Bank accounts of any country of the registry."""
    text = view.text
    for match in IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        places = [place for place in range(*match.span()) if text[place].isalnum()][:length]
        if length == 0 or len(places) < length:
            continue
        end = places[-1] + 1
        number = "".join(text[place] for place in places).upper()
        if not text[end : end + 1].isalnum() and _iban_sum(number) == 1:
            yield Finding(match.start(), end, Kind.IBAN, number)


def _iban_sum(number: str) -> int:
    """ISO 13616: the first four characters last, letters as 10 to 35, modulo 97."""
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97


# In groups as they are printed a card may stand anywhere; as bare digits not inside an address or a longer word.
CARD = re.compile(
    r"(?<![\w.,/#@+-])\d{13,19}(?![\w-]|[.,]\d)"
    r"|(?<![\w.+-])(?:\d{4}([ .-]{1,2})\d{4}\1\d{4}\1\d{1,7}|\d{4}([ .-]{1,2})\d{6}\2\d{4,5})(?![\w-]|[.,]\d)",
    re.ASCII,
)
# After a word that says so, in whatever groups somebody typed it.
TOLD_CARD = re.compile(
    r"(?i:\b(?:card|visa|master ?card|amex|american express|pan|karte|kreditkarte|carte|tarjeta|cc|discover|maestro)"
    r"(?:[ _-]?(?:number|no|nr|num))?)\b[^\d\n]{0,20}(\d(?:[ .-]{0,2}\d){12,18})(?!\d)",
    re.ASCII,
)
# The ranges that card networks number from (ISO/IEC 7812): without them one order number in ten would pass Luhn's sum.
ISSUER = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}|(?:50|5[6-8])\d{11,17}"
)
COUNTED = re.compile(
    r"(?i:\b(?:order|ticket|invoice|tracking|isbn|ref|reference|status|id)(?:[ _-]?(?:number|no|nr|id))?\W{0,4})$"
)


def cards(view: View) -> Iterator[Finding]:
    """Payment cards of the networks."""
    text = view.text
    for pattern in (CARD, TOLD_CARD):
        for match in pattern.finditer(text):
            told = 1 if pattern is TOLD_CARD else 0
            number = re.sub(r"\D", "", match[told])
            if ISSUER.fullmatch(number) and _luhn_sum(number) % 10 == 0:
                bare = not told and match[0].isdigit()
                if not (bare and COUNTED.search(text[max(0, match.start() - 24) : match.start()])):
                    yield Finding(*match.span(told), Kind.CARD, number)


def _luhn_sum(number: str) -> int:
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])


PART = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
FOUR = re.compile(
    rf"(?<![\w.+])(?<![A-Za-z_][/-])(?:{PART}\.){{3}}{PART}(?!\.?\w|\.\*|-[A-Za-z])(?P<net>/\d{{1,2}}(?!\d))?",
    re.ASCII,
)
SIX = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{1,4}:)([0-9A-Fa-f:]{3,39}[0-9A-Fa-f]|[0-9A-Fa-f:]{2,38}::)(?![0-9A-Za-z_])"
    r"(?P<net>/\d{1,3})?"
)
DOTTED = re.compile(r"\d\.\d{1,3}\.\d{1,3}\.\d")
VERSION = re.compile(
    r"(?i:\b(?:versions?|ver|release|build|firmware|driver|update|upgraded?|patch|chrome|firefox|edge|safari|revision|section|"
    r"chapter|clause|paragraph|assembly\w{0,20}|fileversion|kernel|macos|ios|android)(?: (?:to|from|is|no|number))?"
    r"\s{0,2}[:=>\"'~^]{0,4}\s{0,2})$|\bv\.?\s?$|[=<>~^]=\s?$|§\s?$"
)
ADDRESSED = re.compile(
    r"(?i:\b(?:ip|ipv4|host|server|address|addr|ping|ssh|client|from|gateway|dns|peer|remote)\w{0,12}(?: is| at| to)?"
    r"\W{1,4})$|[/@]$"
)
EVERYBODYS = frozenset(
    map(
        ip_address,
        (
            *("192.168.0.1", "192.168.1.1", "192.168.2.1", "192.168.1.254", "192.168.178.1", "10.0.0.1"),
            *("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "169.254.169.254", "224.0.0.251"),
        ),
    )
)
SOMEBODYS = tuple(map(ip_network, ("2000::/3", "fc00::/7", "fe80::/10")))


def addresses(view: View) -> Iterator[Finding]:
    """IP addresses that may be somebody's."""
    text = view.text
    if text.count(".") > 2 and DOTTED.search(text):
        for match in FOUR.finditer(text):
            address = IPv4Address(match[0].removesuffix(match["net"] or ""))
            if not _is_network(address, match["net"]) and _names_a_machine(address, text, match.start()):
                yield Finding(match.start(), match.end(), Kind.IP, str(address))
    if "::" in text or text.count(":") > 6:
        for match in SIX.finditer(text):
            address6 = _six(match[1])
            if address6 is not None and not _is_network(address6, match["net"]):
                yield Finding(*match.span(1), Kind.IP, str(address6))


def _names_a_machine(address: IPv4Address, text: str, start: int) -> bool:
    if (
        address in EVERYBODYS
        or address.is_loopback
        or address.is_unspecified
        or address.packed[0] in {0, 255}
    ):
        return False
    before = text[max(0, start - 40) : start]
    if VERSION.search(before):
        return False
    return any(part > 9 for part in address.packed) or bool(ADDRESSED.search(before))


def _is_network(address: IPv4Address | IPv6Address, net: str | None) -> bool:
    """Whether this is a network with its mask and no machine in it."""
    if net is None or int(net[1:]) >= address.max_prefixlen:
        return False
    return ip_network(f"{address}{net}", strict=False).network_address == address


def _six(written: str) -> IPv6Address | None:
    try:
        address = IPv6Address(written)
    except ValueError:
        return None
    somebodys = len(written.split(":")[0]) == 4 and any(address in network for network in SOMEBODYS)
    return address if somebodys else None
