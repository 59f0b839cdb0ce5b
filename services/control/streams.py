"""What runs now, over HTTP, and cancelling it: everything for management keys, the caller's own for others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller, known_parameters
from services.control.plane import Plane
from shared.access import keys
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.books import lookup, running
from shared.books.lookup import NoSuchExchange, State
from shared.contract.ids import ID
from shared.contract.running import RunningExchange
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["streams"], responses=ERRORS)


class Stream(BaseModel):
    """One exchange that runs."""

    id: str = Field(description="As in the x-generation-id header.")
    created_at: datetime = Field(description="When it was opened, by its gateway's clock.")
    key: str = Field(description="Hash of its key.")
    key_name: str
    key_label: str
    team: str
    user: str
    provider: str = Field(description="Who answers, or is asked now.")
    model: str
    dialect: str
    streamed: bool
    bytes: int = Field(description="Of the answer's body, so far.")
    latency_ms: int | None = Field(description="Until the first byte of the answer's body; null before it.")
    client_address: str = Field(description="Empty where it is not kept.")
    read_on: bool = Field(description="Its client has left, and the provider is read on for its usage.")
    gateway: str = Field(description="Boot of its gateway.")
    credential: str | None = Field(description="Name of the provider's credential; null for keys that do not manage.")
    host: str | None = Field(description="Of its gateway; null for keys that do not manage.")


class StreamList(BaseModel):
    data: list[Stream] = Field(description="Oldest first.")
    complete: bool = Field(description="Whether every gateway has answered in time, and none has left some out.")
    left_out: int | None = Field(description="How many gateways have left out; null for keys that do not manage.")
    silent_gateways: list[str] | None = Field(
        description="Boots of gateways that have not answered; null for keys that do not manage."
    )


class CancelledStream(BaseModel):
    """What has become of an exchange that was to be cancelled."""

    id: str
    state: State = Field(
        description="cancelled: it ends now; ended: it had ended before; asked: its gateway has not answered, and "
        "cancels where it comes back within a minute."
    )
    outcome: str = Field(description="Of one that had ended; empty where that is not booked yet.")


@router.get("/streams", summary="What runs now, on all gateways", dependencies=[Depends(known_parameters)])
async def list_streams(caller: Caller, plane: Plane) -> StreamList:
    """Gateways answer within a second or so. Keys that do not manage see their own."""
    manages = caller.kind is Kind.MANAGEMENT
    answers = await running.exchanges(plane.store)
    left_out, silent = sum(said.left_out for said in answers.gateways.values()), sorted(answers.silent)
    found = [(boot, one) for boot, one in answers.oldest_first() if manages or one.key == caller.hash]
    known = await keys.find_each(plane.store, sorted({one.key for _, one in found}))
    records = {record.hash: record for record in known}
    hosts = {boot: said.host for boot, said in answers.gateways.items()} if manages else {}
    return StreamList(
        data=[_stream(one, boot, records.get(one.key), hosts.get(boot)) for boot, one in found],
        complete=not left_out and not silent,
        left_out=left_out if manages else None,
        silent_gateways=silent if manages else None,
    )


@router.delete("/streams/{id}", summary="Cancel an exchange that runs", responses={202: {"model": CancelledStream}})
async def cancel_stream(
    id: Annotated[str, Path(pattern=ID.pattern, description="From the x-generation-id header.")],
    caller: Caller,
    plane: Plane,
    response: Response,
) -> CancelledStream:
    """It ends within two seconds, with the outcome `cancelled`; what came through is booked. Keys that do not manage
    cancel their own."""
    owner = None if caller.kind is Kind.MANAGEMENT else caller.hash
    try:
        answer = await lookup.cancel(plane.store, id, owner)
    except NoSuchExchange:
        raise Refused(404, "id: this exchange does not exist, is not yours, or is no longer kept") from None
    if answer.state is State.ASKED:
        response.status_code = 202
    return CancelledStream(id=id, state=answer.state, outcome=answer.outcome)


def _stream(one: RunningExchange, boot: str, key: KeyRecord | None, host: str | None) -> Stream:
    """As a key sees it; `host` is None for one that does not manage."""
    same = {name: getattr(one, name) for name in Stream.model_fields if name in one.__struct_fields__}
    return Stream(
        **same | {"credential": None if host is None else one.credential},
        created_at=datetime.fromtimestamp(one.opened_ms / 1000, UTC),
        key_name=key.name if key is not None else "",
        key_label=key.label if key is not None else "",
        latency_ms=one.first_byte_ms,
        gateway=boot,
        host=host,
    )
