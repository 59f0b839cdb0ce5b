"""Types of fields that several routes take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

KEY_HASH = "^[0-9a-f]{64}$"


def _rfc3339(value: object) -> object:
    """pydantic would also take numbers, and text that is one, as seconds."""
    if not isinstance(value, str) or "-" not in value[1:]:
        raise ValueError("must be a time as in RFC 3339, like 2026-01-31T00:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_rfc3339)]
