"""Teams over HTTP: made, listed and changed with a management key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from services.control import limits
from services.control.access import ERRORS, ErrorAnswer, Manager
from services.control.fields import TeamName
from services.control.limits import LIMITS, Limits, LimitsShown
from services.control.plane import ControlPlane, Plane
from shared.access import teams
from shared.access.teams import NoSuchTeam, TeamExists, TeamRecord
from shared.contract.limits import team_scope
from shared.runtime.errors import Refused

router = APIRouter(prefix="/api/v1", tags=["teams"], responses=ERRORS)

_Label = Annotated[str, Field(max_length=200, examples=["Research and evaluation"])]


class NewTeam(Limits):
    """A team to make."""

    name: TeamName = Field(description="It never changes: what is booked holds it.")
    label: _Label = Field(default="", description="For people; it may change.")


class TeamChanges(Limits):
    """Changes of a team; a field that is not named stays as it is."""

    label: _Label | SkipJsonSchema[None] = None


class Team(LimitsShown):
    """A team of keys."""

    name: str
    label: str
    created_at: datetime
    updated_at: datetime | None


class TeamAnswer(BaseModel):
    data: Team


class TeamList(BaseModel):
    data: list[Team]
    next_page_token: str | None = Field(description="For the next page; null on the last one.")


_EXISTS = {409: {"model": ErrorAnswer, "description": "There is a team of this name."}}


@router.post("/teams", status_code=201, summary="Make a team", responses=_EXISTS)  # type: ignore[arg-type]
async def create(plane: Plane, _: Manager, new: NewTeam) -> TeamAnswer:
    """Make a team, for the field `team` of keys."""
    try:
        record = await teams.create(plane.store, new.name, new.label)
    except TeamExists as exc:
        raise Refused(409, str(exc)) from None
    await limits.set_shared(plane, team_scope(new.name), new.model_dump(exclude_unset=True))
    [data] = await _shown(plane, [record])
    return TeamAnswer(data=data)


@router.get("/teams", summary="List teams")
async def list_all(
    plane: Plane,
    _: Manager,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[str | None, Query(pattern="^[0-9]{1,9}$", description="From the page before.")] = None,
) -> TeamList:
    """Oldest first."""
    at = int(page_token or 0)
    found = await teams.page(plane.store, at, page_size)
    more = len(found) == page_size
    return TeamList(data=await _shown(plane, found), next_page_token=str(at + page_size) if more else None)


@router.patch("/teams/{name}", summary="Change a team")
async def update(plane: Plane, _: Manager, name: Annotated[TeamName, Path()], changes: TeamChanges) -> TeamAnswer:
    """Change a team, by its name."""
    given = changes.model_dump(exclude_unset=True)
    if "label" in given and given["label"] is None:
        raise Refused(400, "label: cannot be null")
    labels = {field: value for field, value in given.items() if field not in LIMITS}
    try:
        record = await teams.update(plane.store, name, labels)
    except NoSuchTeam as exc:
        raise Refused(404, str(exc)) from None
    await limits.set_shared(plane, team_scope(name), given)
    [data] = await _shown(plane, [record])
    return TeamAnswer(data=data)


async def _shown(plane: ControlPlane, records: list[TeamRecord]) -> list[Team]:
    found = await limits.shared(plane, [team_scope(record.name) for record in records])
    return [_team(record, found[team_scope(record.name)]) for record in records]


def _team(record: TeamRecord, limited: dict[str, Any]) -> Team:
    return Team(
        **limited,
        name=record.name,
        label=record.label,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        updated_at=None if record.updated_at is None else datetime.fromtimestamp(record.updated_at, UTC),
    )
