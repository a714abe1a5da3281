"""Draws that come out the same each time they are made: after a crash or a second delivery nothing is drawn anew. Pure."""

import hashlib


def share(salt: str, *names: str) -> float:
    """A number in [0, 1) that is uniform over `names`, and always the same for the same ones.

    `salt` is the installation's own (`Store.draw_salt`).
    """
    digest = hashlib.sha256("\x1f".join([salt, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
