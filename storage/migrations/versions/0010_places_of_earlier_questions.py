"""Earlier questions learn from others in their channel what kind of conversation they were asked in

Revision: 0010_places, after 0009_distilling, 2026-11-24 01:50:00.000000

A mention that Slack told of by `app_mention` alone was kept without a place, which counts as private. The channel of a
direct message tells it by its first letter. Where nobody knows, it stays private.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010_places"
down_revision = "0009_distilling"
branch_labels = None
depends_on = None

QUESTION = sa.table(
    "question",
    *(sa.column(name, sa.String()) for name in ("team", "channel", "place")),
    sa.column("asked_at", sa.DateTime()),
)


def upgrade() -> None:
    connection = op.get_bind()
    question = QUESTION.c
    newest = (
        sa.select(question.team, question.channel, sa.func.max(question.asked_at).label("at"))
        .where(question.place != "")
        .group_by(question.team, question.channel)
        .subquery()
    )
    here = (question.team == newest.c.team, question.channel == newest.c.channel)
    known = sa.select(question.team, question.channel, question.place).join(
        newest, sa.and_(*here, question.asked_at == newest.c.at)
    )
    unknown = sa.update(QUESTION).where(question.place == "")
    for team, channel, place in connection.execute(known.where(question.place != "")).all():
        there = (question.team == team, question.channel == channel)
        connection.execute(unknown.where(*there).values(place=place))
    connection.execute(unknown.where(question.channel.startswith("D")).values(place="im"))


def downgrade() -> None:
    """What is known now was true before."""
