"""Exchanges over HTTP: found by whose they were, what they asked for and how they ended, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller, known_parameters
from services.control.fields import KEY_HASH, Moment
from services.control.plane import Plane
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import finding
from shared.books.exchanges import FIELDS, Exchange, Page, Place, Wanted
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["usage"], responses=ERRORS)

_NANO = 10**9
_TIME = "RFC 3339, a date, a time of day, or a span back from now like 24h or 7d; UTC without a zone."
_Text = Annotated[str, Query(min_length=1, max_length=400)]  # an empty filter would be none
_Word = Annotated[str, Query(min_length=1, max_length=64)]


class FoundExchange(BaseModel):
    """One exchange as it is booked. Counters are tokens; null is not known, never 0."""

    id: str
    opened_at: datetime
    key_id: str = Field(description="Hash of the key that it is booked on.")
    team: str
    user: str = Field(description="The end user, as the caller named them.")
    session: str
    tags: list[str]
    provider: str
    model: str
    requested_model: str
    response_model: str
    dialect: str
    credential: str
    outcome: str
    ended: str = Field(description="What came of the answer: whole, truncated, error, cut or unreadable.")
    cause: str = Field(description="Why it did not end well, in a short machine word.")
    status: int | None
    streamed: bool
    source: str
    final: bool
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    total_tokens: int | None
    cost: float | None = Field(description="US dollars; null where it has no price.")
    latency_ms: int | None = Field(description="Until the first byte of the answer's body.")
    duration_ms: int
    request_bytes: int
    response_bytes: int
    request_id: str = Field(description="The provider's id of the request.")
    response_id: str = Field(description="The provider's id of the answer.")
    client_address: str
    user_agent: str
    marks: list[str]


class FoundExchanges(BaseModel):
    data: list[FoundExchange] = Field(description="The newest first.")
    next_page_token: str | None = Field(
        description="For the next page; null on the last one. A page may be short, or empty, and yet have a next one."
    )
    source: Literal["database", "ledger"]
    as_of: datetime | None = Field(
        description="What was settled by then is found; null where nobody knows how far the database has got."
    )
    complete_since: datetime | None = Field(
        description="Exchanges that were opened before may be missing; null where none are."
    )


class ExchangeQuery:
    """The question."""

    def __init__(
        self,
        since: Annotated[Moment | None, Query(description=f"Opened at or after this time: {_TIME}")] = None,
        until: Annotated[Moment | None, Query(description="Opened before this time.")] = None,
        id: Annotated[_Word, Query(description="From the x-generation-id header.")] = "",
        request_id: Annotated[_Text, Query(description="The provider's id of the request.")] = "",
        response_id: Annotated[_Text, Query(description="The provider's id of the answer.")] = "",
        key_id: Annotated[str | None, Query(pattern=KEY_HASH, description="The hash of a key.")] = None,
        team: _Text = "",
        user: _Text = "",
        provider_id: _Word = "",
        model: _Text = "",
        ended: _Word = "",
        cause: _Word = "",
    ) -> None:
        if since is not None and until is not None and until <= since:
            raise Refused(400, "until: must be after since")
        self.wanted = Wanted(
            since=since,
            until=until,
            exchange_id=id,
            key=key_id or "",
            team=team,
            user=user,
            provider=provider_id,
            model=model,
            ended=ended,
            cause=cause,
            request_id=request_id,
            response_id=response_id,
        )

    def of(self, caller: KeyRecord) -> Wanted:
        """What this caller may be shown of it. Refused with 403 where that is nothing."""
        if caller.kind is not Kind.LIVE:
            return self.wanted
        if self.wanted.key not in ("", caller.hash):
            raise Refused(403, "key_id: this is not your key")
        return replace(self.wanted, key=caller.hash)


@router.get("/exchanges", summary="Find exchanges", dependencies=[Depends(known_parameters)])
async def find(
    request: Request,
    plane: Plane,
    caller: Caller,
    question: Annotated[ExchangeQuery, Depends()],
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token: Annotated[str | None, Query(max_length=200, description="From the page before.")] = None,
) -> FoundExchanges:
    """The newest first; pages hold while new ones arrive. A live key sees its own exchanges."""
    wanted = question.of(caller)
    after = Place.parse(page_token) if page_token is not None else None
    now = await plane.now()
    archive = await plane.archive()
    if archive is None:
        async with plane.report(request):
            page = await finding.find(await plane.books(), wanted, after=after, limit=page_size)
        return _shown(page, "ledger", now)
    covered = await plane.coverage(now)
    page = await archive.find(wanted, after=after, limit=page_size)
    since = wanted.missing(page.since, covered.since if covered else None)
    return _shown(page._replace(since=since), "database", covered.as_of if covered else None)


def _shown(page: Page, source: Literal["database", "ledger"], as_of: datetime | None) -> FoundExchanges:
    return FoundExchanges(
        data=[_one(exchange) for exchange in page.exchanges],
        next_page_token=page.next.token if page.next is not None else None,
        source=source,
        as_of=as_of,
        complete_since=page.since,
    )


def _one(found: Exchange) -> FoundExchange:
    same = {name: getattr(found, name) for name in FIELDS if name in FoundExchange.model_fields}
    same |= {name: list(same[name]) for name in ("tags", "marks")}
    return FoundExchange(
        **same,
        id=found.exchange_id,
        key_id=found.key,
        cost=None if found.cost_nanousd is None else found.cost_nanousd / _NANO,
        latency_ms=found.first_byte_ms,
    )
