"""The same held-out examples to several models, and what their answers are worth, side by side.

An evaluation decides nothing (that is `training.promotion`) and touches no database. What it was told is appended to a
JSONL file answer by answer, so that a process killed half-way loses the answers under way and nothing else.
"""

import asyncio
import json
import math
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from statistics import fmean
from typing import Any

from storage.errors import PublicError
from storage.values import Message, Proposal
from training.metrics import METRICS, Scores, score
from training.promotion import Difference, paired_bootstrap

SCHEMA = 1
GOLDEN = "golden"
GIVE_UP_AFTER = 12
"""So many failures without one answer, and an arm is not asked any further: a wrong key does not heal."""

OnProgress = Callable[[str, int, int], None]
"""Called after each answer with the arm's name, its answers so far and how many it will give."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the models compared ("base", "current", "challenger", "memory", ...) and how it is asked.

    What an arm is asked `leaves` this machine where it is an API model: questions of private places are not put to it.
    """

    name: str
    answer: Callable[[Sequence[Message]], Awaitable[Proposal]]
    leaves: bool = False


@dataclass(frozen=True, slots=True)
class HeldOut:
    """An example that no model was trained on; paraphrases of one question share `cluster`.

    `private` says that its words stay on this machine, `label` is the topic that people gave it, or "". `rater` stands for
    who wrote or chose the reference ("r3": the same for the same person in this evaluation), or "".
    """

    id: str
    messages: tuple[Message, ...]
    reference: str
    cluster: str
    private: bool = False
    label: str = ""
    rater: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What one arm said to one example. `error` says in words why there is no answer, and is empty where there is one."""

    arm: str
    example: str
    text: str = ""
    model: str = ""
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One answer with its scores against the reference."""

    answered: Answered
    cluster: str
    scores: Scores
    rater: str = ""


@dataclass(frozen=True, slots=True)
class ArmScores:
    """One arm in figures. Scores are means over all `n` examples, an error counting as an empty answer; seconds are of the
    answers that came; tokens and US dollars are totals; `failed` says why, where the arm gave no answer at all."""

    name: str
    model: str
    n: int
    scores: Scores
    latency_p50_s: float
    latency_p95_s: float
    tokens_in: int
    tokens_out: int
    cost_usd: float
    errors: int
    empty: int
    failed: str = ""

    @property
    def error_rate(self) -> float:
        return self.errors / self.n

    @property
    def empty_rate(self) -> float:
        return self.empty / self.n


