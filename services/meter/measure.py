"""From the whole tail of an exchange to its ledger entry. Pure, except for the estimator that is passed in."""

from __future__ import annotations

import zlib
from functools import partial
from typing import NamedTuple, Protocol

from services.meter import sockets, tails
from services.meter.entries import MAX_NAME, entry_of
from services.meter.estimate import calibration, prompt
from services.meter.estimate.calibration import Known
from services.meter.estimate.lesson import Lesson
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.observing import said_of, taught
from services.meter.pricing.book import PriceBook
from services.meter.readers import documents
from services.meter.readers.reading import Reading
from services.meter.reconcile import NOTHING, UNKNOWN, Booked, Observed, needs_observing, reconcile
from services.meter.tails import LOOKED_UP, Found, Tail
from services.meter.work import Note, booked_apart
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import Ended, Entry, Mark
from shared.contract.errors import BadRecord
from shared.contract.usage import Source, Usage

_END_OF_TIME_MS = 1 << 42  # the year 2109
# More bytes than these behind the last report may be output: `data: [DONE]` is shorter, and little else comes there.
_MAY_SPEAK = 24


class Estimator(Protocol):
    """What measuring needs beyond the tail itself."""

    sample: float  # share of reported exchanges that are observed too
    drift_limit: float  # a report this many times off what was expected is marked
    prices: PriceBook

    def count(self, text: str, model: str) -> int:
        """Tokens of a text."""

    def calibration(self, provider: str, model: str) -> Known:
        """What earlier reports of this model were like."""


class Measured(NamedTuple):
    """An entry, what there is to learn from the exchange, and what it has to do with work that ends elsewhere."""

    entry: Entry  # of a result of such work: as if it is booked here
    lesson: Lesson | None  # None where there is nothing
    note: Note | None = None
    held: str = ""  # why it goes into quarantine though it is booked; "" where it does not


def measure(tail: Tail, estimator: Estimator) -> Measured:
    """The entry of an exchange. BadRecord where a count in its bytes cannot be true.

    An exchange of which nothing can be read has an entry, too: it says `ended: unreadable`, and nothing is known.
    """
    dialect = tail.open.dialect
    if not 0 <= tail.open.opened_ms < _END_OF_TIME_MS:
        raise BadRecord(f"opened_ms {tail.open.opened_ms} is not a time")
    found = tails.read(tail, observe=False)
    if found.reading.bad_usage:
        raise BadRecord(f"usage cannot be true: {found.reading.bad_usage}")
    if sockets.is_socket(tail):
        return _measure_socket(tail, found, estimator)
    sees = _sees(tail, found, estimator.sample)
    if sees:  # zeros beside output are found out only by looking at the output
        found = tails.read(tail, observe=True)
    model = _model(tail, found.reading)
    if found.how is Ended.UNREADABLE:
        return _held(tail, model, found, estimator.prices, "its answer cannot be read")
    observed = _observe(tail, model, found.reading, estimator) if sees and dialect not in TOKENLESS else None
    booked = _book(tail, found, observed)
    lesson = taught(model, _final(found, booked), observed)
    drift = lesson is not None and _drifted(lesson, estimator.calibration(tail.provider, model), estimator.drift_limit)
    entry = entry_of(tail, model, found, booked, observed, estimator.prices, drift=drift)
    return Measured(entry, lesson, found.note)


def _measure_socket(tail: Tail, found: Found, estimator: Estimator) -> Measured:
    model = (tail.model or found.reading.asked or found.reading.model)[:MAX_NAME]
    if found.how is Ended.UNREADABLE:
        return _held(tail, model, found, estimator.prices, "its answer cannot be read")
    known = estimator.calibration(tail.provider, model)
    counted = partial(estimator.count, model=model)
    booked, observed = sockets.book(found, tail.end.outcome, model, known, counted)
    return Measured(entry_of(tail, model, found, booked, observed, estimator.prices, drift=False), None)


def sealed(tail: Tail, prices: PriceBook, why: str) -> Measured:
    """The entry of an exchange whose bytes are sealed and cannot be opened: nothing of it is known, which is not 0."""
    return _held(tail, tail.model, Found(Reading(), None, False, Ended.UNREADABLE, None), prices, why)


def _held(tail: Tail, model: str, found: Found, prices: PriceBook, why: str) -> Measured:
    return Measured(entry_of(tail, model, found, UNKNOWN, None, prices, drift=False), None, held=why)


