"""Two models' answers before a judge: which pairs, in both orders, within a limit, written down as they come.

Every verdict is appended to a file under a hash of what was asked, without anybody's words: an evaluation that was cut off
does not pay twice. A judge that fails makes the result say so and ends nothing.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from storage.values import Message
from training.dataset_files import PREFERENCE_ROWS, PREFERENCES, lines_of
from training.evaluation import HeldOut, Row, Sheet
from training.judging import (
    PROMPT_SHA256,
    Pair,
    Said,
    Share,
    Side,
    agreement,
    first_by_hash,
    mean_refusals,
    messages,
    pair_of,
    position_bias,
    read,
    win_rate,
)
from training.metrics import normalise

AUDIT_SHARE = 0.25
"""This much of the limit goes to pairs that the team has judged itself."""
FEWEST_AUDITED = 10
GIVE_UP_AFTER = 3
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge replied, and what that cost in US dollars."""

    text: str
    cost_usd: float = 0.0


class Judge(Protocol):
    """A model that compares answers; not one of those compared."""

    @property
    def label(self) -> str:
        """Which model, as the sheet names it: "openai:gpt-6-luna"."""

    async def ask(self, shown: Sequence[Message]) -> Reply:
        """Its reply. Raises what it likes: then there is none."""


@dataclass(frozen=True, slots=True)
class ToJudge:
    """A question with two answers. `team` is which of them the team picked, where it did, and `origin` how."""

    example: str
    question: str
    ours: str
    theirs: str
    verified: str = ""
    cluster: str = ""
    team: Side = Side.UNREAD
    origin: str = ""


class _GaveUp(Exception):
    """The judge fails and fails."""


