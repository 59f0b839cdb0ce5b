"""The ledger entry: what was booked for one exchange, and everything that explains it. Stored as JSON.

Entries outlive the version that wrote them. A field is appended, with a default that means "not said"; none is ever
renamed, removed, or used for something else. Readers skip fields that they do not know. Words of a closed set are plain
strings here, because a reader must not fail on a newer word.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from shared.contract.errors import BadRecord
from shared.contract.tail import Attempt


class Ended(StrEnum):
    """How much of the answer the caller got."""

    WHOLE = "whole"  # all of it
    TRUNCATED = "truncated"  # the connection ended properly, the stream did not
    ERROR = "error"  # the provider's answer is an error
    CUT = "cut"  # it broke off or never came, whoever ended it
    UNREADABLE = "unreadable"  # its bytes hold no document that could be read


class Mark(StrEnum):
    """What is odd about the figures of an exchange; one may carry several."""

    PLACEHOLDER = "placeholder"  # zeros beside output, or before the end, were passed over: they are no fact
    HALF_REPORT = "half_report"  # one side of the report is missing: that side was estimated
    INCONSISTENT = "inconsistent"  # parts and total, cached and input, or reasoning and output contradict each other
    UNREADABLE = "unreadable"  # no document could be read in its bytes
    BILLED_UNITS = "billed_units"  # the provider bills other counts than its model's, and these were booked
    UNPRICED = "unpriced"  # there are prices, and none for this; or nothing is known that could be priced
    OPEN_WORK = "open_work"  # the provider has only begun (background work): what it costs is not said yet
    WORK_BOOKED = "work_booked"  # the result of work that another exchange books: nothing is booked here
    COST_DIFFERS = "cost_differs"  # the price book and the provider's own figure are further apart than is allowed
    PRICE_INCOMPLETE = "price_incomplete"  # something is billed of which the price says nothing; the rest is booked


class CostSource(StrEnum):
    """The origin of an exchange's cost."""

    BOOK = "book"  # the price book
    UNPRICED = "unpriced"  # it has no price
    PROVIDER = "provider"  # the provider's own figure


class Unpriced(StrEnum):
    """Why an exchange has no price. Details may stand behind a colon."""

    NO_BOOK = "no_book"  # there are no prices at all
    NO_PRICE = "no_price"  # the book has none for the model at that time
    NO_RATE = "no_rate"  # its price says nothing of something that was used, which is named
    UNKNOWN = "unknown_usage"  # nobody knows what was used
    SEVERAL = "several_models"  # of several models, and it is not said how much of which
    NO_CURRENCY = "no_currency_rate"  # the book has no rate of its currency that is old enough
    TOO_LARGE = "too_large"  # more than can be booked: damage, most likely


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ledger entry. Times are UTC milliseconds since the epoch or milliseconds; counters are tokens, None where
    unknown. A field that has its default is not stored."""

    exchange_id: str
    key: str
    provider: str  # the one that answered, or was to answer
    model: str  # as it was asked there; totals are booked under it
    dialect: str
    opened_ms: int
    outcome: str  # an `Outcome`
    source: str  # a `Source`
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    status: int | None
    streamed: bool
    complete: bool  # the dialect's own end was seen
    response_bytes: int
    request_bytes: int
    lost_bytes: int
    first_byte_ms: int | None
    duration_ms: int
    response_model: str
    response_id: str
    request_id: str
    finish: list[Any]
    service_tier: str
    error: Any
    raw_usage: dict[str, Any] | None
    # Our own count: of every exchange without a report, and of a sample of the others.
    observed_input_tokens: int | None
    observed_output_tokens: int | None
    # Where the booked output is an estimate: the ratio applied, and the interval in which it most likely lies.
    ratio: float | None
    output_low: int | None
    output_high: int | None
    # The same interval for the input, where that is an estimate.
    input_low: int | None
    input_high: int | None
    drift: bool  # the report is further from our own count than its spread explains
    price_version: str | None  # of the price book, "" where there is none; None: from before there were prices
    cost_microusd: int | None  # None: it has no price
    # As in the open record.
    team: str = ""
    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    client_address: str = ""
    user_agent: str = ""
    traceparent: str = ""
    permit: str = ""
    # As in the end record.
    credential: str = ""
    attempts: tuple[Attempt, ...] = ()
    cause: str = ""
    ended: str = ""  # an `Ended`
    cost_nanousd: int | None = None  # None: it has no price
    cost_source: str = ""  # a `CostSource`
    marks: tuple[str, ...] = ()  # `Mark`s, sorted
    # What is billed and is no token (searches, seconds, images), by the provider's name for it.
    units: dict[str, float] | None = None
    # Shares of the counters as far as they are reported: input_audio, output_image, cache_write_1h, …
    modalities: dict[str, int] | None = None
    # What the model read and wrote, where the provider bills (and we book) other counts.
    model_input_tokens: int | None = None
    model_output_tokens: int | None = None
    # What the provider says that it has cost; None: it does not say. `cost_source` tells whether it is booked.
    reported_cost_nanousd: int | None = None
    # Of an exchange that began work which ends elsewhere, or that fetched its result.
    work_id: str = ""  # the provider's id of the work
    work_begun_by: str = ""  # of a result: the exchange that began the work, whose key is booked; "" for none known
    work_booked_by: str = ""  # the exchange that books the result, where that is another one
    fetched_by: str = ""  # of a result: hash of the key that fetched it, where that is another one
    requested_model: str = ""  # as in the open record
    # What decides about the price beside the counters, in our words: batch, flex, priority, fast, standard; "" unsaid.
    tier: str = ""
    region: str = ""  # as the provider names it
    price_line: str = ""  # the line of the book that was used, with the conditions that held
    unpriced_reason: str = ""  # an `Unpriced`
    book_cost_nanousd: int | None = None  # by the book, where the provider's own figure is booked
    app: str = ""  # as in the open record


# Fields that the very first entries do not have.
_FIRST = {"input_low": None, "input_high": None, "price_version": None, "cost_microusd": None}

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """An entry as the ledger stores it."""
    return _ENCODER.encode(entry)


def decode(stored: bytes) -> Entry:
    """The inverse of `encode`, for entries of every version. BadRecord for anything else."""
    try:
        return _DECODER.decode(stored)
    except msgspec.MsgspecError as exc:
        return _first_version(stored, exc)


def _first_version(stored: bytes, error: msgspec.MsgspecError) -> Entry:
    try:
        fields = msgspec.json.decode(stored, type=dict[str, Any])
        return msgspec.convert({**_FIRST, **fields}, Entry)
    except msgspec.MsgspecError:
        raise BadRecord(f"not a ledger entry: {error}") from error
