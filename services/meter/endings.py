"""How an answer ended, and why. Pure."""

from __future__ import annotations

from services.meter.readers.reading import Reading
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.entry import Ended
from shared.contract.tail import End, Outcome

# Of an answer that was cut, fewer bytes than this may be the beginning of something that can be read.
_ENOUGH_TO_READ = 4096
_TEXTUAL = ("json", "event-stream", "eventstream")
_PAGE = "html"  # no call of a model answers with one; a file that is fetched may be one

# Causes that a meter finds; gateways write theirs into the end record.
ERROR_EVENT, NO_END, UNREADABLE = "provider_error_event", "no_end", "unreadable"


def ended(dialect: Dialect, end: End, reading: Reading, *, decoded: bool) -> Ended:
    """What became of an answer. `decoded`: its content encoding could be undone."""
    if end.status is not None and end.status >= 400:
        return Ended.ERROR
    if _unreadable(dialect, end, reading, decoded=decoded):
        return Ended.UNREADABLE
    if reading.error:
        return Ended.ERROR
    if end.outcome is not Outcome.COMPLETED:
        return Ended.CUT
    return Ended.WHOLE if confirmed(dialect, end, reading) else Ended.TRUNCATED


def confirmed(dialect: Dialect, end: End, reading: Reading) -> bool:
    """Whether the answer ends the way its dialect ends. An error's text, or a body of no known shape, has no end of its
    own."""
    if end.status is not None and end.status >= 300:
        return True
    if dialect in TOKENLESS and not reading.shaped:
        return True
    return reading.ended


def cause(end: End, reading: Reading, how: Ended) -> str:
    """Why it did not end well, as a short machine word; "" where it did, or where the status says it."""
    if end.cause:
        return end.cause
    if how is Ended.UNREADABLE:
        return UNREADABLE
    if how is Ended.TRUNCATED:
        return NO_END
    return ERROR_EVENT if reading.error and (end.status or 200) < 300 else ""


def _unreadable(dialect: Dialect, end: End, reading: Reading, *, decoded: bool) -> bool:
    """Whether bytes came, and no document could be read in them. A file (audio, an image) is not expected to be one."""
    if end.status is None or end.status >= 300 or reading.documents:
        return False
    textual = (*_TEXTUAL, _PAGE) if dialect is Dialect.PASSTHROUGH else _TEXTUAL
    if dialect in TOKENLESS and not any(kind in end.content_type for kind in textual):
        return False
    if end.lost_bytes:
        return False  # not all of it is here, and reading it again would find no more
    if not decoded:
        return end.response_bytes > 0
    return reading.unread >= (1 if end.outcome is Outcome.COMPLETED else _ENOUGH_TO_READ)
