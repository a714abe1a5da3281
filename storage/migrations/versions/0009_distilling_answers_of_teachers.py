"""What API models answer so that a local one can learn it: distillations and their answers

Revision: 0009_distilling, after 0008_learning, 2026-11-23 22:50:00.000000
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0009_distilling"
down_revision = "0008_learning"
branch_labels = None
depends_on = None


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql")


def upgrade() -> None:
    states = sa.Enum(
        *("quoted", "running", "done", "stopped"),
        name="distillation_state",
        native_enum=False,
        create_constraint=True,
        length=32,
    )
    op.create_table(
        "distillation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("teacher", sa.String(), nullable=False),
        sa.Column("state", states, nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("within_usd", sa.Float(), nullable=False),
        sa.Column("quote", _json(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("confirmed_by", sa.String(), nullable=False),
        sa.Column("stopped_by", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("told", sa.String(), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_distillation")),
    )
    with op.batch_alter_table("distillation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_distillation_team"), ["team"], unique=False)
        batch_op.create_index(batch_op.f("ix_distillation_state"), ["state"], unique=False)
    _answers()


def _answers() -> None:
    op.create_table(
        "distilled_answer",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("teacher", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=False),
        sa.Column("distillation_id", sa.String(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("people", _json(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["answer_id"],
            ["answer.id"],
            name=op.f("fk_distilled_answer_answer_id_answer"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["distillation_id"],
            ["distillation.id"],
            name=op.f("fk_distilled_answer_distillation_id_distillation"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_distilled_answer")),
        sa.UniqueConstraint("team", "teacher", "key", name=op.f("uq_distilled_answer_team_teacher_key")),
    )
    with op.batch_alter_table("distilled_answer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_distilled_answer_answer_id"), ["answer_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_distilled_answer_distillation_id"), ["distillation_id"], unique=False
        )


def downgrade() -> None:
    op.drop_table("distilled_answer")
    op.drop_table("distillation")
