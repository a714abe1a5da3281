"""Answers know their route and their features; billed calls are reserved and settled; budgets; fitted routers

Revision: 0004_answers, after 0003_consent_shown, 2026-11-23 02:05:00.000000
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0004_answers"
down_revision = "0003_consent_shown"
branch_labels = None
depends_on = None


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("question", schema=None) as batch_op:
        batch_op.add_column(sa.Column("place", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.add_column(sa.Column("features", _json(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("p_good", sa.Float(), nullable=True))
    with op.batch_alter_table("answer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("route", _json(), nullable=False, server_default="{}"))
    with op.batch_alter_table("channel_settings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("budget_month_usd", sa.Float(), nullable=True))
    states = sa.Enum(
        "reserved",
        "settled",
        "estimated",
        name="spend_state",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.add_column(sa.Column("channel", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("state", states, nullable=False, server_default="settled"))
        batch_op.add_column(
            sa.Column("tokens_cache_written", sa.Integer(), nullable=False, server_default="0")
        )
        batch_op.add_column(sa.Column("tokens_reasoning", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("price_version", sa.String(), nullable=False, server_default=""))
        batch_op.create_index(batch_op.f("ix_spend_state"), ["state"], unique=False)
    op.create_table(
        "budget_notice",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_notice")),
        sa.UniqueConstraint(
            "team", "scope", "period", "level", name=op.f("uq_budget_notice_team_scope_period_level")
        ),
    )
    op.create_table(
        "router_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("serving", sa.Boolean(), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("parameters", _json(), nullable=False),
        sa.Column("scores", _json(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_router_version")),
        sa.UniqueConstraint("team", "sequence", name=op.f("uq_router_version_team_sequence")),
    )


def downgrade() -> None:
    op.drop_table("router_version")
    op.drop_table("budget_notice")
    with op.batch_alter_table("spend", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_spend_state"))
        for name in ("price_version", "tokens_reasoning", "tokens_cache_written", "state", "channel"):
            batch_op.drop_column(name)
    with op.batch_alter_table("channel_settings", schema=None) as batch_op:
        batch_op.drop_column("budget_month_usd")
    with op.batch_alter_table("answer", schema=None) as batch_op:
        batch_op.drop_column("route")
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.drop_column("p_good")
        batch_op.drop_column("features")
    with op.batch_alter_table("question", schema=None) as batch_op:
        batch_op.drop_column("place")
