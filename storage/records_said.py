"""The tables of what people said: ratings, corrections, picks, nominations, consent, what is verified, what channels want.

They belong to `storage.records`, which tells their rules; everybody imports them from there.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, UniqueConstraint
from sqlmodel import Field

from storage.record import Record, machine_json_column, new_id, now, owned_by, text_column
from storage.words import ShortWords


class Rating(Record, table=True):
    """What one person thinks of one answer: +1 or -1, or 0 for a vote taken back; the last one wins.

    `via` is "button", "reaction", "solicited", "home" or "modal".
    """

    __tablename__ = "rating"
    __table_args__ = (UniqueConstraint("answer_id", "rater"),)
    id: str = Field(default_factory=lambda: new_id("r"), primary_key=True)
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    team: str
    rater: str = Field(index=True)
    value: int
    reason: str = Field(default="", sa_type=ShortWords)
    via: str = "button"
    rated_at: datetime = Field(default_factory=now)


class RatingEvent(Record, table=True):
    """Every press and every reaction, in the order in which they were made; `Rating` is what counts of them."""

    __tablename__ = "rating_event"
    id: str = Field(default_factory=lambda: new_id("press"), primary_key=True)
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    team: str
    rater: str = Field(index=True)
    value: int
    via: str
    pressed_at: datetime = Field(default_factory=now)


class Solicitation(Record, table=True):
    """One person was asked to rate one answer; at most once a day. `day` is the date in the workspace's time zone."""

    __tablename__ = "solicitation"
    __table_args__ = (UniqueConstraint("answer_id"), UniqueConstraint("team", "person", "day"))
    id: str = Field(default_factory=lambda: new_id("sol"), primary_key=True)
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    team: str
    person: str = Field(index=True)
    probability: float
    day: str
    asked_at: datetime = Field(default_factory=now)


class Correction(Record, table=True):
    """The better answer somebody wrote. `may_train` is their word that it may become an example."""

    __tablename__ = "correction"
    __table_args__ = (UniqueConstraint("answer_id", "author"),)
    id: str = Field(default_factory=lambda: new_id("k"), primary_key=True)
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    team: str
    author: str = Field(index=True)
    text: str = Field(sa_column=text_column())
    reason: str = Field(default="", sa_type=ShortWords)
    may_train: bool = False
    corrected_at: datetime = Field(default_factory=now)


class Duel(Record, table=True):
    """Two candidates shown blind: `candidate_a` as A, `candidate_b` as B. It is open until `closed_at`.

    `origin` is "asked" (somebody typed the command) or "sampled", then with the `probability` of the draw. `swapped` tells
    whether the draw of the order put the candidate that was proposed first in place B. `outcome` is "", "a", "b", "tie" or
    "both bad". A duel holds all that a preference is made of: the Answer's messages, two candidates, who picked what. It may
    become training data only of an asker and by pickers who agreed (`Consent`); that is checked where examples are made.
    """

    __tablename__ = "duel"
    __table_args__ = (UniqueConstraint("question_id"),)
    id: str = Field(default_factory=lambda: new_id("d"), primary_key=True)
    question_id: str = Field(sa_column=owned_by("question.id"))
    candidate_a: str = Field(sa_column=owned_by("candidate.id"))
    candidate_b: str = Field(sa_column=owned_by("candidate.id"))
    origin: str = "asked"
    probability: float = 1.0
    swapped: bool = False
    channel: str = ""
    posted_ts: str = ""
    closes_at: datetime = Field(default_factory=now, index=True)
    closed_at: datetime | None = None
    outcome: str = ""
    revealed: bool = False
    created_at: datetime = Field(default_factory=now)


class DuelPick(Record, table=True):
    """What one person picked in a duel: "a", "b", "tie" or "both bad"; the last pick before it closed counts.

    Everybody's pick decides the duel. A pick of somebody who has not agreed to training is kept for that and no more.
    """

    __tablename__ = "duel_pick"
    __table_args__ = (UniqueConstraint("duel_id", "picker"),)
    id: str = Field(default_factory=lambda: new_id("pick"), primary_key=True)
    duel_id: str = Field(sa_column=owned_by("duel.id"))
    picker: str = Field(index=True)
    pick: str
    picked_at: datetime = Field(default_factory=now)


