"""Takes secrets and personal data out of a text before it is kept, shown or trained on.

Pure and deterministic: patterns, and check sums where a number has one. It finds what has a shape (tokens, private keys,
passwords, e-mail addresses, phone numbers, cards, IBANs, IP addresses, national ids, Slack mentions), and the names of the
workspace's own members where it is given their book. It refuses to guess: other names and postal addresses stay, and so does
a number that nothing marks as a phone's. The same thing gets the same placeholder within a text, such as <EMAIL_1>.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import Protocol

from storage.redaction_contacts import emails, mentions, phones
from storage.redaction_findings import PLACEHOLDER, Finding, Kind, View, joined, undisguised
from storage.redaction_ids import national_ids
from storage.redaction_joints import split_addresses, split_secrets
from storage.redaction_numbers import addresses, cards, ibans
from storage.redaction_secrets import secrets

__all__ = [
    "PLACEHOLDER",
    "RULES_VERSION",
    "Counting",
    "Kind",
    "NameBook",
    "Numbering",
    "Redacted",
    "Rules",
    "findings",
    "install",
    "installed",
    "redact",
]

RULES_VERSION = (
    3  # goes up whenever something else is found than before: what was stored then has to be looked at again
)


class NameBook(Protocol):
    """The names of the people of a workspace; see `storage.redaction_names`."""

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where names stand: start, end and the Slack id of whose name it is."""
        ...


class Numbering(Protocol):
    """Gives numbers to what was found; one numbering for several texts counts them together."""

    def number(self, kind: Kind, identity: str) -> int:
        """The number of this thing, the same each time."""
        ...

    def pass_over(self, texts: Sequence[str]) -> None:
        """Numbers of placeholders that stand in these texts already are not given to something else."""
        ...


class Counting:
    """A numbering from 1, in memory."""

    def __init__(self) -> None:
        self._known: dict[tuple[Kind, str], int] = {}
        self._taken: dict[str, int] = {}

    def number(self, kind: Kind, identity: str) -> int:
        """The number of this thing, the same each time."""
        if (kind, identity) not in self._known:
            self._taken[kind] = self._taken.get(kind, 0) + 1
            self._known[kind, identity] = self._taken[kind]
        return self._known[kind, identity]

    def pass_over(self, texts: Sequence[str]) -> None:
        """Numbers of placeholders that stand in these texts already are not given to something else."""
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._taken[kind] = max(self._taken.get(kind, 0), int(number))


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decides.

    `keep`: addresses, domains (@example.com, *.example.com), networks (10.0.0.0/8) and numbers that stay; a secret never
    does. `national_ids`: countries whose national ids are struck out, such as "us". `names`: the members of the workspace.
    """

    keep: frozenset[str] = frozenset()
    national_ids: tuple[str, ...] = ()
    names: NameBook | None = None


class _Process:
    rules = Rules()


def install(rules: Rules) -> None:
    """From now on these rules hold in this process, wherever none are given."""
    _Process.rules = rules


def installed() -> Rules:
    """The rules that hold where none are given."""
    return _Process.rules


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what was found in it, and how often each kind was found."""

    text: str
    found: Mapping[Kind, int]


NOTHING: Mapping[Kind, int] = MappingProxyType({})
ROUNDS = 6


def redact(text: str, *, rules: Rules | None = None, numbering: Numbering | None = None) -> Redacted:
    """The text with placeholders, by the installed rules or by these. Redacting it again changes nothing."""
    rules = rules or _Process.rules
    seen = findings(text, rules)
    if not seen:
        return Redacted(text, NOTHING)
    numbers = numbering or Counting()
    numbers.pass_over([text])
    found: dict[Kind, int] = {}
    # A placeholder can end what stood around it, so that now it is seen; hence once more, until nothing is.
    for _ in range(ROUNDS):
        text = _struck(text, seen, numbers, found)
        seen = findings(text, rules)
        if not seen:
            break
    return Redacted(text, MappingProxyType(found))


def _struck(text: str, seen: list[Finding], numbers: Numbering, found: dict[Kind, int]) -> str:
    pieces: list[str] = []
    done = 0
    for finding in seen:
        found[finding.kind] = found.get(finding.kind, 0) + 1
        number = numbers.number(finding.kind, finding.identity)
        pieces += [text[done : finding.start], f"<{finding.kind}_{number}>"]
        done = finding.end
    return "".join([*pieces, text[done:]])