async def judged(
    judge: Judge,
    pairs: Sequence[ToJudge],
    audit: Sequence[ToJudge] = (),
    *,
    limit: int,
    journal: Path,
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What the judge says, as the sheet keeps it; at most `limit` questions to it, `audit` pairs among them.

    `not_judged` is "" or says in words why there is less than that. Raises OSError where the journal cannot be written.
    """
    limit_pairs = limit // 2
    wanted = min(len(audit), int(AUDIT_SHARE * limit_pairs))
    chosen_audit = _chosen(audit, wanted, "team")
    chosen = _chosen(pairs, limit_pairs - len(chosen_audit), "pairs")
    asking = _Asking(judge, journal, on_progress)
    told = await asking.all([*chosen, *chosen_audit])
    if asking.why:
        told = {}  # what was judged before it gave up are mostly equal answers, which cost nothing: no fair sample
    result = _summary([told[each.example] for each in chosen if each.example in told])
    return {
        "model": judge.label,
        "prompt_sha256": PROMPT_SHA256,
        **result,
        "team": _beside_team(chosen_audit, told),
        "calls": asking.calls,
        "cost_usd": round(asking.cost_usd, 6),
        "over_the_limit": len(pairs) - len(chosen),
        "not_judged": asking.why,
    }


def _chosen(pairs: Sequence[ToJudge], count: int, salt: str) -> list[ToJudge]:
    names = set(first_by_hash([each.example for each in pairs], count, salt))
    return [each for each in pairs if each.example in names]


class _Asking:
    """One evaluation's questions to the judge."""

    def __init__(self, judge: Judge, journal: Path, on_progress: Callable[[], None]) -> None:
        self._judge = judge
        self._journal = journal
        self._on_progress = on_progress
        self._known = _read_journal(journal)
        self._failures = 0
        self.calls = len(self._known)
        self.cost_usd = math.fsum(cost for _, cost in self._known.values())
        self.why = ""

    async def all(self, pairs: Sequence[ToJudge]) -> dict[str, Pair]:
        """The pairs that were judged in both orders, by example."""
        told: dict[str, Pair] = {}
        waiting = iter(pairs)

        async def in_turn() -> None:
            for pair in waiting:
                if self.why:
                    return
                try:
                    told[pair.example] = await self._pair(pair)
                except _GaveUp:
                    return
                self._on_progress()

        self._journal.parent.mkdir(parents=True, exist_ok=True)
        tasks = [asyncio.create_task(in_turn()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return told

    async def _pair(self, pair: ToJudge) -> Pair:
        length = len(pair.ours) - len(pair.theirs)
        if normalise(pair.ours) == normalise(pair.theirs):
            return Pair(pair.example, Side.TIE, Side.TIE, length, pair.cluster)
        as_given = await self._said(messages(pair.question, pair.ours, pair.theirs, verified=pair.verified))
        swapped = await self._said(messages(pair.question, pair.theirs, pair.ours, verified=pair.verified))
        return pair_of(pair.example, as_given, swapped, length=length, cluster=pair.cluster)

    async def _said(self, shown: Sequence[Message]) -> Said:
        key = _key(self._judge.label, shown)
        if key in self._known:
            return self._known[key][0]
        while True:
            try:
                reply = await self._judge.ask(shown)
                break
            except Exception as error:
                self._failures += 1
                if self._failures >= GIVE_UP_AFTER:
                    self.why = self.why or str(error) or type(error).__name__
                    raise _GaveUp from error
        self._failures = 0
        said = read(reply.text)
        self.calls += 1
        self.cost_usd += reply.cost_usd
        self._known[key] = (said, reply.cost_usd)
        line = {
            "key": key,
            "better": said.better,
            "refused": sorted(said.refused),
            "cost_usd": reply.cost_usd,
        }
        await asyncio.to_thread(_append, self._journal, line)
        return said


def _key(label: str, shown: Sequence[Message]) -> str:
    told = json.dumps([label, PROMPT_SHA256, shown[-1].content], ensure_ascii=False)
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _append(journal: Path, line: dict[str, Any]) -> None:
    """One line, after what a crash may have cut off."""
    with journal.open("a", encoding="utf-8", newline="\n") as file:
        file.write(f"\n{json.dumps(line)}\n")


def _read_journal(journal: Path) -> dict[str, tuple[Said, float]]:
    if not journal.exists():
        return {}
    known = {}
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            said = Said(str(row["better"]), frozenset(map(str, row["refused"])))
            known[str(row["key"])] = (said, float(row["cost_usd"]))
        except (ValueError, TypeError, KeyError):
            continue
    return known


# --- What comes of it ---------------------------------------------------------------------------------------


def _summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    rate, bias = win_rate(pairs), position_bias(pairs)
    return {
        "pairs": [pair.to_json() for pair in pairs],
        "wins": rate.wins,
        "ties": rate.ties,
        "losses": rate.losses,
        "win_rate": _share(rate.raw),
        "win_rate_of_equal_length": _share(rate.controlled),
        "order": {
            "agree": _share(bias.agree),
            "first": bias.first,
            "second": bias.second,
            "unread": bias.unread,
        },
        "refused": {who: mean_refusals(pairs, who) for who in ("ours", "theirs")},
    }


def _share(share: Share) -> dict[str, Any]:
    """JSON knows no nan."""
    return {**asdict(share), "share": None if math.isnan(share.share) else share.share}


def _beside_team(audit: Sequence[ToJudge], told: dict[str, Pair]) -> dict[str, Any] | None:
    """How far the judge agrees with what people picked; None where too little was picked to say."""
    rows = [(told[each.example].verdict, each) for each in audit if each.example in told]
    rows = [(verdict, each) for verdict, each in rows if verdict is not Side.UNREAD]
    if len(rows) < FEWEST_AUDITED:
        return None
    found = agreement([verdict.value for verdict, _ in rows], [each.team.value for _, each in rows])
    origins = sorted({each.origin for _, each in rows})
    return {
        "raw": _share(found.raw),
        "kappa": found.kappa,
        "kappa_low": found.kappa_low,
        "kappa_high": found.kappa_high,
        "by_origin": {
            origin: {
                "n": sum(each.origin == origin for _, each in rows),
                "agree": sum(each.origin == origin and verdict is each.team for verdict, each in rows),
            }
            for origin in origins
        },
    }


# --- What is judged -----------------------------------------------------------------------------------------


def pairs_of(sheet: Sheet, held_out: Iterable[HeldOut], ours: str, theirs: str) -> list[ToJudge]:
    """What two arms said to each question, where both said something."""
    said = {name: {row.answered.example: row for row in sheet.rows_of(name)} for name in (ours, theirs)}
    pairs = []
    for example in held_out:
        rows = said[ours].get(example.id), said[theirs].get(example.id)
        if all(row is not None and _spoke(row) for row in rows):
            first, second = (row.answered.text for row in rows if row is not None)
            question = example.messages[-1].content
            pairs.append(ToJudge(example.id, question, first, second, example.reference, example.cluster))
    return pairs


def _spoke(row: Row) -> bool:
    return not row.answered.error and bool(row.answered.text.strip())


async def picked_by_team(
    dataset: Path, stays_here: Callable[[Sequence[str]], Awaitable[set[str]]]
) -> list[ToJudge]:
    """The dataset's preferences (duels, corrections) as pairs whose winner is known; none of a place that stays here.

    Which of the two is "ours" is drawn by the pair's id: a judge that always says the same agrees with nobody.
    """

    def rows() -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        known = {row["id"]: row for row in lines_of(dataset / PREFERENCE_ROWS) if not row.get("erased")}
        return known, list(lines_of(dataset / PREFERENCES))

    known, preferences = await asyncio.to_thread(rows)
    kept = await stays_here([str(row["subject"]) for row in known.values()])
    pairs = []
    for row in preferences:
        about = known.get(row["id"])
        if about is not None and str(about["subject"]) not in kept:
            pairs.append(_picked(row, str(about["origin"])))
    return pairs


def _picked(row: dict[str, Any], origin: str) -> ToJudge:
    chosen_is_ours = hashlib.sha256(str(row["id"]).encode()).digest()[0] % 2 == 0
    chosen, rejected = _text(row["chosen"]), _text(row["rejected"])
    ours, theirs = (chosen, rejected) if chosen_is_ours else (rejected, chosen)
    return ToJudge(
        f"team-{row['id']}",
        str(row["messages"][-1]["content"]),
        ours,
        theirs,
        cluster=str(row["cluster"]),
        team=Side.OURS if chosen_is_ours else Side.THEIRS,
        origin=origin,
    )


def _text(answer: Any) -> str:
    """A preference holds its answers as texts or as one message."""
    if isinstance(answer, str):
        return answer
    return str(answer[-1]["content"] if isinstance(answer, list) else answer["content"])
