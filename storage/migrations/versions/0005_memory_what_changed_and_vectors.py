"""Every verified entry says with which change it came, so that an index can follow; vectors of entries

Revision: 0005_memory, after 0004_answers, 2026-11-23 02:20:00.000000
"""

import sqlalchemy as sa
from alembic import op

revision = "0005_memory"
down_revision = "0004_answers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("entry", schema=None) as batch_op:
        batch_op.add_column(sa.Column("change", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.create_index("ix_entry_team_change_id", ["team", "change", "id"], unique=False)
    op.create_table(
        "entry_embedding",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["entry.id"], name=op.f("fk_entry_embedding_entry_id_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_entry_embedding")),
        sa.UniqueConstraint("entry_id", "model", name=op.f("uq_entry_embedding_entry_id_model")),
        sqlite_autoincrement=True,
    )
    # The marks of before were random; from now on they count.
    op.execute("DELETE FROM keepsake WHERE name LIKE 'entries-stamp:%'")


def downgrade() -> None:
    op.drop_table("entry_embedding")
    with op.batch_alter_table("entry", schema=None) as batch_op:
        batch_op.drop_index("ix_entry_team_change_id")
        batch_op.drop_column("change")
    op.execute("DELETE FROM keepsake WHERE name LIKE 'entries-stamp:%'")
