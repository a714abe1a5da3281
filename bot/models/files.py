"""Files of ours with a provider, as far as forgetting needs them: they can be deleted."""

from typing import Protocol


class NotDeleted(Exception):
    """The provider did not delete a file; says why, in words for people."""


class FileShelf(Protocol):
    """Where files of ours lie."""

    async def delete(self, file_id: str) -> None:
        """The file is gone afterwards; one that was not there any more is fine. Raises `NotDeleted`."""

    async def close(self) -> None:
        """Close the connections, if there are any."""
