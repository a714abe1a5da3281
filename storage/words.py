"""The choke point: a column that holds words strikes out secrets and personal data on the way into the database.

`Words`, `ShortWords` and `WordsJson` are column types. Whatever is bound to such a column goes through `clean`: rows of the
session, Core inserts and updates, and values it is compared with, so that a query for a raw text finds the row that was made
of it. Nothing can be stored by another way, and nothing is ever restored. A column without such a type holds what machines
wrote (ids, states, paths, hashes); `tests/test_choke.py` lists each of them with the reason.

A row that was just added would still hold the raw words in memory: `strike_out_rows` sees to it that it holds what lies in
the table.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from threading import Lock
from typing import Any

from sqlalchemy import JSON, String, Text, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from storage import redaction

REMEMBERED = 50_000
MENTIONED = re.compile(r"(<@[UW][A-Z0-9]{2,20}>)")


class _Clean:
    """Texts known to hold nothing that is struck out, by their hash: every text passes here two or three times."""

    def __init__(self) -> None:
        self._lock = Lock()  # transactions in one go run in threads
        self._rules: object = None
        self._known: dict[bytes, None] = {}

    def knows(self, mark: bytes, rules: object) -> bool:
        """Whether a text was found clean under these rules."""
        return rules is self._rules and mark in self._known

    def remember(self, mark: bytes, rules: object) -> None:
        """This text is clean under these rules; of many, the oldest are forgotten."""
        with self._lock:
            if rules is not self._rules:
                self._rules, self._known = rules, {}
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[mark] = None


_clean = _Clean()


def clean(text: str) -> str:
    """The text as it may be stored: without what the installed rules find. Cleaning it again changes nothing."""
    if not text:
        return text
    mark, rules = _mark(text), redaction.installed()
    if _clean.knows(mark, rules):
        return text
    struck = redaction.redact(text).text
    _clean.remember(mark if struck == text else _mark(struck), rules)
    return struck


def clean_together(*texts: str) -> tuple[str, ...]:
    """These texts as they may be stored, numbered together: what stands in two of them has one placeholder."""
    if all(clean(text) == text for text in texts):
        return texts
    numbers = redaction.Counting()
    numbers.pass_over(texts)
    return tuple(redaction.redact(text, numbering=numbers).text for text in texts)


def rules_mark() -> str:
    """Another one where the installed rules would strike out something else: what was stored then has to be looked at."""
    rules = redaction.installed()
    book = getattr(rules.names, "mark", "") if rules.names is not None else ""
    told = repr((redaction.RULES_VERSION, sorted(rules.keep), sorted(rules.national_ids), book))
    return blake2b(told.encode(), digest_size=16).hexdigest()


def _mark(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def clean_json(value: Any) -> Any:
    """The same value with every text in it, names of fields included, as it may be stored."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): clean_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(each) for each in value]
    return value


def clean_sentence(text: str) -> str:
    """The text as it may be stored, with the people whom it names by mention."""
    return "".join(part if MENTIONED.fullmatch(part) else clean(part) for part in MENTIONED.split(text))


class Words(TypeDecorator[str]):
    """Text of any length that people or models wrote."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it may be stored."""
        return None if value is None else clean(value)


class Sentences(Words):
    """What the product itself says, such as why a run ended: it may name who decided, by a mention."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Struck out between its mentions: what it quotes of an error may hold anything."""
        return None if value is None else clean_sentence(value)


class ShortWords(TypeDecorator[str]):
    """A few words that people or models wrote: a reason, a topic, where something comes from."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it may be stored."""
        return None if value is None else clean(value)


class WordsJson(TypeDecorator[Any]):
    """A JSON value whose texts people or models wrote."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """JSONB where the database has it."""
        return dialect.type_descriptor(JSONB() if dialect.name == "postgresql" else JSON())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """As it may be stored."""
        return clean_json(value)


OF_WORDS = (Words, ShortWords, WordsJson)


def strike_out_rows(base: type[Any]) -> None:
    """From now on a row of these tables holds, once it was written, what lies in the table."""
    for moment in ("before_insert", "before_update"):
        event.listen(base, moment, _before_it_is_written, propagate=True)


def _before_it_is_written(_mapper: Mapper[Any], _connection: Any, row: Any) -> None:
    strike_out_row(row)


def strike_out_row(row: Any) -> None:
    """From now on this row holds what would be stored of it."""
    loaded = row.__dict__
    for name, of in _columns_of_words(row.__mapper__):
        if name in loaded:
            struck = of(loaded[name])
            if struck != loaded[name]:
                setattr(row, name, struck)


@cache
def _columns_of_words(mapper: Mapper[Any]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """The fields of such rows that hold words, and what strikes each of them out."""
    return tuple(
        (
            mapper.get_property_by_column(column).key,
            clean_sentence if isinstance(column.type, Sentences) else clean_json,
        )
        for column in mapper.columns
        if isinstance(column.type, OF_WORDS)
    )
