"""A roll-out: version 1.0 writes and this version reads, this version writes and 1.0 reads, and both book at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from services.meter.settle import Ledger, Settlement
from shared.books import audit, ledger, totals
from shared.books.books import Books
from shared.contract import entry, names, tail
from shared.contract.booked import FIRST_BOOKED, booked
from shared.contract.dialects import Dialect
from shared.contract.entry import Entry
from shared.contract.ids import BOOT, ExchangeId, new_boot
from shared.contract.tail import End, Head, Open, Outcome, Packed, Segment
from shared.runtime.store import Store
from tests.contract import previous, samples
from tests.support.entries import entry as an_entry
from tests.support.tails import KEY

ID = ExchangeId(new_boot(), 0, 3)
TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**53)
PACKED = st.builds(previous.Packed, st.binary(max_size=50), st.booleans())
HEADS = st.builds(previous.Head, st.none() | COUNT, TEXT, TEXT)
OPENS = st.builds(previous.Open, TEXT, st.sampled_from(list(Dialect)), TEXT, TEXT, COUNT, st.booleans(), TEXT, COUNT)
SEGMENTS = st.builds(previous.Segment, PACKED, st.none() | HEADS)
ENDS = st.builds(
    previous.End,
    st.sampled_from(list(Outcome)),
    st.none() | COUNT,
    TEXT,
    TEXT,
    COUNT,
    COUNT,
    st.none() | COUNT,
    COUNT,
    TEXT,
    PACKED,
    st.none() | PACKED,
    COUNT,
)


def plain(record: Any, fields: tuple[str, ...]) -> list[Any]:
    """These fields of a record, whichever version's it is."""
    found = {name: _known(value) for name, value in msgspec.structs.asdict(record).items()}
    return [msgspec.to_builtins(found[name], builtin_types=(bytes,)) for name in fields]


def _known(value: Any) -> Any:
    """What is within a record, as far as 1.0 knows it."""
    if isinstance(value, Head):
        return previous.Head(value.status, value.content_type, value.content_encoding)
    return previous.Packed(value.data, value.zstd) if isinstance(value, Packed) else value


@given(OPENS | SEGMENTS | ENDS)
def test_records_of_an_old_gateway_are_read_with_defaults(old: Any) -> None:
    seq = 0 if isinstance(old, previous.Open) else 1
    _, _, new = tail.decode(tail.fields(ID, seq, previous.pack(old)))
    assert plain(new, old.__struct_fields__) == plain(old, old.__struct_fields__)
    added = [name for name in new.__struct_fields__ if name not in old.__struct_fields__]
    assert {getattr(new, name) for name in added} <= {"", (), 0}


@pytest.mark.parametrize("new", [samples.OPEN, samples.FIRST_SEGMENT, samples.SEGMENT, samples.END])
def test_records_of_a_new_gateway_are_read_by_an_old_meter(new: Open | Segment | End) -> None:
    """1.0 skips values behind those that it knows."""
    old = previous.unpack(tail.pack(new))
    assert plain(old, old.__struct_fields__) == plain(new, old.__struct_fields__)


@pytest.mark.parametrize("new", [samples.SEALED_SEGMENT, samples.SEALED_END])
def test_an_old_meter_takes_what_is_sealed_for_damaged(new: Segment | End) -> None:
    """And not for an answer: 1.0 quarantines what does not decompress."""
    old: Any = previous.unpack(tail.pack(new))
    for body in filter(None, (old.body, getattr(old, "request", None))):
        assert body.zstd
        with pytest.raises(zstandard.ZstdError):
            zstandard.ZstdDecompressor().decompress(body.data)


@pytest.mark.parametrize("new", [samples.ENTRY, samples.BARE_ENTRY, samples.WORK_ENTRY])
def test_entries_of_a_new_meter_have_all_fields_an_old_reader_asks_for(new: Entry) -> None:
    fields = msgspec.json.decode(entry.encode(new))
    assert list(fields)[: len(previous.ENTRY)] == previous.ENTRY
    assert all(fields[name] == getattr(new, name) for name in previous.ENTRY)


