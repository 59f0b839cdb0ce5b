"""From the whole tail of an exchange to its ledger entry. Pure, but for the gauge it is given."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from services.meter import calibration, encodings, prompt
from services.meter.calibration import Experience
from services.meter.prices import PriceBook
from services.meter.readers.reader import Reader
from services.meter.readers.reading import CALL, Reading
from services.meter.reconcile import Booked, Observed, needs_observing, reconcile
from services.meter.tokenizers import tokenizer_of
from shared.dialects import TOKENLESS, Dialect
from shared.errors import BadRecord
from shared.ids import ExchangeId
from shared.tail import End, Open, Outcome, Segment

_END_OF_TIME_MS = 1 << 42  # the year 2109
_MAX_ERROR_BYTES = 4096


class Gauge(Protocol):
    """What measuring needs beyond the tail itself."""

    sample: float  # share of reported exchanges that are observed too
    drift_limit: float  # a report this many times off what was expected is marked
    prices: PriceBook

    def count(self, text: str, model: str) -> int:
        """Tokens of a text."""

    def experience(self, provider: str, model: str) -> Experience:
        """What earlier reports of this model were like."""


class Tail(msgspec.Struct, frozen=True):
    """All records of one exchange."""

    id: ExchangeId
    open: Open
    segments: Sequence[Segment]
    end: End


class Entry(msgspec.Struct, frozen=True, omit_defaults=False):
    """One ledger entry: what was booked for an exchange, and everything that says why. Written as JSON.

    Times are UTC milliseconds since the epoch or milliseconds; counters are tokens, None where unknown.
    """

    exchange_id: str
    key: str
    provider: str
    model: str  # as requested; totals are booked under it
    dialect: str
    opened_ms: int
    outcome: str
    source: str
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
    # Our own count, where there is one: always without a report, on a sample with one.
    observed_input_tokens: int | None
    observed_output_tokens: int | None
    # Where the output that is booked is an estimate: the ratio applied, and the interval it most likely lies in.
    ratio: float | None
    output_low: int | None
    output_high: int | None
    # The same interval of the input, where that is an estimate.
    input_low: int | None
    input_high: int | None
    drift: bool  # the report is further from what was observed than can be explained
    price_version: str  # of the price book; "" where there is none
    cost_microusd: int | None  # None: it has no price


class Measured(NamedTuple):
    """An entry, and what there is to learn from the exchange."""

    entry: Entry
    reported: int | None  # output tokens the provider reported in the end, None where there is nothing to learn
    expected: float  # what the observed output makes us expect


def measure(tail: Tail, gauge: Gauge) -> Measured:
    """The entry of an exchange. BadRecord where its bytes, or a count in them, cannot be true."""
    end, dialect = tail.end, tail.open.dialect
    if not 0 <= tail.open.opened_ms < _END_OF_TIME_MS:
        raise BadRecord(f"opened_ms {tail.open.opened_ms} is no time")
    reading, whole = _read(tail, observe=False)
    if reading.bad_usage:
        raise BadRecord(f"usage cannot be true: {reading.bad_usage}")
    reported = None if dialect in (Dialect.COUNT_TOKENS, Dialect.METADATA) else reading.usage
    normal_end = end.outcome is Outcome.COMPLETED and whole and not (reported and reading.provisional)
    needed = needs_observing(end, reported, reading.provisional)
    observed, expected = None, 0.0
    if dialect not in TOKENLESS and (needed or _sampled(tail, gauge.sample)):
        observed, expected = _observe(tail, gauge)
    booked = reconcile(normal_end, reported, observed if needed else None)
    final = reported.output_tokens if reported is not None and normal_end and observed is not None else None
    experience = gauge.experience(tail.open.provider, tail.open.model)
    drift = final is not None and calibration.drifted(experience, final, expected, gauge.drift_limit)
    return Measured(_entry(tail, reading, booked, observed, gauge.prices, drift=drift), final, expected)


def _sampled(tail: Tail, share: float) -> bool:
    """By the id, so that measuring again comes to the same."""
    return tail.end.status == 200 and zlib.crc32(str(tail.id).encode()) < share * 2**32


def _read(tail: Tail, *, observe: bool) -> tuple[Reading, bool]:
    """What the tail says, and whether it was all readable: a hole, or a body that does not decode, ends it early."""
    reader = Reader(tail.open.dialect, tail.end.content_type, observe=observe)
    whole = not tail.end.lost_bytes
    pieces = [packed.unpack() for packed in (*(segment.body for segment in tail.segments), tail.end.body)]
    try:
        decoder = encodings.decoder(tail.end.content_encoding)
        for piece in pieces:
            reader.feed(decoder.feed(piece))
    except BadRecord:
        whole = False
    return reader.close(), whole


def _observe(tail: Tail, gauge: Gauge) -> tuple[Observed, float]:
    """Our own count, and the output it makes us expect to be reported."""
    model = tail.open.model
    tokenizer = tokenizer_of(model)
    reading, _ = _read(tail, observe=True)
    said = sum(gauge.count(text, model) for text in reading.texts())
    calls = sum(kind == CALL for kind, _ in reading.output)
    experience = gauge.experience(tail.open.provider, model)
    if tail.end.request is not None:
        body = tail.end.request.unpack()
        asked = prompt.input_tokens(body, tokenizer, lambda text: gauge.count(text, model))
    else:
        asked = prompt.from_length(tail.end.request_bytes)
    output = calibration.estimate(tokenizer, experience, said, calls)
    return Observed(asked, said, output, reading.output_beyond_report), calibration.expected(tokenizer, said, calls)


def _entry(
    tail: Tail, reading: Reading, booked: Booked, observed: Observed | None, prices: PriceBook, *, drift: bool
) -> Entry:
    opened, end = tail.open, tail.end
    guessed = prompt.interval(booked.usage.input_tokens or 0) if booked.input_estimated else (None, None)
    return Entry(
        exchange_id=str(tail.id),
        key=opened.key,
        provider=opened.provider,
        model=opened.model,
        dialect=opened.dialect,
        opened_ms=opened.opened_ms,
        outcome=end.outcome,
        source=booked.source,
        status=end.status,
        streamed=opened.streamed,
        complete=reading.complete,
        response_bytes=end.response_bytes,
        request_bytes=end.request_bytes,
        lost_bytes=end.lost_bytes,
        first_byte_ms=end.first_byte_ms,
        duration_ms=end.duration_ms,
        response_model=reading.model,
        response_id=reading.response_id,
        request_id=end.request_id,
        finish=reading.finish,
        service_tier=reading.service_tier,
        error=_bounded(reading.error),
        raw_usage=reading.raw_usage,
        observed_input_tokens=observed.input_tokens if observed else None,
        observed_output_tokens=observed.output_tokens if observed else None,
        ratio=round(booked.estimate.ratio, 4) if booked.estimate else None,
        output_low=booked.estimate.low if booked.estimate else None,
        output_high=booked.estimate.high if booked.estimate else None,
        input_low=guessed[0],
        input_high=guessed[1],
        drift=drift,
        price_version=prices.version,
        # A call that no reader knows has a cost nobody knows: it is unpriced, not free.
        cost_microusd=None
        if opened.dialect is Dialect.PASSTHROUGH and reading.usage is None and end.status == 200
        else prices.cost(opened.provider, opened.model, opened.opened_ms, booked.usage),
        **booked.usage.as_dict(),
    )


def _bounded(error: Any) -> Any:
    """A provider's error as it came, unless it is a book."""
    encoded = msgspec.json.encode(error)
    return error if len(encoded) <= _MAX_ERROR_BYTES else encoded[:_MAX_ERROR_BYTES].decode("utf-8", "replace")
