"""The books: exchanges, hourly usage, cursors.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _columns(type_: Any, names: str, **arguments: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, **arguments) for name in names.split()]


def upgrade() -> None:
    text: dict[str, Any] = {"nullable": False, "server_default": ""}
    op.create_table(
        "exchanges",
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("exchange_id", sa.Text, nullable=False),
        sa.Column("settled_at", _TIME, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("final", sa.Boolean, nullable=False),
        *_columns(sa.Text, "key team user session provider model requested_model dialect credential", **text),
        *_columns(sa.Text, "outcome source ended cause", **text),
        sa.Column("status", sa.BigInteger),
        *_columns(sa.Boolean, "streamed complete drift", nullable=False),
        *_columns(sa.BigInteger, "input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens"),
        *_columns(sa.BigInteger, "total_tokens cost_nanousd cost_microusd reported_cost_nanousd"),
        sa.Column("cost_source", sa.Text, **text),
        sa.Column("price_version", sa.Text),
        *_columns(sa.Text, "tier region price_line unpriced_reason", **text),
        sa.Column("book_cost_nanousd", sa.BigInteger),
        *_columns(sa.BigInteger, "response_bytes request_bytes lost_bytes first_byte_ms duration_ms"),
        *_columns(sa.Text, "response_model response_id request_id service_tier", **text),
        *_columns(sa.Text, "client_address user_agent traceparent permit", **text),
        *_columns(sa.BigInteger, "observed_input_tokens observed_output_tokens"),
        sa.Column("ratio", sa.Double),
        *_columns(sa.BigInteger, "input_low input_high output_low output_high"),
        *_columns(sa.BigInteger, "model_input_tokens model_output_tokens"),
        *_columns(sa.Text, "work_id work_begun_by work_booked_by fetched_by", **text),
        *_columns(_JSON, "tags marks finish raw_usage attempts units modalities"),
        sa.PrimaryKeyConstraint("opened_at", "exchange_id"),
        postgresql_partition_by="RANGE (opened_at)",
    )
    op.create_index("exchanges_by_id", "exchanges", ["exchange_id"])
    op.create_index("exchanges_by_key", "exchanges", ["key", "opened_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE exchanges_other PARTITION OF exchanges DEFAULT")
    op.create_table(
        "usage_hourly",
        sa.Column("hour", _TIME, nullable=False),
        *_columns(sa.Text, "key team user provider model", nullable=False),
        *_columns(
            sa.BigInteger,
            "requests input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens total_tokens "
            "estimated_requests partial_requests unpriced_requests cost_microusd cost_nanousd",
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("hour", "key", "team", "user", "provider", "model"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "follower_cursors",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", "shard"),
    )
    op.create_table(
        "kept",
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("what"),
    )


def downgrade() -> None:
    for table in ("kept", "follower_cursors", "usage_hourly", "exchanges"):
        op.drop_table(table)
