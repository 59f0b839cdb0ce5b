"""Questions for exchanges, and answers to them: what is asked for, what is found, and where a page ends. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from shared.books.ledger import LedgerEntry
from shared.contract.errors import ARouterError, BadRecord
from shared.contract.ids import ExchangeId

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 4_102_444_800_000  # 2100: later times are no times
_MOST_TOKEN = 200


class BadToken(ARouterError):
    """A page token that no page ended with."""


class Exchange(msgspec.Struct, frozen=True):
    """One exchange as its latest revision says. Fields are those of a ledger entry; counters are tokens, None where
    unknown; money is billionths of a US dollar, None where it has no price."""

    opened_at: datetime
    exchange_id: str
    revision: int
    final: bool
    key: str
    team: str
    user: str
    session: str
    tags: tuple[str, ...]
    provider: str
    model: str
    requested_model: str
    response_model: str
    dialect: str
    credential: str
    outcome: str
    ended: str
    cause: str
    status: int | None
    streamed: bool
    source: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    cost_nanousd: int | None
    cost_source: str
    first_byte_ms: int | None
    duration_ms: int
    request_bytes: int
    response_bytes: int
    lost_bytes: int
    request_id: str
    response_id: str
    client_address: str
    user_agent: str
    marks: tuple[str, ...]

    @property
    def place(self) -> Place:
        return Place(self.opened_at, self.exchange_id)


FIELDS: tuple[str, ...] = Exchange.__struct_fields__
_OF_REVISION = ("opened_at", "exchange_id", "revision", "final", "cost_nanousd")
_OF_ENTRY = tuple(name for name in FIELDS if name not in _OF_REVISION)


class Place(NamedTuple):
    """Where an exchange stands among all: by when it was opened, then by its id. Pages go from the newest back."""

    opened_at: datetime
    exchange_id: str

    @property
    def token(self) -> str:
        """For the page behind this place."""
        micros = (self.opened_at - _BEGINNING) // timedelta(microseconds=1)
        return base64.urlsafe_b64encode(f"{micros}.{self.exchange_id}".encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, token: str) -> Place:
        """The inverse of `token`. BadToken for anything else."""
        try:
            text = base64.b64decode(token[:_MOST_TOKEN] + "=" * (-len(token) % 4), b"-_", validate=True).decode()
            micros, id = text.split(".", 1)
            ExchangeId.parse(id)
            return cls(_BEGINNING + timedelta(microseconds=int(micros)), id)
        except (binascii.Error, ValueError, OverflowError, BadRecord):
            raise BadToken("page_token: is not one that this API gave") from None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which exchanges are asked for; "" and None ask for any. `since` and `until` (exclusive) are times of the open."""

    since: datetime | None = None
    until: datetime | None = None
    exchange_id: str = ""
    key: str = ""
    team: str = ""
    user: str = ""
    provider: str = ""
    model: str = ""
    ended: str = ""
    cause: str = ""
    request_id: str = ""
    response_id: str = ""

    @property
    def texts(self) -> Mapping[str, str]:
        """The fields that have to have a value, by name."""
        return {name: value for name in TEXTS if (value := getattr(self, name))}

    def missing(self, *sinces: datetime | None) -> datetime | None:
        """Since when nothing is missing in an answer, by what is known of it; None where all that is asked for is
        there."""
        since = max((at for at in sinces if at is not None), default=None)
        return since if since is not None and (self.since is None or self.since < since) else None

    def fits(self, one: Exchange) -> bool:
        """Whether an exchange is asked for."""
        in_time = (self.since is None or one.opened_at >= self.since) and (
            self.until is None or one.opened_at < self.until
        )
        return in_time and all(getattr(one, name) == value for name, value in self.texts.items())


TEXTS = (
    "exchange_id",
    "key",
    "team",
    "user",
    "provider",
    "model",
    "ended",
    "cause",
    "request_id",
    "response_id",
)


class Page(NamedTuple):
    """Exchanges from the newest back. A page may be short, even empty, and yet have a `next` one: each looks through a
    bounded number. `since`: nothing is missing that was settled at or after this time; None where nothing is missing
    at all."""

    exchanges: list[Exchange]
    next: Place | None
    since: datetime | None = None


def of_entry(found: LedgerEntry) -> Exchange:
    """The exchange that a ledger entry is about."""
    entry = found.entry
    cost = entry.cost_nanousd
    if cost is None and entry.cost_microusd is not None:  # of contract 1.0
        cost = entry.cost_microusd * 1000
    return Exchange(
        opened_at=opened_at(entry.opened_ms),
        exchange_id=found.exchange_id,
        revision=found.revision,
        final=found.final,
        cost_nanousd=cost,
        **{name: getattr(entry, name) for name in _OF_ENTRY},
    )


def of_row(row: Iterable[Any]) -> Exchange:
    """The exchange of a database's row, in the order of `FIELDS`."""
    values: dict[str, Any] = dict(zip(FIELDS, row, strict=True))
    values["opened_at"] = utc(values["opened_at"])
    for name in ("tags", "marks"):
        values[name] = tuple(values[name] or ())
    return Exchange(**values)


def opened_at(ms: int) -> datetime:
    """A time of an entry, as rows have it."""
    return _BEGINNING + timedelta(milliseconds=min(max(0, ms), _LAST_MS))


def utc(at: datetime) -> datetime:
    """A time of a database, which may have no zones."""
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
