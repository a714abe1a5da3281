"""Files of ours that lie with providers: known before they are uploaded, until the provider says that they are gone."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import update
from sqlmodel import col, select

from storage.database import Database
from storage.records import ProviderFile, now


class ProviderFileStore:
    """What lies elsewhere."""

    database: Database

    async def keep_provider_file(
        self, *, team: str, provider: str, purpose: str, dataset_id: str | None, file_id: str = ""
    ) -> ProviderFile:
        """Write down a file before it is uploaded; `provider_file_is` names it afterwards."""
        row = ProviderFile(
            team=team, provider=provider, purpose=purpose, dataset_id=dataset_id, file_id=file_id
        )
        async with self.database.writing() as session:
            session.add(row)
        return row

    async def provider_file_is(self, row_id: str, file_id: str) -> None:
        """The upload is done; the provider calls it this."""
        async with self.database.writing() as session:
            await session.exec(
                update(ProviderFile).where(col(ProviderFile.id) == row_id).values(file_id=file_id)
            )

    async def provider_files(self, team: str) -> list[ProviderFile]:
        """All that are not known to be gone, oldest first."""
        wanted = select(ProviderFile).where(col(ProviderFile.team) == team, *_THERE)
        async with self.database.reading() as session:
            return list((await session.exec(wanted.order_by(col(ProviderFile.uploaded_at)))).all())

    async def delete_provider_files_of(self, datasets: Collection[str]) -> None:
        """The files made of these datasets are to go from now on."""
        where = (
            col(ProviderFile.dataset_id).in_(datasets),
            *_THERE,
            col(ProviderFile.deletion_due_at).is_(None),
        )
        async with self.database.writing() as session:
            await session.exec(update(ProviderFile).where(*where).values(deletion_due_at=now()))

    async def due_provider_files(self, team: str) -> list[ProviderFile]:
        """Those whose deletion is to be tried now."""
        due = (col(ProviderFile.team) == team, *_THERE, col(ProviderFile.deletion_due_at) <= now())
        async with self.database.reading() as session:
            rows = await session.exec(
                select(ProviderFile).where(*due).order_by(col(ProviderFile.uploaded_at))
            )
            return list(rows.all())

    async def provider_file_gone(self, row_id: str) -> None:
        """The provider says that it is not there any more."""
        async with self.database.writing() as session:
            await session.exec(
                update(ProviderFile)
                .where(col(ProviderFile.id) == row_id)
                .values(deleted_at=now(), trouble="")
            )

    async def provider_file_stays(self, row_id: str, why: str, *, again_at: datetime) -> None:
        """It could not be deleted, for a reason, and when that is tried again."""
        tried = col(ProviderFile.deletion_tries) + 1
        async with self.database.writing() as session:
            await session.exec(
                update(ProviderFile)
                .where(col(ProviderFile.id) == row_id)
                .values(trouble=why, deletion_due_at=again_at, deletion_tries=tried)
            )


_THERE = (col(ProviderFile.deleted_at).is_(None),)
