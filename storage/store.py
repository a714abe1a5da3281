"""The store: one method for each thing the product does, each of them one transaction.

No session leaves this package. `Store.open` brings the tables up to date first.
"""

from typing import Self

from storage.asking import AskingStore
from storage.canaries import CanaryStore
from storage.channels import ChannelStore
from storage.database import Database
from storage.digesting import DigestStore
from storage.distilling import DistillingStore
from storage.duels import DuelStore
from storage.entries import EntryStore
from storage.feedback import FeedbackStore
from storage.forgetting import ForgettingStore
from storage.golden import GoldenStore
from storage.guarding import GuardStore
from storage.learnable import LearnableStore
from storage.learning import LearningStore
from storage.migrate import upgrade
from storage.names import NameStore
from storage.places import PlaceStore
from storage.provider_files import ProviderFileStore
from storage.restoring import RestoringStore
from storage.restriking import RestrikingStore
from storage.retention import RetentionStore
from storage.reviewing import ReviewStore
from storage.routing import RoutingStore
from storage.spending import SpendingStore
from storage.tracing import TracingStore
from storage.whereabouts import WhereaboutsStore


class Store(
    AskingStore,
    EntryStore,
    FeedbackStore,
    DuelStore,
    CanaryStore,
    DigestStore,
    DistillingStore,
    WhereaboutsStore,
    ChannelStore,
    ForgettingStore,
    GoldenStore,
    GuardStore,
    LearnableStore,
    LearningStore,
    NameStore,
    PlaceStore,
    ProviderFileStore,
    RestoringStore,
    RetentionStore,
    RestrikingStore,
    ReviewStore,
    RoutingStore,
    SpendingStore,
    TracingStore,
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
