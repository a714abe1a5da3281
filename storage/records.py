"""The tables: one class for each noun of the product that is remembered.

Rows are built through `Store` only. Every datetime is aware UTC. Texts of people lie here as they wrote them; secrets are
struck out where a dataset is frozen and where examples are exported.
States are stored by value with a CHECK constraint, so that the database guards them too.
"""

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Index, MetaData, Text, UniqueConstraint
from sqlalchemy import Enum as SAEnum
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

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


def new_id(prefix: str) -> str:
    """An opaque id made before the insert; the prefix says what it names."""
    return f"{prefix}_{uuid.uuid4().hex}"


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def _json() -> Any:
    return Column(JSON().with_variant(JSONB(), "postgresql"), nullable=False)


def _text(nullable: bool = False) -> Any:
    return Column(Text(), nullable=nullable)


def _state(states: type[StrEnum], name: str) -> Any:
    kind = SAEnum(
        states,
        native_enum=False,
        create_constraint=True,
        length=32,
        name=name,
        values_callable=lambda enum: [member.value for member in enum],
    )
    return Column(kind, nullable=False, index=True)


def _owned_by(target: str, *, nullable: bool = False, on_delete: str = "CASCADE") -> Any:
    return Column(ForeignKey(target, ondelete=on_delete), nullable=nullable, index=True)


class QuestionState(StrEnum):
    """Where a question stands; `asked` and `answering` are work still owed."""

    ASKED = "asked"
    ANSWERING = "answering"
    ANSWERED = "answered"
    DROPPED = "dropped"


