"""`/eval`: ask for an evaluation of any model on any held-out questions, now or again and again, and stop one."""

from bot.errors import PublicError
from bot.eval_wishes import Wishes, read_wish
from bot.schedule import Clock, describe, next_times, parse_schedule
from bot.slack import eval_text, text
from bot.slack.reports import Reports
from storage.records import Schedule, now
from storage.store import Store
from storage.values import who
from training.evaluating import Evaluations

EVAL = "eval"
NIGHTLY = "0 4 * * *"


def kept_words(team: str) -> str:
    """The keepsake in which the words of the schedule stand."""
    return f"eval-schedule:{team}"


class Evals:
    """What admins type after `/eval`. Whether somebody is an admin is checked before."""

    def __init__(
        self,
        store: Store,
        evaluations: Evaluations,
        wishes: Wishes,
        reports: Reports,
        clock: Clock,
        *,
        team: str,
        timezone: str,
    ) -> None:
        self._store = store
        self._evaluations = evaluations
        self._wishes = wishes
        self._reports = reports
        self._clock = clock
        self._team = team
        self._timezone = timezone

    async def carry_out(self, person: str, words: str) -> str:
        """Do what was typed; what to answer. Raises PublicError."""
        verb, _, rest = words.strip().partition(" ")
        if verb.lower() == "help":
            return eval_text.HELP
        if verb.lower() == "cancel":
            return await self._cancel(person)
        if verb.lower() == "schedule":
            return await self._schedule(person, rest.strip())
        evaluation = await self._wishes.request(words, by=person)
        await self._reports.evaluation(evaluation)
        return eval_text.starts(evaluation)

    async def _cancel(self, person: str) -> str:
        live = [each for each in await self._store.live_evaluations() if each.team == self._team]
        if not live:
            return eval_text.NONE_GOES_ON
        was_live = await self._evaluations.cancel(live[0], by=who(person))
        await self._reports.evaluation(live[0])
        return eval_text.cancelled(live[0], was_live=was_live)

    async def _schedule(self, person: str, words: str) -> str:
        row = await self._store.schedule(self._team, EVAL)
        if words:
            row = await self._change(person, words, row)
        if row is None or not row.enabled:
            return eval_text.NOT_SCHEDULED
        wish = await self._store.keepsake(kept_words(self._team), lambda: "")
        return eval_text.scheduled(self._line(row), wish)

    async def _change(self, person: str, words: str, row: Schedule | None) -> Schedule:
        wish = " ".join(word for word in words.split() if "=" in word)
        when = " ".join(word for word in words.split() if "=" not in word)
        read_wish(wish)
        zone = row.timezone if row else self._timezone
        if when.lower() in {"on", "off"}:
            cron = row.cron if row else NIGHTLY
        elif when:
            cron = parse_schedule(when, zone).text
        else:
            raise PublicError(
                "Write when it shall happen, for example `/eval schedule mondays at 6 on=golden`."
            )
        if when.lower() not in {"on", "off"} or wish:
            await self._store.keepsake(kept_words(self._team), lambda: "")
            await self._store.change_keepsake(kept_words(self._team), wish)
        changed = await self._store.set_schedule(
            team=self._team,
            action=EVAL,
            cron=cron,
            timezone=zone,
            enabled=when.lower() != "off",
            by=person,
        )
        await self._store.decide(
            team=self._team, actor=person, action="schedule", detail=f"eval {words}"[:200]
        )
        await self._clock.reload()
        return changed

    def _line(self, row: Schedule) -> str:
        cron = parse_schedule(row.cron, row.timezone)
        following = next_times(cron, row.timezone, now(), 1)
        return text.schedule_line(
            row, describe(cron, row.timezone), f"{following[0]:%a %d %b %H:%M}" if following else ""
        )
