"""The examples as the trainer reads them: which tokens there are, which of them are learned, which rows are watched. Pure.

What people ask is read and never learned by heart: the loss is on the last answer alone. (training.md 3: the same minute of
training gave 49 % right answers so, and 30 % with the loss on everything.) Needs no torch.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import PublicError
from training.chat import Tokenizer, Turn, prompt_and_answer

IGNORED = -100  # torch's label for "no loss here"
WATCHED_AT_LEAST = 8  # rows; fewer say nothing about when to stop
WATCHED_AT_MOST = 128  # rows; an evaluation must stay cheap beside the steps it interrupts


@dataclass(frozen=True, slots=True)
class Row:
    """An example in tokens; `labels` are IGNORED before the answer. `weight`: how hard it pulls; 1 is whole."""

    ids: list[int]
    labels: list[int]
    answer: str
    weight: float = 1.0

    @property
    def length(self) -> int:
        """Tokens of the conversation."""
        return len(self.ids)


def row(tokenizer: Tokenizer, conversation: Sequence[Turn], weight: float = 1.0) -> Row:
    """A conversation in tokens."""
    prompt, answer = prompt_and_answer(tokenizer, conversation)
    return Row(prompt + answer, [IGNORED] * len(prompt) + answer, conversation[-1]["content"].strip(), weight)


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


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation as the dataset has it, ending with its answer."""

    turns: list[Turn]
    weight: float = 1.0


def read_examples(path: Path) -> list[Example]:
    """The examples of a frozen split; PublicError names a line that is not one.

    A split without a file is an empty one: a small dataset has no validation rows.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_example(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _example(path: Path, number: int, line: str) -> Example:
    try:
        read = json.loads(line)
        turns, weight = _turns(read["messages"]), float(read.get("weight", 1.0))
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise PublicError(
            f"{path}, line {number}: not an example ({broken!r}). Freeze the dataset again."
        ) from broken
    if len(turns) < 2 or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
        raise PublicError(f"{path}, line {number}: the answer is missing. Add it, or leave the example out.")
    if not 0 < weight < math.inf:
        raise PublicError(
            f"{path}, line {number}: the weight {weight:g} is not above 0. Freeze the dataset again."
        )
    return Example(turns, weight)


@dataclass(frozen=True, slots=True)
class PairRow:
    """A preference in tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer of its two conversations."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, slots=True)
class ThumbRow:
    """An answer that was liked or not, in tokens."""

    prompt: list[int]
    completion: list[int]
    liked: bool

    @property
    def length(self) -> int:
        """Tokens of the conversation."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference as the dataset has it; `split` is where its question lies."""

    turns: list[Turn]
    chosen: str
    rejected: str
    split: str


@dataclass(frozen=True, slots=True)
class Thumb:
    """An answer with a thumb as the dataset has it."""

    turns: list[Turn]
    completion: str
    liked: bool
    split: str


def pair_row(tokenizer: Tokenizer, pair: Pair) -> PairRow:
    """A preference in tokens."""
    prompt, chosen = prompt_and_answer(tokenizer, [*pair.turns, _said(pair.chosen)])
    _, rejected = prompt_and_answer(tokenizer, [*pair.turns, _said(pair.rejected)])
    return PairRow(prompt, chosen, rejected)


def thumb_row(tokenizer: Tokenizer, thumb: Thumb) -> ThumbRow:
    """A rated answer in tokens."""
    prompt, completion = prompt_and_answer(tokenizer, [*thumb.turns, _said(thumb.completion)])
    return ThumbRow(prompt, completion, thumb.liked)


def _said(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def read_pairs(path: Path) -> list[Pair]:
    """The preferences of a frozen dataset; PublicError names a line that is none. No file: none."""
    return [
        Pair(_turns(each["messages"]), str(each["chosen"]), str(each["rejected"]), str(each["split"]))
        for each in _lines(path, ("messages", "chosen", "rejected", "split"))
    ]


def read_thumbs(path: Path) -> list[Thumb]:
    """The rated answers of a frozen dataset; PublicError names a line that is none. No file: none."""
    return [
        Thumb(_turns(each["messages"]), str(each["completion"]), each["label"] is True, str(each["split"]))
        for each in _lines(path, ("messages", "completion", "label", "split"))
    ]


def thumbs_from(pairs: Sequence[Pair]) -> list[Thumb]:
    """What pairs say of single answers: the chosen one is liked, the rejected one is not."""
    return [
        Thumb(pair.turns, text, liked, pair.split)
        for pair in pairs
        for text, liked in ((pair.chosen, True), (pair.rejected, False))
    ]


def _lines(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            read = json.loads(line)
            found.append({name: read[name] for name in names} | {"messages": _turns(read["messages"])})
        except (ValueError, KeyError, TypeError) as broken:
            raise PublicError(
                f"{path}, line {number}: not a preference ({broken!r}). Freeze the dataset again."
            ) from broken
    return found


def _turns(messages: Sequence[Turn]) -> list[Turn]:
    return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages]
