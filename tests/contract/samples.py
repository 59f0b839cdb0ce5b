"""One of everything that is stored or exchanged, as it is now. `python -m tests.contract.samples` writes the golden
bytes of the current version; those of earlier versions were written by their own code, and are never written again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.contract import entry, events, frames, limits, messages, running, seals, tail, work
from shared.contract.booked import Provisional, booked, group
from shared.contract.dialects import Dialect
from shared.contract.events import Event, EventType, event_id
from shared.contract.frames import Cut, Fragment, Item, JournaledHead, JournaledRecord, SealedFragment
from shared.contract.ids import ExchangeId
from shared.contract.limits import Limits, ModelLimits, Raise, Reset
from shared.contract.messages import SocketMessage
from shared.contract.provider_state import CredentialState, Health, ProviderState
from shared.contract.running import GatewayState, Reloaded, Result, Service
from shared.contract.tail import Attempt, End, Head, Open, Outcome, Packed, Segment
from shared.contract.version import CURRENT
from shared.contract.work import WorkKind, WorkStart
from shared.runtime.seal_keys import SealKeys
from tests.support.entries import entry as an_entry

GOLDEN = Path(__file__).parent / "golden"
ID = ExchangeId("01K0000000000000000000G01D", 0, 7)
OTHER = ExchangeId("01K0000000000000000000G01D", 1, 0)
KEY = ("c0ffee" * 11)[:64]

OPEN = Open(
    key=KEY,
    dialect=Dialect.ANTHROPIC_MESSAGES,
    provider="anthropic",
    model="claude-sonnet-4-5",
    opened_ms=1_700_000_000_000,
    streamed=True,
    path="v1/messages",
    request_bytes=321,
    team="research",
    user="user-17",
    session="session-4",
    tags=("nightly", "eval"),
    client_address="192.0.2.7",
    user_agent="anthropic-sdk-python/0.75",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    permit="01K0000000000000000000G01D.12",
    requested_model="claude",
    app="nightly-evals",
)
HEAD = Head(200, "text/event-stream", "", "openrouter", "anthropic/claude-sonnet-4.5", "spare", "api/v1/messages")
SEGMENT = Segment(Packed.pack(b"event: ping\ndata: {}\n\n"))
FIRST_SEGMENT = Segment(Packed(b"(\xb5/\xfd a zstd frame", zstd=True), HEAD)
ATTEMPTS = (
    Attempt("anthropic", "claude-sonnet-4-5", "main", 529, "overloaded", 84),
    Attempt("anthropic", "claude-sonnet-4-5", "spare", None, "first_byte_timeout", 600_000, True),
    Attempt("openrouter", "anthropic/claude-sonnet-4.5", "", 200, "", 910),
)
END = End(
    outcome=Outcome.CLIENT_GONE,
    status=200,
    content_type="text/event-stream",
    content_encoding="",
    response_bytes=22,
    request_bytes=321,
    first_byte_ms=210,
    duration_ms=1840,
    request_id="req_golden",
    body=Packed(b""),
    request=Packed(b"{}"),
    lost_bytes=3,
    provider="openrouter",
    model="anthropic/claude-sonnet-4.5",
    credential="spare",
    attempts=ATTEMPTS,
    cause="client_gone",
    gap=3,
    path="api/v1/messages",
)
SEAL_KEYS = SealKeys((bytes(range(32)), bytes(32)))


def sealed() -> tuple[Segment, End, Item, Item]:
    """Records, and what their journal has, sealed by one process from its first piece on."""
    sealer = SEAL_KEYS.sealer()
    assert sealer is not None
    id, other = str(ID), str(OTHER)
    segment = Segment(sealer.seal(id, "1", Packed.pack(b"event: ping\ndata: {}\n\n" * 100)), HEAD)
    body, request = sealer.seal(id, seals.END, Packed(b"data: [DONE]")), sealer.seal(id, seals.REQUEST, Packed(b"{}"))
    end = msgspec.structs.replace(END, body=body, request=request)
    pieces = [SealedFragment(other, 1, sealer.seal(other, "1", Packed(said))) for said in (b"data: not cut", b" yet")]
    return segment, end, pieces[0], pieces[1]


SEALED_SEGMENT, SEALED_END, *SEALED_FRAGMENTS = sealed()
ENTRY = an_entry(
    ID,
    key=KEY,
    provider=END.provider,
    model=END.model,
    dialect=OPEN.dialect,
    outcome=END.outcome,
    source="partial",
    price_version="2026-01",
    cost_microusd=696,
    **{name: getattr(OPEN, name) for name in ("team", "user", "session", "tags", "client_address", "user_agent")},
    traceparent=OPEN.traceparent,
    permit=OPEN.permit,
    requested_model=OPEN.requested_model,
    app=OPEN.app,
    credential=END.credential,
    attempts=END.attempts,
    cause=END.cause,
    ended="cut",
    cost_nanousd=696_000,
    cost_source="book",
    reported_cost_nanousd=702_500,
)
BARE_ENTRY = an_entry(ID, key=KEY)
WORK_ENTRY = an_entry(
    ID,
    key=KEY,
    marks=("work_booked",),
    work_id="resp_1",
    work_begun_by=str(OTHER),
    work_booked_by="01K0000000000000000000G01D.1.9",
    fetched_by="b" * 64,
)
PRICED_ENTRY = an_entry(
    ID,
    key=KEY,
    price_version="2026-11",
    cost_microusd=703,
    cost_nanousd=702_500,
    reported_cost_nanousd=702_500,
    cost_source="provider",
    marks=("cost_differs",),
    tier="batch",
    region="us",
    price_line="openai gpt-4o* since 2026-03-01, batch",
    unpriced_reason="no_price",
    book_cost_nanousd=696_001,
)
WORK_START = WorkStart(
    str(OTHER),
    KEY,
    "o4-mini-deep-research",
    WorkKind.RESPONSE,
    OPEN.opened_ms,
    OPEN.team,
    OPEN.user,
    OPEN.session,
    OPEN.tags,
    OPEN.app,
)
PROVISIONAL = Provisional(2, booked(ENTRY), KEY, group(ENTRY.provider, ENTRY.model), ENTRY.team)
ITEMS: tuple[Item, ...] = (
    JournaledRecord(str(ID), 0, tail.pack(OPEN)),
    JournaledHead(str(ID), HEAD),
    Fragment(str(ID), 1, b"event: ping\n"),
    Fragment(str(ID), 1, b"data: {}\n\n"),
    Cut(str(ID), 1, 22),
    JournaledRecord(str(ID), 2, tail.pack(END)),
    JournaledHead(str(OTHER), HEAD),
    Fragment(str(OTHER), 1, b"data: not cut yet\n\n"),
)
SEALED_ITEMS: tuple[Item, ...] = (
    JournaledRecord(str(ID), 1, tail.pack(SEALED_SEGMENT)),
    JournaledRecord(str(ID), 2, tail.pack(SEALED_END)),
    JournaledHead(str(OTHER), HEAD),
    *SEALED_FRAGMENTS,
)

GATEWAY_STATE = GatewayState(
    host="gateway-1",
    loaded_ms=1_700_000_000_000,
    configuration="0f1e2d3c4b5a",
    refused="AROUTER_PROVIDERS__OPENAI__COLOUR: Extra inputs are not permitted",
    providers=(
        ProviderState(
            "openai",
            ("openai_chat", "openai_responses"),
            (
                CredentialState("main", Health.COOLING, 1_700_000_000_500, "429", 120, 7, 2),
                CredentialState("spare", Health.HEALTHY, 1_700_000_000_000),
            ),
        ),
    ),
    left_out=3,
)
RELOADED = Reloaded(Service.GATEWAY, Result.CHANGED, "gateway-1", "only a restart changes AROUTER_TOTAL_TIMEOUT")

EVENT = Event(
    event_id(EventType.BUDGET_THRESHOLD, f"key {KEY} 80 2023-11"),
    EventType.BUDGET_THRESHOLD,
    1_700_000_000_000,
    {"scope": f"key {KEY}", "percent": 80},
)

PROVIDER_STATE = ProviderState(
    "openai",
    ("openai_chat", "openai_responses"),
    (
        CredentialState("main", Health.OUT, OPEN.opened_ms, "401", 12, 3, 2),
        CredentialState("spare", Health.HEALTHY, OPEN.opened_ms),
    ),
)

LIMITS = Limits(
    limit_nanousd=50_000_000_000,
    limit_tokens=1_000_000,
    limit_reset=Reset.MONTHLY,
    requests_per_minute=60,
    tokens_per_minute=100_000,
    requests_per_day=10_000,
    concurrent_requests=8,
    soft=True,
    raised=Raise(until=1_700_000_000, limit_nanousd=90_000_000_000),
    models={"openai/gpt-4o*": ModelLimits(limit_nanousd=5_000_000_000, limit_reset=Reset.DAILY)},
)

# What a tail of a socket holds: a message, one that is told by its beginning and its report, a run, lost bytes.
MESSAGES = (
    SocketMessage(True, 26, b'{"type":"response.create"}'),
    SocketMessage(False, 90_000, b'{"type":"response.done"', b'"usage":{"input_tokens":7}}'),
    SocketMessage(False, 5_000_000, b'{"type":"response.output_audio.delta"', times=173),
    SocketMessage(False, 9, b"", times=0),
)

WRITTEN: Mapping[str, Callable[[], bytes]] = {
    "open.bin": lambda: tail.pack(OPEN),
    "segment_first.bin": lambda: tail.pack(FIRST_SEGMENT),
    "segment.bin": lambda: tail.pack(SEGMENT),
    "end.bin": lambda: tail.pack(END),
    "segment_sealed.bin": lambda: tail.pack(SEALED_SEGMENT),
    "end_sealed.bin": lambda: tail.pack(SEALED_END),
    "entry.json": lambda: entry.encode(ENTRY),
    "entry_bare.json": lambda: entry.encode(BARE_ENTRY),
    "entry_work.json": lambda: entry.encode(WORK_ENTRY),
    "entry_priced.json": lambda: entry.encode(PRICED_ENTRY),
    "work_start.json": lambda: work.encode(WORK_START),
    "gateway_state.json": lambda: running.encode(GATEWAY_STATE),
    "reloaded.json": lambda: running.encode(RELOADED),
    "provider_state.json": lambda: msgspec.json.encode(PROVIDER_STATE),
    "event.json": lambda: events.encode(EVENT),
    "limits.json": lambda: limits.encode(LIMITS).encode(),
    "messages.bin": lambda: b"".join(map(messages.encode, MESSAGES)),
    "provisional.txt": lambda: PROVISIONAL.encode().encode(),
    "00000001.journal": lambda: frames.encode(ITEMS[:3]) + frames.encode(()) + frames.encode(ITEMS[3:]),
    "sealed.journal": lambda: frames.encode(SEALED_ITEMS),
}


def golden(version: str, name: str) -> bytes:
    """The golden bytes of a version, by name of their file."""
    return (GOLDEN / version / name).read_bytes()


def golden_json(version: str, name: str) -> Any:
    return json.loads(golden(version, name))


if __name__ == "__main__":
    folder = GOLDEN / str(CURRENT)
    folder.mkdir(exist_ok=True)
    for name, write in WRITTEN.items():
        (folder / name).write_bytes(write())
