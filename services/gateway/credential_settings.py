"""The settings of one named credential of a provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KINDS = ("api_key", "api_key_file", "credentials_file", "basic_auth")


class CredentialSettings(BaseModel):
    """One of a provider's `credentials`. It has a name, and one of the four ways to give its secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(description="What the ledger, logs and metrics call it; never a secret.")
    weight: float = Field(
        default=1,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Its share of the callers, beside the others' weights; 0: only in place of the others.",
    )
    api_key: SecretStr | None = Field(default=None, description="The key itself.")
    api_key_file: Path | None = Field(
        default=None, description="File with the key, which is read at the start and at each reload."
    )
    credentials_file: Path | None = Field(
        default=None, description="Google's JSON file of a service account or of workload identity (Vertex)."
    )
    basic_auth: SecretStr | None = Field(default=None, description="`user:password`, for HTTP Basic authentication.")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be of letters, digits, dots, hyphens and underscores, at most 64")
        return value

    @field_validator(*_KINDS, mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("api_key", mode="before")
    @classmethod
    def _key(cls, value: object) -> object:
        return api_key(value)

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in _KINDS) != 1:
            raise ValueError(f"credential {self.name!r} needs one of {', '.join(_KINDS)}")
        return self


def api_key(value: object) -> object:
    """A key without the spaces around it; None for an empty one. Errors do not hold it."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and not (text.isascii() and text.isprintable()):
        raise ValueError("must be printable ASCII")
    return text or None
