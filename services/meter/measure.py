"""From the whole tail of an exchange to its ledger entry. Pure, but for the tokenizer it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from services.meter import encodings, prompt
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading
from services.meter.reconcile import Observed, needs_observing, reconcile
from shared.dialects import TOKENLESS, Dialect
from shared.errors import BadRecord
from shared.ids import ExchangeId
from shared.tail import End, Open, Outcome, Segment
from shared.usage import Source

TokenCount = Callable[[str, str], int]  # (text, model)


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


def measure(tail: Tail, tokens: TokenCount) -> Entry:
    """The entry of an exchange. BadRecord where its bytes, or a count in them, cannot be true."""
    end, dialect = tail.end, tail.open.dialect
    reading = _read(tail, observe=False)
    if reading.bad_usage:
        raise BadRecord(f"usage cannot be true: {reading.bad_usage}")
    reported = None if dialect in (Dialect.COUNT_TOKENS, Dialect.METADATA) else reading.usage
    observed = None
    if dialect not in TOKENLESS and needs_observing(end.outcome, end.status, reported, reading.provisional):
        observed = _observe(tail, tokens)
    normal_end = end.outcome is Outcome.COMPLETED and not end.lost_bytes and not (reported and reading.provisional)
    booked = reconcile(normal_end, reported, observed)
    return _entry(tail, reading, booked.usage.as_dict(), booked.source)


def _read(tail: Tail, *, observe: bool) -> Reading:
    reader = Reader(tail.open.dialect, tail.end.content_type, observe=observe)
    decoder = encodings.decoder(tail.end.content_encoding)
    for packed in (*(segment.body for segment in tail.segments), tail.end.body):
        reader.feed(decoder.feed(packed.unpack()))
    return reader.close()


def _observe(tail: Tail, tokens: TokenCount) -> Observed:
    model = tail.open.model
    reading = _read(tail, observe=True)
    output = "".join(reading.output)
    if tail.end.request is not None:
        asked = prompt.input_tokens(tail.end.request.unpack(), lambda text: tokens(text, model))
    else:
        asked = prompt.from_length(tail.end.request_bytes)
    return Observed(asked, tokens(output, model) if output else 0, reading.output_beyond_report)


def _entry(tail: Tail, reading: Reading, counters: dict[str, int | None], source: Source) -> Entry:
    opened, end = tail.open, tail.end
    return Entry(
        exchange_id=str(tail.id),
        key=opened.key,
        provider=opened.provider,
        model=opened.model,
        dialect=opened.dialect,
        opened_ms=opened.opened_ms,
        outcome=end.outcome,
        source=source,
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
        error=reading.error,
        raw_usage=reading.raw_usage,
        **counters,
    )
