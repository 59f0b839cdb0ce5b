"""From a ledger entry to the row of its exchange. Pure; entries of every version make a row, no value breaks one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from services.sinks.tables import EXCHANGES, GROUP
from shared.books.ledger import LedgerEntry, order
from shared.contract.entry import Entry
from shared.contract.tail import Attempt

COLUMNS: tuple[str, ...] = tuple(EXCHANGES.columns.keys())

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 4_102_444_800_000  # 2100: later times are no times
_MOST = 2**63 - 1
# Bytes. What usage is grouped by stands in an index together, which has a limit of some 2700.
_MOST_GROUP = 400

_ENCODER = msgspec.json.Encoder()
_OF_REVISION = {"opened_at", "exchange_id", "settled_at", "shard", "epoch", "revision", "final"}


def row(entry: LedgerEntry, epoch: int) -> tuple[Any, ...]:
    """The values of an exchange in the order of `COLUMNS`; times and JSON as text."""
    return (
        _time(entry.entry.opened_ms),
        entry.exchange_id,
        _time(order(entry.id)[0]),
        entry.shard,
        epoch,
        entry.revision,
        entry.final,
        *[clean(value) for clean, value in zip(_CLEANERS, _values(entry.entry), strict=True)],
    )


def latest(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The last of each exchange, of entries in the order of settling."""
    return list({entry.exchange_id: entry for entry in entries}.values())


def stored(name: str, value: str) -> str:
    """A text that a column is to be compared with, as rows hold it."""
    return _grouped(value) if name in GROUP else _text(value)


def _time(ms: int) -> str:
    """UTC, as both databases read it."""
    at = _BEGINNING + timedelta(milliseconds=min(max(0, ms), _LAST_MS))
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


def _text(value: str) -> str:
    """PostgreSQL has no NUL in its texts."""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _grouped(value: str) -> str:
    text = _text(value)
    return text if len(text) <= _MOST_GROUP // 4 else text.encode()[:_MOST_GROUP].decode("utf-8", "ignore")


def _nullable_text(value: str | None) -> str | None:
    return None if value is None else _text(value)


def _number(value: int | None) -> int | None:
    """What no integer of a database can hold is not known."""
    return value if value is None or -_MOST <= value <= _MOST else None


def _json(value: Any) -> str | None:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return None
    text = _ENCODER.encode(value).decode()
    return _ENCODER.encode(_without_nul(value)).decode() if "\\u0000" in text else text


def _attempts(value: Iterable[Attempt]) -> str | None:
    """Attempts have places in the ledger, and names here."""
    return _json([msgspec.structs.asdict(attempt) for attempt in value])


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return [_without_nul(part) for part in value]
    if isinstance(value, dict):
        return {_text(key): _without_nul(part) for key, part in value.items()}
    return value


def _as_it_is(value: Any) -> Any:
    return value


def _cleaner(column: sa.Column[Any]) -> Callable[[Any], Any]:
    if column.name == "attempts":
        return _attempts
    if isinstance(column.type, sa.JSON):
        return _json
    if isinstance(column.type, sa.Text):
        return _grouped if column.name in GROUP else _nullable_text if column.nullable else _text
    return _number if isinstance(column.type, sa.BigInteger) else _as_it_is


def _cost(entry: Entry) -> int | None:
    """Billionths, also of entries that know millionths only."""
    if entry.cost_nanousd is None and entry.cost_microusd is not None:
        return entry.cost_microusd * 1000
    return entry.cost_nanousd


_FIELDS = [column for column in EXCHANGES.columns if column.name not in _OF_REVISION]
_CLEANERS = [_cleaner(column) for column in _FIELDS]
_PLAIN = attrgetter(*(column.name for column in _FIELDS))
_COST = [column.name for column in _FIELDS].index("cost_nanousd")


def _values(entry: Entry) -> tuple[Any, ...]:
    values: tuple[Any, ...] = _PLAIN(entry)
    if values[_COST] is None:
        return (*values[:_COST], _cost(entry), *values[_COST + 1 :])
    return values
