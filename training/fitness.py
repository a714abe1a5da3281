"""Why a row cannot be learned from, in plain words, and what a provider would refuse in a dataset.

Pure and cheap: a row takes about ten microseconds. The reasons are stable; datasets count their dropped rows by them.

Language is judged only where an operator names some (`training.languages`): teams mix them, and product names and commands
look foreign everywhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LONGEST_QUESTION, LONGEST_ANSWER = 20_000, 20_000
"""Characters."""
SHORTEST_QUESTION = 2
"""Letters and digits."""

NO_QUESTION = "the question is empty"
NO_ANSWER = "the answer is empty"
SHORT_QUESTION = "the question is too short to mean something"
LONG_QUESTION = f"the question is longer than {LONGEST_QUESTION:,} characters"
LONG_ANSWER = f"the answer is longer than {LONGEST_ANSWER:,} characters"
SAME = "the answer only repeats the question"
REFUSAL = "the answer is only a refusal or an apology"
BLACKED_OUT = "nothing is left of it but what was struck out"
SHAPE = "its messages do not have the shape of a conversation"
ROLES = "its messages are not in turn: an instruction at most first, then user and assistant"
END = "it does not end with the assistant"
TOKENS = "it is longer than {most:,} tokens"

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_\d+>")
_REFUSES = re.compile(
    r"(?:(?:(?:(?:i(?:'|’)?m|i am|we(?:'|’)re|we are)(?: very| so| really)? )?sorry"
    r"|(?:i|we) apologi[sz]e|(?:my|our) apologies|unfortunately,? (?:i|we)|as an ai)\b|(?:i|we) (?:can|am|are|won|do))",
    re.IGNORECASE,
)
_INABLE = re.compile(
    r"\b(?:i|we)(?:'m|’m| am|'re|’re| are)? (?:can(?:'|’)?t|cannot|can not|unable|not able|won(?:'|’)t"
    r"|(?:do not|don(?:'|’)t) (?:know|have))\b",
    re.IGNORECASE,
)
_BARE_APOLOGY = 3  # words
_HELPS_ON = re.compile(
    r"https?://|<#|<@|`|\d|\b(?:but(?! (?:i|we)\b)|instead|try|please|contact|ask|see|use|open|click"
    r"|go to|you can|until|because|since)\b",
    re.IGNORECASE,
)
_SHORT_ANSWER = 200
_SIGN = re.compile(r"\w")

OPENAI_FEWEST = 10
VERTEX_TOKENS = 131_072
VERTEX_VALIDATION, VERTEX_VALIDATION_SHARE = 5_000, 0.30

CountTokens = Callable[[str], int]


def unfit_pair(question: str, answer: str) -> str:
    """Why a question and its answer cannot be learned from; "" where they can."""
    asked, answered = question.strip(), answer.strip()
    if not asked:
        return NO_QUESTION
    if not answered:
        return NO_ANSWER
    if len(question) > LONGEST_QUESTION:
        return LONG_QUESTION
    if len(answer) > LONGEST_ANSWER:
        return LONG_ANSWER
    if ("<" in asked and _only_struck_out(asked)) or ("<" in answered and _only_struck_out(answered)):
        return BLACKED_OUT
    if len(asked) < 20 and len(_SIGN.findall(asked)) < SHORTEST_QUESTION:
        return SHORT_QUESTION
    if asked == answered or asked.casefold() == answered.casefold():
        return SAME
    return REFUSAL if _only_refuses(answered) else ""


def unfit(row: Mapping[str, Any], *, count: CountTokens | None = None, most: int = VERTEX_TOKENS) -> str:
    """Why a row {"messages": [...]} cannot be learned from; "" where it can. With a counter: over `most` tokens, too."""
    messages = row.get("messages")
    reason = _shape(messages)
    if reason or not isinstance(messages, Sequence):
        return reason
    reason = unfit_pair(messages[-2]["content"], messages[-1]["content"])
    if not reason and count is not None and sum(count(turn["content"]) for turn in messages) > most:
        return TOKENS.format(most=most)
    return reason


def provider_problems(
    counts: Mapping[str, int], provider: str, *, longest_tokens: int | None = None
) -> list[str]:
    """What the provider would refuse in a dataset of so many rows by split, each with the remedy; empty where nothing.

    `provider` is "openai" (and whoever copies its API) or "vertex"; others have no limits that are known here.
    `longest_tokens` are those of the longest example, where somebody counted.
    """
    train, validation = counts.get("train", 0), counts.get("validation", 0)
    if provider == "openai":
        return _openai(train)
    return _vertex(train, validation, longest_tokens) if provider == "vertex" else []


def _openai(train: int) -> list[str]:
    if train >= OPENAI_FEWEST:
        return []
    return [
        f"OpenAI needs at least {OPENAI_FEWEST} training examples and there are {train}. "
        "Rate or correct more answers, or import examples, and freeze again."
    ]


def _vertex(train: int, validation: int, longest_tokens: int | None) -> list[str]:
    problems = []
    if not train:
        problems.append(
            "Vertex needs training examples and there are none. Rate or correct some answers first."
        )
    if validation > VERTEX_VALIDATION:
        problems.append(
            f"Vertex takes at most {VERTEX_VALIDATION:,} validation examples and there are {validation:,}. "
            f"Send the first {VERTEX_VALIDATION:,}."
        )
    elif train and validation > VERTEX_VALIDATION_SHARE * (train + validation):
        problems.append(
            f"Vertex takes at most {VERTEX_VALIDATION_SHARE:.0%} of the examples for validation and there are "
            f"{validation:,} of {train + validation:,}. Send fewer of them."
        )
    if longest_tokens is not None and longest_tokens > VERTEX_TOKENS:
        problems.append(
            f"Vertex takes at most {VERTEX_TOKENS:,} tokens in an example and the longest has {longest_tokens:,}. "
            "Leave it out."
        )
    return problems


def _shape(messages: Any) -> str:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        return SHAPE
    roles = []
    for turn in messages:
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            return SHAPE
        roles.append(turn.get("role"))
    said = roles[1:] if roles[0] in ("system", "developer") else roles
    if not said or said[-1] != "assistant":
        return END
    return "" if said == ["user", "assistant"] * (len(said) // 2) else ROLES


def _only_struck_out(text: str) -> bool:
    return _PLACEHOLDER.search(text) is not None and not _SIGN.search(_PLACEHOLDER.sub("", text))


def _only_refuses(answer: str) -> bool:
    """Short, begins like a refusal, says what the speaker cannot or nothing at all, and nothing that helps on."""
    if len(answer) > _SHORT_ANSWER or not _REFUSES.match(answer):
        return False
    bare = "sorry" in answer.casefold() and len(answer.split()) <= _BARE_APOLOGY
    return (bare or bool(_INABLE.search(answer))) and not _HELPS_ON.search(answer)
