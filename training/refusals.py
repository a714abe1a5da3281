"""Whether an answer declines to answer. Pure: rules for English and German, on how the answer begins.

It looks for somebody who does not answer, not for bad news: "You cannot undo this" is an answer. An empty answer is counted
by itself. A judge, where there is one, is asked the same question; its word is shown beside the rule's, never mixed in.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

LOOKED_AT = 200
"""Characters: who refuses, says so first."""

_I = r"i(?:'m| am|'ve| have)?"
_REFUSAL = re.compile(
    rf"(?:\b{_I} (?:(?:really|simply|just|sorry,?|afraid|currently|but|that|to say|i) )*"
    r"(?:do not|don['’]t|cannot|can['’]?t|can not|am not able|not able|unable|will not|won['’]t|must decline|not allowed"
    r"|not permitted|no (?:idea|information|knowledge))\b"
    r"(?! (?:think|believe) (?:so|that|you|it)|(?: \w+)? recommend| see (?:a|any) (?:problem|reason))"
    r"|\bas an? (?:ai|language model|assistant)\b"
    r"|\b(?:there is|i have|i've got) (?:no|not enough) (?:answer|information) (?:on|about|to|for)"
    r"|\b(?:ich|da) (?:weiß|kann|darf|möchte|habe) (?:\w+ ){0,3}?(?:nicht|kein\w*)\b"
    r"|\bdas weiß ich (?:leider )?nicht\b"
    r"|\bkeine (?:ahnung|auskunft)\b)",
    re.I,
)


def refuses(answer: str) -> bool:
    """Whether somebody declines, or says that they do not know, instead of answering."""
    begins = " ".join(answer.replace("’", "'").split())[:LOOKED_AT]
    return bool(_REFUSAL.search(begins))


def counted(said: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
    """For each arm how many of its answers refuse; `said` are its answers with what was expected.

    Where the expected answer declines too, declining is right and is not counted.
    """
    told = {}
    for arm, answers in said.items():
        asked = [answer for answer, expected in answers if not refuses(expected)]
        refused = sum(map(refuses, asked))
        told[arm] = {"n": len(asked), "refused": refused, "share": refused / max(1, len(asked))}
    return told
