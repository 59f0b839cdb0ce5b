"""The settings of attempts: what is tried again before the first byte, and how often."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import NoDecode

# What each word stands for among the causes of attempts without an answer (`shared/runtime/errors.py`).
CAUSES = {
    "connect": frozenset(
        {
            "certificate",
            "connect_failed",
            "connect_refused",
            "connect_timeout",
            "credential",
            "dns",
            "pool_timeout",
            "proxy",
            "tls",
        }
    ),
    "timeout": frozenset({"first_byte_timeout", "write_timeout"}),
    "broken": frozenset({"bad_status", "closed_early", "protocol", "reset", "too_large"}),
}
_STATUS = re.compile(r"[45]\d\d|5xx")


class AttemptSettings(BaseModel):
    """Attempts before the first byte, `AROUTER_ATTEMPTS__…`. They need a second candidate, or `WAIT`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retry_on: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("connect", "429", "5xx"),
        description="What is tried again: connect (no connection, so nothing was asked), a status, 5xx; and, though "
        "the provider may have been paid, timeout (no answer in time) and broken (the connection broke before the "
        "answer). A list, or comma-separated; empty for nothing. Where a credential is refused, the next one is tried "
        "in any case.",
    )
    budget: float = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Most further attempts, as a share of the requests of the last minute; ten a minute are always "
        "allowed, unless it is 0.",
    )
    most: int = Field(default=5, ge=1, le=100, description="Most attempts of one exchange.")
    retry_after: float = Field(
        default=60,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Longest Retry-After of a provider that is honoured: a credential cools for no longer.",
    )
    wait: float = Field(
        default=0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="Longest wait for another attempt at the same candidate, where there is no other one: as long as "
        "its Retry-After says, else half a second, then twice that, and so on. 0: it is not waited for.",
    )

    @field_validator("retry_on", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        parts = value.strip("[] ").split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError("must be a list of words")  # noqa: TRY004  # pydantic knows ValueError alone
        words = [str(part).strip().strip("\"'").lower() for part in parts]
        for word in filter(None, words):
            if word not in CAUSES and not _STATUS.fullmatch(word):
                known = ", ".join((*CAUSES, "5xx"))
                raise ValueError(f"{word!r} is neither a status from 400 on nor one of {known}")
        return tuple(filter(None, words))
