"""The program or site that a request is for.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("app", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("exchanges", "app")
