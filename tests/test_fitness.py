"""Every row that cannot be learned from says why, in the same words each time; what providers refuse is known before."""

from typing import Any

import pytest

from training import fitness
from training.fitness import provider_problems, unfit, unfit_pair

GOOD = "How do I reset my password?", "Open the portal and click Reset."

PAIRS = {
    "no question": ("  ", "yes", fitness.NO_QUESTION),
    "no answer": ("why?", " \n", fitness.NO_ANSWER),
    "one letter": ("a?", "What do you mean by that?", fitness.SHORT_QUESTION),
    "only signs": ("???", "What do you mean by that?", fitness.SHORT_QUESTION),
    "long question": ("a" * 20_001, "yes", fitness.LONG_QUESTION),
    "long answer": ("why?", "a" * 20_001, fitness.LONG_ANSWER),
    "echo": ("Reset the password", "reset the password ", fitness.SAME),
    "question struck out": ("<EMAIL_1>, <PERSON_2>", "Thanks.", fitness.BLACKED_OUT),
    "answer struck out": ("What is the token?", "`<TOKEN_1>`", fitness.BLACKED_OUT),
    "refusal": ("Who?", "I'm sorry, but I can't help with that.", fitness.REFUSAL),
    "plain refusal": ("Who?", "I'm sorry, I can't help with that.", fitness.REFUSAL),
    "does not know": ("Who?", "I don’t know.", fitness.REFUSAL),
    "cannot": ("Who?", "I cannot answer this question", fitness.REFUSAL),
    "unable": ("Who?", "Unfortunately, we are unable to answer this.", fitness.REFUSAL),
    "machine": ("Who?", "As an AI language model, I do not have opinions.", fitness.REFUSAL),
    "bare apology": ("Who?", "Sorry!", fitness.REFUSAL),
}
FIT = [
    GOOD,
    ("Can I change my name?", "Unfortunately not."),
    ("Can I undo it?", "Sorry, you can't."),
    ("Do you refund?", "We can't refund after 30 days."),
    ("Where is it?", "I don't know, but Ana does: ask in <#C1>."),
    ("Who knows?", "I don't know but Ana does."),
    ("Wo ist die Kantine?", "Im zweiten Stock."),
    ("何時?", "九時。"),
    ("Whom do I ask?", "Write to <EMAIL_1>."),
]


@pytest.mark.parametrize(("question", "answer", "reason"), PAIRS.values(), ids=PAIRS.keys())
def test_why_a_pair_cannot_be_learned_from(question: str, answer: str, reason: str) -> None:
    """Each for its own reason."""
    assert unfit_pair(question, answer) == reason


@pytest.mark.parametrize(("question", "answer"), FIT)
def test_answers_that_help_are_fit(question: str, answer: str) -> None:
    """A no is an answer; so is where to ask, and any language."""
    assert unfit_pair(question, answer) == ""


def turns(*roles: str) -> dict[str, Any]:
    return {
        "messages": [{"role": role, "content": f"{role} said number {n}"} for n, role in enumerate(roles)]
    }


ROWS: list[tuple[dict[str, Any], str]] = [
    (turns("user", "assistant"), ""),
    (turns("system", "user", "assistant"), ""),
    (turns("developer", "user", "assistant", "user", "assistant"), ""),
    (turns("user"), fitness.END),
    (turns("system"), fitness.END),
    (turns("user", "assistant", "user"), fitness.END),
    (turns("assistant"), fitness.ROLES),
    (turns("user", "user", "assistant"), fitness.ROLES),
    (turns("user", "system", "assistant"), fitness.ROLES),
    (turns("user", "tool", "user", "assistant"), fitness.ROLES),
    ({}, fitness.SHAPE),
    ({"messages": "hello"}, fitness.SHAPE),
    ({"messages": []}, fitness.SHAPE),
    ({"messages": [{"role": "user", "content": None}]}, fitness.SHAPE),
    ({"messages": ["hello"]}, fitness.SHAPE),
]


@pytest.mark.parametrize(("row", "reason"), ROWS)
def test_a_row_is_a_conversation_that_ends_with_its_answer(row: dict[str, Any], reason: str) -> None:
    """An instruction at most first, then user and assistant in turn."""
    assert unfit(row) == reason


def test_tokens_are_counted_where_somebody_can() -> None:
    """With a counter, a row over the limit is refused; without one, characters have to do."""
    row = {
        "messages": [
            {"role": "user", "content": "why is it so?"},
            {"role": "assistant", "content": "a b c " * 10},
        ]
    }
    count = lambda text: len(text.split())  # noqa: E731
    assert unfit(row, count=count, most=34) == ""
    assert unfit(row, count=count, most=33) == "it is longer than 33 tokens"
    assert unfit(row) == ""


@pytest.mark.parametrize(
    ("provider", "counts", "tokens", "said"),
    [
        ("openai", {"train": 9}, None, ["at least 10"]),
        ("openai", {"train": 10}, None, []),
        ("vertex", {"train": 0}, None, ["there are none"]),
        ("vertex", {"train": 100, "validation": 42}, None, []),
        ("vertex", {"train": 100, "validation": 43}, None, ["30%"]),
        ("vertex", {"train": 100_000, "validation": 5_001}, None, ["5,000"]),
        ("vertex", {"train": 100, "validation": 5}, 131_072, []),
        ("vertex", {"train": 100, "validation": 5}, 131_073, ["131,072 tokens"]),
        ("local", {"train": 1}, 10**6, []),
    ],
)
def test_what_a_provider_would_refuse(
    provider: str, counts: dict[str, int], tokens: int | None, said: list[str]
) -> None:
    """Each problem names the limit, the number and the remedy."""
    problems = provider_problems(counts, provider, longest_tokens=tokens)
    assert len(problems) == len(said)
    for problem, words in zip(problems, said, strict=True):
        assert words in problem
