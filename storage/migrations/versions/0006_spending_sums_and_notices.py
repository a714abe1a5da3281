"""What billed calls add up to, kept by the quarter of an hour; who was told of a budget, and in which message

Revision: 0006_spending, after 0005_memory, 2026-11-23 02:50:00.000000
"""

from collections import Counter
from datetime import UTC

import sqlalchemy as sa
from alembic import op

revision = "0006_spending"
down_revision = "0005_memory"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.drop_index("ix_spend_spent_at")
        batch_op.create_index("ix_spend_time", ["team", "spent_at"], unique=False)
        batch_op.create_index("ix_spend_open", ["team", "state", "spent_at"], unique=False)
    op.create_table(
        "spend_total",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("quarter", sa.BigInteger(), nullable=False),
        sa.Column("nano_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("team", "channel", "quarter", name=op.f("pk_spend_total")),
    )
    _add_up()
    with op.batch_alter_table("budget_notice", schema=None) as batch_op:
        batch_op.add_column(sa.Column("told_ts", sa.String(), nullable=False, server_default=""))


def _add_up() -> None:
    """The totals of what was billed so far; the rows of before know no channel."""
    spend = sa.table(
        "spend",
        sa.column("team", sa.String()),
        sa.column("channel", sa.String()),
        sa.column("spent_at", sa.DateTime(timezone=True)),
        sa.column("cost_usd", sa.Float()),
    )
    totals: Counter[tuple[str, str, int]] = Counter()
    for row in op.get_bind().execute(sa.select(spend)):
        at = row.spent_at if row.spent_at.tzinfo else row.spent_at.replace(tzinfo=UTC)
        for channel in {"", row.channel}:
            totals[row.team, channel, int(at.timestamp() // 900)] += round(row.cost_usd * 1_000_000_000)
    table = sa.table(
        "spend_total",
        sa.column("team", sa.String()),
        sa.column("channel", sa.String()),
        sa.column("quarter", sa.BigInteger()),
        sa.column("nano_usd", sa.BigInteger()),
    )
    op.bulk_insert(
        table,
        [
            {"team": team, "channel": channel, "quarter": quarter, "nano_usd": nano}
            for (team, channel, quarter), nano in totals.items()
        ],
    )


def downgrade() -> None:
    op.drop_table("spend_total")
    with op.batch_alter_table("budget_notice", schema=None) as batch_op:
        batch_op.drop_column("told_ts")
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.drop_index("ix_spend_open")
        batch_op.drop_index("ix_spend_time")
        batch_op.create_index("ix_spend_spent_at", ["spent_at"], unique=False)
