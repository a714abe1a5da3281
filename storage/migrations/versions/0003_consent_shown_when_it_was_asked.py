"""Consent knows when its question stood before the person; whoever was asked so far has seen it

Revision: 0003_consent_shown, after 0002_surfaces, 2026-11-22 22:55:00.000000
"""

import sqlalchemy as sa
from alembic import op

revision = "0003_consent_shown"
down_revision = "0002_surfaces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("consent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shown_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE consent SET shown_at = asked_at")


def downgrade() -> None:
    with op.batch_alter_table("consent", schema=None) as batch_op:
        batch_op.drop_column("shown_at")
