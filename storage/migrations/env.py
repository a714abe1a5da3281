"""Run the migrations on the connection that `storage.migrate` hands over, or (for `alembic revision`) on a fresh file."""

from alembic import context
from sqlalchemy import Connection, create_engine

from storage.records import Record


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Record.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_given: Connection | None = context.config.attributes.get("connection")
if _given is not None:
    _run(_given)
else:
    _engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "sqlite://")
    with _engine.connect() as _connection:
        _run(_connection)
