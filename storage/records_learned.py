"""The tables of learning: datasets, runs, models, evaluations, promotions, canaries, routers."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from storage.record import (
    Record,
    json_column,
    machine_json_column,
    new_id,
    now,
    owned_by,
    sentence_column,
    state_column,
    text_column,
)
from storage.words import ShortWords


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


class DatasetVersion(Record, table=True):
    """A frozen dataset; its id is the hash of its content.

    `kind` is "training" or "golden", `parent_id` the version before it, `difference` what changed since then
    (counts by word), `erased` how many of its rows were taken out again because somebody is to be forgotten.
    """

    __tablename__ = "dataset_version"
    id: str = Field(primary_key=True)
    team: str = Field(default="", index=True)
    kind: str = "training"
    path: str
    train: int
    validation: int
    test: int
    parent_id: str | None = None
    difference: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    erased: int = 0
    manifest: dict[str, Any] = Field(sa_column=machine_json_column())
    frozen_at: datetime = Field(default_factory=now)


class TrainingRun(Record, table=True):
    """One attempt to make a better model. `occasion` is unique: a double firing is the same run.

    `awaiting` says what an admin must agree to before the run goes on (what a provider will charge); "" where nothing.
    """

    __tablename__ = "training_run"
    __table_args__ = (UniqueConstraint("occasion"), UniqueConstraint("number"))
    id: str = Field(default_factory=lambda: new_id("run"), primary_key=True)
    number: int
    team: str
    occasion: str
    state: RunState = Field(default=RunState.REQUESTED, sa_column=state_column(RunState, "run_state"))
    requested_by: str
    requested_at: datetime = Field(default_factory=now)
    finetuner: str = "local"
    options: dict[str, Any] = Field(sa_column=machine_json_column())
    dataset_id: str | None = Field(
        default=None, sa_column=owned_by("dataset_version.id", nullable=True, on_delete="SET NULL")
    )
    directory: str = ""
    handle: str = ""
    launches: int = 0
    progress: dict[str, Any] = Field(sa_column=json_column())
    version_id: str | None = None
    evaluation_id: str | None = None
    outcome: str = ""
    reason: str = Field(default="", sa_column=sentence_column())
    awaiting: str = Field(default="", sa_type=ShortWords)
    confirmed_by: str = ""
    cancel_requested_by: str = ""
    report_channel: str = ""
    report_ts: str = ""
    report_drawn: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    finished_at: datetime | None = None
    reported_at: datetime | None = None


class ModelVersion(Record, table=True):
    """A model that can answer: an adapter on the local base, or a provider's fine-tune.

    `kind` is "local", "openai" or "gemini". A local version is its files (`path`, named by their sha256); a provider's is
    `model`, the name under which its API answers (OpenAI's "ft:...", Vertex's endpoint), and has no path.
    """

    __tablename__ = "model_version"
    __table_args__ = (UniqueConstraint("team", "name"), UniqueConstraint("run_id"))
    id: str = Field(default_factory=lambda: new_id("m"), primary_key=True)
    team: str
    kind: str = "local"
    model: str = ""
    name: str
    base_model: str
    path: str
    sha256: str
    run_id: str | None = Field(
        default=None, sa_column=owned_by("training_run.id", nullable=True, on_delete="SET NULL")
    )
    dataset_id: str | None = None
    card: dict[str, Any] = Field(sa_column=machine_json_column())
    tainted: str = ""
    registered_at: datetime = Field(default_factory=now)


class Evaluation(Record, table=True):
    """Several models' answers to the same held-out examples, scored; `sheet` holds every row of it.

    `options` is what was asked for beyond that: "with", names of API models as "openai:gpt-x".
    """

    __tablename__ = "evaluation"
    id: str = Field(default_factory=lambda: new_id("ev"), primary_key=True)
    number: int
    team: str
    run_id: str | None = Field(
        default=None, sa_column=owned_by("training_run.id", nullable=True, on_delete="SET NULL")
    )
    state: EvaluationState = Field(
        default=EvaluationState.REQUESTED, sa_column=state_column(EvaluationState, "evaluation_state")
    )
    requested_by: str = ""
    challenger_id: str | None = None
    current_id: str | None = None
    dataset_id: str | None = None
    specification: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    options: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    sheet: dict[str, Any] = Field(sa_column=json_column())
    verdict: dict[str, Any] = Field(sa_column=json_column())
    reason: str = Field(default="", sa_column=text_column())
    report_channel: str = ""
    report_ts: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    requested_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None


class Promotion(Record, table=True):
    """Which version serves from when, append-only: the newest row is the truth. No version means the untuned base.

    `share` is 1.0 for a promotion; what serves a smaller share of the threads meanwhile is a Canary.
    """

    __tablename__ = "promotion"
    __table_args__ = (UniqueConstraint("decision"), UniqueConstraint("sequence"))
    id: str = Field(default_factory=lambda: new_id("p"), primary_key=True)
    sequence: int
    team: str
    decision: str
    version_id: str | None = Field(default=None, index=True)
    previous_id: str | None = None
    share: float = 1.0
    by: str
    reason: str = Field(default="", sa_column=text_column())
    promoted_at: datetime = Field(default_factory=now)


class CanaryState(StrEnum):
    """Where a canary stands: still compared, or how it ended."""

    WATCHING = "watching"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped"


class Canary(Record, table=True):
    """A version that answers a share of the threads while the ratings of both sides are compared.

    `specification` is what was agreed before the first answer (limits, error rates), `tally` what was last counted,
    `failures` how often the version could not answer. `decision` is unique: two presses begin one. `passed_at` is since when
    it has been seen enough and waits for an admin. `told` is what the admin channel was told of its end ("" until then).
    """

    __tablename__ = "canary"
    __table_args__ = (UniqueConstraint("decision"),)
    id: str = Field(default_factory=lambda: new_id("can"), primary_key=True)
    team: str = Field(index=True)
    version_id: str | None = None
    against_id: str | None = None
    share: float
    state: CanaryState = Field(
        default=CanaryState.WATCHING, sa_column=state_column(CanaryState, "canary_state")
    )
    specification: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    tally: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    decision: str
    failures: int = 0
    started_by: str
    ended_by: str = ""
    reason: str = Field(default="", sa_column=sentence_column())
    report_channel: str = ""
    report_ts: str = ""
    report_drawn: str = ""
    told: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    started_at: datetime = Field(default_factory=now)
    passed_at: datetime | None = None
    ended_at: datetime | None = None


class DistillationState(StrEnum):
    """Where a distillation stands: quoted, under way, or how it ended."""

    QUOTED = "quoted"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Distillation(Record, table=True):
    """An API model is to answer the team's questions, so that a local one can learn what it says.

    `teacher` is the model as people write it ("openai:gpt-6-luna"). At most `most` questions are put to it, until
    `within_usd` are spent. `quote` is what was told before anybody agreed: how many questions, what was left out and why,
    the price. `answered`, `failed` and `cost_usd` count its own answers. `told` is the message that said how it ended.
    """

    __tablename__ = "distillation"
    id: str = Field(default_factory=lambda: new_id("dis"), primary_key=True)
    team: str = Field(index=True)
    teacher: str
    state: DistillationState = Field(
        default=DistillationState.QUOTED, sa_column=state_column(DistillationState, "distillation_state")
    )
    most: int
    within_usd: float
    quote: dict[str, Any] = Field(default_factory=dict, sa_column=machine_json_column())
    answered: int = 0
    failed: int = 0
    cost_usd: float = 0.0
    requested_by: str
    confirmed_by: str = ""
    stopped_by: str = ""
    reason: str = Field(default="", sa_column=sentence_column())
    told: str = ""
    claimed_by: str = ""
    lease_until: datetime | None = None
    requested_at: datetime = Field(default_factory=now)
    finished_at: datetime | None = None


class DistilledAnswer(Record, table=True):
    """What a teacher says to a question of the store, once for each of them (`key`, the first 32 digits of its hash).

    It goes with `answer_id`, the Answer whose question and conversation it belongs to. `people` are all whose words the
    teacher was shown. `trouble` is why it would not answer, then `text` is empty.
    """

    __tablename__ = "distilled_answer"
    __table_args__ = (UniqueConstraint("team", "teacher", "key"),)
    id: str = Field(default_factory=lambda: new_id("di"), primary_key=True)
    team: str
    teacher: str
    key: str
    answer_id: str = Field(sa_column=owned_by("answer.id"))
    distillation_id: str | None = Field(
        default=None, sa_column=owned_by("distillation.id", nullable=True, on_delete="SET NULL")
    )
    text: str = Field(default="", sa_column=text_column())
    trouble: str = Field(default="", sa_column=text_column())
    people: list[str] = Field(default_factory=list, sa_column=machine_json_column())
    cost_usd: float = 0.0
    said_at: datetime = Field(default_factory=now)


class RouterVersion(Record, table=True):
    """A router fitted on the team's ratings. The newest that is `serving` decides; none means the conservative threshold.

    `parameters` is all of it, as JSON numbers (nothing is pickled); `scores` is what cross-validation said of it and of the
    one before. One that was not really better is kept with `serving` false and its `reason`.
    """

    __tablename__ = "router_version"
    __table_args__ = (UniqueConstraint("team", "sequence"),)
    id: str = Field(default_factory=lambda: new_id("rt"), primary_key=True)
    team: str
    sequence: int
    serving: bool = False
    labels: int = 0
    parameters: dict[str, Any] = Field(sa_column=machine_json_column())
    scores: dict[str, Any] = Field(sa_column=machine_json_column())
    reason: str = Field(default="", sa_column=text_column())
    fitted_at: datetime = Field(default_factory=now)
