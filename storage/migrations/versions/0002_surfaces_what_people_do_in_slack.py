"""What people do in Slack: channel settings, duels with picks, nominations, long answers, presses, requests for ratings

No earlier program wrote a duel, so that table is made anew.

Revision: 0002_surfaces, after 0001_baseline, 2026-11-22 22:35:32.627440
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0002_surfaces"
down_revision = "0001_baseline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "channel_settings",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("duel_rate", sa.Float(), nullable=False),
        sa.Column("feedback", sa.Boolean(), nullable=False),
        sa.Column("follow_ups", sa.Boolean(), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel_settings")),
        sa.UniqueConstraint("team", "channel", name=op.f("uq_channel_settings_team_channel")),
    )
    op.create_table(
        "nomination",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("ts", sa.String(), nullable=False),
        sa.Column("nominator", sa.String(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column(
            "authors",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "waiting_for",
            sa.JSON().with_variant(postgresql.JSONB(astext_type=Text()), "postgresql"),
            nullable=False,
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("refused_by", sa.String(), nullable=False),
        sa.Column("nominated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nomination")),
        sa.UniqueConstraint(
            "team", "channel", "ts", "nominator", name=op.f("uq_nomination_team_channel_ts_nominator")
        ),
    )
    with op.batch_alter_table("nomination", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_nomination_nominator"), ["nominator"], unique=False)

    op.create_table(
        "answer_part",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("ts", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answer.id"], name=op.f("fk_answer_part_answer_id_answer"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer_part")),
        sa.UniqueConstraint("team", "channel", "ts", name=op.f("uq_answer_part_team_channel_ts")),
    )
    with op.batch_alter_table("answer_part", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_answer_part_answer_id"), ["answer_id"], unique=False)

    op.drop_table("duel")
    op.create_table(
        "duel",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("question_id", sa.String(), nullable=False),
        sa.Column("candidate_a", sa.String(), nullable=False),
        sa.Column("candidate_b", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.Column("posted_ts", sa.String(), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("revealed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["candidate_a"], ["candidate.id"], name=op.f("fk_duel_candidate_a_candidate"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["candidate_b"], ["candidate.id"], name=op.f("fk_duel_candidate_b_candidate"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["question_id"], ["question.id"], name=op.f("fk_duel_question_id_question"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duel")),
        sa.UniqueConstraint("question_id", name=op.f("uq_duel_question_id")),
    )
    with op.batch_alter_table("duel", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_duel_candidate_a"), ["candidate_a"], unique=False)
        batch_op.create_index(batch_op.f("ix_duel_candidate_b"), ["candidate_b"], unique=False)
        batch_op.create_index(batch_op.f("ix_duel_closes_at"), ["closes_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_duel_question_id"), ["question_id"], unique=False)

    op.create_table(
        "duel_pick",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("duel_id", sa.String(), nullable=False),
        sa.Column("picker", sa.String(), nullable=False),
        sa.Column("pick", sa.String(), nullable=False),
        sa.Column("picked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["duel_id"], ["duel.id"], name=op.f("fk_duel_pick_duel_id_duel"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duel_pick")),
        sa.UniqueConstraint("duel_id", "picker", name=op.f("uq_duel_pick_duel_id_picker")),
    )
    with op.batch_alter_table("duel_pick", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_duel_pick_duel_id"), ["duel_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_duel_pick_picker"), ["picker"], unique=False)

    op.create_table(
        "rating_event",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("rater", sa.String(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("via", sa.String(), nullable=False, server_default="button"),
        sa.Column("pressed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answer.id"], name=op.f("fk_rating_event_answer_id_answer"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_event")),
    )
    with op.batch_alter_table("rating_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rating_event_answer_id"), ["answer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_rating_event_rater"), ["rater"], unique=False)

    op.create_table(
        "solicitation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("answer_id", sa.String(), nullable=False),
        sa.Column("team", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answer.id"], name=op.f("fk_solicitation_answer_id_answer"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_solicitation")),
        sa.UniqueConstraint("answer_id", name=op.f("uq_solicitation_answer_id")),
        sa.UniqueConstraint("team", "person", "day", name=op.f("uq_solicitation_team_person_day")),
    )
    with op.batch_alter_table("solicitation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_solicitation_answer_id"), ["answer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_solicitation_person"), ["person"], unique=False)

    with op.batch_alter_table("answer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("solicit_probability", sa.Float(), nullable=True))

    with op.batch_alter_table("entry", schema=None) as batch_op:
        batch_op.add_column(sa.Column("nomination_id", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_entry_nomination_id"), ["nomination_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_entry_nomination_id_nomination"),
            "nomination",
            ["nomination_id"],
            ["id"],
            ondelete="CASCADE",
        )

    with op.batch_alter_table("question", schema=None) as batch_op:
        batch_op.add_column(sa.Column("draft_ts", sa.String(), nullable=False, server_default=""))

    with op.batch_alter_table("rating", schema=None) as batch_op:
        batch_op.add_column(sa.Column("via", sa.String(), nullable=False, server_default="button"))

    op.execute(
        "INSERT INTO answer_part (id, answer_id, team, channel, ts, number) "
        "SELECT 'part_' || id, id, team, channel, posted_ts, 0 FROM answer WHERE posted_ts IS NOT NULL"
    )