def _sees(tail: Tail, found: Found, sample: float) -> bool:
    """Whether the output has to be looked at."""
    dialect = tail.open.dialect
    if found.how is Ended.UNREADABLE or dialect in LOOKED_UP:
        return False
    if booked_apart(dialect, found.note):
        return False
    reported = found.reported
    overtaken = found.reading.passed_over > _MAY_SPEAK
    if dialect is Dialect.OPENAI_EMBEDDINGS and reported is not None and found.normal_end:
        return False
    if dialect in TOKENLESS:
        doubtful = reported is not None and (not reported.input_tokens or not reported.output_tokens)
        return reported is not None and (overtaken or doubtful) and not found.reading.whole
    return overtaken or needs_observing(tail.end, reported, confirmed=found.normal_end) or _sampled(tail, sample)


def _book(tail: Tail, found: Found, observed: Observed | None) -> Booked:
    dialect, end, reported = tail.open.dialect, tail.end, found.reported
    if found.note is not None and booked_apart(dialect, found.note):
        return _of_work(found, found.note)
    if Mark.OPEN_WORK in found.reading.marks and reported is None and found.reading.whole:
        return UNKNOWN  # background work: whoever fetches its result learns what it has cost
    if (
        reported is None
        and end.status is not None
        and end.status < 300
        and (dialect is Dialect.PASSTHROUGH or (dialect not in LOOKED_UP and _says_nothing(found)))
    ):
        return UNKNOWN  # a call or an answer that no reader knows: what it has cost is unknown, which is not 0
    if observed is not None and not needs_observing(end, reported, confirmed=found.normal_end):
        observed = None  # looked at as a sample
    if observed is not None and end.lost_bytes and not found.reading.documents:
        return UNKNOWN if reported is None else Booked(reported, Source.PARTIAL)
    return reconcile(found.normal_end, reported, observed)


def _says_nothing(found: Found) -> bool:
    """Whether all of an answer is here, and what it says is neither output nor an error nor anything that we know."""
    reading = found.reading
    if found.how not in (Ended.WHOLE, Ended.TRUNCATED) or reading.shaped or reading.output:
        return False
    return reading.documents > 0


def _of_work(found: Found, note: Note) -> Booked:
    """What is known of work that ends elsewhere: its result, or nothing yet. To look at it costs nothing."""
    if note.ends and found.reported is not None:
        return reconcile(found.normal_end, found.reported, None)
    if note.ends or note.begins:
        return UNKNOWN
    return Booked(NOTHING, Source.REPORTED if found.normal_end else Source.PARTIAL)


def _final(found: Found, booked: Booked) -> Usage | None:
    """A report that calibrations can learn from."""
    sound = found.normal_end and booked.source is Source.REPORTED and Mark.INCONSISTENT not in found.reading.marks
    return booked.usage if sound else None


def _drifted(lesson: Lesson, known: Known, limit: float) -> bool:
    return lesson.shown is not None and calibration.drifted(known.shown, lesson.shown, lesson.expected, limit)


def _model(tail: Tail, reading: Reading) -> str:
    """The model asked for; on paths that name none, what the request's body says, or the answer's."""
    if tail.model or tail.end.request is None:
        return tail.model or reading.model[:MAX_NAME]
    document = documents.decode(tail.end.request.unpack())
    asked = document.get("model") if isinstance(document, dict) else None
    return (asked if isinstance(asked, str) and asked else reading.model)[:MAX_NAME]


def _sampled(tail: Tail, share: float) -> bool:
    """Chosen by the id, so that measuring again has the same result."""
    return tail.end.status == 200 and zlib.crc32(str(tail.id).encode()) < share * 2**32


def _observe(tail: Tail, model: str, reading: Reading, estimator: Estimator) -> Observed:
    """Our own count, and what it makes us expect to be reported."""
    request = tail.end.request
    said = said_of(reading, lambda text: estimator.count(text, model))
    if request is not None:
        asked = prompt.asked(request.unpack(), model, lambda text: estimator.count(text, model))
    else:
        asked = prompt.from_length(tail.end.request_bytes)
    known = estimator.calibration(tail.provider, model)
    output = calibration.estimate(tokenizer_of(model), known, said, thinks=asked.thinks)
    return Observed(asked.tokens - asked.unbilled, said.tokens, output, reading.output_beyond_report, asked, said)
