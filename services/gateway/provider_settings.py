"""The settings of one provider."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from services.gateway.client.headers import may_be_allowed
from services.gateway.credential_settings import CredentialSettings, api_key
from shared.contract.dialects import Dialect
from shared.contract.providers import Auth

PROXY = "must be the http:// or https:// URL of a proxy, such as http://proxy:3128"


class ProviderSettings(BaseModel):
    """One provider, `AROUTER_PROVIDERS__<NAME>__…`. It is on when it has a credential, a base URL, or a place in
    a cloud: a region or a project."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str | None = Field(default=None, description="What the provider's own SDK takes as its base URL.")
    api_key: SecretStr | None = Field(default=None, description="The operator's credential; never a caller's.")
    credentials: tuple[CredentialSettings, ...] = Field(
        default=(),
        description="A pool of named credentials ([providers](providers.md#pools)), in place of `API_KEY`; JSON in the "
        "environment.",
    )
    region: str | None = Field(
        default=None, description="AWS region of Bedrock. Without `API_KEY`, requests are signed with AWS's own chain."
    )
    project: str | None = Field(
        default=None, description="Google Cloud project of Vertex. Without `API_KEY`, with Google's own credentials."
    )
    location: str = Field(default="global", description="Location of Vertex.")
    credentials_file: Path | None = Field(
        default=None,
        description="Google's JSON file of a service account or of workload identity. Unset: the default credentials.",
    )
    auth: Auth | None = Field(
        default=None,
        description="aws, google or entra: authenticate with a cloud's own credentials instead of a key. Unset: as the "
        "table below says.",
    )
    dialects: str = Field(
        default="",
        description="Dialects a provider of your own speaks, comma-separated. Unset: those of the OpenAI family.",
    )
    ask_usage: bool = Field(
        default=False,
        description="Add stream_options.include_usage to streamed chat requests that do not set it themselves; "
        "the client then gets the extra last event too.",
    )
    on_disconnect: Literal["close", "read_on", "drain"] = Field(  # "drain" is the old name of "read_on"
        default="close",
        description="When a client leaves: close the upstream, or read_on to its end for the usage it reports there.",
    )

    pass_headers: str = Field(
        default="",
        description="Headers of callers that go to this provider though they are removed otherwise, comma-separated: "
        "OpenAI-Project, X-Forwarded-For and the like (docs/relay.md has the table).",
    )
    basic_auth: SecretStr | None = Field(
        default=None,
        description="`user:password` for a provider behind HTTP Basic authentication, in place of a credential; the "
        "same as `user:password@` in the base URL.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of certificate authorities to trust for this provider, beside the system's."
    )
    client_cert: Path | None = Field(
        default=None, description="PEM file of the certificate to show to a provider that asks for one."
    )
    client_key: Path | None = Field(
        default=None, description="PEM file of its key, without a passphrase. Unset: in the certificate's file."
    )
    proxy: SecretStr | None = Field(
        default=None,
        description="Proxy to this provider, as `AROUTER_UPSTREAM_PROXY`, whatever `AROUTER_NO_PROXY` says; `off` for "
        "none. Unset: as for all.",
    )
    request_encoding: Literal["as_sent", "decoded"] = Field(
        default="as_sent",
        description="A compressed request body (zstd, gzip, br, deflate) goes to the provider as_sent, or decoded.",
    )

    @model_validator(mode="before")
    @classmethod
    def _user_of_the_url(cls, values: Any) -> Any:
        """A base URL is shown in records and logs: its user and password are kept apart from it."""
        url = values.get("base_url") if isinstance(values, dict) else None
        found = re.fullmatch(r"(https?://)([^/?#]*)@(.*)", url or "", re.DOTALL) if isinstance(url, str) else None
        if found is None:
            return values
        return {"basic_auth": unquote(found[2]), **values, "base_url": found[1] + found[3]}

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        names = [credential.name for credential in self.credentials]
        if len(set(names)) < len(names):
            raise ValueError("has two credentials of one name")
        if self.basic_auth is not None and self.api_key is not None:
            raise ValueError("has an API key and a user:password; only one of them can be sent")
        if self.auth is not None and (self.basic_auth is not None or self.api_key is not None):
            raise ValueError("has a cloud's credentials (auth) and a key; only one of them can be sent")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("has a client key and no client certificate")
        return self

    @property
    def on(self) -> bool:
        """Whether there is enough of it to be an upstream."""
        given = self.api_key, self.base_url, self.region, self.project, self.auth
        return bool(self.credentials) or any(value is not None for value in given)

    def authenticates(self, own: Auth | None) -> Auth | None:
        """The cloud's credentials that requests carry, where they are not a key. `own`: the provider's usual ones."""
        keyed = self.api_key is not None or self.basic_auth is not None
        return None if keyed else self.auth or own

    @property
    def passed(self) -> frozenset[bytes]:
        """The names in `pass_headers`, in lower case."""
        return frozenset(name.strip().lower().encode() for name in self.pass_headers.split(",") if name.strip())

    @property
    def reads_on(self) -> bool:
        """Whether the upstream is read to its end after the client has left."""
        return self.on_disconnect != "close"

    @field_validator("proxy")
    @classmethod
    def _proxy_url(cls, value: SecretStr | None) -> SecretStr | None:
        return proxy(value, PROXY + ", or off", ("off",))

    @field_validator("region", "project", "location")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        """It becomes a part of URLs."""
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]*", value):
            raise ValueError("must be of letters, digits and hyphens")
        return value

    @field_validator(
        "base_url",
        "basic_auth",
        "ca_file",
        "client_cert",
        "client_key",
        "region",
        "project",
        "credentials_file",
        "auth",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("base_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", value):
            raise ValueError("must be an http:// or https:// URL without a query")
        if value is not None:
            try:
                _ = urlsplit(value).port
            except ValueError:
                raise ValueError("has a port that is not a number below 65536") from None
        return value and value.rstrip("/")

    @field_validator("api_key", mode="before")
    @classmethod
    def _credential(cls, value: object) -> object:
        return api_key(value)

    @field_validator("pass_headers")
    @classmethod
    def _removed_otherwise(cls, value: str) -> str:
        for name in filter(None, map(str.strip, value.split(","))):
            if not name.isascii() or not may_be_allowed(name.lower().encode()):
                raise ValueError(f"{name!r} is not a header that is removed unless it is named here")
        return value

    @field_validator("dialects")
    @classmethod
    def _known_dialects(cls, value: str) -> str:
        return known_dialects(value)


def known_dialects(value: str) -> str:
    """Names of dialects, comma-separated, as they are. ValueError where one is unknown."""
    for name in filter(None, map(str.strip, value.split(","))):
        if name not in list(Dialect):
            raise ValueError(f"{name!r} is not a dialect; dialects are {', '.join(Dialect)}")
    return value


def proxy(value: SecretStr | None, message: str, words: tuple[str, ...] = ()) -> SecretStr | None:
    """A proxy's URL; None for an empty one. Errors do not hold the value, which may hold a password."""
    text = value.get_secret_value().strip() if value is not None else ""
    if text and text not in words and not _is_proxy(text):
        raise ValueError(message)
    return SecretStr(text) if text else None


def _is_proxy(url: str) -> bool:
    if not re.fullmatch(r"https?://([!-.0-?A-~]+@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?", url, re.ASCII):
        return False
    try:
        return urlsplit(url).port != 0
    except ValueError:  # a port above 65535, or a bad address
        return False