@dataclass(frozen=True, slots=True)
class Sheet:
    """Every answer of every arm, arm by arm, each in the order of the held-out examples."""

    rows: tuple[Row, ...]

    @property
    def arms(self) -> tuple[ArmScores, ...]:
        """The arms in figures, in the order in which they were asked."""
        return tuple(self.arm(name) for name in dict.fromkeys(row.answered.arm for row in self.rows))

    def arm(self, name: str) -> ArmScores:
        """One arm in figures. Raises KeyError for an arm that was not asked."""
        return _arm_scores(self.rows_of(name))

    def rows_of(self, name: str) -> tuple[Row, ...]:
        """One arm's rows. Raises KeyError for an arm that was not asked."""
        rows = tuple(row for row in self.rows if row.answered.arm == name)
        if not rows:
            raise KeyError(f"no arm {name!r} in this evaluation")
        return rows

    def difference(self, a: str, b: str, metric: str, *, level: float = 0.95, seed: int = 0) -> Difference:
        """`a` minus `b` in one metric, paired by example, with an interval from resampling clusters."""
        if metric not in METRICS:
            raise KeyError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
        others = {row.answered.example: row for row in self.rows_of(b)}
        pairs = [(row, others[row.answered.example]) for row in self.rows_of(a)]
        differences = [
            getattr(ours.scores, metric) - getattr(theirs.scores, metric) for ours, theirs in pairs
        ]
        return paired_bootstrap(differences, [ours.cluster for ours, _ in pairs], level=level, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values with a schema number; `from_json` gives an equal sheet back."""
        return {"schema": SCHEMA, "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Sheet":
        """Raises PublicError for a sheet that another version wrote in another form."""
        if data.get("schema") != SCHEMA:
            raise PublicError(
                f"This evaluation has schema {data.get('schema')!r}, and this version reads {SCHEMA}. Run `/eval` again."
            )
        return cls(tuple(_row_from_json(row) for row in data["rows"] if "group" not in row))


def with_golden(sheet: Mapping[str, Any], golden: Sheet) -> dict[str, Any]:
    """A sheet as JSON, and beside its rows those of the golden questions, as a group of their own.

    Whoever reads the sheet does not see them: nothing that is decided depends on them.
    """
    rows = [{**asdict(row), "group": GOLDEN} for row in golden.rows]
    return {**sheet, "rows": [*sheet["rows"], *rows]}


def golden_of(data: Mapping[str, Any]) -> Sheet | None:
    """The golden questions' rows of a sheet as JSON; None where there were none."""
    rows = tuple(_row_from_json(row) for row in data.get("rows", ()) if row.get("group") == GOLDEN)
    return Sheet(rows) if rows else None


async def evaluate(
    arms: Sequence[Arm],
    held_out: Sequence[HeldOut],
    *,
    concurrency: int = 4,
    limit_s: float = 120.0,
    on_progress: OnProgress | None = None,
    already: Mapping[tuple[str, str], Answered] | None = None,
    record_to: Path | None = None,
) -> Sheet:
    """Ask every arm every example, one arm after the other so that none slows down another, and score the answers.

    An arm whose questions leave this machine is not asked the private ones, and has no rows of them.

    `already` maps (arm, example id) to answers from an earlier, interrupted run (see `read_answered`); these are not
    asked again, except where they are errors. An arm that raises, or takes longer than `limit_s`, gets an empty answer
    with its error; after GIVE_UP_AFTER of these without one answer the rest is not asked. Cancellation passes through.
    Raises PublicError where there is nothing to ask or the file cannot be written.
    """
    _check(arms, held_out)
    earlier = {key: answered for key, answered in (already or {}).items() if not answered.error}
    rows: list[Row] = []
    with _Journal(record_to) as journal:
        for arm in arms:
            its = [example for example in held_out if not (arm.leaves and example.private)]
            asking = _Asking(arm, its, earlier, limit_s, journal, on_progress)
            answers = await asking.all(concurrency)
            rows += await asyncio.to_thread(_scored, answers, its)
    return Sheet(tuple(rows))


def read_answered(path: Path) -> dict[tuple[str, str], Answered]:
    """The answers that an interrupted evaluation wrote to `path`, by (arm, example id), the newest of each.

    Nothing where there is no file. A line that was cut off by a crash is left out, and its example asked again.
    """
    if not path.exists():
        return {}
    answers: dict[tuple[str, str], Answered] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            answered = Answered(**json.loads(line))
        except (ValueError, TypeError):
            continue
        answers[answered.arm, answered.example] = answered
    return answers


class _Asking:
    """One arm being asked all examples."""

    def __init__(
        self,
        arm: Arm,
        held_out: Sequence[HeldOut],
        earlier: Mapping[tuple[str, str], Answered],
        limit_s: float,
        journal: "_Journal",
        on_progress: OnProgress | None,
    ) -> None:
        self._arm = arm
        self._answers = {h.id: earlier[arm.name, h.id] for h in held_out if (arm.name, h.id) in earlier}
        self._waiting = iter([h for h in held_out if h.id not in self._answers])
        self._order = [h.id for h in held_out]
        self._limit_s = limit_s
        self._journal = journal
        self._on_progress = on_progress
        self._failures = 0
        self._worked = bool(self._answers)

    async def all(self, concurrency: int) -> list[Answered]:
        if self._answers:
            self._tell()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, concurrency)):
                    group.create_task(self._ask_in_turn())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [self._answers[example] for example in self._order]

    async def _ask_in_turn(self) -> None:
        for example in self._waiting:
            answered = self._given_up(example) or await self._ask(example)
            self._worked = self._worked or not answered.error
            self._failures += bool(answered.error)
            self._answers[example.id] = answered
            self._journal.write(answered)
            self._tell()

    async def _ask(self, example: HeldOut) -> Answered:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._limit_s) as limit:
                proposal = await self._arm.answer(example.messages)
        except Exception as error:
            seconds = time.perf_counter() - started
            reason = f"no answer within {self._limit_s:g} s" if limit.expired() else _in_words(error)
            return Answered(self._arm.name, example.id, seconds=seconds, error=reason)
        return Answered(
            self._arm.name,
            example.id,
            text=proposal.text,
            model=proposal.model,
            seconds=proposal.seconds or time.perf_counter() - started,
            tokens_in=proposal.tokens_in,
            tokens_out=proposal.tokens_out,
            cost_usd=proposal.cost_usd,
        )

    def _given_up(self, example: HeldOut) -> Answered | None:
        if self._worked or self._failures < GIVE_UP_AFTER:
            return None
        reason = next(answered.error for answered in self._answers.values() if answered.error)
        return Answered(self._arm.name, example.id, error=reason)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._arm.name, len(self._answers), len(self._order))


