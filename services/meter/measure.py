"""From the whole tail of an exchange to its ledger entry. Pure, except for the estimator that is passed in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from services.meter.estimate import calibration, prompt
from services.meter.estimate.calibration import Known
from services.meter.estimate.lesson import Lesson
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.observing import said_of, taught
from services.meter.prices import PriceBook
from services.meter.readers import encodings
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading
from services.meter.reconcile import Booked, Observed, needs_observing, reconcile
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import CostSource, Entry, ended
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Open, Outcome, Segment

_END_OF_TIME_MS = 1 << 42  # the year 2109
_MAX_ERROR_BYTES = 4096


class Estimator(Protocol):
    """What measuring needs beyond the tail itself."""

    sample: float  # share of reported exchanges that are observed too
    drift_limit: float  # a report this many times off what was expected is marked
    prices: PriceBook

    def count(self, text: str, model: str) -> int:
        """Tokens of a text."""

    def calibration(self, provider: str, model: str) -> Known:
        """What earlier reports of this model were like."""


class Tail(msgspec.Struct, frozen=True):
    """All records of one exchange."""

    id: ExchangeId
    open: Open
    segments: Sequence[Segment]
    end: End

    @property
    def provider(self) -> str:
        """Who answered, or was to answer."""
        return self.end.provider or self.open.provider

    @property
    def model(self) -> str:
        """The model asked for there."""
        return self.end.model or self.open.model


class Measured(NamedTuple):
    """An entry, and what there is to learn from the exchange."""

    entry: Entry
    lesson: Lesson | None  # None where there is nothing


def measure(tail: Tail, estimator: Estimator) -> Measured:
    """The entry of an exchange. BadRecord where its bytes, or a count in them, cannot be true."""
    end, dialect = tail.end, tail.open.dialect
    if not 0 <= tail.open.opened_ms < _END_OF_TIME_MS:
        raise BadRecord(f"opened_ms {tail.open.opened_ms} is not a time")
    reading, whole = _read(tail, observe=False)
    if reading.bad_usage:
        raise BadRecord(f"usage cannot be true: {reading.bad_usage}")
    reported = None if dialect in (Dialect.COUNT_TOKENS, Dialect.METADATA) else reading.usage
    normal_end = end.outcome is Outcome.COMPLETED and whole and not (reported and reading.provisional)
    needed = needs_observing(end, reported, reading.provisional)
    observed = None
    if dialect not in TOKENLESS and (needed or _sampled(tail, estimator.sample)):
        observed = _observe(tail, estimator)
    booked = reconcile(normal_end, reported, observed if needed else None)
    lesson = taught(tail.model, reported, observed) if normal_end else None
    known = estimator.calibration(tail.provider, tail.model).shown
    drift = (
        lesson is not None
        and lesson.shown is not None
        and calibration.drifted(known, lesson.shown, lesson.expected, estimator.drift_limit)
    )
    return Measured(_entry(tail, reading, booked, observed, estimator.prices, drift=drift), lesson)


def _sampled(tail: Tail, share: float) -> bool:
    """Chosen by the id, so that measuring again has the same result."""
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


def _observe(tail: Tail, estimator: Estimator) -> Observed:
    """Our own count, and what it makes us expect to be reported."""
    model, request = tail.model, tail.end.request
    reading, _ = _read(tail, observe=True)
    said = said_of(reading, lambda text: estimator.count(text, model))
    if request is not None:
        asked = prompt.asked(request.unpack(), model, lambda text: estimator.count(text, model))
    else:
        asked = prompt.from_length(tail.end.request_bytes)
    known = estimator.calibration(tail.provider, model)
    output = calibration.estimate(tokenizer_of(model), known, said, thinks=asked.thinks)
    return Observed(asked.tokens, said.tokens, output, reading.output_beyond_report, asked, said)


def _entry(
    tail: Tail, reading: Reading, booked: Booked, observed: Observed | None, prices: PriceBook, *, drift: bool
) -> Entry:
    opened, end = tail.open, tail.end
    asked = observed.asked if observed and booked.input_estimated else None
    cost = _cost(tail, reading, booked, prices)
    return Entry(
        exchange_id=str(tail.id),
        key=opened.key,
        provider=tail.provider,
        model=tail.model,
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
        input_low=asked.low if asked else None,
        input_high=asked.high if asked else None,
        drift=drift,
        price_version=prices.version,
        cost_microusd=cost,
        team=opened.team,
        user=opened.user,
        session=opened.session,
        tags=opened.tags,
        client_address=opened.client_address,
        user_agent=opened.user_agent,
        traceparent=opened.traceparent,
        permit=opened.permit,
        credential=end.credential,
        attempts=end.attempts,
        cause=end.cause,
        ended=ended(end.outcome, end.status, streamed=opened.streamed, complete=reading.complete),
        cost_nanousd=None if cost is None else cost * 1000,
        cost_source=CostSource.UNPRICED if cost is None else CostSource.BOOK,
        **booked.usage.as_dict(),
    )


def _cost(tail: Tail, reading: Reading, booked: Booked, prices: PriceBook) -> int | None:
    """Micro-dollars; None where it has no price."""
    if tail.open.dialect is Dialect.PASSTHROUGH and reading.usage is None and tail.end.status == 200:
        return None  # a call that no reader knows has a cost nobody knows: it is unpriced, not free
    return prices.cost(tail.provider, tail.model, tail.open.opened_ms, booked.usage)


def _bounded(error: Any) -> Any:
    """A provider's error as it came, cut where it is very long."""
    encoded = msgspec.json.encode(error)
    return error if len(encoded) <= _MAX_ERROR_BYTES else encoded[:_MAX_ERROR_BYTES].decode("utf-8", "replace")
