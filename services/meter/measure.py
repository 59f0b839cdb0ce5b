"""From the whole tail of an exchange to its ledger entry. Pure, except for the estimator that is passed in."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import msgspec

from services.meter.endings import cause, confirmed, ended
from services.meter.estimate import calibration, prompt
from services.meter.estimate.calibration import Known
from services.meter.estimate.lesson import Lesson
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.observing import said_of, taught
from services.meter.prices import PriceBook
from services.meter.readers import documents, encodings
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading, first_count
from services.meter.reconcile import UNKNOWN, Booked, Observed, needs_observing, reconcile
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import CostSource, Ended, Entry, Mark
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Open, Outcome, Segment
from shared.contract.usage import Source, Usage

_END_OF_TIME_MS = 1 << 42  # the year 2109
# What a provider may put into an entry, which stays in Redis for days.
_MAX_ERROR_BYTES = 4096
_MAX_USAGE_BYTES = 16 * 1024
_MAX_NAME = 256  # characters, as of a model that is asked for
_MAX_FINISH = 128  # choices
_NOT_BOUGHT = (Dialect.COUNT_TOKENS, Dialect.METADATA)


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
    """The entry of an exchange. BadRecord where a count in its bytes cannot be true.

    An exchange of which nothing can be read has an entry, too: it says `ended: unreadable`, and nothing is known.
    """
    dialect = tail.open.dialect
    if not 0 <= tail.open.opened_ms < _END_OF_TIME_MS:
        raise BadRecord(f"opened_ms {tail.open.opened_ms} is not a time")
    found = _read(tail, observe=False)
    if found.reading.bad_usage:
        raise BadRecord(f"usage cannot be true: {found.reading.bad_usage}")
    sees = _sees(tail, found, estimator.sample)
    if sees:  # zeros beside output are found out only by looking at the output
        found = _read(tail, observe=True)
    if found.how is Ended.UNREADABLE:
        return Measured(_entry(tail, found, UNKNOWN, None, estimator.prices, drift=False), None)
    observed = _observe(tail, found.reading, estimator) if sees and dialect not in TOKENLESS else None
    booked = _book(tail, found, observed)
    model = _model(tail, found.reading)
    lesson = taught(model, _final(found, booked), observed)
    known = estimator.calibration(tail.provider, model).shown
    drift = (
        lesson is not None
        and lesson.shown is not None
        and calibration.drifted(known, lesson.shown, lesson.expected, estimator.drift_limit)
    )
    return Measured(_entry(tail, found, booked, observed, estimator.prices, drift=drift), lesson)


class _Found(NamedTuple):
    """A tail as far as it could be read."""

    reading: Reading
    normal_end: bool  # it completed, all its bytes are here, and it ended the way its dialect ends
    how: Ended

    def reported(self, dialect: Dialect) -> Usage | None:
        """What is booked of the report: what the provider bills, where it says so."""
        usage, bill = self.reading.usage, self.reading.billed
        if usage is None or dialect in _NOT_BOUGHT:
            return None
        if dialect is Dialect.OPENAI_EMBEDDINGS and not usage.any:
            return None  # what was embedded had tokens
        if bill is not None:
            usage = Usage(
                first_count(bill.input_tokens, usage.input_tokens), first_count(bill.output_tokens, usage.output_tokens)
            ).completed()
        if dialect is Dialect.OPENAI_EMBEDDINGS and usage.output_tokens is None:
            return replace(usage, output_tokens=0).completed()
        return usage


def _sees(tail: Tail, found: _Found, sample: float) -> bool:
    """Whether the output has to be looked at."""
    dialect = tail.open.dialect
    if found.how is Ended.UNREADABLE or dialect in _NOT_BOUGHT:
        return False
    reported = found.reported(dialect)
    if dialect is Dialect.OPENAI_EMBEDDINGS and reported is not None and found.normal_end:
        return False
    if dialect in TOKENLESS:
        return reported is not None and not reported.output_tokens and not found.reading.whole
    return needs_observing(tail.end, reported, confirmed=found.normal_end) or _sampled(tail, sample)


def _book(tail: Tail, found: _Found, observed: Observed | None) -> Booked:
    dialect, end = tail.open.dialect, tail.end
    reported = found.reported(dialect)
    if Mark.OPEN_WORK in found.reading.marks and reported is None and found.reading.whole:
        return UNKNOWN  # background work: whoever fetches its result learns what it has cost
    if dialect is Dialect.PASSTHROUGH and reported is None and end.status is not None and end.status < 300:
        return UNKNOWN  # a call that no reader knows: what it has cost is unknown, which is not 0
    if observed is not None and not needs_observing(end, reported, confirmed=found.normal_end):
        observed = None  # looked at as a sample
    if observed is not None and end.lost_bytes and not found.reading.documents:
        return UNKNOWN if reported is None else Booked(reported, Source.PARTIAL)
    return reconcile(found.normal_end, reported, observed)


def _final(found: _Found, booked: Booked) -> Usage | None:
    """A report that calibrations can learn from."""
    sound = found.normal_end and booked.source is Source.REPORTED and Mark.INCONSISTENT not in found.reading.marks
    return booked.usage if sound else None


def _model(tail: Tail, reading: Reading) -> str:
    """The model asked for; on paths that name none, what the request's body says, or the answer's."""
    if tail.model or tail.end.request is None:
        return tail.model or reading.model[:_MAX_NAME]
    document = documents.decode(tail.end.request.unpack())
    asked = document.get("model") if isinstance(document, dict) else None
    return (asked if isinstance(asked, str) and asked else reading.model)[:_MAX_NAME]


def _sampled(tail: Tail, share: float) -> bool:
    """Chosen by the id, so that measuring again has the same result."""
    return tail.end.status == 200 and zlib.crc32(str(tail.id).encode()) < share * 2**32


def _read(tail: Tail, *, observe: bool) -> _Found:
    """What the tail says. A body that does not decode ends it early; so does a gap in one that is compressed."""
    dialect, end = tail.open.dialect, tail.end
    reader = Reader(dialect, end.content_type, observe=observe)
    decoded = True
    try:
        for piece in body_of(tail):
            if piece is None:
                reader.gap()
            else:
                reader.feed(piece)
    except BadRecord:
        decoded = False
    reading = reader.close()
    if dialect in _NOT_BOUGHT:
        reading.marks.clear()  # what is looked up is not bought here
    how = ended(dialect, end, reading, decoded=decoded)
    # A report that stands behind every gap counts what is missing, too.
    gaps = sum(segment.gap for segment in tail.segments) + end.gap
    missing = end.lost_bytes > gaps or not reading.reported_last
    here = decoded and (not end.lost_bytes or not missing or dialect in _NOT_BOUGHT)
    final = end.outcome is Outcome.COMPLETED and here and confirmed(dialect, end, reading) and not reading.provisional
    return _Found(reading, final, how)


def body_of(tail: Tail) -> Iterator[bytes | None]:
    """The body, decoded piece by piece; None for a gap. BadRecord where it cannot be decoded any further."""
    encoding = tail.end.content_encoding
    decoder = encodings.decoder(encoding)
    for gap, packed in (*((segment.gap, segment.body) for segment in tail.segments), (tail.end.gap, tail.end.body)):
        if gap and encoding not in encodings.PLAIN:
            raise BadRecord("what stands behind a gap cannot be decompressed")
        if gap:
            yield None
        yield from decoder.feed(packed.unpack())


def _observe(tail: Tail, reading: Reading, estimator: Estimator) -> Observed:
    """Our own count, and what it makes us expect to be reported."""
    model, request = _model(tail, reading), tail.end.request
    said = said_of(reading, lambda text: estimator.count(text, model))
    if request is not None:
        asked = prompt.asked(request.unpack(), model, lambda text: estimator.count(text, model))
    else:
        asked = prompt.from_length(tail.end.request_bytes)
    known = estimator.calibration(tail.provider, model)
    output = calibration.estimate(tokenizer_of(model), known, said, thinks=asked.thinks)
    return Observed(asked.tokens - asked.unbilled, said.tokens, output, reading.output_beyond_report, asked, said)


def _entry(
    tail: Tail, found: _Found, booked: Booked, observed: Observed | None, prices: PriceBook, *, drift: bool
) -> Entry:
    opened, end, reading = tail.open, tail.end, found.reading
    asked = observed.asked if observed and booked.input_estimated else None
    cost = _cost(tail, _model(tail, reading), booked, prices)
    split = reading.billed is not None and reading.usage is not None
    return Entry(
        exchange_id=str(tail.id),
        key=opened.key,
        provider=tail.provider,
        model=_model(tail, reading),
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
        response_model=reading.model[:_MAX_NAME],
        response_id=reading.response_id[:_MAX_NAME],
        request_id=end.request_id,
        finish=[_bounded(reason, _MAX_NAME) for reason in reading.finish[:_MAX_FINISH]],
        service_tier=reading.service_tier[:_MAX_NAME],
        error=_bounded(reading.error, _MAX_ERROR_BYTES),
        raw_usage=_bounded_members(reading.raw_usage),
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
        cause=cause(end, reading, found.how),
        ended=found.how,
        cost_nanousd=None if cost is None else cost * 1000,
        cost_source=CostSource.UNPRICED if cost is None else CostSource.BOOK,
        marks=_marks(found, booked, unpriced=cost is None and bool(prices.version)),
        units=reading.units or None,
        modalities=dict(reading.modalities) or None,
        model_input_tokens=reading.usage.input_tokens if split and reading.usage else None,
        model_output_tokens=reading.usage.output_tokens if split and reading.usage else None,
        **booked.usage.as_dict(),
    )


def _marks(found: _Found, booked: Booked, *, unpriced: bool) -> tuple[str, ...]:
    marks = set(found.reading.marks)
    for holds, mark in (
        (booked.half, Mark.HALF_REPORT),
        (found.how is Ended.UNREADABLE, Mark.UNREADABLE),
        (unpriced or not booked.usage.any_known, Mark.UNPRICED),
    ):
        if holds:
            marks.add(mark)
    return tuple(sorted(marks))


def _cost(tail: Tail, model: str, booked: Booked, prices: PriceBook) -> int | None:
    """Micro-dollars; None where it has no price, or where a side of it is unknown."""
    if None in (booked.usage.input_tokens, booked.usage.output_tokens):
        return None
    return prices.cost(tail.provider, model, tail.open.opened_ms, booked.usage)


def _bounded(value: Any, most: int) -> Any:
    """What a provider said as it came, cut where it is very long."""
    try:
        encoded = msgspec.json.encode(value)
    except RecursionError:  # no encoder goes as deep as the decoder
        return "nested too deep"
    return value if len(encoded) <= most else encoded[:most].decode("utf-8", "replace")


def _bounded_members(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    """A usage object word for word; of a very long one the members that are numbers."""
    if usage is None or _bounded(usage, _MAX_USAGE_BYTES) is usage:
        return usage
    numbers = [(name[:_MAX_NAME], value) for name, value in usage.items() if isinstance(value, int)]
    return dict(numbers[:_MAX_FINISH])
