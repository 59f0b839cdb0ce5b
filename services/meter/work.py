"""Work that ends elsewhere: what an exchange has to do with it, and what is booked of it. Pure.

Three exchanges touch a piece of work: one begins it, any number look at it or fetch its result, and one of these books
the result, on the key of the first (decision 46).
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from services.meter.pricing.book import PriceBook
from services.meter.pricing.costs import with_cost
from services.meter.readers.reading import Reading, Work
from services.meter.reconcile import NOTHING
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import Entry, Mark
from shared.contract.tail import End, Open, Outcome
from shared.contract.usage import Source
from shared.contract.work import Claim, Noted, WorkKind, WorkStart

_ATTRIBUTED = ("team", "user", "session", "tags", "app")  # of who began work
_LONGEST_NAME = 256  # characters: providers choose them, and each is a key in Redis
# Where a path alone names the work.
_DEFERRED = re.compile(r"chat/deferred-completion/([^/]+)$")
_RESULTS = re.compile(r"batches/([^/]+)/results$")
_FILE = re.compile(r"files/([^/]+)/content$")
_GOOGLE_FILE = re.compile(r"(files/[^/:]+):download$")


class Note(NamedTuple):
    """What an exchange has to do with a piece of work."""

    kind: WorkKind
    names: tuple[str, ...]  # the provider's ids: of the work, then of the file with its result
    begins: bool  # it has begun the work
    ends: bool  # it has the result, or the word that there will be none
    certain: bool  # False: it is no such work where nobody has begun it
    several: bool  # the result is of several models

    @property
    def matters(self) -> bool:
        """Whether Redis has to know. A look at work that runs tells nothing new."""
        return self.begins or self.ends or len(self.names) > 1


def note_of(opened: Open, end: End, reading: Reading, *, decoded: bool, gaps: int) -> Note | None:
    """The note of an exchange; None where it has nothing to do with such work. `decoded`: its body could be decoded.
    `gaps`: bytes that were left out at known places, because no more of one answer is copied."""
    if end.status is None or not 200 <= end.status < 300:
        return None
    work, looked_up = _named(opened, end, reading), opened.dialect is Dialect.METADATA
    if work is None or not work.names or max(map(len, work.names)) > _LONGEST_NAME:
        return None
    if not work.certain and not looked_up:
        return None  # an ordinary answer; it is booked where it is
    here = decoded and end.outcome is Outcome.COMPLETED and end.lost_bytes <= gaps
    if reading.sums and (reading.broke_off or not here):
        return None  # a part of the sum; more of it can be fetched again, which is not so of what is never copied
    begins = not looked_up and not _in_path(work.names[0], opened.path)
    return Note(work.kind, work.names, begins, work.ended, work.certain, work.several)


def _in_path(name: str, path: str) -> bool:
    """Whether a path is about that work, as a call that cancels it is. Ids may be as short as "1"."""
    return re.search(rf"(?:^|/){re.escape(name)}(?:[/:]|$)", unquote(path)) is not None


def _named(opened: Open, end: End, reading: Reading) -> Work | None:
    """The work that an answer tells of, with its name from the path where the answer has none."""
    work, path = reading.work, opened.path
    deferred = _DEFERRED.search(path) if opened.dialect is Dialect.METADATA else None
    if deferred:
        ended = end.status == 200 and reading.shaped  # 202 until then
        return Work(WorkKind.DEFERRED, (unquote(deferred[1]),), ended=ended)
    if work is None:
        return None
    if work.kind is WorkKind.DEFERRED and opened.dialect is not Dialect.OPENAI_CHAT:
        return None  # receipts of this form are given for videos, too
    if work.names:
        return work
    results = _RESULTS.search(path)
    file = _FILE.search(path) or _GOOGLE_FILE.search(path)
    if results:
        return Work(work.kind, (unquote(results[1]),), ended=True, several=work.several)
    if file and work.ended:  # a file of errors alone is the result of nothing
        return Work(work.kind, (unquote(file[1]),), ended=True, several=work.several)
    return None


def booked_apart(dialect: Dialect, note: Note | None) -> bool:
    """Whether an exchange has no figures but those of the work, so that there is nothing to estimate."""
    if note is None:
        return False
    return dialect in TOKENLESS or not note.ends


def noted(entry: Entry, note: Note, *, waited: bool) -> Noted:
    """What Redis has to know of an exchange. `waited`: long enough for the start to be metered."""
    return Noted(
        exchange_id=entry.exchange_id,
        provider=entry.provider,
        names=note.names,
        kind=note.kind,
        start=_start(entry, note) if note.begins else None,
        books=note.ends,
        unbegun=waited and note.certain,
    )


def _start(entry: Entry, note: Note) -> WorkStart:
    same = {name: getattr(entry, name) for name in ("exchange_id", "key", "opened_ms", *_ATTRIBUTED)}
    return WorkStart(**same, model=entry.model, kind=note.kind)


def with_claim(entry: Entry, note: Note, claim: Claim, prices: PriceBook) -> Entry:
    """The entry of an exchange, once it is known who books the result. `entry`: as if this exchange does."""
    name = note.names[0]
    if claim.holder and claim.holder != entry.exchange_id:
        elsewhere = _nothing(entry, prices) if note.begins or note.ends else entry
        marks = tuple(sorted({*elsewhere.marks, Mark.WORK_BOOKED}))
        return replace(elsewhere, marks=marks, work_id=name, work_booked_by=claim.holder)
    if not note.ends:
        return replace(entry, work_id=name)
    if not claim.holder:
        return _nothing(entry, prices)  # an ordinary answer, which was booked when it was made
    return _of_start(replace(entry, work_id=name), note, claim.start, prices)


def _of_start(entry: Entry, note: Note, start: WorkStart | None, prices: PriceBook) -> Entry:
    """The same, booked on whoever began the work."""
    if start is None or start.exchange_id == entry.exchange_id:
        return entry
    model = entry.model if note.several else start.model or entry.model
    return replace(
        with_cost(replace(entry, model=model), prices, several=note.several),
        key=start.key,
        **{name: getattr(start, name) for name in _ATTRIBUTED},
        work_begun_by=start.exchange_id,
        fetched_by=entry.key if entry.key != start.key else "",
    )


def _nothing(entry: Entry, prices: PriceBook) -> Entry:
    """The same with nothing booked, which is known to be 0."""
    changed = replace(
        entry,
        source=Source.REPORTED,
        raw_usage=None,
        units=None,
        modalities=None,
        marks=(),
        model_input_tokens=None,
        model_output_tokens=None,
        reported_cost_nanousd=None,
        **NOTHING.as_dict(),
    )
    return with_cost(changed, prices)
