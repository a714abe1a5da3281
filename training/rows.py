"""The examples as the trainer reads them: which tokens there are, which of them are learned, which rows are watched. Pure.

What people ask is read and never learned by heart: the loss is on the last answer alone. (training.md 3: the same minute of
training gave 49 % right answers so, and 30 % with the loss on everything.) Needs no torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.errors import PublicError
from training.chat import Tokenizer, Turn, prompt_and_answer

IGNORED = -100  # torch's label for "no loss here"
WATCHED_AT_LEAST = 8  # rows; fewer say nothing about when to stop
WATCHED_AT_MOST = 128  # rows; an evaluation must stay cheap beside the steps it interrupts


@dataclass(frozen=True, slots=True)
class Row:
    """An example in tokens; `labels` are IGNORED before the answer."""

    ids: list[int]
    labels: list[int]
    answer: str


def row(tokenizer: Tokenizer, conversation: Sequence[Turn]) -> Row:
    """A conversation in tokens."""
    prompt, answer = prompt_and_answer(tokenizer, conversation)
    return Row(prompt + answer, [IGNORED] * len(prompt) + answer, conversation[-1]["content"].strip())


def choose_watched(
    taught: Sequence[Row], held_back: Sequence[Row], *, longest: int
) -> tuple[list[Row], bool]:
    """The rows to evaluate on, and whether they can tell when to stop.

    Rows whose answer is never taught tell how surprising new facts are: on them the loss rises from the first step, and
    the best checkpoint would always be the untrained one. Other wordings of taught answers do tell; where there are too
    few of those, the last step is kept.
    """
    fitting = [each for each in held_back if len(each.ids) <= longest]
    answers = {each.answer for each in taught}
    known = [each for each in fitting if each.answer in answers]
    decides = len(known) >= WATCHED_AT_LEAST
    return (known if decides else fitting)[:WATCHED_AT_MOST], decides


def read_conversations(path: Path) -> list[list[Turn]]:
    """The conversations of a frozen split, each ending with an answer; PublicError names a line that is not one.

    A split without a file is an empty one: a small dataset has no validation rows.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_conversation(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _conversation(path: Path, number: int, line: str) -> list[Turn]:
    try:
        turns = [
            {"role": str(turn["role"]), "content": str(turn["content"])}
            for turn in json.loads(line)["messages"]
        ]
    except (ValueError, KeyError, TypeError) as broken:
        raise PublicError(
            f"{path}, line {number}: not an example ({broken!r}). Freeze the dataset again."
        ) from broken
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
        raise PublicError(f"{path}, line {number}: the answer is missing. Add it, or leave the example out.")
    return turns
