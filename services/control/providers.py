"""Providers over HTTP: which there are, and for management keys how they are, as all gateways say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.control.access import ERRORS, Caller
from services.control.plane import Plane
from shared.access.key_format import Kind
from shared.books.provider_health import CredentialHealth, best
from shared.contract.provider_state import CredentialState

router = APIRouter(prefix="/api/v1", tags=["providers"], responses=ERRORS)


class Seen(BaseModel):
    """The health of a credential."""

    health: str = Field(
        description="healthy; cooling: others are used for a while; out: the provider refuses it.", examples=["healthy"]
    )
    since: datetime
    cause: str = Field(description="Of the last failure: an HTTP status or a machine word; empty for none.")
    requests: int = Field(description="Attempts of the last five minutes.")
    failures: int = Field(description="How many of them failed.")


class SeenByGateway(Seen):
    """The same, as one gateway sees it."""

    gateway: str = Field(description="The boot of the gateway, as in exchange ids.")


class CredentialStatus(Seen):
    """One credential: the worst that any gateway sees."""

    name: str = Field(description="Empty where the provider has only one.")
    weight: float
    gateways: list[SeenByGateway] = Field(description="What each gateway sees.")


class ProviderStatus(BaseModel):
    """For management keys."""

    dialects: list[str]
    health: str = Field(description="Of its best credential.")
    credentials: list[CredentialStatus]


class ProviderItem(BaseModel):
    id: str = Field(description="As in `provider/model`.", examples=["openai"])
    name: str
    model_count: int | None = Field(description="null: a gateway does not know a provider's models.")
    is_byok_supported: Literal[False] = Field(default=False, description="Credentials are the operator's.")
    status: ProviderStatus | None = Field(default=None, description="null for keys that do not manage.")


class ProviderList(BaseModel):
    data: list[ProviderItem]


@router.get("/providers", summary="The providers; with a management key their health, too")
async def list_providers(key: Caller, plane: Plane) -> ProviderList:
    """Those of the gateways that run; where none does, of this process. Keys with `allowed_providers` see those."""
    manages = key.kind is Kind.MANAGEMENT
    healths = {name: list(group) for name, group in groupby(await plane.healths(), lambda one: one.provider)}
    names = set(healths) or set(plane.providers)
    if key.allowed_providers is not None and not manages:
        names &= set(key.allowed_providers)
    return ProviderList(data=[_item(name, healths.get(name, ()) if manages else None) for name in sorted(names)])


def _item(name: str, healths: Sequence[CredentialHealth] | None) -> ProviderItem:
    return ProviderItem(id=name, name=name, model_count=None, status=_status(healths) if healths else None)


def _status(healths: Sequence[CredentialHealth]) -> ProviderStatus:
    return ProviderStatus(
        dialects=list(healths[0].dialects),
        health=best(one.worst.health for one in healths),
        credentials=[
            CredentialStatus(
                name=one.name,
                weight=one.worst.weight,
                gateways=[SeenByGateway(gateway=boot, **_seen(state)) for boot, state in one.by_gateway.items()],
                **_seen(one.worst),
            )
            for one in healths
        ],
    )


def _seen(state: CredentialState) -> dict[str, Any]:
    return {
        "health": state.health,
        "since": datetime.fromtimestamp(state.since_ms / 1000, UTC),
        "cause": state.cause,
        "requests": state.requests,
        "failures": state.failures,
    }
