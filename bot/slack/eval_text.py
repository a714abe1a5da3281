"""Every sentence around `/eval`. Pure."""

from bot.slack.text import escape
from storage.records import Evaluation

HELP = """`/eval` compares what serves now with the base and memory, on held-out questions
`/eval local-3` compares that model with them
`/eval openai:gpt-6-luna` or `/eval with=openai` lets an API model answer them as well; that costs money
`/eval on=golden` asks the golden set · `/eval on=3f9a2b` the questions of an older dataset, by the beginning of its id
`/eval cancel` stops the one that is going on
`/eval schedule mondays at 6 model=local-3 on=golden` repeats it · `off` · `on` · `/eval schedule` shows when"""
NONE_GOES_ON = "No evaluation is going on by itself. One of a training run stops with `/train cancel`."
NOT_SCHEDULED = "Evaluations happen when somebody types `/eval`, and after every training run."


def starts(evaluation: Evaluation) -> str:
    """The receipt."""
    return f"Evaluation #{evaluation.number} starts. Its report is in the admin channel."


def cancelled(evaluation: Evaluation, *, was_live: bool) -> str:
    """Whether it could still be stopped."""
    if was_live:
        return f"Evaluation #{evaluation.number} is cancelled."
    return f"Evaluation #{evaluation.number} was finished before it could be cancelled."


def scheduled(line: str, words: str) -> str:
    """When it happens by itself, and what."""
    what = f" (`{escape(words)}`)" if words else ""
    return f"Evaluations happen {line}{what}."
