"""What a question is known by: its words in lower case, and the hash of them: two ways to write it are one question."""

import hashlib
import re
from typing import NamedTuple

KEY_DIGITS = 32
_WORDS = re.compile(r"\w+")


class Wording(NamedTuple):
    """A question's `key`, and the question as it is compared with others."""

    key: str
    compared: str


def wording(question: str) -> Wording:
    """Both at once; the key is the first digits of `storage.entries.question_hash`."""
    folded = question.casefold()
    plain = " ".join(_WORDS.findall(folded))
    key = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_DIGITS]
    return Wording(key, plain or " ".join(folded.split()))


def normal(question: str) -> str:
    """The question as it is compared: lower case, its words joined by one space; without any word, what there is."""
    folded = question.casefold()
    return " ".join(_WORDS.findall(folded)) or " ".join(folded.split())