class Nomination(Record, table=True):
    """A message somebody proposed as an example. It becomes an Entry when everybody in `waiting_for` has allowed it.

    `authors` are the people whose words it holds. `state` is "waiting", "taken" or "refused".
    """

    __tablename__ = "nomination"
    __table_args__ = (UniqueConstraint("team", "channel", "ts", "nominator"),)
    id: str = Field(default_factory=lambda: new_id("n"), primary_key=True)
    team: str
    channel: str
    ts: str
    nominator: str = Field(index=True)
    question: str = Field(sa_column=text_column())
    answer: str = Field(sa_column=text_column())
    topic: str = Field(default="", sa_type=ShortWords)
    authors: list[str] = Field(sa_column=machine_json_column())
    waiting_for: list[str] = Field(sa_column=machine_json_column())
    state: str = "waiting"
    refused_by: str = ""
    nominated_at: datetime = Field(default_factory=now)
    settled_at: datetime | None = None


class ChannelSettings(Record, table=True):
    """What an admin decided for one channel. No row means the defaults: see `storage.channels.DEFAULTS`.

    `policy` "" means the workspace's. `duel_rate` is the share of questions (0..1) answered as a duel, `learning` whether
    anything said here may become training data, `budget_month_usd` the most that API models may cost here in a month (None:
    as BUDGET_CHANNEL_MONTH_USD says).
    """

    __tablename__ = "channel_settings"
    __table_args__ = (UniqueConstraint("team", "channel"),)
    id: str = Field(default_factory=lambda: new_id("ch"), primary_key=True)
    team: str
    channel: str
    instructions: str = Field(default="", sa_column=text_column())
    policy: str = ""
    duel_rate: float = 0.0
    feedback: bool = True
    follow_ups: bool = False
    learning: bool = True
    budget_month_usd: float | None = None
    changed_by: str = ""
    changed_at: datetime = Field(default_factory=now)


class Entry(Record, table=True):
    """A verified question and answer: imported, or a correction of somebody who agreed. Memory is made of these.

    `thread` joins phrasings of one question. `split` is "train", "test" (held out: never served, never trained on) or "".
    `change` numbers the transaction that wrote it last, within the workspace: whoever follows reads what came after.
    """

    __tablename__ = "entry"
    __table_args__ = (
        UniqueConstraint("team", "question_hash"),
        Index("ix_entry_team_change_id", "team", "change", "id"),
    )
    id: str = Field(default_factory=lambda: new_id("e"), primary_key=True)
    team: str
    question: str = Field(sa_column=text_column())
    question_hash: str
    answer: str = Field(sa_column=text_column())
    source: str = Field(sa_type=ShortWords)
    topic: str = Field(default="", sa_type=ShortWords)
    thread: str = Field(default="", index=True, sa_type=ShortWords)
    split: str = ""
    author: str = Field(default="", index=True)
    answer_id: str | None = Field(
        default=None, sa_column=owned_by("answer.id", nullable=True, on_delete="SET NULL")
    )
    nomination_id: str | None = Field(default=None, sa_column=owned_by("nomination.id", nullable=True))
    created_at: datetime = Field(default_factory=now, index=True)
    change: int = Field(default=0, sa_column=Column(BigInteger(), nullable=False, server_default="0"))


class EntryEmbedding(Record, table=True):
    """The meaning of an entry's question as a model sees it: `dim` numbers of 16 bits. It goes when its entry goes.

    `number` counts up and is never given twice: whoever follows reads what came after.
    """

    __tablename__ = "entry_embedding"
    __table_args__ = (UniqueConstraint("entry_id", "model"), {"sqlite_autoincrement": True})
    number: int | None = Field(
        default=None,
        sa_column=Column(
            BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
        ),
    )
    entry_id: str = Field(sa_column=Column(ForeignKey("entry.id", ondelete="CASCADE"), nullable=False))
    model: str
    dim: int
    vector: bytes


class Consent(Record, table=True):
    """Whether a person's words may become training data. No row means no.

    `asked_at` is when somebody set out to ask; `shown_at` when the question stood before the person. Without it the asking
    got lost on the way.
    """

    __tablename__ = "consent"
    __table_args__ = (UniqueConstraint("team", "person"),)
    id: str = Field(default_factory=lambda: new_id("y"), primary_key=True)
    team: str
    person: str
    granted: bool
    asked_at: datetime = Field(default_factory=now)
    shown_at: datetime | None = None
    decided_at: datetime | None = None
