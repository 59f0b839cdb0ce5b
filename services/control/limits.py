"""Limits over HTTP: fields of keys and teams, those over everything, and what is used of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from services.control.access import ERRORS, Manager
from services.control.fields import Time
from services.control.plane import ControlPlane, Plane
from shared.access import limit_form
from shared.access.limit_form import BadLimits
from shared.books import limit_records, limit_scopes, limit_status, streams
from shared.contract import limits
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["limits"], responses=ERRORS)


_Tokens = Annotated[int, Field(ge=0, le=limits.MOST_TOKENS, strict=True)]
_Minute = Annotated[int, Field(ge=1, le=limits.MOST_PER_MINUTE, strict=True)]
_Day = Annotated[int, Field(ge=1, le=limits.MOST_PER_DAY, strict=True)]
_AtOnce = Annotated[int, Field(ge=1, le=limits.MOST_AT_ONCE, strict=True)]
_Usd = Annotated[float, Field(ge=0, le=limits.MOST_NANOUSD // 10**9, strict=True, allow_inf_nan=False)]


_Pattern = Annotated[str, Field(min_length=1, max_length=256)]


class RateLimit(BaseModel):
    """Rates. null: no limit."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: _Minute | None = None
    tokens_per_minute: _Minute | None = None
    requests_per_day: _Day | None = None
    concurrent_requests: _AtOnce | None = None


class Amounts(BaseModel):
    """Budgets and rates."""

    model_config = ConfigDict(extra="forbid")

    limit: _Usd | None = Field(default=None, description="Most US dollars in a period. null: no limit.", examples=[50])
    limit_tokens: _Tokens | None = Field(default=None, description="Most tokens in a period. null: no limit.")
    rate_limit: RateLimit | None = Field(
        default=None, description="Rates; one that is not named stays as it is. null: none."
    )


class Raised(Amounts):
    """Amounts that hold instead until a time."""

    until: Time


class ModelLimits(Amounts):
    """The limits of some models."""

    limit_reset: Literal["never", "daily", "weekly", "monthly"] | None = Field(
        default=None, description="When a period begins, in UTC; weeks begin on Mondays. null: never."
    )
    soft: StrictBool | None = Field(
        default=None, description="What exceeds is told, and not refused. null: it is refused."
    )
    raised: Raised | None = Field(default=None, description="What is raised for a while. null: nothing.")


class Limits(ModelLimits):
    """The limits of a key or a team."""

    models: dict[_Pattern, ModelLimits] | None = Field(
        default=None,
        max_length=20,
        description="Limits of the models that a pattern names, in addition; a trailing * stands for any rest.",
    )


LIMITS = frozenset(Limits.model_fields)


def limits_of(given: dict[str, Any], before: limits.Limits | None) -> limits.Limits | None:
    """Take what a request says of limits out of its fields, and make limits of it. Refused with 400 where they cannot
    be; None where it says nothing of them."""
    wanted = {name: given.pop(name) for name in list(given) if name in LIMITS}
    if not wanted:
        return None
    try:
        return limit_form.changed(wanted, before)
    except BadLimits as exc:
        raise Refused(400, str(exc)) from None


class LimitsShown(BaseModel):
    """The limits of a key or a team, and what is left of its budgets."""

    limit: float | None = Field(description="US dollars in a period.")
    limit_remaining: float | None = Field(description="US dollars: without what is reserved by requests that run.")
    limit_reset: Literal["never", "daily", "weekly", "monthly"] | None = Field(description="null: never.")
    limit_tokens: int | None
    limit_tokens_remaining: int | None
    soft: bool
    rate_limit: RateLimit
    raised: dict[str, Any] | None
    models: dict[str, Any] | None


async def shown(plane: ControlPlane, given: Mapping[str, limits.Limits]) -> dict[str, dict[str, Any]]:
    """The fields of `LimitsShown`, by scope."""
    at = int((await plane.now()).timestamp() * 1000)
    lefts = {one.scope: one for one in await limit_status.of(plane.store, given, at)}
    found = {}
    for scope, some in given.items():
        form, state = limit_form.shown(some), lefts.get(scope)
        reset = form.pop("limit_reset")
        found[scope] = {
            **form,
            "limit_reset": None if reset == "never" else reset,
            "raised": form.get("raised"),
            "models": form.get("models"),
            "limit_remaining": None if state is None else limit_form.usd(state.left_nanousd),
            "limit_tokens_remaining": None if state is None else state.left_tokens,
        }
    return found


async def count(plane: ControlPlane, scope: str, given: limits.Limits | None) -> None:
    """Have what these limits need counted from now on."""
    patterns = [pattern for pattern, _ in given.parts()] if given is not None else []
    await limit_scopes.follow(await plane.books(), scope, patterns, await streams.now_ms(plane.store))


async def set_shared(plane: ControlPlane, scope: str, given: dict[str, Any]) -> None:
    """Take changes of limits out of a request's fields, and make them, for a team or everything."""
    changed = limits_of(given, (await limit_records.read(plane.store)).of.get(scope))
    if changed is not None:
        await limit_records.write(plane.store, scope, changed)
        await count(plane, scope, changed)


async def shared(plane: ControlPlane, scopes: list[str]) -> dict[str, dict[str, Any]]:
    """The fields of `LimitsShown` of teams or everything, by scope."""
    there = (await limit_records.read(plane.store)).of
    return await shown(plane, {scope: there.get(scope, limits.Limits()) for scope in scopes})


class LimitsAnswer(BaseModel):
    data: LimitsShown


@router.get("/limits/everything", summary="The limits over everything")
async def everything(plane: Plane, _: Manager) -> LimitsAnswer:
    """The limits over everything, and what is left of them."""
    return LimitsAnswer(data=LimitsShown(**(await shared(plane, [limits.EVERYTHING]))[limits.EVERYTHING]))


@router.patch("/limits/everything", summary="Change the limits over everything")
async def change_everything(plane: Plane, _: Manager, changes: Limits) -> LimitsAnswer:
    """Change them; a field that is not named stays as it is. Gateways act on it within two seconds."""
    await set_shared(plane, limits.EVERYTHING, changes.model_dump(exclude_unset=True))
    return await everything(plane, _)