class RunState(StrEnum):
    """Where a training run stands. The last four are final."""

    REQUESTED = "requested"
    FREEZING = "freezing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    REPORTING = "reporting"
    DONE = "done"
    DECLINED = "declined"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Nothing more will happen to the run."""
        return self in {RunState.DONE, RunState.DECLINED, RunState.FAILED, RunState.CANCELLED}


class EvaluationState(StrEnum):
    """Where an evaluation asked for by itself (`/eval`) stands."""

    REQUESTED = "requested"
    EVALUATING = "evaluating"
    DONE = "done"
    FAILED = "failed"


class Question(Record, table=True):
    """What somebody asked the bot; (team, channel, ts) names it, so a redelivery is the same question."""

    __tablename__ = "question"
    __table_args__ = (UniqueConstraint("team", "channel", "ts"),)
    id: str = Field(default_factory=lambda: new_id("q"), primary_key=True)
    team: str = Field(index=True)
    channel: str
    ts: str
    thread_ts: str = Field(index=True)
    asker: str = Field(index=True)
    text: str = Field(sa_column=_text())
    surface: str = "mention"
    state: QuestionState = Field(
        default=QuestionState.ASKED, sa_column=_state(QuestionState, "question_state")
    )
    reason: str = ""
    attempts: int = 0
    claimed_by: str = ""
    lease_until: datetime | None = None
    asked_at: datetime = Field(default_factory=now)


class Candidate(Record, table=True):
    """A proposed reply. `chosen` marks the one that was posted as the Answer."""

    __tablename__ = "candidate"
    id: str = Field(default_factory=lambda: new_id("c"), primary_key=True)
    question_id: str = Field(sa_column=_owned_by("question.id"))
    kind: str
    model: str
    version_id: str | None = None
    text: str = Field(sa_column=_text())
    source: str = Field(default="", sa_column=_text())
    finish: str = "stop"
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    logprob_mean: float | None = None
    certainty: float = 0.0
    chosen: bool = False
    created_at: datetime = Field(default_factory=now)


class Answer(Record, table=True):
    """The posted candidate, with exactly the messages the model saw. Without `posted_ts` it was not yet posted."""

    __tablename__ = "answer"
    __table_args__ = (
        UniqueConstraint("question_id"),
        Index("ix_answer_place", "team", "channel", "posted_ts"),
    )
    id: str = Field(default_factory=lambda: new_id("a"), primary_key=True)
    question_id: str = Field(sa_column=_owned_by("question.id"))
    candidate_id: str = Field(sa_column=_owned_by("candidate.id"))
    team: str
    channel: str
    messages: list[dict[str, str]] = Field(sa_column=_json())
    posted_ts: str | None = None
    posted_at: datetime | None = None
    created_at: datetime = Field(default_factory=now)


class Rating(Record, table=True):
    """What one person thinks of one answer: +1 or -1, the last one wins."""

    __tablename__ = "rating"
    __table_args__ = (UniqueConstraint("answer_id", "rater"),)
    id: str = Field(default_factory=lambda: new_id("r"), primary_key=True)
    answer_id: str = Field(sa_column=_owned_by("answer.id"))
    team: str
    rater: str = Field(index=True)
    value: int
    reason: str = ""
    rated_at: datetime = Field(default_factory=now)


class Correction(Record, table=True):
    """The better answer somebody wrote. `may_train` is their word that it may become an example."""

    __tablename__ = "correction"
    __table_args__ = (UniqueConstraint("answer_id", "author"),)
    id: str = Field(default_factory=lambda: new_id("k"), primary_key=True)
    answer_id: str = Field(sa_column=_owned_by("answer.id"))
    team: str
    author: str = Field(index=True)
    text: str = Field(sa_column=_text())
    reason: str = ""
    may_train: bool = False
    corrected_at: datetime = Field(default_factory=now)


class Duel(Record, table=True):
    """Two candidates shown blind in the stored order, and the pick: "a", "b", "tie", "both bad", or none yet."""

    __tablename__ = "duel"
    id: str = Field(default_factory=lambda: new_id("d"), primary_key=True)
    question_id: str = Field(sa_column=_owned_by("question.id"))
    candidate_a: str = Field(sa_column=_owned_by("candidate.id"))
    candidate_b: str = Field(sa_column=_owned_by("candidate.id"))
    picker: str = ""
    pick: str = ""
    picked_at: datetime | None = None
    created_at: datetime = Field(default_factory=now)


class Entry(Record, table=True):
    """A verified question and answer: imported, or a correction of somebody who agreed. Memory is made of these.

    `thread` joins phrasings of one question. `split` is "train", "test" (held out: never served, never trained on) or "".
    """

    __tablename__ = "entry"
    __table_args__ = (UniqueConstraint("team", "question_hash"),)
    id: str = Field(default_factory=lambda: new_id("e"), primary_key=True)
    team: str
    question: str = Field(sa_column=_text())
    question_hash: str
    answer: str = Field(sa_column=_text())
    source: str
    topic: str = ""
    thread: str = Field(default="", index=True)
    split: str = ""
    author: str = Field(default="", index=True)
    answer_id: str | None = Field(
        default=None, sa_column=_owned_by("answer.id", nullable=True, on_delete="SET NULL")
    )
    created_at: datetime = Field(default_factory=now, index=True)


class Consent(Record, table=True):
    """Whether a person's words may become training data. No row means no."""

    __tablename__ = "consent"
    __table_args__ = (UniqueConstraint("team", "person"),)
    id: str = Field(default_factory=lambda: new_id("y"), primary_key=True)
    team: str
    person: str
    granted: bool
    asked_at: datetime = Field(default_factory=now)
    decided_at: datetime | None = None


class DatasetVersion(Record, table=True):
    """A frozen dataset; its id is the hash of its content."""

    __tablename__ = "dataset_version"
    id: str = Field(primary_key=True)
    path: str
    train: int
    validation: int
    test: int
    manifest: dict[str, Any] = Field(sa_column=_json())
    frozen_at: datetime = Field(default_factory=now)


class TrainingRun(Record, table=True):
    """One attempt to make a better model. `occasion` is unique: a double firing is the same run."""

    __tablename__ = "training_run"
    __table_args__ = (UniqueConstraint("occasion"), UniqueConstraint("number"))
    id: str = Field(default_factory=lambda: new_id("run"), primary_key=True)
    number: int
    team: str
    occasion: str
    state: RunState = Field(default=RunState.REQUESTED, sa_column=_state(RunState, "run_state"))
    requested_by: str
    requested_at: datetime = Field(default_factory=now)
    finetuner: str = "local"
    options: dict[str, Any] = Field(sa_column=_json())
    dataset_id: str | None = Field(
        default=None, sa_column=_owned_by("dataset_version.id", nullable=True, on_delete="SET NULL")
    )
    directory: str = ""
    handle: str = ""
    launches: int = 0
    progress: dict[str, Any] = Field(sa_column=_json())
    version_id: str | None = None
    evaluation_id: str | None = None
    outcome: str = ""
    reason: str = Field(default="", sa_column=_text())
    cancel_requested_by: str = ""
    report_channel: str = ""
    report_ts: str = ""
    report_drawn: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    finished_at: datetime | None = None
    reported_at: datetime | None = None


