"""What the router sees of a question and of a local answer: numbers by name. Pure.

No word is kept: words of a question count only through the buckets that their hash falls into. A feature that is not known
(a model without log-probabilities) is left out, and counts as ordinary where a router was fitted on answers that had it.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

from storage.values import Proposal

BUCKETS = 128
"""Into so many buckets the words of questions fall; few, so that a fitted router stays small."""

_WORD = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LIST = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_HEDGE = re.compile(
    r"\b(?:i think|perhaps|maybe|not sure|probably|might|unclear|assum(?:e|ing)|vielleicht|vermutlich|wahrscheinlich)\b",
    re.I,
)
_REFUSAL = re.compile(
    r"\b(?:i (?:do not|don't|cannot|can't|am (?:not able|unable)|'m (?:not able|unable))|as an ai|not enough information"
    r"|cannot be determined|it is not possible|ich (?:weiß|kann) (?:es |das )?nicht)\b",
    re.I,
)
_AGAIN = re.compile(r"\b(?:wait|actually|correction|let me re|mistake|however)\b", re.I)
_AMOUNT = r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+"
_EQUATION = re.compile(
    rf"(?<![\w.,])(?P<terms>(?:{_AMOUNT})%?(?:\s*[-+*/x×÷]\s*(?:{_AMOUNT})%?)+)"
    rf"\s*=\s*(?P<result>{_AMOUNT})(?![\d,.]*\s*[-+*/x×÷(])"
)
_UNITS = re.compile(r"[$€£\\]|<<|\*\*|(?<=\d)\s+[^\W\d_]{2,}(?:/[^\W\d_]+)?(?=\s*[-+*/=×÷])")
_OPERATORS = {"x": "*", "×": "*", "÷": "/"}


def answer_features(
    proposal: Proposal, question: str = "", *, near: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The features of a local answer, to be stored with its Candidate; `near` are those of its neighbourhood, if any.

    `question` is what was asked last: an answer that repeats it or leaves out its numbers is told from one that does not.
    """
    text = proposal.text
    return {
        **_of_tokens(proposal),
        **_of_text(text),
        **_of_sums(text),
        **_beside(text, question),
        "refusal": float(bool(_REFUSAL.search(text[:300]))),
        "finish_length": float(proposal.finish == "length"),
        **(near or {}),
    }


def question_features(text: str) -> dict[str, float]:
    """The shape of a question; always all of them."""
    words, size = _WORD.findall(text), max(1, len(text))
    lines = text.split("\n")
    return {
        "q_length": math.log1p(len(text)),
        "q_digits": math.sqrt(sum(each.isdigit() for each in text) / size),
        "q_lines": math.log1p(len(lines)),
        "q_line": math.log1p(len(text) / len(lines)),
        "q_word": sum(map(len, words)) / max(1, len(words)),
        "q_signs": math.sqrt(sum(each in "=+*/^\\$_{}<>|`" for each in text) / size),
        "q_capitals": math.sqrt(sum(each.isupper() for each in text) / size),
        "q_numbers": math.log1p(len(_NUMBER.findall(text))),
    }


def word_buckets(text: str, buckets: int = BUCKETS) -> dict[int, float]:
    """How often the words of a text fall into each bucket (1 + ln count, with a sign of the hash); digits are one word."""
    seen: dict[int, float] = {}
    for word, count in Counter(
        "0" if each.isdigit() else each for each in _WORD.findall(text.lower())
    ).items():
        hashed = zlib.crc32(word.encode())
        sign = 1.0 if hashed >> 16 & 1 else -1.0
        seen[hashed % buckets] = seen.get(hashed % buckets, 0.0) + sign * (1 + math.log(count))
    return seen


def sums_in(text: str) -> tuple[int, int]:
    """How many equations such as "3 * 4 = 12" a text holds, and how many of them are wrong.

    Results may be rounded, units may stand between. What stands in brackets is not worked out, and not counted.
    """
    right = wrong = 0
    plain = _UNITS.sub("", text).replace(">>", " ; ")
    for found in _EQUATION.finditer(plain):
        value = _value(found["terms"])
        before = plain[: found.start()].rstrip()[-1:]
        if value is None or (before and before in "+-*/x×÷()^"):
            continue
        if _says(found["result"], value):
            right += 1
        else:
            wrong += 1
    return right + wrong, wrong


