"""The settings of one webhook."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from shared.contract.events import EventType
from shared.runtime.errors import SettingsError

PREFIX = "whsec_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BYTES = range(24, 65)  # of a secret, as Standard Webhooks wants them


class WebhookSettings(BaseModel):
    """One of the `webhooks`. Its URL may hold a secret, and is shown nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: SecretStr = Field(description="Where messages are sent: https:// or http://. Redirects are not followed.")
    name: str = Field(
        default="",
        description="What its queue, logs and `arouter webhooks` call it: never a secret, and not changed. Unset: the "
        "host of the URL.",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="`whsec_` and 24 to 64 bytes in base64, as `arouter webhooks secret` prints it. Several with "
        "spaces between them: each signs, while receivers change from one to the next.",
    )
    secret_file: Path | None = Field(default=None, description="File with the same, one a line; read at the start.")
    events: tuple[EventType, ...] = Field(
        default=tuple(EventType), description="The types of events that are sent (docs/webhooks.md). Unset: all."
    )
    sample: float = Field(
        default=1, ge=0, le=1, allow_inf_nan=False, description="Share of exchanges of which `exchange.booked` is sent."
    )

    @field_validator("url")
    @classmethod
    def _web(cls, value: SecretStr) -> SecretStr:
        host_of(value.get_secret_value())
        return value

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """The name that it has without one."""
        if isinstance(given, dict) and not given.get("name") and isinstance(given.get("url"), str):
            return {**given, "name": host_of(given["url"])}
        return given

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("must be of letters, digits, dots, hyphens and underscores, at most 64")
        return value

    @field_validator("secret")
    @classmethod
    def _right(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError(f"webhook {self.name!r} needs one of secret, secret_file")
        return self

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What it is signed with. SettingsError where the file cannot be read."""
        if self.secret is not None:
            return keys(self.secret.get_secret_value())
        assert self.secret_file is not None
        try:
            return keys(self.secret_file.expanduser().read_text("ascii"))
        except (OSError, ValueError, RuntimeError) as exc:  # the last one: the home folder of nobody
            why = exc.strerror if isinstance(exc, OSError) else "holds no secret of a webhook"
            raise SettingsError(f"AROUTER_WEBHOOKS: secret_file of {self.name!r}: {why}") from None


def host_of(url: str) -> str:
    """The host of a URL of the web. ValueError for what is none, which shows nothing of it: errors of the library quote
    user and password."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        _ = parts.port
        fits = parts.scheme in ("http", "https") and url.isprintable() and " " not in host
    except ValueError:
        fits = False
    if not fits or not host:
        raise ValueError("must be an https:// or http:// URL")
    return host


def keys(text: str) -> tuple[bytes, ...]:
    """The keys of secrets with spaces between them. ValueError, which shows none of them."""
    found = tuple(map(_key, text.split()))
    if not found:
        raise ValueError("must not be empty")
    return found


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or len(key) not in _BYTES:
        raise ValueError(f"must be {PREFIX} and 24 to 64 bytes in base64")
    return key