def test_a_new_gateway_adopts_the_journal_of_an_old_one(tmp_path: Path) -> None:
    opened = previous.pack(previous.Open(KEY, "openai_chat", "openai", "gpt-4o", 1, True, "v1/chat/completions"))
    head = msgspec.msgpack.encode(previous.Head(200, "text/event-stream"))
    folder = tmp_path / ID.boot
    folder.mkdir()
    (folder / "00000001.journal").write_bytes(
        previous.frame([(str(ID), 0, opened, 0)])
        + previous.frame([])
        + previous.frame([(str(ID), -2, head, 0), (str(ID), -1, b"one ", 1), (str(ID), -1, b"two", 1)])
        + previous.frame([(str(ID), 1, b"", 7), (str(ID), -1, b"three", 2)])
    )
    [orphan] = replay.orphaned_journals(tmp_path)
    first, *segments = [tail.decode(fields)[2] for _, fields in orphan.records()]
    orphan.close(complete=True)
    assert first == Open(KEY, Dialect.OPENAI_CHAT, "openai", "gpt-4o", 1, True, "v1/chat/completions")
    assert segments == [Segment(Packed(b"one two"), Head(200, "text/event-stream")), Segment(Packed(b"three"))]


def test_an_old_gateway_does_not_look_at_the_journal_of_a_new_one(tmp_path: Path) -> None:
    """1.0 would take frames that it cannot read for torn ones, and delete the journal."""
    journal = Journal(tmp_path, new_boot(), limit=1 << 20, keep=1)
    journal.close(complete=False)
    [folder] = tmp_path.iterdir()
    assert not BOOT.fullmatch(folder.name)


OLD, NEW = "old", "new"


async def settle(redis: Store, by: str, what: Entry, *, final: bool) -> None:
    """Book it as a meter of that version does, over whatever is booked so far."""
    [so_far] = await Ledger(redis).provisional(0, [ID])
    settlement = Settlement(ID, what, [], final=final, so_far=so_far)
    if by == NEW:
        await Ledger(redis).settle([settlement])
        return
    arguments = settlement.arguments(kept=60)
    arguments[6] = previous.BOOKED
    arguments[7] = " ".join(map(str, booked(what)[: len(FIRST_BOOKED)]))
    arguments[8] = previous.entry(msgspec.structs.asdict(what))
    del arguments[15]
    assert await redis.eval(previous.SETTLE, 10, *settlement.keys[:10], *arguments) != [-1, 0]  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    "meters",
    [
        (OLD, NEW),
        (NEW, OLD),
        (OLD, OLD, NEW),
        (OLD, NEW, OLD),
        (NEW, NEW, OLD),
        (OLD, OLD),
        (NEW, OLD, NEW),
        (NEW, OLD, OLD, NEW),
        (OLD, NEW, OLD, NEW),
    ],
)
async def test_meters_of_both_versions_amend_each_other(redis: Store, meters: tuple[str, ...]) -> None:
    costs = {"price_version": "1", "cost_source": "book"}
    for number, by in enumerate(meters):
        cost = 10 - number
        what = an_entry(ID, total_tokens=number, cost_microusd=cost, cost_nanousd=1000 * cost, **costs)
        await settle(redis, by, what, final=number == len(meters) - 1)
    entries = [one async for one in ledger.read(redis, 0)]
    assert [one.revision for one in entries] == list(range(1, len(meters) + 1))
    [row] = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    last = len(meters) - 1
    assert (row["requests"], row["total_tokens"], row["cost_microusd"]) == (1, last, 10 - last)
    # An old meter leaves the number that it does not know as it is. (New, old, new would add it twice: the value of
    # the old one says nothing of it. docs/contract.md names that.)
    known = [1000 * (10 - number) for number, by in enumerate(meters) if by == NEW]
    assert row["cost_nanousd"] == (known[-1] if known else 0)
    differences = (await audit.audit(Books(redis, 1))).differences
    assert [line for line in differences if not line.startswith("conservation")] == []


async def test_counters_of_a_later_version_are_passed_over(redis: Store) -> None:
    await settle(redis, NEW, an_entry(ID), final=True)
    await redis.hincrby(names.totals(0, KEY), "openai\x1fgpt-4o\x1fimages", 5)  # type: ignore[misc]
    [row] = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    assert row["requests"] == 1
    assert "images" not in row