def _of_tokens(proposal: Proposal) -> dict[str, float]:
    told: dict[str, float] = {}
    if proposal.logprobs:
        told["logprob_mean"] = math.fsum(proposal.logprobs) / len(proposal.logprobs)
        told["logprob_min"] = max(-20.0, min(proposal.logprobs))
        told |= _quantiles("logprob", proposal.logprobs)
    if proposal.margins:
        told |= _quantiles("margin", proposal.margins)
    if proposal.first_entropy is not None:
        told["first_entropy"] = proposal.first_entropy
    return told


def _quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {f"{name}_{percent}": ordered[round(percent / 100 * last)] for percent in (10, 50, 90)}


def _of_text(text: str) -> dict[str, float]:
    words, size = _WORD.findall(text.lower()), max(1, len(text))
    ending = text.strip().rsplit("\n", 1)[-1]
    return {
        "length": math.log1p(len(text)),
        "lines": math.log1p(text.count("\n")),
        "digits": math.sqrt(sum(each.isdigit() for each in text) / size),
        "numbers": math.log1p(len(_NUMBER.findall(text))),
        "code": float("```" in text),
        "list": float(len(_LIST.findall(text)) >= 2),
        "hedge": min(3.0, float(len(_HEDGE.findall(text)))),
        "again": min(3.0, float(len(_AGAIN.findall(text)))),
        "repetition": _repetition(words),
        "ends_in_number": float(bool(re.search(r"\d[\d,.]*\W{0,3}$", ending))),
        "ending_has_number": float(bool(_NUMBER.search(ending))),
        "ends_whole": float(bool(re.search(r"[.!?)\]}`\d*:]$", text.rstrip()))),
        "marked_result": float("####" in text or "\\boxed" in text),
    }


def _repetition(words: Sequence[str]) -> float:
    """The share of word triples that were said before."""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def _of_sums(text: str) -> dict[str, float]:
    sums, wrong = sums_in(text)
    return {
        "sums": math.log1p(sums),
        "sums_wrong": float(wrong > 0),
        "sums_wrong_share": wrong / max(1, sums),
    }


def _beside(text: str, question: str) -> dict[str, float]:
    asked, told = set(_WORD.findall(question.lower())), set(_WORD.findall(text.lower()))
    given, used = set(_NUMBER.findall(question)), set(_NUMBER.findall(text))
    if not question:
        return {}
    return {
        "length_ratio": math.log((len(text) + 20) / (len(question) + 20)),
        "words_shared": len(asked & told) / max(1, len(asked)),
        "numbers_unused": math.log1p(len(given - used)),
        "numbers_new": math.log1p(len(used - given)),
    }


def _value(terms: str) -> float | None:
    """What terms come to, products before sums; None for a division by zero or what has an unclear sign."""
    tokens = re.findall(rf"(?:(?<=[-+*/x×÷])|^)(?:{_AMOUNT})%?|[-+*/x×÷]", re.sub(r"\s", "", terms))
    sums, product, operator, sign = 0.0, None, "*", 1.0
    for place, token in enumerate(tokens):
        if place % 2:
            operator = _OPERATORS.get(token, token)
            continue
        number = _number(token)
        if number is None:
            return None
        if product is None:
            product = number
        elif operator == "*":
            product *= number
        elif operator == "/":
            if number == 0:
                return None
            product /= number
        else:
            sums, sign, product = sums + sign * product, 1.0 if operator == "+" else -1.0, number
    return None if product is None or len(tokens) % 2 == 0 else sums + sign * product


def _number(token: str) -> float | None:
    try:
        return float(token.rstrip("%").replace(",", "")) / (100 if token.endswith("%") else 1)
    except ValueError:
        return None


def _says(result: str, value: float) -> bool:
    """Whether a written result is the value, as exact as it is written (or in percent)."""
    told = _number(result.rstrip(".,"))
    if told is None:
        return True
    decimals = len(result.rstrip(".,").partition(".")[2])
    slack = (
        max(0.51 * 10.0**-decimals, 0.005 * abs(value))
        if decimals or value % 1
        else 1e-6 * max(1, abs(value))
    )
    return abs(told - value) <= slack or abs(told - 100 * value) <= slack * 100
