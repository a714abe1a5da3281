"""Finds national ids of the countries an operator names, by form and check sum (python-stdnum, offline).

Where a check sum is weak, as with nine digits of which one in eleven fits, a word that says what it is has to stand before
it. Nothing is looked for, and the library not loaded, where no country is named.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from storage.redaction_findings import Finding, Kind, View

TOLD = r"national id|id[ -]?(?:number|no|nr|card)|tax id|tax number|personal number|identity|tin"


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of id: how it is written, stdnum's module for it, and the words before it (None: it needs none)."""

    form: str
    module: str | None
    words: str | None = None


SHAPES: dict[str, tuple[Shape, ...]] = {
    "us": (
        Shape(r"\d{3}-\d{2}-\d{4}", "us.ssn"),
        Shape(r"9\d{2}-\d{2}-\d{4}", "us.itin"),
        Shape(r"(?!000|666|9)\d{3}[ -]?(?!00)\d{2}[ -]?(?!0000)\d{4}", None, r"ssn|social(?: security| sec)?|soc sec"),
    ),
    "gb": (
        Shape(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", None),
        Shape(r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs", r"nhs"),
    ),
    "de": (
        Shape(r"\d{2} \d{3} \d{3} \d{3}", "de.idnr"),
        Shape(r"\d{11}", "de.idnr", r"steuer\S*|idnr|id-nr|identifikationsnummer"),
    ),
    "fr": (Shape(r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", "fr.nir"),),
    "es": (Shape(r"\d{8}-?[A-Z]", "es.dni"), Shape(r"[XYZ]-?\d{7}-?[A-Z]", "es.nie")),
    "it": (Shape(r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]", "it.codicefiscale"),),
    "nl": (Shape(r"\d{4}[. ]?\d{2}[. ]?\d{3}", "nl.bsn", r"bsn|burgerservice\S*|sofi\S*|citizen service"),),
    "pl": (Shape(r"\d{11}", "pl.pesel", r"pesel"),),
    "br": (Shape(r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf"), Shape(r"\d{11}", "br.cpf", r"cpf")),
    "in": (
        Shape(r"[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}", "in.aadhaar", r"aadh?aa?r|uidai|uid"),
        Shape(r"[A-Z]{5}\d{4}[A-Z]", "in.pan", r"pan"),
    ),
    "ch": (Shape(r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}", "ch.ssn"),),
    "at": (Shape(r"\d{4} ?\d{6}", "at.vnr", r"svnr|sv-?nummer|versicherungsnummer|sozialversicherung\S*"),),
    "be": (
        Shape(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", "be.nn"),
        Shape(r"\d{11}", "be.nn", r"rijksregister\S*|registre national|nrn|insz|niss"),
    ),
    "se": (Shape(r"(?:\d{2})?\d{6}[-+]\d{4}", "se.personnummer"),),
    "dk": (Shape(r"\d{6}-?\d{4}", "dk.cpr", r"cpr\S*|personnummer"),),
    "fi": (Shape(r"\d{6}[-+A]\d{3}[0-9A-Z]", "fi.hetu"),),
    "no": (Shape(r"\d{6} ?\d{5}", "no.fodselsnummer", r"f\S{1,2}dselsnummer|fnr|personnummer"),),
    "ie": (Shape(r"\d{7}[A-W][A-IW]?", "ie.pps", r"pps\w?"),),
    "pt": (Shape(r"\d{3} ?\d{3} ?\d{3}", "pt.nif", r"nif|contribuinte"),),
    "ca": (Shape(r"\d{3}[ -]?\d{3}[ -]?\d{3}", "ca.sin", r"sin|social insurance"),),
    "au": (Shape(r"\d{3} ?\d{3} ?\d{2,3}", "au.tfn", r"tfn|tax file"),),
    "za": (Shape(r"\d{6} ?\d{4} ?\d{2} ?\d", "za.idnr", r"id|rsa id|south african id"),),
    "mx": (Shape(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[0-9A-Z]\d", "mx.curp"),),
}  # fmt: skip
COUNTRIES = tuple(sorted(SHAPES))


@dataclass(frozen=True, slots=True)
class _Search:
    form: re.Pattern[str]
    words: re.Pattern[str] | None
    is_valid: Callable[[str], bool]


@cache
def _searches(countries: tuple[str, ...]) -> tuple[_Search, ...]:
    return tuple(_search(shape) for country in countries for shape in SHAPES[country])


def _search(shape: Shape) -> _Search:
    form = re.compile(rf"(?<![\w.+-])(?:{shape.form})(?![\w-]|[.,]\d)", re.ASCII)
    words = (
        re.compile(rf"(?i:(?<!\w)(?:{shape.words}|{TOLD})(?!\w)[^\d\n]{{0,24}})$") if shape.words else None
    )
    return _Search(form, words, _validity(shape.module) if shape.module else lambda _: True)


def _validity(module: str) -> Callable[[str], bool]:
    from stdnum.util import get_cc_module

    country, _, name = module.partition(".")
    known = get_cc_module(country, name)
    if known is None:
        raise LookupError(f"python-stdnum has no {module} any more")
    is_valid: Callable[[str], bool] = known.is_valid
    return is_valid


def national_ids(view: View, countries: tuple[str, ...]) -> Iterator[Finding]:
    """National ids of these countries; COUNTRIES are known."""
    for search in _searches(countries):
        for match in search.form.finditer(view.text):
            before = view.text[max(0, match.start() - 64) : match.start()]
            if (search.words is None or search.words.search(before)) and search.is_valid(match[0]):
                yield Finding(*match.span(), Kind.ID, re.sub(r"[\W_]", "", match[0]).upper())
