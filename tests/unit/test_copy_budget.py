"""The copy of an answer is bounded: beginning and end are kept, and the record says how much is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from services.gateway.capture import replay
from services.gateway.capture.copy_budget import LAST_BYTES, CopyLimits
from services.gateway.capture.journal import Journal
from services.gateway.capture.tap import Tap
from shared.contract import tail
from shared.contract.dialects import TOKENLESS, Dialect
from shared.contract.ids import ExchangeIds, new_boot
from shared.contract.tail import End, Fields, Head, Open, Outcome, Packed, Segment

KIB = 1024
LIMITS = CopyLimits(counted=512 * KIB, uncounted=128 * KIB)
END = End(Outcome.COMPLETED, 200, "text/event-stream", "", 0, 2, 3, 4, "req", Packed(b""))


class Writer:
    """Keeps what a gateway would send to Redis."""

    def __init__(self) -> None:
        self.full = False
        self.records: list[tail.Record] = []

    def put(self, shard: int, fields: Fields) -> None:
        self.records.append(tail.decode(fields)[2])


class FailingJournal(Journal):
    fails = False

    @property
    def failed(self) -> bool:
        return self.fails


def relayed(
    folder: Path, parts: list[bytes], dialect: Dialect = Dialect.METADATA, request: bytes | None = None
) -> tuple[list[Segment], End, int]:
    """The records of an answer that came in these parts, and the bytes of the journal."""
    journal, writer = Journal(folder, new_boot(), limit=1 << 30, keep=60), Writer()
    taps = Tap(ExchangeIds(new_boot(), 1), cast("Any", writer), journal, limits=LIMITS)
    tap = taps.open(Open("k", dialect, "p", "m", 1, True, "/"))
    tap.head(Head(200, "x", ""))
    for number, part in enumerate(parts):
        tap.feed(part)
        if number % 7 == 0:
            taps.tick()
    tap.end(END, request)
    taps.tick()
    size = journal.size
    replayed = [tail.decode(fields)[2] for _, fields in replay.records(journal.folder)]
    assert replayed == writer.records
    journal.close(complete=True)
    _, *segments, end = writer.records
    assert isinstance(end, End)
    assert end.response_bytes == sum(map(len, parts))
    return [segment for segment in segments if isinstance(segment, Segment)], end, size


def body(segments: list[Segment], end: End) -> bytes:
    return b"".join(segment.body.unpack() for segment in segments) + end.body.unpack()


def numbered(size: int, each: int = 16 * KIB) -> list[bytes]:
    """Parts that differ, so that a wrong one is seen."""
    return [(b"%015d\n" % number) * (each // 16) for number in range(size // each)]


@pytest.mark.parametrize("dialect", Dialect)
def test_beginning_and_end_are_copied_and_the_gap_is_told(tmp_path: Path, dialect: Dialect) -> None:
    limit = LIMITS.uncounted if dialect in TOKENLESS else LIMITS.counted
    parts = numbered(8 * 1024 * KIB)
    segments, end, size = relayed(tmp_path, parts, dialect)
    whole, copied = b"".join(parts), body(segments, end)
    assert limit <= len(copied) < limit + LAST_BYTES + 256 * KIB
    assert end.gap == end.lost_bytes == len(whole) - len(copied) > 0
    head = len(copied) - len(end.body.unpack())
    assert copied == whole[:head] + whole[head + end.gap :]
    assert size < len(copied) + 64 * KIB
    assert [segment.gap for segment in segments] == [0] * len(segments)


@pytest.mark.parametrize("size", [0, 1, 100, 128, 129, 200, 300, 384])
def test_what_is_little_longer_than_the_budget_is_copied_whole(tmp_path: Path, size: int) -> None:
    parts = numbered(size * KIB, KIB)
    segments, end, _ = relayed(tmp_path, parts)
    assert (end.gap, end.lost_bytes) == (0, 0)
    assert body(segments, end) == b"".join(parts)


def test_a_request_is_kept_where_the_report_lies_in_the_gap(tmp_path: Path) -> None:
    report, filler = b'{"usage":{}}', numbered(4 * 1024 * KIB)
    _, end, _ = relayed(tmp_path, [*filler, report, *filler], Dialect.OPENAI_CHAT, b"request")
    assert end.request is not None
    _, end, _ = relayed(tmp_path, [*filler, report], Dialect.OPENAI_CHAT, b"request")
    assert end.request is None


def test_what_was_lost_in_the_middle_is_told_where_it_is_missing(tmp_path: Path) -> None:
    journal, writer = FailingJournal(tmp_path, new_boot(), limit=1 << 30, keep=60), Writer()
    taps = Tap(ExchangeIds(new_boot(), 1), cast("Any", writer), journal)
    tap = taps.open(Open("k", Dialect.OPENAI_CHAT, "p", "m", 1, True, "/"))
    journal.fails = writer.full = True  # neither has room
    tap.feed(b"lost")
    tap.cut()
    journal.fails = writer.full = False
    tap.feed(b"kept")
    tap.cut()
    tap.end(END, None)
    _, segment, end = writer.records
    assert isinstance(segment, Segment)
    assert isinstance(end, End)
    assert (segment.gap, segment.body.unpack(), end.gap, end.lost_bytes, tap.lost) == (4, b"kept", 0, 4, 4)
    journal.close(complete=True)
