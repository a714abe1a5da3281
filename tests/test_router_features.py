"""The router sees numbers, no words, and knows a sum that does not add up."""

import pytest

from storage.values import Proposal
from training.router_features import answer_features, question_features, sums_in, word_buckets


@pytest.mark.parametrize(
    ("text", "sums", "wrong"),
    [
        ("3 * 4 = 12", 1, 0),
        ("3*4=13", 1, 1),
        ("She pays $1,200 x 3 = $3,600.", 1, 0),
        ("48/2 = <<48/2=24>>24 clips", 1, 0),
        ("48/2 = <<48/2=25>>25 clips", 1, 1),
        ("10 / 3 = 3.33", 1, 0),
        ("5 apples + 3 apples = 8 apples", 1, 0),
        ("3 + 2*3 = 8, and 16 - 3 - 4 = 9", 2, 1),
        ("50% * 40 = 20", 1, 0),
        ("(3 + 4) * 2 = 14", 0, 0),
        ("f(x) = 4x - 5 and 7 / 0 = 1", 0, 0),
        ("no sums here", 0, 0),
    ],
)
def test_a_sum_that_does_not_add_up_is_seen(text: str, sums: int, wrong: int) -> None:
    """What stands in brackets is not judged; rounding is no mistake."""
    assert sums_in(text) == (sums, wrong)


def test_tokens_are_seen_by_their_quantiles() -> None:
    """The worst token, the middle, the margin; a model that gives none has none."""
    logprobs = tuple(-float(number) for number in range(11))
    told = answer_features(
        Proposal("yes", "local", "m", logprobs=logprobs, margins=logprobs, first_entropy=0.5)
    )
    assert told["logprob_min"] == -10
    assert told["logprob_50"] == told["margin_50"] == told["logprob_mean"] == -5
    assert told["logprob_10"] == -9
    assert told["first_entropy"] == 0.5
    assert "logprob_mean" not in answer_features(Proposal("yes", "local", "m"))


@pytest.mark.parametrize(
    ("text", "name", "seen"),
    [
        ("I cannot help with that.", "refusal", 1.0),
        ("Use the button.", "refusal", 0.0),
        ("```\nls\n```", "code", 1.0),
        ("- one\n- two", "list", 1.0),
        ("so it is\n#### 42", "marked_result", 1.0),
        ("so it is\n#### 42", "ends_in_number", 1.0),
        ("I think it is maybe blue.", "hedge", 2.0),
        ("go on go on go on go on go on", "repetition", 0.8),
    ],
)
def test_an_answer_is_seen_by_its_shape(text: str, name: str, seen: float) -> None:
    """Refusals, code, lists, doubts, and going round in circles."""
    told = answer_features(Proposal(text, "local", "m"))[name]
    assert (told > 0.5) if name == "repetition" else (told == seen)


def test_no_word_is_kept() -> None:
    """Only numbers leave; the words of a question fall into buckets whatever the process."""
    told = answer_features(Proposal("Ask Alice", "local", "m"), "Who is Alice?") | question_features(
        "Who is Alice?"
    )
    assert all(isinstance(value, float) for value in told.values())
    assert word_buckets("Who is Alice?") == word_buckets("who IS alice")
    assert all(0 <= bucket < 128 for bucket in word_buckets("Who is Alice?"))
    for text in ("", " ", "\n", "😀" * 100, "1" * 5000):
        assert answer_features(Proposal(text, "local", "m"), text)
