"""Indexes by which exchanges are found. Most of them hold only the rows that say something.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = {
    "exchanges_by_user": (["user", "opened_at"], "\"user\" <> ''"),
    "exchanges_by_end": (["ended", "opened_at"], "ended <> 'whole'"),
    "exchanges_by_cause": (["cause", "opened_at"], "cause <> ''"),
    "exchanges_by_request_id": (["request_id"], "request_id <> ''"),
    "exchanges_by_response_id": (["response_id"], "response_id <> ''"),
}


def upgrade() -> None:
    op.create_index("exchanges_by_settling", "exchanges", ["settled_at"])
    for name, (columns, where) in _INDEXES.items():
        op.create_index(name, "exchanges", columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def downgrade() -> None:
    for name in ("exchanges_by_settling", *_INDEXES):
        op.drop_index(name, "exchanges")
