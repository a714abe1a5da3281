"""How close an answer is to its reference: held to the published scorers and examples."""

import itertools
import subprocess
import sys

import pytest

from training.metrics import METRICS, chrf, exact_match, normalise, rouge_l, score, token_f1

TEXTS = (
    "",
    "The cat sat on the mat.",
    "a cat, the mat; and THE Dog",
    "Open Settings > Privacy and press *Delete*.",
    "open the settings and delete",
    "mat the on sat cat the",
    "naïve café — 100 % sure",
    "我想重置密码",
    "don't stop, can't stop",
    "word " * 40,
    "???",
)
PAIRS = list(itertools.product(TEXTS, TEXTS))


@pytest.mark.parametrize(
    ("prediction", "reference", "em", "f1"),
    [
        # The rules of SQuAD's evaluate-v2.0.py: case, punctuation, articles and spacing do not count.
        ("the Denver Broncos!", "Denver Broncos", 1.0, 1.0),
        ("  A   Saint Bernadette Soubirous ", "saint bernadette soubirous", 1.0, 1.0),
        ("Santa Clara, California", "Levi's Stadium in Santa Clara, California", 0.0, 2 * 1 * 0.5 / 1.5),
        ("gold gold", "gold", 0.0, 2 * 0.5 * 1 / 1.5),
        ("Carolina Panthers", "Denver Broncos", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "an", 1.0, 1.0),
        ("", "Denver", 0.0, 0.0),
        ("theatre", "atre", 0.0, 0.0),
        ("state-of-the-art", "stateoftheart", 1.0, 1.0),
    ],
)
def test_exact_match_and_token_f1_follow_squad(prediction: str, reference: str, em: float, f1: float) -> None:
    """The published SQuAD rules, worked by hand."""
    assert exact_match(prediction, reference) == em
    assert token_f1(prediction, reference) == pytest.approx(f1)


def test_articles_go_after_punctuation() -> None:
    """As in the official script: "a." is an article, and an article inside a word is none."""
    assert normalise("A. banana, an Apple & the theme") == "banana apple theme"


def test_rouge_l_is_googles() -> None:
    """Every pair gets the F-measure that rouge_score gives without stemming."""
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    for prediction, reference in PAIRS:
        expected = scorer.score(reference, prediction)["rougeL"].fmeasure
        assert rouge_l(prediction, reference) == pytest.approx(expected), (prediction, reference)


def test_chrf_is_sacrebleus() -> None:
    """Every pair gets sacreBLEU's sentence chrF as 0..1, only two empty texts are called equal."""
    from sacrebleu.metrics.chrf import CHRF

    for prediction, reference in PAIRS:
        expected = CHRF().sentence_score(prediction, [reference]).score / 100
        if not prediction and not reference:
            expected = 1.0
        assert chrf(prediction, reference) == pytest.approx(expected), (prediction, reference)


@pytest.mark.parametrize("reference", [text for text in TEXTS if text.isascii() and text not in ("", "???")])
def test_the_reference_itself_scores_one(reference: str) -> None:
    """A perfect answer is perfect in every metric."""
    scores = score(reference, reference)
    assert (scores.exact_match, scores.token_f1, scores.rouge_l) == (1.0, 1.0, 1.0)
    assert scores.chrf == pytest.approx(1.0)


def test_every_score_is_a_share() -> None:
    """All metrics are floats between 0 and 1 for any two texts, whatever their length or script."""
    for prediction, reference in [*PAIRS, ("x" * 100_000, "y z " * 1_000), ("\x00\ud800", "a")]:
        scores = score(prediction, reference)
        assert all(0.0 <= getattr(scores, metric) <= 1.0 for metric in METRICS)


def test_importing_the_scorers_waits_until_they_are_needed() -> None:
    """The bot's memory is not spent on numpy and sacreBLEU before something is scored."""
    code = (
        "import sys, training.metrics, training.promotion, training.evaluation, bot.models.memory\n"
        "print([name for name in ('numpy', 'sacrebleu', 'rapidfuzz', 'tantivy', 'torch') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
