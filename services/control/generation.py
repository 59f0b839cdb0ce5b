"""One exchange over HTTP, by the id of its `x-generation-id` header."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller
from services.control.plane import ControlPlane, Plane
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import boots, ledger, quarantine, streams
from shared.books.audit import unsettled
from shared.books.boots import BootState
from shared.books.ledger import LedgerEntry
from shared.contract import tail
from shared.contract.errors import BadRecord
from shared.contract.ids import ID, ExchangeId
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["usage"], responses=ERRORS)

_NANO = 10**9
# A caller may ask before the record of its exchange is in Redis: a gateway writes every 25 ms. An exchange that is
# settled between two looks is found by the next one.
_PAUSES = (0.05, 0.1, 0.2)


class PromptDetails(BaseModel):
    cached_tokens: int | None
    cache_write_tokens: int | None


class CompletionDetails(BaseModel):
    reasoning_tokens: int | None


class GenerationUsage(BaseModel):
    """Counters in OpenAI's names; null is not known, never 0."""

    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost: float | None = Field(description="US dollars, as they are booked; null where it has no price.")
    reported_cost: float | None = Field(
        description="US dollars, as the provider states them beside its usage; null where it states none."
    )
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Generation(BaseModel):
    """What was booked for one exchange, and why."""

    id: str
    provider: str
    model: str = Field(description="As requested from that provider.")
    requested_model: str = Field(
        description="As the request names it, where that is a route of the operator's, or the first of several models; "
        "else empty."
    )
    response_model: str = Field(description="As the provider named it.")
    dialect: str
    streamed: bool
    created_at: datetime
    latency_ms: int | None = Field(description="Until the first byte of the answer's body.")
    duration_ms: int
    status: int | None = Field(description="The provider's HTTP status.")
    outcome: str = Field(
        description="completed, client_gone, upstream_failed, timed_out, drained or gateway_lost.",
        examples=["completed"],
    )
    ended: str = Field(
        description="What came of the answer: whole, truncated (the connection ended properly, the stream did not), "
        "error, cut or unreadable; empty in entries from before this was said.",
        examples=["whole"],
    )
    cause: str = Field(
        description="Why it did not end well, as a short machine word: provider_error_event, no_end, unreadable, or "
        "what the gateway saw; empty where it did, or where the status says it.",
    )
    error: Any = Field(description="The provider's error, where it sent one.")
    finish: list[Any] = Field(description="The provider's own reasons, one for each choice.")
    final: bool = Field(description="Whether no later record can change it.")
    revision: int
    source: str = Field(description="reported, estimated or partial.", examples=["reported"])
    usage: GenerationUsage
    marks: tuple[str, ...] = Field(
        description="What is odd about the figures: placeholder, half_report, inconsistent, unreadable, billed_units, "
        "unpriced, open_work, work_booked, cost_differs, price_incomplete."
    )
    work_id: str = Field(
        description="The provider's id of work that ends elsewhere, as a background response or a batch, which this "
        "exchange began or fetched; else empty."
    )
    work_begun_by: str = Field(description="Of its result: the exchange that began it, whose key is booked.")
    work_booked_by: str = Field(description="The exchange that books its result, where that is another one.")
    units: dict[str, float] | None = Field(description="What is billed and is not a token, by the provider's name.")
    ratio: float | None = Field(description="Where output is estimated: the factor on our own count.")
    output_low: int | None = Field(description="The interval in which the output most likely lies.")
    output_high: int | None
    input_low: int | None = Field(description="The same of the input, where that is estimated.")
    input_high: int | None
    price_version: str | None = Field(
        description="Of the price book; empty where there was none, null in entries from before there were prices."
    )
    cost_source: str = Field(description="Whose figure the cost is: book, provider or unpriced.", examples=["book"])
    price_line: str = Field(description="The price of the book that was used, with the conditions that held.")
    unpriced_reason: str = Field(
        description="Why there is no cost: no_book, no_price, no_rate, unknown_usage, several_models, "
        "no_currency_rate, too_large; details behind a colon."
    )
    provider_usage: dict[str, Any] | None = Field(description="The provider's usage object, word for word.")
    team: str = Field(description="Of the key when it was opened; empty where it had none.")
    user: str = Field(description="Whom the request named as its user.")
    session: str
    tags: tuple[str, ...]
    app: str = Field(description="The program or site that it was for.")
    client_address: str = Field(description="As AROUTER_CLIENT_ADDRESS has it.")
    user_agent: str
    traceparent: str = Field(description="The caller's W3C trace context.")


