"""What all tables have in common: the base class, ids, time, and columns by the way they are used."""

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, MetaData, Text
from sqlalchemy import Enum as SAEnum
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

from storage.words import Sentences, Words, WordsJson, strike_out_rows

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Record(SQLModel):
    """The base of all tables, with names for every constraint (SQLite cannot drop unnamed ones)."""

    metadata = MetaData(naming_convention=NAMING)


strike_out_rows(Record)


def new_id(prefix: str) -> str:
    """An opaque id made before the insert; the prefix says what it names."""
    return f"{prefix}_{uuid.uuid4().hex}"


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def json_column() -> Any:
    """A JSON value, never NULL. Texts in it are struck out (`storage.words`)."""
    return Column(WordsJson(), nullable=False)


def machine_json_column() -> Any:
    """A JSON value that only machines write: ids, numbers, settings. Never NULL; it lies there as it is."""
    return Column(JSON().with_variant(JSONB(), "postgresql"), nullable=False)


def text_column(nullable: bool = False) -> Any:
    """Words of any length, struck out (`storage.words`)."""
    return Column(Words(), nullable=nullable)


def sentence_column() -> Any:
    """What the product itself says, struck out but for the people it mentions (`storage.words`)."""
    return Column(Sentences(), nullable=False)


def machine_text_column() -> Any:
    """Text that only machines write; it lies there as it is."""
    return Column(Text(), nullable=False)


def state_column(states: type[StrEnum], name: str) -> Any:
    """A state by its value, with a CHECK constraint and an index."""
    kind = SAEnum(
        states,
        native_enum=False,
        create_constraint=True,
        length=32,
        name=name,
        values_callable=lambda enum: [member.value for member in enum],
    )
    return Column(kind, nullable=False, index=True)


def owned_by(target: str, *, nullable: bool = False, on_delete: str = "CASCADE") -> Any:
    """A reference to the row that owns this one; it goes when its owner goes."""
    return Column(ForeignKey(target, ondelete=on_delete), nullable=nullable, index=True)
