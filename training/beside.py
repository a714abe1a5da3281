"""What an evaluation tells beside its scores: who refuses, topic by topic, the probes, a judge's word.

None of it is decided here, and none of it ends an evaluation: a probe that blocks is for the verdict to read, and what
cannot be asked says so. Words of private places are put to no judge.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import structlog

from storage.errors import PublicError
from storage.records import DatasetVersion
from storage.store import Store
from storage.values import Message
from storage.whereabouts import Whereabouts
from training import probes
from training.dataset_files import rows_of
from training.evaluation import Arm, HeldOut, Sheet, evaluate, read_answered
from training.judged import Judge, judged, pairs_of, picked_by_team
from training.metrics import METRICS, normalise
from training.refusals import counted
from training.topics import AskedAbout, topics

BASE, CURRENT, CHALLENGER, MEMORY = "base", "current", "challenger", "memory"
AT_ONCE = 16

log = structlog.get_logger(__name__)


def everything(_whereabouts: Whereabouts) -> bool:
    """Nothing leaves this machine."""
    return True


class Beside:
    """`stays_here` says of which words no API model is told; `judge` is who compares answers, None for nobody."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        folder: Path,
        stays_here: Callable[[Whereabouts], bool] = everything,
        judge: Judge | None = None,
        why_no_judge: str = "",
        judge_limit: int = 0,
    ) -> None:
        self._store = store
        self._team = team
        self._folder = folder / "evaluations"
        self._stays_here = stays_here
        self._judge = judge
        self._why_no_judge = why_no_judge
        self._judge_limit = judge_limit

    async def private(self, dataset: Path) -> set[str]:
        """The rows of a frozen dataset whose words stay on this machine."""
        subjects = await asyncio.to_thread(_subjects, dataset)
        kept = await self._kept([*subjects.values()])
        return {row for row, subject in subjects.items() if subject in kept}

    async def labels(self, dataset: Path) -> dict[str, str]:
        """The topics that people gave, by row."""
        subjects = await asyncio.to_thread(_subjects, dataset)
        known = await self._store.whereabouts(self._team, [*subjects.values()])
        return {row: known[subject].topic for row, subject in subjects.items() if known[subject].topic}

    async def raters(self, dataset: Path) -> dict[str, str]:
        """Who wrote or chose each row's answer, as a number: a sheet outlives what is known of people."""
        subjects = await asyncio.to_thread(_subjects, dataset)
        people = await self._store.vouchers(self._team, [*subjects.values()])
        numbers = {who: f"r{n}" for n, who in enumerate(sorted(set(people.values())), start=1)}
        return {row: numbers[people[subject]] for row, subject in subjects.items() if subject in people}

    async def _kept(self, subjects: Sequence[str]) -> set[str]:
        known = await self._store.whereabouts(self._team, subjects)
        return {subject for subject, where in known.items() if where.said and self._stays_here(where)}

    async def tell(
        self,
        name: str,
        arms: Sequence[Arm],
        sheet: Sheet,
        held_out: Sequence[HeldOut],
        dataset: DatasetVersion | None,
    ) -> dict[str, Any]:
        """The further parts of the sheet, as JSON. `name` is the evaluation's id, under which it goes on after a kill."""
        told: dict[str, Any] = {
            "refusals": await asyncio.to_thread(_refusals, sheet, held_out),
            "topics": await asyncio.to_thread(_topics, sheet, held_out),
        }
        if (probed := await self._probes(name, arms, sheet, held_out)) is not None:
            told["probes"] = probed
        if (word := await self._judged(name, sheet, held_out, dataset)) is not None:
            told["judge"] = word
        return told

    # --- Probes ---------------------------------------------------------------------------------------------

    async def _probes(
        self, name: str, arms: Sequence[Arm], sheet: Sheet, held_out: Sequence[HeldOut]
    ) -> dict[str, Any] | None:
        by_name = {arm.name: arm for arm in arms}
        if not {CHALLENGER, BASE} <= by_name.keys() or sheet.arm(CHALLENGER).failed or sheet.arm(BASE).failed:
            return None
        other = CURRENT if CURRENT in by_name and not sheet.arm(CURRENT).failed else BASE
        probing = _Probing(self._folder / f"{name}.probes.jsonl", sheet, held_out)
        asked = [by_name[each] for each in dict.fromkeys((BASE, other, CHALLENGER))]
        return probes.sheet_of(
            {
                "leaks": await probing.leaks(asked),
                "sycophancy": await probing.sycophancy(by_name[CHALLENGER], by_name[other]),
                "forgetting": await probing.forgetting(by_name[CHALLENGER], by_name[BASE]),
            }
        )

    # --- The judge ------------------------------------------------------------------------------------------

    async def _judged(
        self, name: str, sheet: Sheet, held_out: Sequence[HeldOut], dataset: DatasetVersion | None
    ) -> dict[str, Any] | None:
        sides = _to_compare(sheet)
        if sides is None or (self._judge is None and not self._why_no_judge):
            return None
        about = {"arm": sides[0], "against": sides[1]}
        if self._judge is None:
            return {**about, "pairs": [], "not_judged": self._why_no_judge}
        hidden = {normalise(each.reference) for each in held_out if each.private}
        pairs = pairs_of(sheet, [each for each in held_out if not each.private], *sides)
        shown = [pair for pair in pairs if not {normalise(pair.ours), normalise(pair.theirs)} & hidden]
        try:
            picked = await picked_by_team(Path(dataset.path), self._kept) if dataset is not None else []
            told = await judged(
                self._judge,
                shown,
                picked,
                limit=self._judge_limit,
                journal=self._folder / f"{name}.judge.jsonl",
            )
        except (OSError, PublicError) as error:
            log.warning("nothing was judged", evaluation=name, why=str(error))
            return {**about, "pairs": [], "not_judged": str(error)}
        private = sum(each.private for each in held_out) + len(pairs) - len(shown)
        return {**about, **told, "private": private}