class StillOpen(BaseModel):
    """It runs, or is about to be booked."""

    id: str
    state: str = "open"


@router.get("/generation", summary="One exchange", responses={202: {"model": StillOpen}})
async def generation(
    plane: Plane,
    caller: Caller,
    response: Response,
    id: Annotated[
        str,
        Query(
            pattern=ID.pattern,
            description="From the x-generation-id header.",
            examples=["01M81S6JE0TRGEED1QBEP9M565.2.85"],
        ),
    ],
) -> Generation | StillOpen:
    """200 once it is booked, 202 while it is open. Kept as long as the ledger, a week by default."""
    unknown = Refused(404, "id: this exchange does not exist, is not yours, or is no longer kept")
    try:
        exchange_id = ExchangeId.parse(id)
    except BadRecord:  # a number that no gateway mints
        raise unknown from None
    for pause in _PAUSES:
        entry = await ledger.find(plane.store, exchange_id)
        if entry is not None:
            if not _may_see(caller, entry.entry.key):
                raise unknown
            return shown(entry)
        key_hash = await _open_key(plane, exchange_id)
        if key_hash is not None:
            if not _may_see(caller, key_hash):
                raise unknown
            response.status_code = 202
            return StillOpen(id=id)
        if not await _may_come(plane, exchange_id):
            break
        await asyncio.sleep(pause)
    raise unknown


def _may_see(caller: KeyRecord, key_hash: str) -> bool:
    return caller.kind is Kind.MANAGEMENT or key_hash == caller.hash


async def _may_come(plane: ControlPlane, id: ExchangeId) -> bool:
    """Whether its gateway lives, so that a record may be on its way."""
    return (await boots.find(plane.store, [id.boot]))[id.boot].state is BootState.LIVE


async def _open_key(plane: ControlPlane, id: ExchangeId) -> str | None:
    """The key of an exchange that waits in its stream or in quarantine."""
    minted = id.n < await streams.opened(plane.store, id.shard, id.boot)
    if not minted or not await unsettled(plane.store, [str(id)]):
        return None  # so that no stream has to be searched
    packed = await streams.open_record(plane.store, id) or await quarantine.open_record(plane.store, id)
    try:
        return tail.decode_open(packed).key if packed is not None else None
    except BadRecord:
        return None


def shown(found: LedgerEntry) -> Generation:
    """An entry as the API answers it, of whichever version."""
    entry = found.entry
    cost, reported = entry.cost_nanousd, entry.reported_cost_nanousd
    if cost is None and entry.cost_microusd is not None:  # of contract 1.0
        cost = entry.cost_microusd * 1000
    same = {name: getattr(entry, name) for name in Generation.model_fields if name in entry.__struct_fields__}
    return Generation(
        **same,
        id=found.exchange_id,
        created_at=datetime.fromtimestamp(entry.opened_ms / 1000, UTC),
        latency_ms=entry.first_byte_ms,
        final=found.final,
        revision=found.revision,
        provider_usage=entry.raw_usage,
        usage=GenerationUsage(
            prompt_tokens=entry.input_tokens,
            completion_tokens=entry.output_tokens,
            total_tokens=entry.total_tokens,
            cost=None if cost is None else cost / _NANO,
            reported_cost=None if reported is None else reported / _NANO,
            prompt_tokens_details=PromptDetails(
                cached_tokens=entry.cache_read_tokens, cache_write_tokens=entry.cache_write_tokens
            ),
            completion_tokens_details=CompletionDetails(reasoning_tokens=entry.reasoning_tokens),
        ),
    )
