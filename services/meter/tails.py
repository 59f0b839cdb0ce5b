"""All records of one exchange, and what its answer says. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from services.meter.endings import confirmed, ended
from services.meter.readers import encodings
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading
from services.meter.readers.sockets import SocketReader
from services.meter.work import Note, note_of
from shared.contract import seals
from shared.contract.dialects import SOCKETS, Dialect
from shared.contract.entry import Ended, Mark
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.tail import End, Open, Outcome, Packed, Segment
from shared.contract.usage import Usage

SWITCHED = 101  # the status of a socket; any other is that of an ordinary answer
# Of calls that look something up, and buy nothing.
LOOKED_UP = (Dialect.COUNT_TOKENS, Dialect.METADATA)


Opening = Callable[[ExchangeId, str, Packed], Packed]


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

    @property
    def path(self) -> str:
        """The path of the request there."""
        return self.end.path or self.open.path

    def opened(self, opening: Opening) -> Tail:
        """The same, no longer sealed. BadRecord, with its reason, where some of it cannot be opened."""
        bodies = [self.end.body, *(segment.body for segment in self.segments)]
        if not any(body.seal for body in bodies) and (self.end.request is None or self.end.request.seal is None):
            return self
        segments = [
            msgspec.structs.replace(segment, body=opening(self.id, str(seq), segment.body))
            for seq, segment in enumerate(self.segments, 1)
        ]
        request = self.end.request and opening(self.id, seals.REQUEST, self.end.request)
        end = msgspec.structs.replace(self.end, body=opening(self.id, seals.END, self.end.body), request=request)
        return Tail(self.id, self.open, segments, end)

    def body(self) -> Iterator[bytes | None]:
        """The answer's bytes, decoded piece by piece; None for a gap. BadRecord where they cannot be read any further.

        Piece by piece, because a few of them may decode to more than the memory of a meter.
        """
        encoding = self.end.content_encoding
        decoder = encodings.decoder(encoding)
        for gap, packed in (*((segment.gap, segment.body) for segment in self.segments), (self.end.gap, self.end.body)):
            if gap and encoding not in encodings.PLAIN:
                raise BadRecord("what stands behind a gap cannot be decompressed")
            if gap:
                yield None
            yield from decoder.feed(packed.unpack())

    @property
    def gaps(self) -> int:
        """Bytes that are missing at known places."""
        return self.end.gap + sum(segment.gap for segment in self.segments)


class Found(NamedTuple):
    """An answer as far as it could be read."""

    reading: Reading
    reported: Usage | None  # what is booked of the report
    normal_end: bool  # it completed, all its bytes are here, and it ended the way its dialect ends
    how: Ended
    note: Note | None  # it has to do with work that ends elsewhere


def read(tail: Tail, *, observe: bool) -> Found:
    """What a tail's answer says. A body that does not decode ends it early; so does a gap in one that is compressed."""
    dialect, end = tail.open.dialect, tail.end
    switched = dialect in SOCKETS and end.status == SWITCHED
    reader = SocketReader(dialect) if switched else Reader(dialect, end.content_type, observe=observe)
    decoded = True
    try:
        for piece in tail.body():
            if piece is None:
                reader.gap()
            else:
                reader.feed(piece)
    except BadRecord:
        decoded = False
    reading = reader.close()
    note = note_of(tail.open, end, reading, decoded=decoded, gaps=tail.gaps)
    buys = dialect not in LOOKED_UP or (note is not None and note.ends)
    if not buys:
        reading.marks.clear()
        reading.cost_nanousd, reading.units = None, {}
    elif note is not None and note.begins and not note.ends:
        reading.marks.add(Mark.OPEN_WORK)
    how = ended(dialect, end, reading, decoded=decoded)
    # A report that stands behind every gap counts what is missing, too.
    counted = end.lost_bytes <= tail.gaps and reading.reported_last
    here = end.outcome is Outcome.COMPLETED and decoded and (not end.lost_bytes or counted or not buys)
    failed = how is Ended.ERROR and reading.usage is None and end.status is not None and end.status < 300
    normal_end = here and confirmed(dialect, end, reading) and not reading.provisional and not failed
    return Found(reading, reported(dialect, reading) if buys else None, normal_end, how, note)


def of_model(reading: Reading) -> Usage:
    """What the model read and wrote, where the provider bills other counts; unknown elsewhere."""
    return reading.usage if reading.usage is not None and reading.billed is not None else Usage()


def reported(dialect: Dialect, reading: Reading) -> Usage | None:
    """What is booked of a report: what the provider bills, where it says so."""
    usage, bill = reading.usage, reading.billed
    if usage is None:
        return None
    if dialect is Dialect.OPENAI_EMBEDDINGS and not usage.any:
        return None  # what was embedded had tokens
    if bill is not None:
        usage = Usage(
            bill.input_tokens or usage.input_tokens,  # a zero beside a count is a placeholder in a bill, too
            bill.output_tokens or usage.output_tokens,
        ).completed()
    if dialect is Dialect.OPENAI_EMBEDDINGS and usage.output_tokens is None:
        return replace(usage, output_tokens=0).completed()
    return usage
