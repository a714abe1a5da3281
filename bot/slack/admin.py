"""Slash commands. Who may do what is checked here, on the server, for every one of them."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bot.canaries import Canaries, read_promotion
from bot.contenders import Contenders
from bot.errors import PublicError
from bot.eval_wishes import Wishes
from bot.figures import Figures
from bot.model_history import history, names_of
from bot.money import Ledger
from bot.schedule import Clock, describe, next_times, parse_schedule
from bot.serving import Serving
from bot.slack import text
from bot.slack.decisions import DecisionRules, Decisions
from bot.slack.digests import DIGEST, Digests, week_asked_for
from bot.slack.distils import Distils
from bot.slack.duel_blocks import tally_line
from bot.slack.evals import Evals
from bot.slack.guards import Guards
from bot.slack.learning import learning
from bot.slack.report_text import WHICH_MODEL
from bot.slack.reports import Reports
from bot.train_options import read_options
from storage.records import ModelVersion, Schedule, now
from storage.store import Store
from training.evaluating import Evaluations
from training.runs import Declined, Runs

TRAIN = "train"

Ack = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class AdminRules:
    """Who is an admin, and what `status` says of the configuration."""

    team: str
    admins: tuple[str, ...]
    policy: str
    base_label: str
    timezone: str
    approvals: int = 1


class Admin:
    """`/train`, `/eval` and `/apprentice`; `decisions` listens to the buttons of reports."""

    def __init__(
        self,
        store: Store,
        *,
        runs: Runs,
        evaluations: Evaluations,
        serving: Serving,
        reports: Reports,
        clock: Clock,
        rules: AdminRules,
        ledger: Ledger,
        figures: Figures,
        guards: Guards,
        digests: Digests,
        distils: Distils,
        canaries: Canaries | None = None,
        contenders: Contenders | None = None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._reports = reports
        self._clock = clock
        self._rules = rules
        self._ledger = ledger
        self._figures = figures
        self._guards = guards
        self._digests = digests
        self._distils = distils
        self.evals = Evals(
            store,
            evaluations,
            Wishes(store, evaluations, contenders, team=rules.team),
            reports,
            clock,
            team=rules.team,
            timezone=rules.timezone,
        )
        self.trouble: Callable[[], str] = lambda: ""
        self.decisions = Decisions(
            store,
            serving=serving,
            reports=reports,
            rules=DecisionRules(rules.team, rules.admins, rules.approvals),
            canaries=canaries,
        )

    async def train(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/train [status | cancel | confirm | schedule ... | help | [sweep] option=value ...]`"""
        await ack()
        verb, rest = _verb(body)
        actions: dict[str, Callable[[str, str], Awaitable[str]]] = {
            "status": self._train_status,
            "cancel": self._train_cancel,
            "confirm": self._train_confirm,
            "schedule": self._train_schedule,
        }
        if verb == "help":
            await respond(text=text.TRAIN_HELP)
        elif self._is_admin(body):
            action = actions.get(verb, self._train_now)
            words = rest if verb in actions else body.get("text") or ""
            await respond(text=await _said(action(_person(body), words)))
        else:
            await respond(text=text.admins_only("/train", self._rules.admins))

    async def _train_now(self, person: str, words: str) -> str:
        options = read_options(words)
        occasion = f"train:{person}:{uuid.uuid4().hex}"
        requested = await self._runs.request(by=person, occasion=occasion, options=options)
        if isinstance(requested, Declined):
            return requested.reason
        return f"Training run #{requested.run.number} starts. Its report is in the admin channel."

    async def _train_status(self, _person: str, _words: str) -> str:
        runs = await self._store.runs(self._rules.team, limit=5)
        return "\n".join(text.run_line(run) for run in runs) or "No training run yet."

    async def _train_cancel(self, person: str, _words: str) -> str:
        live = await self._store.live_runs()
        if not live:
            return "No training run is going on."
        await self._runs.cancel(live[0], by=person)
        return f"Run #{live[0].number} is being cancelled; its report will say so."

    async def _train_confirm(self, person: str, _words: str) -> str:
        run = await self._runs.waiting()
        if run is None or not await self._runs.confirm(run, by=person):
            return "No training run waits for a yes."
        return f"Run #{run.number} goes on; its report shows how far it is."

    async def _train_schedule(self, person: str, words: str) -> str:
        row = await self._store.schedule(self._rules.team, TRAIN)
        if words:
            row = await self._change_schedule(person, words, row, TRAIN, usual="0 3 * * *")
        return f"Training happens {self._schedule_line(row)}."

    async def _change_schedule(
        self, person: str, words: str, row: Schedule | None, action: str, *, usual: str
    ) -> Schedule:
        zone = row.timezone if row else self._rules.timezone
        if words in {"on", "off"}:
            cron = row.cron if row else usual
        else:
            cron = parse_schedule(words, zone).text
        changed = await self._store.set_schedule(
            team=self._rules.team,
            action=action,
            cron=cron,
            timezone=zone,
            enabled=words != "off",
            by=person,
        )
        await self._store.decide(team=self._rules.team, actor=person, action="schedule", detail=words)
        await self._clock.reload()
        return changed

    def _schedule_line(self, row: Schedule | None) -> str:
        if row is None or not row.enabled:
            return text.schedule_line(row, "", "")
        cron = parse_schedule(row.cron, row.timezone)
        following = next_times(cron, row.timezone, now(), 1)
        return text.schedule_line(
            row, describe(cron, row.timezone), f"{following[0]:%a %d %b %H:%M}" if following else ""
        )

    async def evaluate(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/eval [MODEL] [on=DATASET] [with=API] | cancel | schedule ... | help`"""
        await ack()
        words = (body.get("text") or "").strip()
        if words.lower() != "help" and not self._is_admin(body):
            await respond(text=text.admins_only("/eval", self._rules.admins))
            return
        await respond(text=await _said(self.evals.carry_out(_person(body), words)))

    async def _version(self, name: str) -> ModelVersion:
        version = await self._store.model_named(self._rules.team, name)
        if version is None:
            known = [each.name for each in await self._store.models(self._rules.team)]
            names = ", ".join(["base", *known[-10:]])
            raise PublicError(f"There is no model called {name!r}. There are: {names}.")
        return version

    async def apprentice(self, ack: Ack, body: dict[str, Any], respond: Ack) -> None:
        """`/apprentice help | status | spending | distil | experts | learning | models | promote | report | rollback`"""
        await ack()
        verb, rest = _verb(body)
        person = _person(body)
        if verb == "status":
            await respond(text=await self._status(for_admin=self._is_admin(body)))
        elif verb in {"distil", "experts", "learning", "models", "promote", "report", "rollback", "spending"}:
            if not self._is_admin(body):
                await respond(text=text.admins_only(f"/apprentice {verb}", self._rules.admins))
                return
            actions: dict[str, Callable[[str, str], Awaitable[str]]] = {
                "distil": self._distils.carry_out,
                "experts": self._guards.experts,
                "learning": partial(self._learning, str(body.get("channel_id", ""))),
                "models": self._models,
                "promote": self._promote_named,
                "report": self._report,
                "rollback": self._roll_back,
                "spending": self._spending,
            }
            await respond(text=await _said(actions[verb](person, rest)))
        elif verb in {"", "help"}:
            await respond(text=text.HELP)
        else:
            await respond(text=f"I do not know `/apprentice {text.escape(verb)}`.\n{text.HELP}")

    async def _status(self, *, for_admin: bool) -> str:
        team = self._rules.team
        current = await self._store.current(team)
        words = text.status(
            tally=await self._store.tally(team),
            serving=f"{self._rules.base_label}{f' + {current.name}' if current else ''}",
            promotion=await self._store.newest_promotion(team),
            policy=self._rules.policy,
            runs=await self._store.runs(team, limit=1),
            schedule=self._schedule_line(await self._store.schedule(team, TRAIN)),
            duels=tally_line(await self._store.duel_tally(team)),
        )
        words = "\n".join([words, *await self._figures.lines(), *await self._ledger.status_lines()])
        if for_admin:
            waiting, golden = await self._store.reviews_waiting(team), await self._store.golden_tally(team)
            retention = text.retention(await self._store.last_retention(team))
            lines = [words, text.curation(waiting, golden), await self._guards.status_line(), retention]
            words = "\n".join(line for line in lines if line)
        return text.with_trouble(words, self.trouble())

    async def _models(self, _person: str, _words: str) -> str:
        team = self._rules.team
        versions = await self._store.models(team)
        canary = await self._store.canary(team)
        listed = text.models(versions, await self._store.current(team), self._rules.base_label, canary=canary)
        told = history(
            await self._store.promotions(team), await self._store.canaries(team), names_of(versions)
        )
        return "\n".join([listed, *(text.escape(line) for line in told)])

    async def _spending(self, _person: str, _words: str) -> str:
        return await self._ledger.listing()

    async def _report(self, person: str, words: str) -> str:
        """What a week was like; `schedule` and when: the weekly one in the admin channel."""
        verb, _, rest = words.partition(" ")
        if verb != "schedule":
            return await self._digests.said(week_asked_for(words))
        row = await self._store.schedule(self._rules.team, DIGEST)
        if rest:
            row = await self._change_schedule(person, rest.strip(), row, DIGEST, usual="0 9 * * 1")
        if row is None or not row.enabled:
            return "The week is told when somebody types `/apprentice report`."
        return f"The week is told in the admin channel {self._schedule_line(row)}."

    async def _learning(self, channel: str, person: str, words: str) -> str:
        return await learning(self._store, self._rules.team, channel, person, words)

    async def _promote_named(self, person: str, words: str) -> str:
        name, share = read_promotion(words)
        if not name:
            return WHICH_MODEL
        version = None if name == "base" else await self._version(name)
        if share is not None:
            if version is None:
                raise PublicError(
                    "The base cannot be a canary. `/apprentice promote base` lets it answer again."
                )
            return await self.decisions.canary_named(person, version, share or None)
        return await self.decisions.promote_named(person, name, version)

    async def _roll_back(self, person: str, _words: str) -> str:
        return await self.decisions.roll_back_named(person)

    def _is_admin(self, body: dict[str, Any]) -> bool:
        return _person(body) in self._rules.admins


async def _said(answer: Awaitable[str]) -> str:
    try:
        return await answer
    except PublicError as error:
        return str(error)


def _person(body: dict[str, Any]) -> str:
    return str(body.get("user_id") or (body.get("user") or {}).get("id") or "")


def _verb(body: dict[str, Any]) -> tuple[str, str]:
    words: Sequence[str] = (body.get("text") or "").split(maxsplit=1)
    return (words[0].lower() if words else "", words[1].strip() if len(words) > 1 else "")
