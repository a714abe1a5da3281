"""The tables: one class for each noun of the product that is remembered.

Rows are built through `Store` only. Every datetime is aware UTC. Texts of people and models lie here without
secrets and personal data, which are struck out on the way in (`storage.words`).
States are stored by value with a CHECK constraint, so that the database guards them too.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from storage.record import (
    Record,
    json_column,
    machine_json_column,
    machine_text_column,
    new_id,
    now,
    owned_by,
    state_column,
    text_column,
)
from storage.records_kept import (
    Expert,
    Forgetting,
    ForgettingState,
    GoldenItem,
    GoldenState,
    MemberName,
    Placeholder,
    ProviderFile,
    Quarantine,
    Review,
    SplitPlace,
    Tombstone,
)
from storage.records_learned import (
    Canary,
    CanaryState,
    DatasetVersion,
    Distillation,
    DistillationState,
    DistilledAnswer,
    Evaluation,
    EvaluationState,
    ModelVersion,
    Promotion,
    RouterVersion,
    RunState,
    TrainingRun,
)
from storage.records_said import (
    ChannelSettings,
    Consent,
    Correction,
    Duel,
    DuelPick,
    Entry,
    EntryEmbedding,
    Nomination,
    Rating,
    RatingEvent,
    Solicitation,
)
from storage.words import ShortWords

__all__ = [
    "Answer",
    "AnswerPart",
    "BudgetNotice",
    "Canary",
    "CanaryState",
    "Candidate",
    "ChannelSettings",
    "Consent",
    "Correction",
    "DatasetVersion",
    "Decision",
    "Distillation",
    "DistillationState",
    "DistilledAnswer",
    "Duel",
    "DuelPick",
    "Entry",
    "EntryEmbedding",
    "Evaluation",
    "EvaluationState",
    "Expert",
    "Forgetting",
    "ForgettingState",
    "GoldenItem",
    "GoldenState",
    "Keepsake",
    "MemberName",
    "ModelVersion",
    "Nomination",
    "Placeholder",
    "Promotion",
    "ProviderFile",
    "Quarantine",
    "Question",
    "QuestionState",
    "Rating",
    "RatingEvent",
    "Record",
    "Review",
    "RouterVersion",
    "RunState",
    "Schedule",
    "Solicitation",
    "Spend",
    "SpendState",
    "SpendTotal",
    "SplitPlace",
    "Tombstone",
    "TrainingRun",
    "new_id",
    "now",
]


class QuestionState(StrEnum):
    """Where a question stands; `asked` and `answering` are work still owed."""

    ASKED = "asked"
    ANSWERING = "answering"
    ANSWERED = "answered"
    DROPPED = "dropped"


class Question(Record, table=True):
    """What somebody asked the bot; (team, channel, ts) names it, so a redelivery is the same question.

    `surface` is "mention", "dm", "follow-up", "command" or "duel". What is asked by a command has no message yet: its `ts`
    starts with "command:", and `thread_ts` is empty until the message that shows the question stands. `draft_ts` is the
    message in which the answer is being written. `place` is Slack's kind of conversation: "channel", "group" (a private
    channel), "im", "mpim", or "" while it is not known.
    """

    __tablename__ = "question"
    __table_args__ = (
        UniqueConstraint("team", "channel", "ts"),
        Index("ix_question_team_asked_at", "team", "asked_at"),
    )
    id: str = Field(default_factory=lambda: new_id("q"), primary_key=True)
    team: str = Field(index=True)
    channel: str
    ts: str
    thread_ts: str = Field(index=True)
    asker: str = Field(index=True)
    text: str = Field(sa_column=text_column())
    surface: str = "mention"
    place: str = ""
    draft_ts: str = ""
    state: QuestionState = Field(
        default=QuestionState.ASKED, sa_column=state_column(QuestionState, "question_state")
    )
    reason: str = Field(default="", sa_type=ShortWords)
    attempts: int = 0
    claimed_by: str = ""
    lease_until: datetime | None = None
    asked_at: datetime = Field(default_factory=now)


class Candidate(Record, table=True):
    """A proposed reply. `chosen` marks the one that was posted as the Answer.

    `features` is what the router saw of it (numbers by name, no words), `p_good` what it made of them (0..1).
    """

    __tablename__ = "candidate"
    id: str = Field(default_factory=lambda: new_id("c"), primary_key=True)
    question_id: str = Field(sa_column=owned_by("question.id"))
    kind: str
    model: str
    version_id: str | None = None
    text: str = Field(sa_column=text_column())
    source: str = Field(default="", sa_column=text_column())
    finish: str = "stop"
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    logprob_mean: float | None = None
    certainty: float = 0.0
    features: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    p_good: float | None = None
    chosen: bool = False
    created_at: datetime = Field(default_factory=now)


class Answer(Record, table=True):
    """The posted candidate, with exactly the messages the model saw. Without `posted_ts` it was not yet posted.

    `posted_ts` is the message with the rating buttons. `solicit_probability` is the chance that somebody was to be asked for
    a rating, whether the draw said yes or no; None where nobody drew. `route` is why this model answered
    (`bot.routing.Route`): the rule, the router, what it expected, and the propensity of the path where a draw decided.
    """

    __tablename__ = "answer"
    __table_args__ = (
        UniqueConstraint("question_id"),
        Index("ix_answer_place", "team", "channel", "posted_ts"),
    )
    id: str = Field(default_factory=lambda: new_id("a"), primary_key=True)
    question_id: str = Field(sa_column=owned_by("question.id"))
    candidate_id: str = Field(sa_column=owned_by("candidate.id"))
    team: str
    channel: str
    messages: list[dict[str, Any]] = Field(sa_column=json_column())
    posted_ts: str | None = None
    posted_at: datetime | None = None
    solicit_probability: float | None = None
    route: dict[str, Any] = Field(default_factory=dict, sa_column=json_column())
    created_at: datetime = Field(default_factory=now)


class AnswerPart(Record, table=True):
    """A message of Slack that holds an answer, or a part of a long one; `number` counts from 0."""

    __tablename__ = "answer_part"
    __table_args__ = (UniqueConstraint("team", "channel", "ts"),)
    id: str = Field(default_factory=lambda: new_id("part"), primary_key=True)
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    team: str
    channel: str
    ts: str
    number: int = 0


class SpendState(StrEnum):
    """How much is known of a billed call. A reserved one counts with the most that it can cost."""

    RESERVED = "reserved"
    SETTLED = "settled"
    ESTIMATED = "estimated"


class Spend(Record, table=True):
    """One billed call: reserved before it is made, settled with what the provider said it took.

    A call that nobody settled (the bot was killed in it) becomes "estimated" and keeps counting what was reserved: the
    provider may have done the work. `price_version` is the date of the table of prices, "" where the price is unknown.
    """

    __tablename__ = "spend"
    __table_args__ = (
        Index("ix_spend_time", "team", "spent_at"),
        Index("ix_spend_open", "team", "state", "spent_at"),
    )
    id: str = Field(default_factory=lambda: new_id("s"), primary_key=True)
    team: str
    question_id: str | None = None
    purpose: str = "answer"
    kind: str
    model: str
    channel: str = ""
    state: SpendState = Field(default=SpendState.SETTLED, sa_column=state_column(SpendState, "spend_state"))
    tokens_in: int
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_out: int
    tokens_reasoning: int = 0
    cost_usd: float
    price_version: str = ""
    spent_at: datetime = Field(default_factory=now)


class SpendTotal(Record, table=True):
    """What the Spend rows of a quarter of an hour add up to, in one channel or ("") in all of them.

    Kept with every row that is written, so that a budget is summed up quickly however many calls there were. Whole
    billionths of a dollar: adding them up and taking them away again leaves nothing. Every time zone's midnight is at the
    beginning of a quarter.
    """

    __tablename__ = "spend_total"
    team: str = Field(primary_key=True)
    channel: str = Field(primary_key=True)
    quarter: int = Field(primary_key=True, sa_type=BigInteger)
    nano_usd: int = Field(sa_type=BigInteger)


class BudgetNotice(Record, table=True):
    """Somebody was told that a budget is nearly or wholly spent, once for each period and level.

    `scope` is "day", "month" or "channel:<id>", `period` such as "2026-11-23" or "2026-11", `level` the percentage,
    `told_ts` the message that said it ("" while somebody is about to).
    """

    __tablename__ = "budget_notice"
    __table_args__ = (UniqueConstraint("team", "scope", "period", "level"),)
    id: str = Field(default_factory=lambda: new_id("bn"), primary_key=True)
    team: str
    scope: str
    period: str
    level: int
    told_ts: str = ""
    noticed_at: datetime = Field(default_factory=now)


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
    detail: str = Field(default="", sa_column=text_column())
    decided_at: datetime = Field(default_factory=now, index=True)


class Keepsake(Record, table=True):
    """A small fact that belongs to this installation, such as the salt of the split."""

    __tablename__ = "keepsake"
    name: str = Field(primary_key=True)
    value: str = Field(sa_column=machine_text_column())
