"""What may follow `/eval` and `apprentice eval`, and asking for it: which model, on which questions, beside whom."""

from dataclasses import dataclass

from bot.contenders import Contenders
from bot.errors import PublicError
from bot.routing import APIS
from storage.golden import GOLDEN
from storage.records import DatasetVersion, Evaluation, ModelVersion
from storage.store import Store
from training.evaluating import Evaluations
from training.golden import golden_now

BASE = "base"
FEWEST_DIGITS = 4
USAGE = "Write a model's name, `on=golden` or `on=` and the beginning of a dataset's id, `with=openai`; or nothing."


@dataclass(frozen=True, slots=True)
class Wish:
    """`model` is "" for what serves now, `on` is "" for the newest dataset; `also` are API models that answer too."""

    model: str = ""
    on: str = ""
    also: tuple[str, ...] = ()


def read_wish(words: str) -> Wish:
    """The wish in what somebody typed. Raises PublicError that names the part and what may stand there."""
    model, on = "", ""
    also: list[str] = []
    for word in words.split():
        name, equals, value = word.partition("=")
        name, value = (name.lower(), value) if equals else ("model", word)
        if name not in {"model", "on", "with"} or not value:
            raise PublicError(f"I do not understand {word!r}. {USAGE}")
        if name == "with":
            also += [each for each in value.split(",") if each]
        elif name == "on":
            on = value.lower()
        elif value.partition(":")[0] in APIS:
            also.append(value)
        elif model:
            raise PublicError(f"I can evaluate one model at a time, not {model!r} and {value!r}. {USAGE}")
        else:
            model = value
    return Wish(model, on, tuple(dict.fromkeys(also)))


class Wishes:
    """Finds what a wish names, and asks for the evaluation."""

    def __init__(
        self, store: Store, evaluations: Evaluations, contenders: Contenders | None, *, team: str
    ) -> None:
        self._store = store
        self._evaluations = evaluations
        self._contenders = contenders
        self._team = team

    async def request(self, words: str, *, by: str) -> Evaluation:
        """The evaluation asked for. Raises PublicError naming what there is, where something is not."""
        wish = read_wish(words)
        return await self._evaluations.request(
            by=by,
            version=await self._version(wish.model),
            dataset=await self._dataset(wish.on) if wish.on else None,
            also=self._also(wish.also),
        )

    def _also(self, names: tuple[str, ...]) -> list[str]:
        if names and self._contenders is None:
            raise PublicError("No API model can be asked here.")
        return [self._contenders.check(name) for name in names] if self._contenders is not None else []

    async def _version(self, name: str) -> ModelVersion | None:
        if name in {"", BASE}:
            return None
        version = await self._store.model_named(self._team, name)
        if version is None:
            known = [each.name for each in await self._store.models(self._team)]
            names = ", ".join([BASE, *known[-10:]])
            raise PublicError(
                f"There is no model called {name!r}. There are: {names}. An API model is written openai:MODEL."
            )
        return version

    async def _dataset(self, named: str) -> DatasetVersion:
        if named == GOLDEN:
            version = await golden_now(self._store, self._team, self._evaluations.folder)
            if version is None:
                raise PublicError(
                    "The golden set is empty. `/apprentice golden` says how questions get into it."
                )
            return version
        datasets = [each for each in await self._store.datasets() if each.team in {"", self._team}]
        fitting = [each for each in datasets if each.id.startswith(named)]
        if len(named) < FEWEST_DIGITS or len(fitting) != 1:
            problem = (
                "There is no dataset" if not fitting else "There is more than one dataset, or too few digits,"
            )
            newest = ", ".join(each.id[:12] for each in datasets[-5:]) or "none yet"
            raise PublicError(
                f"{problem} whose id begins with {named!r}. The newest are: {newest}; or write on=golden."
            )
        return fitting[0]
