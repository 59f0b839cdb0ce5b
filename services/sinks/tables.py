"""The tables of the books. A change of them is a migration, too: a test compares the two.

Columns are the fields of a ledger entry (`shared.contract.entry`), by the same names; a provider's error is left out,
which may quote a request and would stay for longer than the ledger (docs/privacy.md). Counters are tokens, money is
billionths (`nanousd`) and millionths (`microusd`) of a US dollar as integers; null is not known, and not 0.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from shared.contract.booked import BOOKED

METADATA = sa.MetaData()

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _number(name: str, *, known: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=not known)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, _JSON)


EXCHANGES = sa.Table(
    "exchanges",
    METADATA,
    sa.Column("opened_at", _TIME, primary_key=True),
    sa.Column("exchange_id", sa.Text, primary_key=True),
    sa.Column("settled_at", _TIME, nullable=False),  # when this revision was, by Redis's clock
    sa.Column("shard", sa.Integer, nullable=False),
    _number("epoch", known=True),  # of the follower: a row of a later one replaces this, whatever its revision
    sa.Column("revision", sa.Integer, nullable=False),
    _flag("final"),
    *map(_text, ("key", "team", "user", "session", "provider", "model", "requested_model", "dialect", "credential")),
    *map(_text, ("outcome", "source", "ended", "cause")),
    _number("status"),
    *map(_flag, ("streamed", "complete", "drift")),
    *map(_number, ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")),
    _number("total_tokens"),
    *map(_number, ("cost_nanousd", "cost_microusd", "reported_cost_nanousd")),
    _text("cost_source"),
    sa.Column("price_version", sa.Text),  # null: from before there were prices
    *map(_text, ("tier", "region", "price_line", "unpriced_reason")),
    _number("book_cost_nanousd"),
    *map(_number, ("response_bytes", "request_bytes", "lost_bytes", "first_byte_ms", "duration_ms")),
    *map(_text, ("response_model", "response_id", "request_id", "service_tier")),
    *map(_text, ("client_address", "user_agent", "traceparent", "permit")),
    *map(_number, ("observed_input_tokens", "observed_output_tokens")),
    sa.Column("ratio", sa.Double),
    *map(_number, ("input_low", "input_high", "output_low", "output_high")),
    *map(_number, ("model_input_tokens", "model_output_tokens")),
    *map(_text, ("work_id", "work_begun_by", "work_booked_by", "fetched_by")),
    *map(_json, ("tags", "marks", "finish", "raw_usage", "attempts", "units", "modalities")),
    _text("app"),
    sa.Index("exchanges_by_id", "exchange_id"),
    sa.Index("exchanges_by_key", "key", "opened_at"),
    postgresql_partition_by="RANGE (opened_at)",
)

GROUP = ("key", "team", "user", "provider", "model")

USAGE = sa.Table(
    "usage_hourly",
    METADATA,
    sa.Column("hour", _TIME, primary_key=True),  # its beginning, UTC
    *(sa.Column(name, sa.Text, primary_key=True) for name in GROUP),
    *(_number(name, known=True) for name in BOOKED),
)

# How far each follower has got, and from when on there are rows: what was opened before is not written again.
CURSORS = sa.Table(
    "follower_cursors",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("server", sa.Text, nullable=False),
)
KEPT = sa.Table(
    "kept",
    METADATA,
    sa.Column("what", sa.Text, primary_key=True),  # the name of a table
    sa.Column("since", _TIME, nullable=False),
)
