"""Types of fields that several routes take."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from shared.access import teams

KEY_HASH = "^[0-9a-f]{64}$"


def _rfc3339(value: object) -> object:
    """pydantic would also take a number, or its text, as seconds."""
    if not isinstance(value, str) or "-" not in value[1:]:
        raise ValueError("must be a time as in RFC 3339, like 2026-01-31T00:00:00Z")
    return value


def _of_our_age(value: datetime) -> datetime:
    """Years that UTC has whatever the zone, and whose seconds since the epoch are positive."""
    if not 1971 <= value.year <= 9998:
        raise ValueError("must be between 1971 and 9998")
    return value


TeamName = Annotated[str, Field(pattern=teams.NAME, examples=["research"])]
Time = Annotated[AwareDatetime, BeforeValidator(_rfc3339), AfterValidator(_of_our_age)]
