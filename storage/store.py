"""The store: one method for each thing the product does, each of them one transaction.

No session leaves this package. `Store.open` brings the tables up to date first.
"""

from typing import Self

from storage.asking import AskingStore
from storage.channels import ChannelStore
from storage.database import Database
from storage.duels import DuelStore
from storage.entries import EntryStore
from storage.feedback import FeedbackStore
from storage.forgetting import ForgettingStore
from storage.learning import LearningStore
from storage.migrate import upgrade
from storage.operating import OperatingStore
from storage.routing import RoutingStore
from storage.spending import SpendingStore


class Store(
    AskingStore,
    EntryStore,
    FeedbackStore,
    DuelStore,
    ChannelStore,
    ForgettingStore,
    LearningStore,
    OperatingStore,
    RoutingStore,
    SpendingStore,
):
    """Everything that is remembered."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and migrate. Raises PublicError, with the remedy, where the database cannot be used."""
        database = Database(url)
        await database.ping()
        await upgrade(database)
        return cls(database)

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a file of this machine (SQLite), used by one bot."""
        return self.database.url.startswith("sqlite")

    async def close(self) -> None:
        """Close every connection."""
        await self.database.close()
