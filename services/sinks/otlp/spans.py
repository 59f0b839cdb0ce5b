"""A span for each exchange, made from its entry after the fact. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from services.sinks.otlp import conventions
from services.sinks.otlp.conventions import Value
from shared.contract.entry import Entry

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1
_MS = 1_000_000  # nanoseconds
_MOST_CHARACTERS = 1024  # of a value


class Place(NamedTuple):
    """Where a span belongs. `parent`: empty for one without."""

    trace: bytes
    span: bytes
    parent: bytes
    sampled: bool


def place(exchange_id: str, traceparent: str) -> Place:
    """The ids of an exchange's span: made of its own id, below the caller's span where it has told one."""
    digest = hashlib.sha256(exchange_id.encode()).digest()
    caller = _TRACEPARENT.fullmatch(traceparent)
    if caller is None:
        return Place(digest[:16], digest[16:24], b"", sampled=True)
    trace, parent, flags = (bytes.fromhex(part) for part in caller.groups())
    return Place(trace, digest[16:24], parent, sampled=bool(flags[0] & _SAMPLED))


def span(entry: Entry, revision: int) -> Span | None:
    """The span of an exchange; None where its caller does not sample this trace."""
    at = place(entry.exchange_id, entry.traceparent)
    if not at.sampled:
        return None
    found = Span(
        trace_id=at.trace,
        span_id=at.span,
        parent_span_id=at.parent,
        flags=_SAMPLED,
        name=_text(f"{conventions.operation(entry)} {entry.model}".strip()),
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_nanoseconds(entry.opened_ms),
        end_time_unix_nano=_nanoseconds(entry.opened_ms + max(0, entry.duration_ms)),
    )
    describe(found, conventions.attributes(entry))
    describe(found, [("arouter.revision", revision)])
    if conventions.error_type(entry):
        found.status.code = Status.STATUS_CODE_ERROR
    return found


def describe(what: Any, attributes: Iterable[tuple[str, Value]]) -> None:
    """Give a span, a resource or a point these attributes. They are filled in where they are: made one by one and
    copied, they would take five times as long."""
    add = what.attributes.add
    for name, value in attributes:
        _fill(add(key=name).value, value)


def _fill(place: Any, value: Value) -> None:
    if isinstance(value, bool):
        place.bool_value = value
    elif isinstance(value, int) and abs(value) < 2**63:
        place.int_value = value
    elif isinstance(value, list):
        for one in value:
            _fill(place.array_value.values.add(), one)
    else:
        place.string_value = _text(str(value))


def _text(value: str) -> str:
    """Of bounded length, and without halves of surrogate pairs, which UTF-8 has not and a provider's JSON may have."""
    return value[:_MOST_CHARACTERS].encode("utf-8", "replace").decode()


def _nanoseconds(ms: int) -> int:
    return min(max(0, ms) * _MS, 2**64 - 1)