def findings(text: str, rules: Rules) -> list[Finding]:
    """Findings in order of their place; where two overlap, the one that was found first wins. Secrets become one."""
    chosen: list[Finding] = []
    covered = bytearray()
    kept = _keeper(rules.keep) if rules.keep else None
    for finding in _found(text, rules):
        covered = covered or _placeholders(text)
        if covered.find(1, finding.start, finding.end) < 0 and not (kept and kept.holds(finding, text)):
            covered[finding.start : finding.end] = b"\x01" * (finding.end - finding.start)
            chosen.append(finding)
    return sorted(chosen, key=lambda finding: finding.start)


def _placeholders(text: str) -> bytearray:
    """What may not be touched any more: the places of placeholders."""
    covered = bytearray(len(text))
    for match in PLACEHOLDER.finditer(text):
        covered[match.start() : match.end()] = b"\x01" * len(match[0])
    return covered


SIX_DIGITS = re.compile(r"\d(?:\D{0,3}\d){5}")


def _found(text: str, rules: Rules) -> Iterator[Finding]:
    """Everything that is seen, with its place in the text, the surest first."""
    view = undisguised(text)
    split = tuple(joined(view))
    yield from _made_one(
        [
            *map(view.in_original, secrets(view)),
            *(each.in_original(found) for each in split[:1] for found in split_secrets(each)),
        ]
    )
    yield from map(view.in_original, mentions(view))
    yield from (each.in_original(found) for each in split[:1] for found in split_addresses(each))
    yield from map(view.in_original, emails(view))
    yield from map(view.in_original, addresses(view))
    with_digits = [each for each in (view, *split) if SIX_DIGITS.search(each.text)]
    for search in (ibans, partial(_proven, countries=rules.national_ids), phones):
        for each in with_digits:
            yield from (each.in_original(found) for found in search(each) if _here(each, found))
    if rules.names is not None:
        for start, end, who in rules.names.find(view.text):
            yield view.in_original(Finding(start, end, Kind.PERSON, who))


def _proven(view: View, countries: tuple[str, ...]) -> Iterator[Finding]:
    """Numbers with a check sum, after those of bank accounts: the end of one may pass for a card.

    Split over lines they are still surer than a phone number in one of these.
    """
    if countries:
        yield from national_ids(view, countries)
    yield from cards(view)


def _here(view: View, found: Finding) -> bool:
    """Whether this view is there for such a finding: one without line breaks only for what they split."""
    return not view.joints or bool(view.joints_in(found.start, found.end))


def _made_one(secrets_found: list[Finding]) -> Iterator[Finding]:
    """Secrets that overlap as one: what two rules see in part is all secret."""
    together: Finding | None = None
    for found in sorted(secrets_found, key=lambda found: (found.start, -found.end)):
        if together is not None and found.start < together.end:
            longer = max(found, together, key=lambda each: each.end - each.start)
            together = Finding(together.start, max(together.end, found.end), Kind.SECRET, longer.identity)
            continue
        if together is not None:
            yield together
        together = found
    if together is not None:
        yield together


@dataclass(frozen=True, slots=True)
class _Keeper:
    """What the operator wants to stay, ready to be asked."""

    words: frozenset[str]
    digits: frozenset[str]
    domains: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]

    def holds(self, finding: Finding, text: str) -> bool:
        """Whether this stays. A secret never does."""
        if finding.kind is Kind.SECRET:
            return False
        if (
            finding.identity.casefold() in self.words
            or text[finding.start : finding.end].casefold() in self.words
        ):
            return True
        if finding.kind is Kind.EMAIL:
            return finding.identity.endswith(self.domains)
        if finding.kind is Kind.IP:
            return any(ip_address(finding.identity) in network for network in self.networks)
        return _digits(finding.identity) in self.digits


@lru_cache(maxsize=8)
def _keeper(keep: frozenset[str]) -> _Keeper:
    words = frozenset(each.strip().casefold() for each in keep)
    return _Keeper(
        words=words,
        digits=frozenset(_digits(word) for word in words if len(_digits(word)) > 4),
        domains=tuple(
            word.removeprefix("*").removesuffix("/") for word in words if word.startswith(("@", "*."))
        ),
        networks=tuple(network for word in words if (network := _network(word)) is not None),
    )


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text).removeprefix("00")


def _network(word: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(word, strict=False)
    except ValueError:
        return None
