"""The gateway's settings, with those of the providers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from services.gateway.attempt_settings import AttemptSettings
from services.gateway.client.attribution import Attributing, ClientAddress, HeaderNames, header_names, networks
from services.gateway.provider_settings import PROXY, ProviderSettings, proxy
from services.gateway.route_settings import RouteSettings, check
from shared.contract.paths import base_path, owner
from shared.contract.providers import PROVIDERS, known, missing
from shared.runtime.settings import EVERYWHERE, Settings

_MIB = 1024 * 1024


class GatewaySettings(Settings):
    """The settings of a gateway. Times are in seconds, sizes in bytes."""

    RELOADED: ClassVar[frozenset[str]] = frozenset({"providers", "routes", "attempts", "request_fallback"})
    OLD_NAMES: ClassVar[Mapping[str, str]] = {
        f"drain_{what}": f"read_on_{what}" for what in ("seconds", "bytes", "streams")
    }

    host: str = Field(default="127.0.0.1", description=f"Address the gateway listens on. {EVERYWHERE}")
    port: int = Field(default=8080, ge=0, le=65535, description="Port the gateway listens on.")
    reuse_port: bool = Field(
        default=False,
        description="Share the port with other gateways on this machine that do so, too (SO_REUSEPORT), as the workers "
        "of `arouter gateway --workers` do.",
    )
    base_path: str = Field(
        default="",
        description="Path that a proxy in front keeps, such as /llm: what comes below it is served as if it came at "
        "the root, where everything stays served, too.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description=f"Address of /metrics, /healthz and /readyz. {EVERYWHERE}"
    )
    metrics_port: int = Field(
        default=9090, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz; 0 for none."
    )
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict, description="One block per provider: see the table below."
    )
    routes: dict[str, RouteSettings] = Field(
        default_factory=dict, description="One block per model name of your own: see the table below."
    )
    request_fallback: bool = Field(
        default=True,
        description='Requests may name further models, `models` with `route: "fallback"`: the gateway tries them in '
        "that order, or leaves it to a provider that does the same.",
    )
    attempts: AttemptSettings = Field(
        default_factory=AttemptSettings, description="What is tried again before the first byte: see the table below."
    )
    control: Literal["gateway", "off"] = Field(
        default="gateway",
        description="Where the control API is served: gateway, below /api/ on this port; off, not here, and "
        "`arouter control` serves it in a process of its own.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins whose pages may call from a browser, comma-separated; * for any. Unset: none.",
    )
    send_generation_id: bool = Field(
        default=True, description="Send the exchange id upstream as x-generation-id, to find it in a provider's log."
    )

    user_headers: str = Field(
        default="x-arouter-user, x-litellm-end-user-id, x-litellm-customer-id, x-openwebui-user-id, "
        "x-openwebui-user-email",
        description="Headers that name the end user, comma-separated; the first one that a request has is booked, and "
        "else what its body says (docs/attribution.md).",
    )
    session_headers: str = Field(
        default="x-arouter-session, x-litellm-session-id, x-litellm-trace-id, x-openwebui-chat-id, "
        "x-claude-code-session-id, session_id, session-id, conversation_id",
        description="Headers that name the session, likewise.",
    )
    tags_headers: str = Field(
        default="x-arouter-tags, x-litellm-tags", description="Headers with tags, likewise; their values are lists."
    )
    app_headers: str = Field(
        default="x-arouter-app, x-openrouter-title, x-title, originator, http-referer",
        description="Headers that name the program or site that a request is for, likewise.",
    )
    client_address: ClientAddress = Field(
        default=ClientAddress.TRUNCATED,
        description="What of a client's address is booked: whole, truncated (its network: /24, for IPv6 /48) or off.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses and networks of proxies in front, comma-separated, whose X-Forwarded-For says where a "
        "request came from. Unset: the address that has connected counts.",
    )

    max_body_bytes: int = Field(
        default=32 * _MIB,
        ge=1,
        description="Largest request body that is held in memory, and largest decoded one; above it 413.",
    )
    max_upload_bytes: int = Field(
        default=1024 * _MIB,
        ge=1,
        description="Largest body on other paths than calls of models (files, batches, audio, images), where it goes "
        "upstream as it arrives; above it 413.",
    )
    max_header_bytes: int = Field(default=32 * 1024, ge=1024, description="Largest request head; above it 431.")
    max_header_lines: int = Field(default=100, ge=8, description="Most request header lines; above it 431.")
    header_timeout: float = Field(default=10, gt=0, description="For a whole request head to arrive; after it 408.")
    body_timeout: float = Field(default=60, gt=0, description="Between two reads of a request body; after it 408.")
    body_total_timeout: float = Field(
        default=600,
        gt=0,
        description="For a request body that is held in memory to arrive; after it 408. Not for uploads.",
    )
    keep_alive_timeout: float = Field(
        default=75, gt=0, description="Idle client connections close after this; keep it above the load balancer's."
    )

    connect_timeout: float = Field(default=5, gt=0, description="To connect to a provider.")
    first_byte_timeout: float = Field(default=600, gt=0, description="From request to the answer's headers.")
    idle_timeout: float = Field(default=600, gt=0, description="Between two reads from a provider.")
    total_timeout: float = Field(default=3600, gt=0, description="For one whole exchange.")
    slow_reader_timeout: float = Field(
        default=60, gt=0, description="For a client whose answer waits, to take some of it."
    )
    read_on_seconds: float = Field(
        default=60, gt=0, description="How long an upstream whose client has left is read on, where that is wanted."
    )
    read_on_bytes: int = Field(default=8 * _MIB, ge=0, description="Most bytes that are read then.")
    read_on_streams: int = Field(
        default=100, ge=0, description="Most upstreams that are read on at once; beyond it they are closed."
    )
    shutdown_delay: float = Field(
        default=0,
        ge=0,
        description="After SIGTERM: not ready, but still taking requests, until load balancers have noticed; answers "
        "then close their connections.",
    )
    shutdown_timeout: int = Field(default=600, ge=0, description="For running streams to end after SIGTERM.")

    upstream_connections: int = Field(default=4000, ge=1, description="Most connections to one provider.")
    upstream_keep_alive: float = Field(default=30, ge=0, description="Idle provider connections close after this.")
    upstream_name_age: float = Field(
        default=30,
        ge=0,
        description="Connections older than this are used again only while the provider's name still leads to their "
        "address.",
    )
    upstream_proxy: SecretStr | None = Field(
        default=None,
        description="Proxy by which every provider is reached, `http://` or `https://`, with `user:password@` where it "
        "asks for them. Unset: the next two.",
    )
    http_proxy: SecretStr | None = Field(
        default=None, description="Proxy to `http://` providers. Unset: `HTTP_PROXY`, else `ALL_PROXY`."
    )
    https_proxy: SecretStr | None = Field(
        default=None, description="Proxy to `https://` providers. Unset: `HTTPS_PROXY`, else `ALL_PROXY`."
    )
    no_proxy: str = Field(
        default="",
        description="Hosts reached without a proxy: names with all below them, addresses, networks, `*`, each with a "
        "`:port` or not, comma-separated. Unset: `NO_PROXY`.",
    )
    tap_memory: int = Field(
        default=256 * _MIB,
        ge=_MIB,
        description="Most tail bytes held in memory while Redis is away; beyond it they wait in the journal alone.",
    )
    tap_bytes: int = Field(
        default=16 * _MIB,
        ge=_MIB,
        description="Most bytes of one answer that are copied for the meter. Of a longer one its beginning and its "
        "last 256 KiB are: usage that is reported at the end counts, text that is not there cannot be counted.",
    )
    tap_file_bytes: int = Field(
        default=2 * _MIB,
        ge=64 * 1024,
        description="The same on paths without a reader: files, results of batches, audio, images, lists.",
    )
    journal_dir: Path | None = Field(
        default=None, description="Folder of the journal, on a disk of its own if possible. Unset: in the data folder."
    )
    journal_bytes: int = Field(
        default=1024 * _MIB,
        ge=16 * _MIB,
        description="Largest journal. From 80 % of it the gateway is not ready, at 100 % new requests get 503.",
    )
    journal_failed: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="When the journal is full or cannot be written: refuse new requests with 503, or serve them though "
        "their usage may be lost.",
    )

    limits_without_redis: Literal["serve", "refuse"] = Field(
        default="serve",
        description="While Redis is away, serve requests under limits from what each limit had left when it last "
        "answered, or refuse them with 503.",
    )
    limits_without_redis_seconds: float = Field(
        default=60, gt=0, description="For how long they are served; after it 503."
    )

    @property
    def attributing(self) -> Attributing:
        """How it is found out who asks."""
        given = (self.user_headers, self.session_headers, self.tags_headers, self.app_headers)
        return Attributing(HeaderNames(*map(header_names, given)), self.client_address, networks(self.trusted_proxies))

    @field_validator("user_headers", "session_headers", "tags_headers", "app_headers")
    @classmethod
    def _names_of_headers(cls, value: str) -> str:
        header_names(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks(value)
        return value

    def old_values(self) -> dict[str, str]:
        """Values that are given by their old names: `VARIABLE=value`, the old one to the new one."""
        prefix = "AROUTER_PROVIDERS__{}__ON_DISCONNECT={}"
        old = [name.upper() for name, provider in self.providers.items() if provider.on_disconnect == "drain"]
        return {prefix.format(name, "drain"): prefix.format(name, "read_on") for name in old}

    @field_validator("base_path")
    @classmethod
    def _absolute_path(cls, value: str) -> str:
        return base_path(value)

    @field_validator("upstream_proxy", "http_proxy", "https_proxy")
    @classmethod
    def _proxy_url(cls, value: SecretStr | None) -> SecretStr | None:
        return proxy(value, PROXY)

    @field_validator("providers")
    @classmethod
    def _own_providers_have_a_base_url(
        cls, value: dict[str, ProviderSettings], before: ValidationInfo
    ) -> dict[str, ProviderSettings]:
        below = before.data.get("base_path", "").split("/")[1:2]
        for name, provider in value.items():
            if [name] == below:
                raise ValueError(f"provider {name!r} could not be reached below AROUTER_BASE_PATH=/{name}")
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
                raise ValueError(f"{name!r} cannot be a provider's name")
            if (taken := owner(name)) is not None:
                raise ValueError(f"{name!r} cannot be a provider's name: /{name}/ is {taken}")
            given = dict(provider)
            if (needed := missing(known(name, given), given)) is not None:
                raise ValueError(f"provider {name!r} needs AROUTER_PROVIDERS__{name.upper()}__{needed.upper()}")
        return value

    @field_validator("routes")
    @classmethod
    def _routes_lead_somewhere(
        cls, value: dict[str, RouteSettings], before: ValidationInfo
    ) -> dict[str, RouteSettings]:
        providers = before.data.get("providers")
        if providers is not None:  # else they are wrong themselves
            check(value, [name for name, provider in providers.items() if provider.on])
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        ours = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return *ours, _UsualVariables(settings_cls)


class _UsualVariables(PydanticBaseSettingsSource):
    """Variables that other programs read, too: the providers' SDKs (`OPENAI_API_KEY` …) and everything that knows
    proxies. Our own names take precedence."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # pydantic calls this per field only from its own sources

    def __call__(self) -> dict[str, Any]:
        environment = os.environ  # noqa: TID251  # a settings source is that border
        return {"providers": _credentials(environment), **_proxies(environment)}


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Proxies as curl and httpx find them: a name in lower case goes before the other, a URL may lack its scheme."""

    def given(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    found = {name: given(name) or given("all_proxy") for name in ("http_proxy", "https_proxy")}
    found = {name: url if "://" in url else f"http://{url}" for name, url in found.items() if url}
    return found | ({"no_proxy": given("no_proxy")} if given("no_proxy") else {})


def _credentials(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for provider in PROVIDERS.values():
        value = next((environment[name] for name in provider.variables if environment.get(name)), None)
        if value is not None:
            found[provider.name] = {"api_key": value}
            for setting, names in provider.beside.items():
                place = next((environment[name] for name in names if environment.get(name)), None)
                if place is not None:
                    found[provider.name][setting] = place
    return found
