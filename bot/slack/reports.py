"""Reports in the admin channel: one message for each run and evaluation, edited in place; details in its thread.

Redrawing is harmless: a message is found again by its metadata when the bot died between posting and writing that down.
A workspace that refuses the newest blocks gets the same report in older ones.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import PublicError
from bot.figures import Figures
from bot.slack import report_blocks
from bot.slack.charts import Chart, can_draw, loss_chart, score_chart
from bot.slack.report_blocks import Comparison, Look
from bot.slack.report_details import Asked, Compared
from bot.slack.report_standing import Standing, standing_of
from bot.slack.report_thread import Place, ReportThread
from bot.slack.trouble import UNREACHABLE, reason_of
from storage.records import Evaluation, RunState, TrainingRun, now
from storage.store import Store
from training.dataset_files import read_split
from training.evaluating import BASE, CHALLENGER, CURRENT
from training.evaluation import Sheet, golden_of
from training.rundir import read_progress
from training.sweep_words import chosen_course, sweep_of

EVERY_S = 5.0
LOOK_BACK = 50
RECENT_RUNS = 5
LATE = timedelta(days=1)
"""A run that ended without a report or its thread (nobody served) gets them if it is not older than this."""
DECISIONS = 1_000
LONGEST_REST_S = 3600.0
REFUSED_BLOCKS = {"invalid_blocks", "invalid_blocks_format"}

Message = dict[str, Any]
Draw = Callable[[Look], Message]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReportRules:
    """Where reports go, what is said of the base, and who may decide."""

    team: str
    channel: str
    base_label: str
    admins: tuple[str, ...] = ()
    approvals: int = 1


@dataclass(frozen=True, slots=True)
class _Judged:
    """An evaluation that has been read and worked out; that takes a while and is done once."""

    sheet: Sheet
    comparison: Comparison
    current_id: str | None


@dataclass(frozen=True, slots=True)
class _Tries:
    """How often a thread could not be completed, and when it is tried again (monotonic seconds)."""

    count: int
    again_at: float


class Reports:
    """Draws runs and evaluations."""

    def __init__(self, store: Store, client: AsyncWebClient, rules: ReportRules) -> None:
        self._store = store
        self._client = client
        self._rules = rules
        self._thread = ReportThread(store, client)
        self.figures: Figures | None = None
        self._look = Look.NATIVE
        self._drawn_at: dict[str, float] = {}
        self._judged: dict[str, _Judged] = {}
        self._threads: dict[str, asyncio.Task[None]] = {}
        self._complete: set[str] = set()
        self._tries: dict[str, _Tries] = {}
        self._owed: set[str] = set()
        self._catching: asyncio.Task[None] | None = None
        self._newest_seen: str | None = None
        self._looked_at_evaluation = False
        # One drawing at a time: an older one must not overtake a newer one, nor two of them both post the message.
        self._drawing = asyncio.Lock()

    # --- Drawing --------------------------------------------------------------------------------------------

    async def run(self, run: TrainingRun) -> None:
        """Draw a run as it stands: at most every 5 s while it runs, always when something is decided.

        Raises PublicError where Slack refuses; the next tick tries again.
        """
        async with self._drawing:
            await self._draw_run(run)

    async def redraw(self, run: TrainingRun) -> None:
        """Draw a run after a decision, and the other reports that it changes. What Slack refuses is tried again."""
        self._owed.add(run.id)
        self._newest_seen = None
        await self.catch_up()

    async def _draw_run(self, run: TrainingRun) -> None:
        run = await self._store.run(run.id) or run
        judged = await self._judgement(run.evaluation_id)
        charts = await self._charts(run, judged) if judged else ()
        standing = await self._standing(run, judged) if _decidable(run) else None

        def draw(look: Look) -> Message:
            comparison = judged.comparison if judged else None
            return report_blocks.run_report(
                run, comparison=comparison, standing=standing, charts=charts, look=look
            )

        drawing = _fingerprint(draw(Look.NATIVE))
        place = Place(run.report_channel, run.report_ts)
        if drawing != run.report_drawn:
            if not _settled(run) and time.monotonic() - self._drawn_at.get(run.id, -EVERY_S) < EVERY_S:
                return
            place = await self._draw(draw, place, anew=not run.state.final)
            self._drawn_at[run.id] = time.monotonic()
            await self._store.note_on_run(
                run.id, report_channel=place.channel, report_ts=place.ts, report_drawn=drawing
            )
        if run.finished_at is not None and now() - run.finished_at > LATE:
            self._complete.add(f"run:{run.id}")  # nobody waits for the thread of an old report
        if judged and _settled(run):
            await self._complete_thread(f"run:{run.id}", place, run.evaluation_id or "", charts)

    async def evaluation(self, evaluation: Evaluation) -> None:
        """Draw an evaluation asked for by `/eval`. Raises PublicError where Slack refuses."""
        async with self._drawing:
            await self._draw_evaluation(evaluation)

    async def _draw_evaluation(self, evaluation: Evaluation) -> None:
        evaluation = await self._store.evaluation(evaluation.id) or evaluation
        names = await self._names(evaluation)
        judged = await self._judgement(evaluation.id)
        chart = score_chart(judged.comparison.arms) if judged else None
        charts = (chart,) if chart else ()

        def draw(look: Look) -> Message:
            comparison = judged.comparison if judged else None
            return report_blocks.evaluation_report(
                evaluation, names=names, comparison=comparison, charts=charts, look=look
            )

        place = await self._draw(draw, Place(evaluation.report_channel, evaluation.report_ts))
        await self._store.note_on_evaluation(evaluation.id, report_channel=place.channel, report_ts=place.ts)
        if judged:
            await self._complete_thread(f"evaluation:{evaluation.id}", place, evaluation.id, charts)

    async def notice(self, words: str) -> None:
        """One sentence in the admin channel."""
        if self._rules.channel:
            await self._call("chat_postMessage", channel=self._rules.channel, text=words)

    async def put(self, message: Message, place: Place) -> Place:
        """Post a message of somebody else's in the admin channel, or edit it; found again by its metadata where a bot died
        before it wrote the place down. Raises PublicError where Slack refuses."""
        async with self._drawing:
            return await self._draw(lambda _look: message, place)

    # --- What goes on while nobody asks ---------------------------------------------------------------------

    async def tick(self) -> None:
        """Begin to catch up, unless that is going on. Slack may be slow; whoever keeps time does not wait for it."""
        if self._catching is None or self._catching.done():
            self._catching = asyncio.create_task(self._catch_up_quietly(), name="reports")

    async def _catch_up_quietly(self) -> None:
        try:
            await self.catch_up()
        except Exception:
            log.exception("reports cannot catch up")

    async def catch_up(self) -> None:
        """Draw what was missed: reports owed, runs that ended while nobody served, threads, promotions made elsewhere.

        Cheap where nothing changed; called every few seconds. What Slack refuses is tried again the next time.
        """
        if not self._rules.channel:
            return
        newest = await self._store.newest_promotion(self._rules.team)
        seen = newest.id if newest else ""
        try:
            for run in await self._store.runs(self._rules.team, limit=RECENT_RUNS):
                if run.state.final and self._wants_drawing(run, changed=seen != self._newest_seen):
                    await self.run(run)
                    self._owed.discard(run.id)
            for run_id in list(self._owed):
                await self._draw_owed(run_id)
            self._newest_seen = seen
            await self._catch_up_evaluation()
        except PublicError as error:
            log.warning("reports are behind", error=str(error))

    def _wants_drawing(self, run: TrainingRun, *, changed: bool) -> bool:
        if run.outcome == "declined" and run.options.get("scheduled"):
            return False
        if not run.report_ts:
            return run.finished_at is not None and now() - run.finished_at < LATE
        thread_owed = bool(run.evaluation_id) and self._thread_wanted(f"run:{run.id}")
        return changed or run.id in self._owed or thread_owed

    def _thread_wanted(self, key: str) -> bool:
        tries = self._tries.get(key)
        rests = tries is not None and time.monotonic() < tries.again_at
        return not rests and key not in self._threads and key not in self._complete

    async def _draw_owed(self, run_id: str) -> None:
        run = await self._store.run(run_id)
        if run is not None:
            await self.run(run)
        self._owed.discard(run_id)

    async def _catch_up_evaluation(self) -> None:
        """The thread of an evaluation whose bot died: looked at once."""
        if self._looked_at_evaluation:
            return
        newest = await self._store.newest_evaluation(self._rules.team)
        alone = newest is not None and newest.run_id is None and bool(newest.report_ts)
        if newest is not None and alone and await self._thread.owed(f"evaluation:{newest.id}"):
            await self.evaluation(newest)
        self._looked_at_evaluation = True

    async def stop(self) -> None:
        """Let go of threads that are being completed; the next start goes on."""
        tasks = [*self._threads.values(), *([self._catching] if self._catching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete_thread(
        self, key: str, place: Place, evaluation_id: str, charts: tuple[Chart, ...]
    ) -> None:
        """Details, CSV and pictures, beside the report: none of them may hold it up."""
        if not place.ts or not self._thread_wanted(key):
            return
        if not await self._thread.owed(key):
            self._complete.add(key)
            return
        pictures = charts if self._look is Look.PICTURES else ()
        task = asyncio.create_task(self._in_thread(key, place, evaluation_id, pictures), name=f"thread-{key}")
        self._threads[key] = task
        task.add_done_callback(lambda _task: self._threads.pop(key, None))

    async def _in_thread(
        self, key: str, place: Place, evaluation_id: str, pictures: tuple[Chart, ...]
    ) -> None:
        try:
            compared = await self._compared(evaluation_id)
            if compared is not None:
                await self._thread.complete(key, place, compared, pictures)
            self._complete.add(key)
        except PublicError as error:
            count = self._tries[key].count + 1 if key in self._tries else 1
            self._tries[key] = _Tries(
                count, time.monotonic() + min(EVERY_S * 4 ** (count - 1), LONGEST_REST_S)
            )
            log.warning("the report's thread is not complete", report=key, tries=count, error=str(error))
        except Exception:
            log.exception("the report's thread cannot be completed", report=key)
            self._complete.add(key)

    # --- What a drawing shows -------------------------------------------------------------------------------

    async def _judgement(self, evaluation_id: str | None) -> _Judged | None:
        if not evaluation_id:
            return None
        if evaluation_id not in self._judged:
            evaluation = await self._store.evaluation(evaluation_id)
            if evaluation is None or not evaluation.sheet:
                return None
            if len(self._judged) >= 2 * RECENT_RUNS:
                self._judged.pop(next(iter(self._judged)))
            self._judged[evaluation_id] = await asyncio.to_thread(_judge, evaluation)
        return self._judged[evaluation_id]

    async def _charts(self, run: TrainingRun, judged: _Judged) -> tuple[Chart, ...]:
        told = await asyncio.to_thread(read_progress, Path(run.directory)) if run.directory else []
        found = (loss_chart(chosen_course(told)), score_chart(judged.comparison.arms))
        return tuple(chart for chart in found if chart is not None)

    async def _names(self, evaluation: Evaluation) -> dict[str, str]:
        names = {BASE: self._rules.base_label}
        for arm, version_id in ((CURRENT, evaluation.current_id), (CHALLENGER, evaluation.challenger_id)):
            version = await self._store.model(version_id) if version_id else None
            if version is not None:
                names[arm] = version.name
        return names

    async def _compared(self, evaluation_id: str) -> Compared | None:
        evaluation = await self._store.evaluation(evaluation_id)
        judged = await self._judgement(evaluation_id)
        if evaluation is None or judged is None:
            return None
        run = await self._store.run(evaluation.run_id) if evaluation.run_id else None
        version = await self._store.model(run.version_id) if run and run.version_id else None
        dataset = await self._store.dataset(evaluation.dataset_id or "")
        return Compared(
            title=f"Training run #{run.number}" if run else f"Evaluation #{evaluation.number}",
            names=await self._names(evaluation),
            sheet=judged.sheet,
            comparison=judged.comparison,
            asked=await asyncio.to_thread(_asked, Path(dataset.path)) if dataset else {},
            dataset=dataset,
            golden=golden_of(evaluation.sheet),
            sweep=sweep_of(version.card) if version else None,
            answering=await self.figures.lines() if self.figures is not None else (),
        )

    async def _standing(self, run: TrainingRun, judged: _Judged | None) -> Standing | None:
        """What was decided about a run's challenger; None where that model is gone."""
        team = self._rules.team
        version = await self._store.model(run.version_id or "")
        if version is None:
            return None
        promotions = await self._store.promotions(team)
        serving = promotions[-1].version_id if promotions else None
        return standing_of(
            run,
            version,
            compared_with=judged.current_id if judged else serving,
            promotions=promotions,
            decisions=await self._store.decisions(team, limit=DECISIONS),
            names={each.id: each.name for each in await self._store.models(team)},
            approvals=self._rules.approvals,
            admins=self._rules.admins,
            canaries=await self._store.canaries(team),
        )

    # --- Slack ----------------------------------------------------------------------------------------------

    async def _draw(self, draw: Draw, place: Place, *, anew: bool = True) -> Place:
        """Edit or post. A message that somebody deleted is posted `anew`, or left alone."""
        try:
            return await self._put(draw(self._look), place, anew)
        except _BlocksRefused as refused:
            if self._look is not Look.NATIVE:
                raise PublicError(f"Slack refused the report's blocks ({refused}).") from None
            log.info("the newest blocks are refused here; reports are drawn with older ones")
            self._look = Look.PICTURES if can_draw() else Look.NO_PICTURES
        try:
            return await self._put(draw(self._look), place, anew)
        except _BlocksRefused as refused:
            raise PublicError(f"Slack refused the report's blocks ({refused}).") from None

    async def _put(self, message: Message, place: Place, anew: bool) -> Place:
        channel, ts = place.channel, place.ts
        if not self._rules.channel:
            log.warning("no ADMIN_CHANNEL is set, so this report is only in the log", report=message["text"])
            return Place("", "")
        if not ts:
            found = await self._posted_before(message)
            channel, ts = (found.channel, found.ts) if found else ("", "")
        if ts:
            updated = await self._call("chat_update", channel=channel, ts=ts, **message)
            if updated is not None or not anew:
                return Place(channel, ts)
        posted = await self._call("chat_postMessage", channel=self._rules.channel, **message)
        if posted is None:
            raise PublicError("The report's message vanished while it was drawn.")
        return Place(str(posted["channel"]), str(posted["ts"]))

    async def _posted_before(self, message: Message) -> Place | None:
        """Where this report already stands, posted by a bot that died before it wrote the place down."""
        wanted = message["metadata"]
        try:
            found = await self._client.conversations_history(
                channel=self._rules.channel, limit=LOOK_BACK, include_all_metadata=True
            )
        except SlackApiError as error:
            log.info("the admin channel's history cannot be read", error=reason_of(error))
            return None
        except UNREACHABLE as error:
            raise PublicError(f"Slack cannot be reached ({error}).") from None
        for posted in found["messages"]:
            metadata = posted.get("metadata") or {}
            if metadata.get("event_payload") == wanted["event_payload"]:
                return Place(self._rules.channel, str(posted["ts"]))
        return None

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            answer = await getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            reason = reason_of(error)
            if method == "chat_update" and reason in {"message_not_found", "cant_update_message"}:
                return None  # somebody deleted the report
            if reason in REFUSED_BLOCKS:
                raise _BlocksRefused(reason) from None
            if reason.startswith("HTTP"):
                raise PublicError(f"Slack is out of order ({reason}); the report is tried again.") from None
            raise PublicError(
                f"Slack refused the report in {self._rules.channel} ({reason}). Invite me to that channel, "
                "or check ADMIN_CHANNEL."
            ) from None
        except UNREACHABLE as error:
            raise PublicError(f"Slack cannot be reached ({error}).") from None
        return dict(answer.data)


class _BlocksRefused(Exception):
    """Slack does not take these blocks."""


def _settled(run: TrainingRun) -> bool:
    return run.state is RunState.REPORTING or run.state.final


def _decidable(run: TrainingRun) -> bool:
    """Whether there is something to promote or keep."""
    ended_well = run.state in {RunState.REPORTING, RunState.DONE}
    return ended_well and bool(run.version_id) and run.outcome not in report_blocks.ENDED_EARLY


def _judge(evaluation: Evaluation) -> _Judged:
    sheet = Sheet.from_json(evaluation.sheet)
    return _Judged(sheet, report_blocks.comparison_of(evaluation), evaluation.current_id)


def _asked(dataset: Path) -> dict[str, Asked]:
    """The held-out questions of a frozen dataset; none where it is gone."""
    try:
        return {
            row.id: Asked(str(row.messages[-1]["content"]), row.answer) for row in read_split(dataset, "test")
        }
    except OSError:
        return {}


def _fingerprint(message: Message) -> str:
    return hashlib.sha256(json.dumps(message, sort_keys=True).encode()).hexdigest()[:32]
