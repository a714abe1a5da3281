"""What may be shown of an answer while it is being written: nothing that could yet turn out to be a secret. Pure.

A key, a card's number or a name may arrive in pieces, and what a stream has shown cannot be taken back. So the last line or
two are held back until what follows them is known; the complete answer is struck out as a whole.
"""

import re
from collections.abc import Callable

HELD_BACK = 200
"""Characters. Longer than anything that holds spaces and is struck out, but for private keys, which show as they begin."""
STEPS = 12
_GAP = re.compile(r"[\s。、，！？；：]")


def showable(raw: str, strike: Callable[[str], str]) -> str:
    """The beginning of a growing text, struck out, that more text will not change; "" while there is none.

    It ends between two words, at least HELD_BACK characters before the end, and never within what is struck out.
    """
    end = _gap_before(raw, len(raw) - HELD_BACK)
    if end <= 0:
        return ""
    whole = strike(raw)
    for _ in range(STEPS):
        if end <= 0:
            return ""
        begun = strike(raw[:end]).rstrip()  # a key that is not over yet would swallow the line break
        if whole.startswith(begun):
            return begun
        end = _gap_before(raw, end - HELD_BACK // 4)
    return ""


def _gap_before(raw: str, end: int) -> int:
    """Where the last word before this place ends; 0 where the text begins with it."""
    while end > 0 and not _GAP.match(raw[end - 1]):
        end -= 1
    return max(end, 0)