def _subjects(dataset: Path) -> dict[str, str]:
    """Row id -> what the row was made from, of the rows that are held out."""
    return {row["id"]: str(row.get("subject", "")) for row in rows_of(dataset) if row["split"] == "test"}


def _to_compare(sheet: Sheet) -> tuple[str, str] | None:
    """Which two arms a judge compares: the challenger, or an API model where there is none, with what serves."""
    names = [arm.name for arm in sheet.arms if not arm.failed]
    against = CURRENT if CURRENT in names else BASE
    others = [name for name in names if name not in {BASE, CURRENT, MEMORY, CHALLENGER}]
    ours = CHALLENGER if CHALLENGER in names else next(iter(others), CURRENT if CURRENT in names else "")
    against = BASE if ours == CURRENT else against
    return (ours, against) if ours and against in names else None


def _refusals(sheet: Sheet, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    expected = {each.id: each.reference for each in held_out}
    said: dict[str, list[tuple[str, str]]] = {}
    for row in sheet.rows:
        if not row.answered.error:
            pair = (row.answered.text, expected.get(row.answered.example, ""))
            said.setdefault(row.answered.arm, []).append(pair)
    return counted(said)


def _topics(sheet: Sheet, held_out: Sequence[HeldOut]) -> list[dict[str, Any]]:
    """Each topic with every arm's means; an arm that was asked nothing of it is left out there."""
    asked = [AskedAbout(each.id, each.messages[-1].content, each.cluster, each.label) for each in held_out]
    told = []
    for topic in topics(asked):
        examples = set(topic.examples)
        scores: dict[str, dict[str, float]] = {}
        for arm in dict.fromkeys(row.answered.arm for row in sheet.rows):
            rows = [row for row in sheet.rows_of(arm) if row.answered.example in examples]
            if rows:
                scores[arm] = {
                    metric: fmean(getattr(row.scores, metric) for row in rows) for metric in METRICS
                }
        told.append({"name": topic.name, "examples": list(topic.examples), "scores": scores})
    return told


class _Probing:
    """The probes of one evaluation; answers are written down as those of the evaluation itself."""

    def __init__(self, journal: Path, sheet: Sheet, held_out: Sequence[HeldOut]) -> None:
        self._journal = journal
        self._sheet = sheet
        self._held_out = held_out
        self._system = tuple(
            turn for turn in (held_out[0].messages if held_out else ()) if turn.role == "system"
        )

    async def leaks(self, arms: Sequence[Arm]) -> probes.Probe:
        """Also what was said to the held-out questions is searched."""
        asked = [self._asking(f"leak-{number}", words) for number, words in enumerate(probes.LEAKS)]
        probed = await self._asked(arms, asked)
        return await asyncio.to_thread(
            lambda: probes.leaks(
                [
                    *self._said(probed, CHALLENGER, asked),
                    *self._said(self._sheet, CHALLENGER, self._held_out),
                ],
                [*self._said(probed, BASE, asked), *self._said(self._sheet, BASE, self._held_out)],
            )
        )

    async def sycophancy(self, challenger: Arm, other: Arm) -> probes.Probe:
        """Asked only where both were right at first."""
        right = [
            {
                row.answered.example
                for row in self._sheet.rows_of(arm.name)
                if row.scores.token_f1 >= probes.RIGHT
            }
            for arm in (challenger, other)
        ]
        both = [each for each in self._held_out if each.id in right[0] & right[1]]
        private = {each.id for each in both if each.private}
        rows = [(each.id, each.messages[-1].content, each.reference, each.cluster) for each in both]
        pressed = [each for each in probes.pressed(rows) if each.example not in private or not other.leaves]
        if len(pressed) < probes.FEWEST:
            return probes.sycophancy([False] * len(pressed), [False] * len(pressed))
        questions = [
            replace(self._asking(each.id, each.question), reference=each.reference) for each in pressed
        ]
        probed = await self._asked([challenger, other], questions)
        gave_in = _pairs([(each.id, each.gave_in) for each in pressed], probed, challenger.name, other.name)
        return probes.sycophancy(*gave_in)

    async def forgetting(self, challenger: Arm, base: Arm) -> probes.Probe:
        """The general questions that come with the product."""
        general = probes.general_questions()
        asked = [self._asking(each.id, each.question) for each in general]
        probed = await self._asked([challenger, base], asked)
        right = _pairs([(each.id, each.right) for each in general], probed, challenger.name, base.name)
        return probes.forgetting(*right)

    def _asking(self, name: str, question: str) -> HeldOut:
        return HeldOut(name, (*self._system, Message("user", question)), "", name)

    async def _asked(self, arms: Sequence[Arm], asked: Sequence[HeldOut]) -> Sheet:
        return await evaluate(
            arms,
            asked,
            concurrency=AT_ONCE,
            already=read_answered(self._journal),
            record_to=self._journal,
        )

    @staticmethod
    def _said(sheet: Sheet, arm: str, asked: Sequence[HeldOut]) -> list[probes.Said]:
        questions: Mapping[str, str] = {
            each.id: f"{each.messages[-1].content}\n{each.reference}" for each in asked
        }
        return [
            probes.Said(questions.get(row.answered.example, ""), row.answered.text)
            for row in sheet.rows_of(arm)
        ]


def _pairs(
    asked: Sequence[tuple[str, Callable[[str], bool]]], sheet: Sheet, ours: str, theirs: str
) -> tuple[list[bool], list[bool]]:
    """What holds of both arms' answers, question by question; a question that one of them could not be asked is left out."""
    said = {
        name: {row.answered.example: row.answered for row in sheet.rows_of(name)} for name in (ours, theirs)
    }
    pairs = [
        (holds(said[ours][name].text), holds(said[theirs][name].text))
        for name, holds in asked
        if not said[ours][name].error and not said[theirs][name].error
    ]
    return [one for one, _ in pairs], [other for _, other in pairs]
