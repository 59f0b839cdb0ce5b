"""The size of a meter's reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.meter.read_size import READ_BYTES, ReadSize
from shared.contract.tail import StreamEntry


def entries(*sizes: int) -> list[StreamEntry]:
    return [StreamEntry(b"%d-0" % n, {b"r": bytes(size)}) for n, size in enumerate(sizes)]


def test_small_records_are_read_as_many_as_are_asked_for() -> None:
    reads = ReadSize(200)
    assert reads.count < 200, "nothing is known yet"
    for _ in range(12):
        reads.saw(entries(*[300] * reads.count))
    assert reads.count == 200


def test_a_large_record_makes_the_next_read_small_at_once() -> None:
    reads = ReadSize(200)
    reads.saw(entries(300, 2 << 20, 300))
    assert reads.count == READ_BYTES // (2 << 20)
    reads.saw(entries(20 << 20))
    assert reads.count == 1


def test_it_is_forgotten_by_full_reads_and_not_by_idle_ones() -> None:
    reads = ReadSize(200)
    reads.saw(entries(2 << 20))
    for _ in range(50):
        reads.saw([])
        reads.saw(entries(300))
    assert reads.count == 4
    reads.saw(entries(*[300] * 4))
    assert reads.count == 8


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.integers(1, 1000))
def test_a_read_has_no_more_than_the_limit_while_records_are_alike(sizes: list[int], most: int) -> None:
    reads = ReadSize(most)
    left = [size * 1024 for size in sizes]
    bound = max(left)
    while left:
        reads.saw(entries(bound))
        now, left = left[: reads.count], left[reads.count :]
        assert 1 <= len(now) <= most
        assert sum(now) <= READ_BYTES
