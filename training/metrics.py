"""How close an answer is to the reference answer: four numbers between 0 and 1, worked out offline.

Exact match and token F1 follow the official SQuAD 2.0 scorer, ROUGE-L follows Google's `rouge_score` without stemming,
chrF is sacreBLEU's `sentence_chrf` divided by 100. Nothing here judges meaning: an answer that is right in other words
scores low, and that is why only differences between models on the same questions are ever reported.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass, fields

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ROUGE_TOKEN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Scores:
    """How close one prediction is to its reference (or the means of many); each 0..1, higher is better."""

    exact_match: float
    token_f1: float
    rouge_l: float
    chrf: float


METRICS: tuple[str, ...] = tuple(field.name for field in fields(Scores))
"""Names of the metrics, in the order in which reports show them."""


def score(prediction: str, reference: str) -> Scores:
    """Score one answer against its reference. An empty prediction scores 0 unless the reference is empty too."""
    return Scores(
        exact_match=exact_match(prediction, reference),
        token_f1=token_f1(prediction, reference),
        rouge_l=rouge_l(prediction, reference),
        chrf=chrf(prediction, reference),
    )


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, no ASCII punctuation, no English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1.0 if both have the same SQuAD normal form, else 0.0."""
    return float(normalise(prediction) == normalise(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the words of the SQuAD normal form; words count as often as they occur.

    As in SQuAD 2.0, where either side has no words left the score is 1.0 if both have none, else 0.0.
    """
    predicted, expected = normalise(prediction).split(), normalise(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return _harmonic(shared, len(predicted), len(expected))


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F-measure: longest common subsequence of lower-case ASCII words and numbers; 0.0 if a side has none."""
    from rapidfuzz.distance import LCSseq

    predicted, expected = _rouge_tokens(prediction), _rouge_tokens(reference)
    return _harmonic(int(LCSseq.similarity(predicted, expected)), len(predicted), len(expected))


def chrf(prediction: str, reference: str) -> float:
    """chrF2 of sacreBLEU with its defaults (character 6-grams, beta 2), as 0..1 instead of 0..100.

    Two texts without any character (after stripping) are equal: 1.0, as for the other metrics.
    """
    if not prediction.strip() and not reference.strip():
        return 1.0
    from sacrebleu import sentence_chrf

    return float(sentence_chrf(prediction, [reference]).score) / 100


def _rouge_tokens(text: str) -> list[str]:
    return _ROUGE_TOKEN.findall(text.lower())


def _harmonic(shared: int, predicted: int, expected: int) -> float:
    if not shared:
        return 0.0
    precision, recall = shared / predicted, shared / expected
    return 2 * precision * recall / (precision + recall)
