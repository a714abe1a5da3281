"""API models as arms of an evaluation, and as its judge: asked as they answer people, each call reserved and settled.

No API model is asked unless an operator or an admin said so, and none of them is told words of private places: whoever
makes the arms says which questions those are (`training.evaluation.Arm.leaves`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bot import prompts
from bot.errors import ModelUnavailable, PublicError
from bot.models import AnswerModel
from bot.models.memory import Memory
from bot.money import Ledger
from bot.panel import NEAREST
from bot.routing import APIS
from storage.store import Store
from storage.values import Message, Proposal
from training.evaluation import Arm
from training.judged import Reply

EVALUATION, JUDGE = "evaluation", "judge"

Make = Callable[[str, str], AnswerModel]
"""A model by its kind ("openai") and name ("" is the one that the settings name). Raises PublicError."""


@dataclass(frozen=True, slots=True)
class Named:
    """An API model as people write it: "openai:gpt-6-luna"."""

    kind: str
    model: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.model}"

    @classmethod
    def read(cls, name: str) -> "Named":
        """Raises PublicError for what is no such name."""
        kind, colon, model = name.partition(":")
        if kind not in APIS or (colon and not model):
            raise PublicError(
                f"{name!r} is no API model. Write openai or gemini, with a model where it is not the usual one: "
                "openai:gpt-6-luna."
            )
        return cls(kind, model)


class Contenders:
    """API models that are compared. `usual` are those of every evaluation."""

    def __init__(
        self,
        store: Store,
        *,
        team: str,
        memory: Memory,
        ledger: Ledger,
        make: Make,
        system_prompt: str = "",
        usual: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._team = team
        self._memory = memory
        self._ledger = ledger
        self._make = make
        self._system_prompt = system_prompt
        self._made: dict[str, AnswerModel] = {}
        self.usual = tuple(usual)

    def check(self, name: str) -> str:
        """The whole name of a model that can be asked. Raises PublicError that says what is missing."""
        named = Named.read(name)
        return f"{named.kind}:{self.model(name).label}"

    async def arms(self, names: Sequence[str], *, held_out: Collection[str]) -> Sequence[Arm]:
        """Those of these names; none of them reads a verified answer to what is `held_out`."""
        hidden = frozenset(await self._store.entry_ids(self._team, held_out)) if names else frozenset()
        return [self.arm(self.check(name), name, hidden) for name in names]

    def arm(self, title: str, name: str, hidden: Collection[str]) -> Arm:
        """The model called `name` as the arm `title`."""
        model = self.model(name)

        async def answer(messages: Sequence[Message]) -> Proposal:
            turns = [message for message in messages if message.role != "system"]
            near = await self._memory.nearest(turns[-1].content, NEAREST, exclude=hidden)
            known = [(match.entry.question, match.entry.answer) for match in near]
            asked = prompts.for_api(turns, system=self._system_prompt, verified=known)
            return await model.answer(asked, meter=self._ledger.meter(purpose=EVALUATION))

        return Arm(title, answer, leaves=True)

    def model(self, name: str) -> AnswerModel:
        """The model called `name`, made once. Raises PublicError where it cannot be asked."""
        if name not in self._made:
            named = Named.read(name)
            self._made[name] = self._make(named.kind, named.model)
        return self._made[name]

    async def close(self) -> None:
        """Close the connections."""
        for model in self._made.values():
            close = getattr(model, "close", None)
            if close is not None:
                await close()


class ApiJudge:
    """An API model as the judge of an evaluation."""

    def __init__(self, name: str, model: AnswerModel, ledger: Ledger) -> None:
        self._name = name
        self._model = model
        self._ledger = ledger

    @property
    def label(self) -> str:
        """Which model, as the sheet names it."""
        return f"{Named.read(self._name).kind}:{self._model.label}"

    async def ask(self, shown: Sequence[Message]) -> Reply:
        """Its reply. Raises PublicError where it gives none."""
        try:
            said = await self._model.answer(list(shown), meter=self._ledger.meter(purpose=JUDGE))
        except ModelUnavailable as error:
            raise PublicError(str(error)) from error
        return Reply(said.text, said.cost_usd)

    async def close(self) -> None:
        """Close the connections."""
        close = getattr(self._model, "close", None)
        if close is not None:
            await close()