class ModelVersion(Record, table=True):
    """A model that can answer: the untuned base, or an adapter on it. Files are named by their sha256."""

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("team", "name"), UniqueConstraint("run_id"))
    id: str = Field(default_factory=lambda: new_id("m"), primary_key=True)
    team: str
    name: str
    base_model: str
    path: str
    sha256: str
    run_id: str | None = Field(
        default=None, sa_column=_owned_by("training_run.id", nullable=True, on_delete="SET NULL")
    )
    dataset_id: str | None = None
    card: dict[str, Any] = Field(sa_column=_json())
    tainted: str = ""
    registered_at: datetime = Field(default_factory=now)


class Evaluation(Record, table=True):
    """Several models' answers to the same held-out examples, scored; `sheet` holds every row of it."""

    __tablename__ = "evaluation"
    id: str = Field(default_factory=lambda: new_id("ev"), primary_key=True)
    number: int
    team: str
    run_id: str | None = Field(
        default=None, sa_column=_owned_by("training_run.id", nullable=True, on_delete="SET NULL")
    )
    state: EvaluationState = Field(
        default=EvaluationState.REQUESTED, sa_column=_state(EvaluationState, "evaluation_state")
    )
    requested_by: str = ""
    challenger_id: str | None = None
    current_id: str | None = None
    dataset_id: str | None = None
    sheet: dict[str, Any] = Field(sa_column=_json())
    verdict: dict[str, Any] = Field(sa_column=_json())
    reason: str = Field(default="", sa_column=_text())
    report_channel: str = ""
    report_ts: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    requested_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None


class Promotion(Record, table=True):
    """Which version serves from when, append-only: the newest row is the truth. No version means the untuned base."""

    __tablename__ = "promotion"
    __table_args__ = (UniqueConstraint("decision"), UniqueConstraint("sequence"))
    id: str = Field(default_factory=lambda: new_id("p"), primary_key=True)
    sequence: int
    team: str
    decision: str
    version_id: str | None = Field(default=None, index=True)
    previous_id: str | None = None
    by: str
    reason: str = Field(default="", sa_column=_text())
    promoted_at: datetime = Field(default_factory=now)


class Spend(Record, table=True):
    """One billed call."""

    __tablename__ = "spend"
    id: str = Field(default_factory=lambda: new_id("s"), primary_key=True)
    team: str
    question_id: str | None = None
    purpose: str = "answer"
    kind: str
    model: str
    tokens_in: int
    tokens_cached: int = 0
    tokens_out: int
    cost_usd: float
    spent_at: datetime = Field(default_factory=now, index=True)


class Schedule(Record, table=True):
    """When something is to happen by itself. `last_fired_local` is the wall-clock time of the last firing."""

    __tablename__ = "schedule"
    __table_args__ = (UniqueConstraint("team", "action"),)
    id: str = Field(default_factory=lambda: new_id("sched"), primary_key=True)
    team: str
    action: str
    cron: str
    timezone: str
    enabled: bool = True
    last_fired_local: str = ""
    changed_by: str = ""
    changed_at: datetime = Field(default_factory=now)


class Decision(Record, table=True):
    """Who decided what, in order: promotions, refusals, deletions, schedule changes (append-only)."""

    __tablename__ = "decision"
    id: str = Field(default_factory=lambda: new_id("act"), primary_key=True)
    team: str
    actor: str
    action: str
    subject: str = ""
    detail: str = Field(default="", sa_column=_text())
    decided_at: datetime = Field(default_factory=now, index=True)


class Keepsake(Record, table=True):
    """A small fact that belongs to this installation, such as the salt of the split."""

    __tablename__ = "keepsake"
    name: str = Field(primary_key=True)
    value: str = Field(sa_column=_text())
