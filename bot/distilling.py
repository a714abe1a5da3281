"""An API model answers the team's questions, so that a local one can learn from it: quoted, agreed to, asked, kept.

What was answered is never asked again, so that whatever ends a distillation (a kill, a budget, an outage) loses nothing but
the calls that were under way: the next one goes on behind them.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from bot import prompts
from bot.contenders import Contenders, Named
from bot.errors import BudgetSpent, ModelUnavailable, PublicError, ToldToAsker
from bot.models.memory import Memory
from bot.money import Ledger
from bot.panel import NEAREST
from bot.routing import APIS, is_private
from bot.settings import Policy
from storage.distilling import Asked, Said
from storage.records import Distillation, DistillationState
from storage.store import Store
from training.distilling import Choosing, Limits, Wanted
from training.examples import Sieve, conversation
from training.gathering import allowed_today
from training.golden import Untouched
from training.run_steps import new_salt
from training.runs import SALT
from training.wording import KEY_DIGITS

DISTIL = "distil"
USUAL, MOST = 500, 20_000
AT_ONCE = 8
LEASE_S = 300.0
"""Longer than one round of questions may take; who was killed in it is followed after so long."""
PAUSE_S = 5.0
GIVE_UP_AFTER = 3  # rounds in which nobody answered

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DistilRules:
    """As the settings say. `price` is what one answer of a model costs, None where nobody knows; `free` are free kinds."""

    policy: Policy
    private_stays_local: bool
    price: Callable[[str], float | None]
    system_prompt: str = ""
    free: frozenset[str] = frozenset()
    review_required: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """`teacher` is "" for the usual API model; `within_usd` None for a limit by the price."""

    teacher: str = ""
    most: int = USUAL
    within_usd: float | None = None


def read_wish(words: str) -> Wish:
    """What somebody typed: [MODEL] [limit=N] [within=USD]. Raises PublicError that names the part and the remedy."""
    usage = "Write an API model or one of its fine-tunes, `limit=` and how many questions, `within=` and how many dollars."
    teacher, most, within = "", USUAL, None
    for word in words.split():
        name, equals, value = word.partition("=")
        try:
            if not equals and not teacher:
                teacher = word
            elif name.lower() == "limit" and 1 <= int(value) <= MOST:
                most = int(value)
            elif name.lower() == "within" and 0 < float(value.lstrip("$")) < 1e6:
                within = float(value.lstrip("$"))
            else:
                raise ValueError(word)
        except ValueError:
            raise PublicError(
                f"I do not understand {word!r}. {usage} The limit is at most {MOST:,}."
            ) from None
    return Wish(teacher, most, within)


@dataclass(slots=True)
class _Round:
    """What became of some questions: how many are kept or to be asked another time, what was said, why it cannot go on."""

    answered: int = 0
    missed: int = 0
    trouble: str = ""
    stop: str = ""


@dataclass(slots=True)
class _Known:
    """What holds for a teacher now: what may be asked, and whose words the verified answers hold that it may be shown."""

    choosing: Choosing
    people: dict[str, tuple[str, ...]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)


class Distilling:
    """One distillation at a time in a workspace, whoever of several bots and terminals carries it out."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        memory: Memory,
        ledger: Ledger,
        contenders: Contenders,
        rules: DistilRules,
        worker: str,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._store = store
        self._team = team
        self._memory = memory
        self._ledger = ledger
        self._contenders = contenders
        self._rules = rules
        self._worker = worker
        self._pause_s = pause_s
        self._task: asyncio.Task[None] | None = None

    # --- what people decide -----------------------------------------------------------------------------------------

    async def quote(self, wish: Wish, *, by: str) -> Distillation:
        """What it would be, waiting for a yes. Raises PublicError where nothing can or need be asked."""
        live = await self._store.live_distillation(self._team)
        if live is not None and live.state is DistillationState.RUNNING:
            raise PublicError(
                f"{live.teacher} is being asked already ({live.answered:,} answers so far). Wait for its end, or cancel it."
            )
        named = await self._teacher(wish.teacher)
        known = await self._known(named)
        chosen = known.choosing.chosen(wish.most)
        left_out = {reason: count for reason, count in known.choosing.left_out.most_common() if count}
        if not chosen:
            why = "; ".join(f"{count:,}: {reason}" for reason, count in left_out.items())
            raise PublicError(
                f"There is no question to ask {named}. {f'Left out: {why}.' if why else 'Nobody has asked anything yet.'}"
            )
        asked = sum(not each.own for each in chosen)
        price = 0.0 if named.kind in self._rules.free else self._rules.price(named.model)
        within = wish.within_usd
        if within is None:
            within = 0.0 if price is None else math.ceil(200 * price * asked) / 100
        told = {
            "questions": asked,
            "own": len(chosen) - asked,
            "about_usd": None if price is None else price * asked,
            "left_out": left_out,
            "review_required": self._rules.review_required,
        }
        return await self._store.quote_distillation(
            team=self._team, teacher=str(named), most=wish.most, within_usd=within, quote=told, by=by
        )

    async def confirm(self, *, by: str) -> Distillation:
        """Somebody agrees to what was quoted last. Raises PublicError where nothing waits for it."""
        live = await self._store.live_distillation(self._team)
        if live is None or not await self._store.confirm_distillation(live.id, by=by):
            raise PublicError("Nothing waits for a yes. Ask for a quote first: `distil`.")
        await self._store.decide(
            team=self._team,
            actor=by,
            action=DISTIL,
            subject=live.teacher,
            detail=f"at most {live.most} questions, ${live.within_usd:.2f}; the provider's terms were acknowledged",
        )
        return await self._store.distillation(live.id) or live

    async def cancel(self, *, by: str) -> Distillation:
        """What goes on, or waits, ends. What was answered stays. Raises PublicError where there is nothing."""
        live = await self._store.live_distillation(self._team)
        ended = live is not None and await self._store.end_distillation(
            live, DistillationState.STOPPED, reason="cancelled", by=by
        )
        if live is None or not ended:
            raise PublicError("No model is being asked, and nothing waits for a yes.")
        return await self._store.distillation(live.id) or live

    async def drop(self, teacher: str, *, by: str) -> tuple[str, int]:
        """Delete what a teacher said: its name, and how many answers that were. Raises PublicError where it is no model."""
        named = await self._teacher(teacher)
        gone = await self._store.drop_distilled(self._team, str(named))
        await self._store.decide(
            team=self._team, actor=by, action=DISTIL, subject=str(named), detail=f"{gone} answers dropped"
        )
        return str(named), gone

    # --- what goes on by itself -------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Go on with what somebody agreed to, in a task of our own."""
        if self._task is not None and not self._task.done():
            return
        live = await self._store.live_distillation(self._team)
        if live is not None and live.state is DistillationState.RUNNING and await self._claim(live):
            self._task = asyncio.create_task(self._carried_out(live), name="distilling")

    async def close(self) -> None:
        """Leave off; the next bot goes on."""
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        live = await self._store.live_distillation(self._team)
        if live is not None:
            await self._store.release_distillation(live.id, worker=self._worker)

    async def _carried_out(self, row: Distillation) -> None:
        try:
            await self._carry_out(row)
        except PublicError as error:
            await self._store.end_distillation(row, DistillationState.STOPPED, reason=str(error))
        except Exception as error:
            log.exception("a distillation was interrupted", teacher=row.teacher)
            why = f"Something went wrong here ({type(error).__name__}); my log tells more."
            await self._store.end_distillation(row, DistillationState.STOPPED, reason=why)

    async def _carry_out(self, row: Distillation) -> None:
        named = Named.read(row.teacher)
        known = await self._known(named)
        todo = known.choosing.chosen(max(0, row.most - row.answered))
        silent = missed = 0
        trouble = ""
        for start in range(0, len(todo), AT_ONCE):
            if not await self._claim(row):
                return  # cancelled, or somebody else's
            found = await self._round(row, named, known, todo[start : start + AT_ONCE])
            now = await self._store.distillation(row.id) or row
            silent = 0 if found.answered or not found.missed else silent + 1
            reason = found.stop
            missed, trouble = missed + found.missed, found.trouble or trouble
            if silent == GIVE_UP_AFTER:
                reason = f"{named} does not answer. {found.trouble}"
            elif not reason and 0 < now.within_usd <= now.cost_usd and start + AT_ONCE < len(todo):
                reason = f"The ${now.within_usd:.2f} that were agreed to are spent."
            if reason:
                await self._store.end_distillation(row, DistillationState.STOPPED, reason=reason)
                return
            if silent:
                await asyncio.sleep(self._pause_s * silent)
        reason = f"{missed:,} can be asked again. {trouble}" if missed else ""
        await self._store.end_distillation(row, DistillationState.DONE, reason=reason)

    async def _claim(self, row: Distillation) -> bool:
        return await self._store.claim_distillation(row.id, worker=self._worker, lease_s=LEASE_S)

    async def _round(
        self, row: Distillation, named: Named, known: _Known, wanted: Sequence[Wanted]
    ) -> _Round:
        there = {
            each.answer_id: each
            for each in await self._store.asked_of(self._team, [each.answer_id for each in wanted])
        }
        result = _Round()

        async def one(want: Wanted) -> None:
            asked = there.get(want.answer_id)
            if asked is None:
                return  # forgotten meanwhile
            people = {asked.asker, *asked.earlier}
            if want.own:
                said = Said(want.key, want.answer_id, asked.text, people=tuple(sorted(people)))
            else:
                answered = await self._ask(named, known, want, asked, result)
                if answered is None:
                    return
                said = answered
            result.answered += await self._store.keep_distilled(row, said)

        await asyncio.gather(*(one(each) for each in wanted))
        return result

    async def _ask(
        self, named: Named, known: _Known, want: Wanted, asked: Asked, result: _Round
    ) -> Said | None:
        """What it says; None where that is to be tried again another time."""
        turns = conversation(asked.messages, asked.question)
        near = await self._memory.nearest(asked.question, NEAREST, exclude=known.hidden)
        shown = [match.entry for match in near if match.entry.id in known.people]
        people = {asked.asker, *asked.earlier, *(one for entry in shown for one in known.people[entry.id])}
        prompt = prompts.for_api(
            turns,
            system=self._rules.system_prompt,
            verified=[(entry.question, entry.answer) for entry in shown],
        )
        whose = tuple(sorted(people))
        try:
            model = self._contenders.model(str(named))
            said = await model.answer(prompt, meter=self._ledger.meter(purpose=DISTIL))
        except BudgetSpent as error:
            result.stop = str(error)
        except ModelUnavailable as error:
            result.trouble = str(error)
            if isinstance(error, ToldToAsker):  # it is about the question, and will be the same another time
                return Said(want.key, want.answer_id, trouble=str(error), people=whose)
            result.missed += 1
        else:
            return Said(want.key, want.answer_id, said.text, people=whose, cost_usd=said.cost_usd)
        return None

    # --- what may be asked ------------------------------------------------------------------------------------------

    async def _teacher(self, name: str) -> Named:
        """The API model that somebody named, or one of its fine-tunes. Raises PublicError."""
        version = await self._store.model_named(self._team, name) if name else None
        if version is not None:
            if version.kind not in APIS:
                raise PublicError(
                    f"{version.name} is a local model, which is what learns. Name an API model."
                )
            return Named(version.kind, version.model)
        for kind in [name] if name else APIS:
            try:
                return Named.read(self._contenders.check(kind))
            except PublicError:
                if name:
                    raise
        raise PublicError(
            "No API model is set up here. Set OPENAI_API_KEY or GEMINI_API_KEY, and restart me."
        )

    async def _known(self, named: Named) -> _Known:
        store, team = self._store, self._team
        allowed = await allowed_today(store, team)
        held_out: set[str] = set()
        async for places in store.split_places(team):
            held_out.update(each.key for each in places if each.split != "train")
        golden = await store.golden_questions(team)
        answered: set[str] = set()
        known = _Known(
            Choosing(
                named.kind,
                named.model,
                Limits(
                    allowed,
                    await self._stays_here(),
                    held_out=held_out,
                    answered=answered,
                    done=await store.distilled_keys(team, str(named)),
                    golden=await asyncio.to_thread(Untouched, golden) if golden else None,
                    salt=await store.keepsake(SALT, new_salt),
                ),
            )
        )
        sieve = Sieve(allowed)
        async for entries in store.learnable_entries(team):
            answered.update(each.key[:KEY_DIGITS] for each in entries)
            for each in sieve.entries(entries):
                if each.key not in held_out and each.split != "test":
                    known.people[each.id] = each.authors
            known.hidden.update(each.id for each in entries if each.id not in known.people)
        async for page in store.asked(team):
            await asyncio.to_thread(known.choosing.look, page)
        return known

    async def _stays_here(self) -> Callable[[str, str], bool]:
        chosen = {row.channel: row.policy for row in await self._store.channels_with_settings(self._team)}

        def stays(channel: str, place: str) -> bool:
            policy = chosen.get(channel) or ""
            if Policy(policy or self._rules.policy) is Policy.LOCAL_ONLY:
                return True
            return is_private(place, chosen=bool(policy), private_stays_local=self._rules.private_stays_local)

        return stays
