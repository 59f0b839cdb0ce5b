"""Keys over HTTP: made, listed, changed and deleted with a management key; every key reads itself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field, StrictBool
from pydantic.json_schema import SkipJsonSchema

from services.control import limits
from services.control.access import ERRORS, Caller, Manager
from services.control.fields import KEY_HASH, TeamName, Time
from services.control.limits import Limits, LimitsShown, RateLimit, limits_of
from services.control.plane import ControlPlane, Plane
from shared.access import keys, teams
from shared.access.key_format import Kind
from shared.access.keys import KeyRecord
from shared.access.teams import NoSuchTeam
from shared.books import reports
from shared.books.reports import Between, KeyUsage
from shared.contract.limits import Limits as NoLimits
from shared.contract.limits import key_scope
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["keys"], responses=ERRORS)

_LOOK = 100  # keys read at once
_MOST_LOOKS = 20  # a page ends early, with a token, where most of the keys were deleted

Hash = Annotated[str, Path(pattern=KEY_HASH, description="The hash of a key.")]
_Name = Annotated[str, Field(min_length=1, max_length=200, examples=["team-a"])]
_Providers = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=100)]
_Models = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=500)]


class KeyLimits(Limits):
    """The limits and the team of a key."""

    expires_at: Time | None = Field(default=None, description="Refused from then on. null: never.")
    allowed_providers: _Providers | None = Field(
        default=None, description="The only providers it may use. null: all.", examples=[["openai"]]
    )
    allowed_models: _Models | None = Field(
        default=None,
        description="The only models it may use, with or without their provider; a trailing * stands for any rest. "
        "null: all.",
        examples=[["gpt-4o*", "anthropic/claude-haiku-4-5"]],
    )

    team: TeamName | None = Field(default=None, description="The team it belongs to from now on. null: none.")


class NewKey(KeyLimits):
    """A key to make."""

    name: _Name


class KeyChanges(KeyLimits):
    """Changes of a key; a field that is not named stays as it is."""

    name: _Name | SkipJsonSchema[None] = None
    disabled: StrictBool | SkipJsonSchema[None] = None


class Key(LimitsShown):
    """A key, without the key. Usage is in tokens; days, weeks (from Monday) and months are UTC's."""

    hash: str = Field(description="The key's public name, under which usage is booked.")
    name: str
    label: str = Field(description="Its first and last characters.", examples=["lr_live_1a2b…9f0e"])
    key_type: Literal["regular", "management"]
    disabled: bool
    created_at: datetime
    updated_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Within a minute or so.")
    allowed_providers: list[str] | None
    allowed_models: list[str] | None
    team: str | None = Field(description="The team it belongs to; null: none.")
    usage: int
    usage_daily: int
    usage_weekly: int
    usage_monthly: int


class KeyAnswer(BaseModel):
    data: Key


class NewKeyAnswer(BaseModel):
    data: Key
    key: str = Field(description="The key itself, shown this once.", examples=["lr_live_1a2b3c…"])


class KeyList(BaseModel):
    data: list[Key]
    next_page_token: str | None = Field(description="For the next page; null on the last one.")


class Deleted(BaseModel):
    deleted: Literal[True] = True


class DeletedAnswer(BaseModel):
    data: Deleted = Deleted()


@router.post("/keys", status_code=201, summary="Make a key")
async def create(plane: Plane, _: Manager, new: NewKey) -> NewKeyAnswer:
    """Make a key that calls models. The raw key is in this answer and nowhere else."""
    given = await _checked(plane, new.model_dump(exclude_unset=True))
    name = given.pop("name")
    found = limits_of(given, None)
    key, record = await keys.create(plane.store, await plane.pepper(), name, **given, limits=found)
    if found is not None:
        await limits.count(plane, key_scope(record.hash), found)
    [data] = await _shown(plane, [record])
    return NewKeyAnswer(data=data, key=key)


@router.get("/keys", summary="List keys")
async def list_all(
    request: Request,
    plane: Plane,
    _: Manager,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(pattern="^[0-9]{1,9}$", description="From the page before.")] = None,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="Skip so many keys ever made.")] = 0,
    include_disabled: bool = True,
) -> KeyList:
    """Oldest first. Deleted keys are not listed."""
    at = int(page_token) if page_token is not None else offset
    found: list[KeyRecord] = []
    for _look in range(_MOST_LOOKS):
        page = await keys.page(plane.store, at, _LOOK)
        for record in page:
            at += 1
            if record is not None and record.revoked_at is None and (include_disabled or not record.disabled):
                found.append(record)
            if len(found) == page_size:
                break
        exhausted = len(page) < _LOOK and len(found) < page_size
        if exhausted or len(found) == page_size:
            break
    async with plane.report(request) as between:
        data = await _shown(plane, found, between)
    return KeyList(data=data, next_page_token=None if exhausted else str(at))


