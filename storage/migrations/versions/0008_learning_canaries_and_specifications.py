"""Models of providers, canary shares and their sequential tests, specifications of evaluations, runs that wait for a yes

Revision: 0008_learning, after 0007_curation, 2026-11-23 09:00:00.000000
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0008_learning"
down_revision = "0007_curation"
branch_labels = None
depends_on = None


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="local"))
        batch_op.add_column(sa.Column("model", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("training_run", schema=None) as batch_op:
        batch_op.add_column(sa.Column("awaiting", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("confirmed_by", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.add_column(sa.Column("specification", _json(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("options", _json(), nullable=False, server_default="{}"))
    with op.batch_alter_table("promotion", schema=None) as batch_op:
        batch_op.add_column(sa.Column("share", sa.Float(), nullable=False, server_default="1.0"))
    states = sa.Enum(
        "watching",
        "promoted",
        "rolled back",
        "stopped",
        name="canary_state",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    op.create_table(
        "canary",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=True),
        sa.Column("against_id", sa.String(), nullable=True),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("state", states, nullable=False),
        sa.Column("specification", _json(), nullable=False),
        sa.Column("tally", _json(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("started_by", sa.String(), nullable=False),
        sa.Column("ended_by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("report_channel", sa.String(), nullable=False),
        sa.Column("report_ts", sa.String(), nullable=False),
        sa.Column("report_drawn", sa.String(), nullable=False),
        sa.Column("told", sa.String(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("passed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_canary")),
        sa.UniqueConstraint("decision", name=op.f("uq_canary_decision")),
    )
    with op.batch_alter_table("canary", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_canary_team"), ["team"], unique=False)
        batch_op.create_index(batch_op.f("ix_canary_state"), ["state"], unique=False)


def downgrade() -> None:
    op.drop_table("canary")
    with op.batch_alter_table("promotion", schema=None) as batch_op:
        batch_op.drop_column("share")
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.drop_column("options")
        batch_op.drop_column("specification")
    with op.batch_alter_table("training_run", schema=None) as batch_op:
        batch_op.drop_column("confirmed_by")
        batch_op.drop_column("awaiting")
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.drop_column("model")
        batch_op.drop_column("kind")