class _Journal:
    """Appends answers to a JSONL file, or to nothing. Flushed line by line: what was written survives a kill."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> "_Journal":
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8", newline="\n")
                self._file.write("\n" if _ends_torn(self._path) else "")
            except OSError as error:
                raise self._unwritable(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written was told when it was written
                self._file.close()

    def write(self, answered: Answered) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(asdict(answered)) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> PublicError:
        return PublicError(
            f"The evaluation's answers cannot be written to {self._path}: {error.strerror or error}. "
            "Make room or give access, then start the evaluation again; answers so far are kept."
        )


def _ends_torn(path: Path) -> bool:
    """Whether a crash cut off the last line."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _check(arms: Sequence[Arm], held_out: Sequence[HeldOut]) -> None:
    if not held_out:
        raise PublicError(
            "There are no held-out examples to compare models on. Rate or correct more answers first."
        )
    if not arms:
        raise ValueError("an evaluation needs at least one arm")
    _refuse_twins("arm", (arm.name for arm in arms))
    _refuse_twins("held-out example", (example.id for example in held_out))


def _refuse_twins(noun: str, names: Iterable[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} times the {noun} {name!r}; each must have a name of its own")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _scored(answers: Sequence[Answered], held_out: Sequence[HeldOut]) -> list[Row]:
    return [
        Row(answered, example.cluster, score(answered.text, example.reference), example.rater)
        for answered, example in zip(answers, held_out, strict=True)
    ]


def _arm_scores(rows: Sequence[Row]) -> ArmScores:
    answers = [row.answered for row in rows]
    errors = Counter(answered.error for answered in answers if answered.error)
    seconds = sorted(answered.seconds for answered in answers if not answered.error)
    return ArmScores(
        name=answers[0].arm,
        model=next((answered.model for answered in answers if answered.model), ""),
        n=len(rows),
        scores=Scores(*(fmean(getattr(row.scores, metric) for row in rows) for metric in METRICS)),
        latency_p50_s=_percentile(seconds, 0.50),
        latency_p95_s=_percentile(seconds, 0.95),
        tokens_in=sum(answered.tokens_in for answered in answers),
        tokens_out=sum(answered.tokens_out for answered in answers),
        cost_usd=math.fsum(answered.cost_usd for answered in answers),
        errors=errors.total(),
        empty=sum(not answered.error and not answered.text.strip() for answered in answers),
        failed=_failure(errors, len(rows)),
    )


def _failure(errors: Counter[str], asked: int) -> str:
    if errors.total() < asked:
        return ""
    return f"failed on every question ({errors.most_common(1)[0][0]})"


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank, of values in order; 0.0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _row_from_json(data: Mapping[str, Any]) -> Row:
    return Row(Answered(**data["answered"]), data["cluster"], Scores(**data["scores"]), data.get("rater", ""))