@router.patch("/keys/{hash}", summary="Change a key")
async def update(plane: Plane, _: Manager, hash: Hash, changes: KeyChanges) -> KeyAnswer:
    """Change a key; gateways act on it within two seconds."""
    before = await _managed(plane, hash)
    given = changes.model_dump(exclude_unset=True)
    for field in ("name", "disabled"):
        if field in given and given[field] is None:
            raise Refused(400, f"{field}: cannot be null")
    checked = await _checked(plane, given)
    found = limits_of(checked, before.limits)
    if found is not None:
        checked["limits"] = found if found.any else None
    record = await keys.update(plane.store, hash, checked)
    if found is not None:
        await limits.count(plane, key_scope(hash), found)
    [data] = await _shown(plane, [record])
    return KeyAnswer(data=data)


@router.delete("/keys/{hash}", summary="Delete a key")
async def delete(plane: Plane, _: Manager, hash: Hash) -> DeletedAnswer:
    """Delete a key; gateways refuse it within two seconds, and its usage stays."""
    await _managed(plane, hash)
    await keys.update(plane.store, hash, {"revoked_at": int(time.time())})
    await limits.count(plane, key_scope(hash), None)
    return DeletedAnswer()


class CurrentRateLimit(RateLimit):
    """Rates, in the form of before, too."""

    requests: int = Field(description="Requests in an interval; -1: no limit.")
    interval: str = Field(examples=["1m"])
    note: str = "requests_per_minute and the others say it in full"


class CurrentKey(Key):
    """The key that asks. What this gateway does not know of (own provider keys, a free tier) is 0 or false."""

    rate_limit: CurrentRateLimit
    is_management_key: bool
    is_provisioning_key: bool
    is_free_tier: bool = False
    include_byok_in_limit: bool = False
    byok_usage: int = 0
    byok_usage_daily: int = 0
    byok_usage_weekly: int = 0
    byok_usage_monthly: int = 0


class CurrentKeyAnswer(BaseModel):
    data: CurrentKey


@router.get("/key", summary="The key of this request")
async def current(plane: Plane, key: Caller) -> CurrentKeyAnswer:
    """The record of the key that asks, with what is left of its limits."""
    record = await keys.find(plane.store, key.hash) or key
    [data] = await _shown(plane, [record])
    manages, rates = record.kind is Kind.MANAGEMENT, data.rate_limit.model_dump()
    minute, day = data.rate_limit.requests_per_minute, data.rate_limit.requests_per_day
    by_day = minute is None and day is not None
    first = day if by_day else minute
    rates |= {"requests": -1 if first is None else first, "interval": "1d" if by_day else "1m"}
    shown = data.model_dump() | {"rate_limit": rates}
    return CurrentKeyAnswer(data=CurrentKey(**shown, is_management_key=manages, is_provisioning_key=manages))


async def _managed(plane: ControlPlane, hash: str) -> KeyRecord:
    record = await keys.find(plane.store, hash)
    if record is None or record.revoked_at is not None:
        raise Refused(404, "no key has this hash")
    if record.kind is Kind.MANAGEMENT:
        raise Refused(403, "management keys are made and revoked with the command line")
    return record


async def _checked(plane: ControlPlane, given: dict[str, Any]) -> dict[str, Any]:
    """The fields as the key record has them. Refused with 400 for a provider that is not configured here, and for
    a team that does not exist."""
    unknown = [name for name in given.get("allowed_providers") or () if name not in plane.providers]
    if unknown:  # gateways may have taken it on since this process started
        unknown = [name for name in unknown if name not in {one.provider for one in await plane.healths()}]
    if unknown:
        raise Refused(400, f"allowed_providers: {unknown[0]!r} is not configured here")
    if given.get("team") is not None:
        try:
            await teams.find(plane.store, given["team"])
        except NoSuchTeam as exc:
            raise Refused(400, f"team: {exc}") from None
    expires: datetime | None = given.get("expires_at")
    if expires is not None:
        given["expires_at"] = int(expires.timestamp())
    for name in ("allowed_providers", "allowed_models"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    return given


async def _shown(plane: ControlPlane, records: list[KeyRecord], between: Between | None = None) -> list[Key]:
    hashes = [record.hash for record in records]
    usage = await reports.key_usage(await plane.books(), hashes, await plane.now(), between)
    given = {key_scope(record.hash): record.limits or NoLimits() for record in records}
    found = await limits.shown(plane, given)
    return [_key(record, usage[record.hash], found[key_scope(record.hash)]) for record in records]


def _key(record: KeyRecord, usage: KeyUsage, limited: dict[str, Any]) -> Key:
    return Key(
        **limited,
        hash=record.hash,
        name=record.name,
        label=record.label,
        key_type="management" if record.kind is Kind.MANAGEMENT else "regular",
        disabled=record.disabled,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        updated_at=_time(record.updated_at),
        expires_at=_time(record.expires_at),
        last_used_at=_time(record.last_used_at),
        allowed_providers=None if record.allowed_providers is None else list(record.allowed_providers),
        allowed_models=None if record.allowed_models is None else list(record.allowed_models),
        team=record.team,
        usage=usage.ever,
        usage_daily=usage.daily,
        usage_weekly=usage.weekly,
        usage_monthly=usage.monthly,
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
