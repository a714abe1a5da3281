"""The tables of curation: placeholders, names, where questions belong, reviews, the golden set, what was forgotten.

They belong to `storage.records`, which tells their rules; everybody imports them from there. None of them holds what was
struck out: identities lie here as keyed hashes (`storage.identities`), and rows go when the person goes.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field

from storage.record import (
    Record,
    json_column,
    machine_json_column,
    new_id,
    now,
    owned_by,
    state_column,
    text_column,
)
from storage.words import ShortWords


class Placeholder(Record, table=True):
    """What stands behind <PERSON_2> in one conversation, as a keyed hash: the same thing gets the same number there.

    `scope` names the conversation ("channel/thread_ts"), `kind` is the placeholder's word, `person` the Slack id where it
    stands for a member of the workspace. Without the row nobody can tell any more that two texts mean the same.
    """

    __tablename__ = "placeholder"
    __table_args__ = (UniqueConstraint("team", "scope", "kind", "number"),)
    team: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    kind: str
    number: int
    person: str = Field(default="", index=True)
    made_at: datetime = Field(default_factory=now, index=True)


class MemberName(Record, table=True):
    """A name (or an address) of a member of the workspace, as a keyed hash of its `words` words in lower case."""

    __tablename__ = "member_name"
    team: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    person: str = Field(primary_key=True, index=True)
    words: int
    learned_at: datetime = Field(default_factory=now)


class SplitPlace(Record, table=True):
    """Where a question belongs, from the first dataset that held it on: append-only, so that held out stays held out.

    `key` is the question's hash (its first 32 digits), `split` "train", "validation", "test", or "retired": near-duplicates
    of both sides met in it, so no dataset may hold it. `cluster` is that of its placing.
    """

    __tablename__ = "split_place"
    team: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    split: str
    cluster: str
    placed_at: datetime = Field(default_factory=now)


class Review(Record, table=True):
    """What somebody decided about a candidate for the dataset: "approved", "edited" (with the better texts) or "rejected".

    `subject` is the Answer's or the Entry's id, `key` the question's hash (its first 32 digits, of the question as it was
    before an edit). The last decision counts. It goes with what it is about: the answer, its correction, the entry.
    """

    __tablename__ = "review"
    __table_args__ = (UniqueConstraint("team", "subject"),)
    id: str = Field(default_factory=lambda: new_id("rev"), primary_key=True)
    team: str
    subject: str = Field(index=True)
    answer_id: str | None = Field(default=None, sa_column=owned_by("answer.id", nullable=True))
    correction_id: str | None = Field(default=None, sa_column=owned_by("correction.id", nullable=True))
    entry_id: str | None = Field(default=None, sa_column=owned_by("entry.id", nullable=True))
    key: str = Field(default="", index=True)
    state: str
    question: str = Field(default="", sa_column=text_column())
    answer: str = Field(default="", sa_column=text_column())
    reason: str = Field(default="", sa_column=text_column())
    by: str = Field(index=True)
    reviewed_at: datetime = Field(default_factory=now)


class GoldenState(StrEnum):
    """Where an item of the golden set stands; it counts when two people stand behind it."""

    PROPOSED = "proposed"
    GOLDEN = "golden"
    RETIRED = "retired"


class GoldenItem(Record, table=True):
    """A question with the answer that every model is measured by. `approvals` lists who stands behind it, in order.

    `answer_id` or `entry_id` is what it was made from (neither for an import), and it goes with that; `authors` are the
    people whose words it holds. `key` is the first 32 digits of the question's hash.
    """

    __tablename__ = "golden_item"
    __table_args__ = (UniqueConstraint("team", "key"),)
    id: str = Field(default_factory=lambda: new_id("g"), primary_key=True)
    team: str
    key: str
    question: str = Field(sa_column=text_column())
    answer: str = Field(sa_column=text_column())
    topic: str = Field(default="", sa_type=ShortWords)
    source: str = Field(default="", sa_type=ShortWords)
    answer_id: str | None = Field(default=None, sa_column=owned_by("answer.id", nullable=True))
    entry_id: str | None = Field(default=None, sa_column=owned_by("entry.id", nullable=True))
    authors: list[str] = Field(default_factory=list, sa_column=machine_json_column())
    state: GoldenState = Field(
        default=GoldenState.PROPOSED, sa_column=state_column(GoldenState, "golden_state")
    )
    approvals: list[str] = Field(sa_column=machine_json_column())
    proposed_at: datetime = Field(default_factory=now)
    settled_at: datetime | None = None


class Expert(Record, table=True):
    """Somebody whose word counts more when answers are weighed; admins say who."""

    __tablename__ = "expert"
    team: str = Field(primary_key=True)
    person: str = Field(primary_key=True)
    granted_by: str
    granted_at: datetime = Field(default_factory=now)


class Quarantine(Record, table=True):
    """Something odd that was found in what people feed; `kind` and `subject` name it (`training.guards`).

    `subject` is a topic, a cluster's hash, or a hash of the `person` whose doing it is.

    While it `holds`, nothing of it is learned: at once for most kinds, for some only once an admin said so. `rows` is how
    many rows it is about, `detail` what was seen, without names. `told_ts` is the message that told the admins ("" while
    nobody did), `told_at` when somebody set out to tell. `kept_by` or `lifted_by` decided that it stays out, or may be
    learned from after all.
    """

    __tablename__ = "quarantine"
    __table_args__ = (UniqueConstraint("team", "kind", "subject"),)
    id: str = Field(default_factory=lambda: new_id("qu"), primary_key=True)
    team: str
    kind: str
    subject: str = Field(sa_type=ShortWords)
    person: str = Field(default="", index=True)
    rows: int = 0
    detail: str = Field(default="", sa_column=text_column())
    since: datetime = Field(default_factory=now)
    holds: bool = True
    told_ts: str = ""
    told_at: datetime | None = None
    kept_by: str = ""
    lifted_by: str = ""
    lifted_at: datetime | None = None


class ForgettingState(StrEnum):
    """Where the forgetting of a person stands."""

    ASKED = "asked"
    DONE = "done"


class Forgetting(Record, table=True):
    """A person is being forgotten: work that a restart goes on with, and its receipt when it is done.

    `person` is emptied at the end; `digest`, their keyed hash, stays. `step` is what comes next ("" the first of them),
    `done` and `undone` list what was deleted and what could not be; `told_at` is when admins heard of it.
    """

    __tablename__ = "forgetting"
    id: str = Field(default_factory=lambda: new_id("fgt"), primary_key=True)
    team: str
    person: str = ""
    digest: str = Field(index=True)
    asked_by: str = ""
    state: ForgettingState = Field(
        default=ForgettingState.ASKED, sa_column=state_column(ForgettingState, "forgetting_state")
    )
    step: str = ""
    done: dict[str, Any] = Field(sa_column=json_column())
    undone: dict[str, Any] = Field(sa_column=json_column())
    told_at: datetime | None = None
    claimed_by: str = ""
    lease_until: datetime | None = None
    asked_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None


class Tombstone(Record, table=True):
    """Something that was forgotten, as a keyed hash, so that it is not taken in again: a message, an entry, a file's row."""

    __tablename__ = "tombstone"
    team: str = Field(primary_key=True)
    digest: str = Field(primary_key=True)
    kind: str
    forgotten_at: datetime = Field(default_factory=now)


class ProviderFile(Record, table=True):
    """A file of ours that lies with a provider, from before its upload until it is deleted there.

    `file_id` is the provider's name of it ("" while the upload runs), `deleted_at` when the provider said that it is gone,
    `trouble` why it could not be deleted so far. Once it is to go, `deletion_due_at` is when that is tried next.
    """

    __tablename__ = "provider_file"
    __table_args__ = (Index("ix_provider_file_open", "team", "deleted_at"),)
    id: str = Field(default_factory=lambda: new_id("pf"), primary_key=True)
    team: str
    provider: str
    file_id: str = ""
    purpose: str = ""
    dataset_id: str | None = Field(
        default=None, sa_column=owned_by("dataset_version.id", nullable=True, on_delete="SET NULL")
    )
    uploaded_at: datetime = Field(default_factory=now)
    deletion_due_at: datetime | None = None
    deletion_tries: int = 0
    deleted_at: datetime | None = None
    trouble: str = Field(default="", sa_column=text_column())
