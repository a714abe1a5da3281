"""Placeholders and names as hashes, places of questions, reviews, the golden set, experts, quarantine, what was forgotten

Revision: 0007_curation, after 0006_spending, 2026-11-23 05:30:00.000000
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0007_curation"
down_revision = "0006_spending"
branch_labels = None
depends_on = None


def _json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql")


def upgrade() -> None:
    op.create_table(
        "expert",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("team", "person", name=op.f("pk_expert")),
    )
    op.create_table(
        "forgetting",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "asked", "done", name="forgetting_state", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("done", _json(), nullable=False),
        sa.Column("undone", _json(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.String(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forgetting")),
    )
    with op.batch_alter_table("forgetting", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_forgetting_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_forgetting_state"), ["state"], unique=False)

    op.create_table(
        "golden_item",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=True),
        sa.Column("entry_id", sa.String(), nullable=True),
        sa.Column("authors", _json(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "proposed",
                "golden",
                "retired",
                name="golden_state",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("approvals", _json(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answer.id"], name=op.f("fk_golden_item_answer_id_answer"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["entry.id"], name=op.f("fk_golden_item_entry_id_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_golden_item")),
        sa.UniqueConstraint("team", "key", name=op.f("uq_golden_item_team_key")),
    )
    with op.batch_alter_table("golden_item", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_golden_item_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_golden_item_answer_id"), ["answer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_golden_item_entry_id"), ["entry_id"], unique=False)

    op.create_table(
        "member_name",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("team", "digest", "person", name=op.f("pk_member_name")),
    )
    with op.batch_alter_table("member_name", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_member_name_person"), ["person"], unique=False)

    op.create_table(
        "placeholder",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("team", "scope", "digest", name=op.f("pk_placeholder")),
        sa.UniqueConstraint(
            "team", "scope", "kind", "number", name=op.f("uq_placeholder_team_scope_kind_number")
        ),
    )
    with op.batch_alter_table("placeholder", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_placeholder_made_at"), ["made_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_placeholder_person"), ["person"], unique=False)

    op.create_table(
        "quarantine",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=False),
        sa.Column("told_ts", sa.String(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("kept_by", sa.String(), nullable=False),
        sa.Column("lifted_by", sa.String(), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("team", "kind", "subject", name=op.f("uq_quarantine_team_kind_subject")),
    )
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quarantine_person"), ["person"], unique=False)

    op.create_table(
        "review",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=True),
        sa.Column("correction_id", sa.String(), nullable=True),
        sa.Column("entry_id", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answer.id"], name=op.f("fk_review_answer_id_answer"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["correction.id"],
            name=op.f("fk_review_correction_id_correction"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["entry.id"], name=op.f("fk_review_entry_id_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("team", "subject", name=op.f("uq_review_team_subject")),
    )
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_review_answer_id"), ["answer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_by"), ["by"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_correction_id"), ["correction_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_entry_id"), ["entry_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_key"), ["key"], unique=False)
        batch_op.create_index(batch_op.f("ix_review_subject"), ["subject"], unique=False)

    op.create_table(
        "split_place",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("team", "key", name=op.f("pk_split_place")),
    )
    op.create_table(
        "tombstone",
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("team", "digest", name=op.f("pk_tombstone")),
    )
    op.create_table(
        "provider_file",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.String(), nullable=True),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deletion_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deletion_tries", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["dataset_version.id"],
            name=op.f("fk_provider_file_dataset_id_dataset_version"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_file")),
    )
    with op.batch_alter_table("provider_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_provider_file_dataset_id"), ["dataset_id"], unique=False)
        batch_op.create_index("ix_provider_file_open", ["team", "deleted_at"], unique=False)

    op.create_index("ix_question_team_asked_at", "question", ["team", "asked_at"], unique=False)

    with op.batch_alter_table("channel_settings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("learning", sa.Boolean(), nullable=False, server_default=sa.true()))

    with op.batch_alter_table("dataset_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("team", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("kind", sa.String(), nullable=False, server_default="training"))
        batch_op.add_column(sa.Column("parent_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("difference", _json(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("erased", sa.Integer(), nullable=False, server_default="0"))
        batch_op.create_index(batch_op.f("ix_dataset_version_team"), ["team"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("dataset_version", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dataset_version_team"))
        batch_op.drop_column("erased")
        batch_op.drop_column("difference")
        batch_op.drop_column("parent_id")
        batch_op.drop_column("kind")
        batch_op.drop_column("team")

    op.drop_index("ix_question_team_asked_at", table_name="question")
    with op.batch_alter_table("channel_settings", schema=None) as batch_op:
        batch_op.drop_column("learning")

    with op.batch_alter_table("provider_file", schema=None) as batch_op:
        batch_op.drop_index("ix_provider_file_open")
        batch_op.drop_index(batch_op.f("ix_provider_file_dataset_id"))

    op.drop_table("provider_file")
    op.drop_table("tombstone")
    op.drop_table("split_place")
    with op.batch_alter_table("review", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_review_subject"))
        batch_op.drop_index(batch_op.f("ix_review_key"))
        batch_op.drop_index(batch_op.f("ix_review_entry_id"))
        batch_op.drop_index(batch_op.f("ix_review_correction_id"))
        batch_op.drop_index(batch_op.f("ix_review_by"))
        batch_op.drop_index(batch_op.f("ix_review_answer_id"))

    op.drop_table("review")
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_quarantine_person"))

    op.drop_table("quarantine")
    with op.batch_alter_table("placeholder", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_placeholder_person"))
        batch_op.drop_index(batch_op.f("ix_placeholder_made_at"))

    op.drop_table("placeholder")
    with op.batch_alter_table("member_name", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_member_name_person"))

    op.drop_table("member_name")
    with op.batch_alter_table("golden_item", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_golden_item_entry_id"))
        batch_op.drop_index(batch_op.f("ix_golden_item_answer_id"))
        batch_op.drop_index(batch_op.f("ix_golden_item_state"))

    op.drop_table("golden_item")
    with op.batch_alter_table("forgetting", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_forgetting_state"))
        batch_op.drop_index(batch_op.f("ix_forgetting_digest"))

    op.drop_table("forgetting")
    op.drop_table("expert")
