import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract import tail
from shared.contract.dialects import Dialect
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import End, Open, Outcome, Packed, Record, Segment

ID = ExchangeId(new_boot(), 3, 7)
OPEN = Open("k" * 64, Dialect.GEMINI, "gemini", "gemini-2.5-flash", 1_700_000_000_000, True, "/v1beta/models/x")
END = End(
    Outcome.COMPLETED, 200, "text/event-stream", "", 5, 10, 3, 40, "req_1", Packed.pack(b"tail"), Packed.pack(b"{}")
)


@pytest.mark.parametrize(("seq", "record"), [(0, OPEN), (1, Segment(Packed.pack(b"x" * 5000))), (9, END)])
def test_a_record_survives_its_fields(seq: int, record: Record) -> None:
    assert tail.decode(tail.encode(ID, seq, record)) == (ID, seq, record)


@given(st.binary(max_size=5000))
def test_packing_loses_nothing(data: bytes) -> None:
    assert Packed.pack(data).unpack() == data


def test_what_repeats_is_packed_small() -> None:
    events = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"word"}}]}\n\n' * 1000
    assert len(Packed.pack(events).data) < len(events) / 20


@given(st.dictionaries(st.sampled_from([b"x", b"s", b"r"]), st.binary(max_size=60)))
def test_other_fields_are_no_record(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(BadRecord):
        tail.decode(fields)


def test_a_record_must_stand_where_it_can() -> None:
    with pytest.raises(BadRecord, match="cannot have seq 1"):
        tail.decode(tail.encode(ID, 1, OPEN))
    with pytest.raises(BadRecord, match="cannot have seq 0"):
        tail.decode(tail.encode(ID, 0, END))


def test_a_damaged_or_endless_segment_is_refused() -> None:
    packed = Packed.pack(b"abc" * 1000)
    with pytest.raises(BadRecord, match="unpack"):
        Packed(packed.data[:-4], zstd=True).unpack()
    bomb = Packed.pack(bytes(tail.MAX_SEGMENT_BYTES + 1))
    assert len(bomb.data) < 100_000
    with pytest.raises(BadRecord, match="limit"):
        bomb.unpack()
