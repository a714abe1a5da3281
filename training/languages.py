"""Which language a text is in, offline, and whether that is one of those which a team wants (pure).

The detector is py3langid: a table of 2 MB, no network, about 250 microseconds for a row, so it is asked only where somebody
named languages. What it says of a few words is a guess, and of code, product names and addresses as well: these are left out
of what it reads, short texts are kept, and a row is dropped only where the detector is sure that it is none of the wanted.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from storage.errors import PublicError

OTHER_LANGUAGE = "language"
"""The reason under which rows in another language are counted."""

SURE = 0.9
FEWEST_WORDS, FEWEST_LETTERS = 5, 25
FEWEST_SIGNS = 12  # of a script that puts no space between words
READ = 240  # characters: enough to be sure, and the time stays the same for long texts

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{0,200}`", re.DOTALL)
_NO_WORD = re.compile(r"[@/\\_{}=$#|<>\d]")  # in an address, a path, a name in code, a placeholder
_WORD = re.compile(r"[^\W\d_]{2,}")
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def known_languages() -> frozenset[str]:
    """The codes (ISO 639-1 for nearly all) that can be told apart."""
    return frozenset(str(label) for label in _detector().labels)


def checked(wanted: Sequence[str]) -> tuple[str, ...]:
    """The codes in small letters, each once. Raises PublicError for one that is unknown."""
    codes = tuple(dict.fromkeys(code.strip().lower() for code in wanted if code.strip()))
    if not codes:
        return ()
    unknown = [code for code in codes if code not in known_languages()]
    if unknown:
        raise PublicError(
            f"DATASET_LANGUAGES: {', '.join(unknown)} is no language that I know. Write codes such as en, de, fr or ja."
        )
    return codes


def language_of(text: str) -> str | None:
    """The language's code where it is certain; None for what is too short, mixed, or no language."""
    plain = _CODE.sub(" ", text[: 4 * READ]).split()
    read = " ".join(each for each in plain if not _NO_WORD.search(each))[:READ]
    words = _WORD.findall(read)
    if not _long_enough(read, words):
        return None
    code, certainty = _detector().classify(" ".join(words))
    return str(code) if certainty >= SURE else None


def unwanted(row: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """Why a row {"messages": [...]} is dropped: OTHER_LANGUAGE, or "" where it stays.

    Judged by its last question and answer, each alone: a team asks in English about German words. Both, or the one that is
    long enough to tell, have to be in another language.
    """
    if not wanted:
        return ""
    return unwanted_pair(*(turn["content"] for turn in row["messages"][-2:]), wanted=wanted)


def unwanted_pair(*texts: str, wanted: Sequence[str]) -> str:
    """The same for a question and its answer."""
    if not wanted:
        return ""
    reason = ""
    for text in reversed(texts):  # an answer is longer: mostly it settles the matter
        code = language_of(text)
        if code in wanted:
            return ""
        reason = OTHER_LANGUAGE if code else reason
    return reason


def _long_enough(text: str, words: Sequence[str]) -> bool:
    dense = len(_DENSE.findall(text))
    return dense >= FEWEST_SIGNS or (len(words) >= FEWEST_WORDS and sum(map(len, words)) >= FEWEST_LETTERS)


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    untyped: Any = LanguageIdentifier
    return untyped.from_model_file(MODEL_FILE, norm_probs=True)
