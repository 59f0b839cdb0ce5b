"""Exchanges out of their records, in bounded memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from services.meter.assembly import Assembled, Assembler
from shared.contract import tail
from shared.contract.dialects import Dialect
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed, Record, Segment, StreamEntry

ID = ExchangeId(new_boot(), 0, 0)
OPEN = Open("k", Dialect.METADATA, "p", "m", 1, False, "/")
KIB = 1024


def assembled(records: list[Record], most_held: int) -> Assembled:
    assembler, whole = Assembler(0, most_held), None
    for seq, record in enumerate(records):
        for again in (b"a", b"b"):
            entry = StreamEntry(b"%d-" % seq + again, tail.encode(ID, seq, record))
            whole = whole or assembler.add(entry, 0.0)
    assert whole is not None
    return whole


@pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
def test_an_exchange_of_any_size_is_held_in_little_memory(count: int) -> None:
    """As gateways of earlier versions send it: without a budget, and without a gap."""
    rng, each = random.Random(1), 64 * KIB
    bodies = [rng.randbytes(each) for _ in range(count)]
    end = End(Outcome.COMPLETED, 200, "", "", count * each + 4, 0, 1, 2, "", Packed(b"last"))
    records: list[Record] = [OPEN, *(Segment(Packed.pack(body)) for body in bodies), end]
    tracemalloc.start()
    found = assembled(records, 16 * (each + KIB)).tail
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * each + 1024 * KIB
    lost = max(0, count - 16) * each
    assert found.end.lost_bytes == sum(segment.gap for segment in found.segments) == lost
    assert b"".join(segment.body.unpack() for segment in found.segments) == b"".join(bodies[:16])
    assert found.end.body == end.body
