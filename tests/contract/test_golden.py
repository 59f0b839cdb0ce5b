"""Golden bytes: this version reads those of earlier versions, and writes its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.gateway.capture import replay
from services.meter.calibrations import Calibrations
from services.meter.estimate.calibration import Calibration
from shared.access import keys
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import audit, boots, ledger, quarantine, totals
from shared.books.books import Books
from shared.books.boots import BootState
from shared.contract import entry, events, frames, limits, names, running, seals, tail, webhooks, work
from shared.contract.booked import BOOKED, FIRST_BOOKED, Provisional, booked
from shared.contract.dialects import Dialect
from shared.contract.messages import Messages
from shared.contract.provider_state import ProviderState
from shared.contract.running import GatewayState, Reloaded, RunningExchanges
from shared.contract.tail import End, Head, Open, Outcome, Packed, Record, Segment
from shared.contract.version import CURRENT
from shared.runtime.store import Store
from tests.contract import samples
from tests.contract.samples import GOLDEN, ID, KEY, OTHER, golden, golden_json

LAST = b"event: message_delta"
FIRST_OPEN = Open(
    KEY, Dialect.ANTHROPIC_MESSAGES, "anthropic", "claude-sonnet-4-5", 1_700_000_000_000, True, "v1/messages", 321
)
HEAD = Head(200, "text/event-stream", "")


def record(version: str, name: str, seq: int) -> Record:
    """A record as a meter reads it."""
    return tail.decode(tail.fields(ID, seq, golden(version, name)))[2]


@pytest.mark.parametrize("name", samples.WRITTEN)
def test_this_version_writes_what_it_is_known_to_write(name: str) -> None:
    """Where these bytes change, the contract needs a new version, or a new field needs a default."""
    assert samples.WRITTEN[name]() == golden(str(CURRENT), name)


def test_records_of_this_version() -> None:
    version = str(CURRENT)
    assert record(version, "open.bin", 0) == samples.OPEN
    assert record(version, "segment_first.bin", 1) == samples.FIRST_SEGMENT
    assert record(version, "segment.bin", 2) == samples.SEGMENT
    assert record(version, "end.bin", 3) == samples.END
    assert record(version, "end_cancelled.bin", 3) == samples.CANCELLED_END
    assert record(version, "segment_sealed.bin", 1) == samples.SEALED_SEGMENT
    assert record(version, "end_sealed.bin", 2) == samples.SEALED_END
    assert entry.decode(golden(version, "entry.json")) == samples.ENTRY
    assert entry.decode(golden(version, "entry_bare.json")) == samples.BARE_ENTRY
    assert entry.decode(golden(version, "entry_work.json")) == samples.WORK_ENTRY
    assert entry.decode(golden(version, "entry_priced.json")) == samples.PRICED_ENTRY
    assert work.decode(golden(version, "work_start.json")) == samples.WORK_START
    assert running.decode(golden(version, "gateway_state.json"), GatewayState) == samples.GATEWAY_STATE
    assert running.decode(golden(version, "running.json"), RunningExchanges) == samples.RUNNING
    assert running.decode(golden(version, "reloaded.json"), Reloaded) == samples.RELOADED
    assert events.decode(golden(version, "event.json")) == samples.EVENT
    assert webhooks.decode(golden(version, "message.bin")) == samples.MESSAGE
    assert limits.decode(golden(version, "limits.json")) == samples.LIMITS
    state = golden(version, "provider_state.json")
    assert msgspec.json.decode(state, type=ProviderState) == samples.PROVIDER_STATE
    assert tuple(Messages().feed(golden(version, "messages.bin"))) == samples.MESSAGES
    assert Provisional.decode(golden(version, "provisional.txt").decode()) == samples.PROVISIONAL


def test_records_of_version_1_0() -> None:
    assert record("1.0", "open.bin", 0) == FIRST_OPEN
    assert record("1.0", "segment.bin", 2) == Segment(Packed(b": ping\n\n"))
    first, end = record("1.0", "segment_first.bin", 1), record("1.0", "end.bin", 3)
    assert isinstance(first, Segment)
    assert first.head == HEAD
    assert first.body.unpack().startswith(b"event: message_start")
    assert isinstance(end, End)
    assert end.body.unpack().startswith(LAST)
    request = Packed(b'{"model":"claude-sonnet-4-5","messages":[]}')
    assert end == End(
        Outcome.COMPLETED, 200, "text/event-stream", "", 1986, 321, 210, 1840, "req_golden", end.body, request
    )
    assert (end.provider, end.model, end.credential, end.attempts, end.cause) == ("", "", "", (), "")


@pytest.mark.parametrize("name", ["ledger_provisional.json", "ledger_final.json"])
def test_entries_of_version_1_0(name: str) -> None:
    stored = golden_json("1.0", name)["entry"]
    fields, found = msgspec.json.decode(stored), entry.decode(stored.encode())
    assert {field: getattr(found, field) for field in fields} == fields
    new = [field for field in found.__struct_fields__ if field not in fields]
    assert {getattr(found, field) for field in new} == {"", (), None}


def test_an_entry_from_before_there_were_prices() -> None:
    fields: dict[str, Any] = msgspec.json.decode(golden_json("1.0", "ledger_final.json")["entry"])
    for name in ("price_version", "cost_microusd", "input_low", "input_high"):
        del fields[name]
    found = entry.decode(msgspec.json.encode(fields))
    assert (found.price_version, found.cost_microusd, found.total_tokens) == (None, None, 72)
    assert dict(zip(BOOKED, booked(found), strict=True))["unpriced_requests"] == 0


def test_what_a_later_version_adds_to_an_entry_is_passed_over() -> None:
    fields: dict[str, Any] = msgspec.json.decode(golden(str(CURRENT), "entry.json"))
    later = msgspec.json.encode({**fields, "colour": "green", "ended": "frozen", "outcome": "cancelled"})
    assert entry.decode(later) == msgspec.structs.replace(samples.ENTRY, ended="frozen", outcome="cancelled")


def test_a_provisional_value_of_version_1_0() -> None:
    found = Provisional.decode(golden("1.0", "provisional.txt").decode())
    assert found == Provisional(1, (1, 32, 32, 5, 2, 0, 64, 0, 1, 0, 576), "", "")
    assert len(found.values) == len(FIRST_BOOKED)


def replayed(version: str, folder: Path, journal: str = "00000001.journal") -> list[tuple[str, int, Record]]:
    """The records of a golden journal, adopted."""
    name = ID.boot if version == "1.0" else f"{ID.boot}.v{frames.VERSION}"
    (folder / name).mkdir()
    shutil.copy(GOLDEN / version / journal, folder / name)
    [orphan] = replay.orphaned_journals(folder)
    found = [tail.decode(fields) for _, fields in orphan.records()]
    assert orphan.opened == {ID.boot: {0: 8, 1: 1}}
    orphan.close(complete=True)
    assert list(folder.iterdir()) == []
    return [(str(id), seq, record) for id, seq, record in found]


def test_a_journal_of_version_1_0(tmp_path: Path) -> None:
    first, end = record("1.0", "segment_first.bin", 1), record("1.0", "end.bin", 3)
    assert replayed("1.0", tmp_path) == [
        (str(ID), 0, FIRST_OPEN),
        (str(OTHER), 0, FIRST_OPEN),
        (str(ID), 1, first),
        (str(ID), 2, Segment(Packed(b": ping\n\n"))),
        (str(ID), 3, end),
        (str(OTHER), 1, Segment(Packed(b"data: not cut yet\n\n"), HEAD)),
    ]


def test_a_journal_of_this_version(tmp_path: Path) -> None:
    assert replayed(str(CURRENT), tmp_path) == [
        (str(ID), 0, samples.OPEN),
        (str(ID), 1, Segment(Packed(b"event: ping\ndata: {}\n\n"), samples.HEAD)),
        (str(ID), 2, samples.END),
        (str(OTHER), 1, Segment(Packed(b"data: not cut yet\n\n"), samples.HEAD)),
    ]


def test_what_is_sealed_opens_with_its_key(tmp_path: Path) -> None:
    """Also what a journal has of bytes that had not become a record."""
    version = str(CURRENT)
    segment, end = record(version, "segment_sealed.bin", 1), record(version, "end_sealed.bin", 2)
    assert isinstance(segment, Segment)
    assert isinstance(end, End)
    assert end.request is not None
    opened = samples.SEAL_KEYS.opened
    assert opened(ID, "1", segment.body) == Packed.pack(b"event: ping\ndata: {}\n\n" * 100)
    assert (opened(ID, seals.END, end.body), opened(ID, seals.REQUEST, end.request)) == (
        Packed(b"data: [DONE]"),
        Packed(b"{}"),
    )
    found = replayed(version, tmp_path, "sealed.journal")
    assert [seq for _, seq, _ in found] == [1, 2, 1]
    assert [record for *_, record in found[:2]] == [segment, end]
    rest = found[2][2]
    assert isinstance(rest, Segment)
    assert (rest.head, opened(OTHER, "1", rest.body)) == (samples.HEAD, Packed(b"data: not cut yet"))


async def test_the_ledger_and_the_totals_of_version_1_0(redis: Store) -> None:
    stored = golden_json("1.0", "totals.json")
    for name in ("ledger_provisional.json", "ledger_final.json"):
        await redis.xadd(names.ledger(0), golden_json("1.0", name))
    for key in (names.totals(0, KEY), names.hour(0, KEY, "2023111422"), names.day(0, KEY, "20231114")):
        await redis.hset(key, mapping=stored)  # type: ignore[misc]
    first, second = [one async for one in ledger.read(redis, 0)]
    assert (first.revision, first.final, second.revision, second.final) == (1, False, 2, True)
    assert first.delta == dict(zip(FIRST_BOOKED, (1, 32, 32, 5, 2, 0, 64, 0, 1, 0, 576), strict=True))
    assert second.delta is None  # its meter did not say
    [row] = (await totals.read(Books(redis, 1), [KEY]))[KEY]
    assert (row["total_tokens"], row["cost_microusd"], row["cost_nanousd"]) == (72, 696, 0)
    differences = (await audit.audit(Books(redis, 1))).differences
    assert [line for line in differences if not line.startswith("conservation")] == []


async def test_keys_boots_and_quarantine_of_version_1_0(redis: Store) -> None:
    stored = golden_json("1.0", "key.json")
    await redis.hset(names.key(KEY), mapping=stored["fields"])  # type: ignore[misc]
    assert await keys.find(redis, KEY) == KeyRecord(
        KEY,
        "golden",
        "lr_live_8b34…0c6d",
        1_700_000_000,
        kind=Kind.LIVE,
        expires_at=1_900_000_000,
        allowed_models=("gpt-4o*",),
    )
    await redis.hset(names.boot(ID.boot), mapping=golden_json("1.0", "boot.json"))  # type: ignore[misc]
    boot = (await boots.find(redis, [ID.boot]))[ID.boot]
    assert (boot.state, boot.opened) == (BootState.GONE, {0: 8, 1: 7})  # it lived, and was not heard of since
    held = golden("1.0", "quarantine.bin")
    await redis.hset(names.quarantine(0), mapping={"1700000000000-0": held})  # type: ignore[misc]
    case = await quarantine.find(Books(redis, 1), str(ID))
    assert (case.reason, case.since_ms) == ("it cannot be read", 1_700_000_000_000)
    assert tail.decode(case.entries[0].fields) == (ID, 1, Segment(Packed(b": ping\n\n")))


async def test_a_calibration_of_version_1_0(redis: Store) -> None:
    field = names.FIELD_SEPARATOR.join(("openai", "gpt-4o"))
    await redis.hset(names.CALIBRATIONS, mapping={field: golden("1.0", "calibration.txt")})  # type: ignore[misc]
    known = Calibrations()
    await known.sync(redis)
    assert known.of("openai", "gpt-4o").shown == Calibration(42, -0.03125, 0.0625)
