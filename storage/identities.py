"""Who or what is meant, without keeping who or what: keyed hashes.

A plain hash of a name or a phone number is found by trying them all. These are HMACs under a key that lies in the database
(a keepsake), made once for each workspace: without it nobody can tell what a digest stands for, and a copy of the rows
alone tells nothing. The key is never logged and leaves the store for nobody but who computes digests.
"""

import hashlib
import hmac
import secrets

from storage.operating import OperatingStore


def digest(key: bytes, *parts: str) -> str:
    """The keyed hash of these parts, 32 hexadecimal digits. The same parts in another order are something else."""
    framed = b"".join(b"%d:%b" % (len(raw), raw) for raw in (part.encode() for part in parts))
    return hmac.new(key, framed, hashlib.sha256).hexdigest()[:32]


def key_name(team: str) -> str:
    """The keepsake that holds the key of a workspace, in hexadecimal."""
    return f"identity-key:{team}"


class IdentityStore(OperatingStore):
    """The key of a workspace's identities."""

    async def identity_key(self, team: str) -> bytes:
        """What `digest` hashes with in this workspace; made at the first call, the same ever after."""
        return bytes.fromhex(await self.keepsake(key_name(team), lambda: secrets.token_hex(32)))
