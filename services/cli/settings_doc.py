"""`docs/settings.md`, written from the settings classes by `python -m services.cli.settings_doc`, checked by a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from services.control.settings import ControlSettings
from services.gateway.attempt_settings import AttemptSettings
from services.gateway.credential_settings import CredentialSettings
from services.gateway.provider_settings import ProviderSettings
from services.gateway.route_settings import RouteSettings
from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from services.sinks.webhooks.settings import WebhookSettings
from shared.contract.events import EventType
from shared.contract.providers import PROVIDERS, Provider
from shared.runtime.settings import Settings, variable

PATH = Path("docs/settings.md")

_BLOCKS = {"providers", "routes", "attempts", "webhooks"}  # tables of their own

_INTRODUCTION = """# Settings

Settings come from the environment or from a TOML file; the environment goes first. The file is `arouter.toml` in the
working directory, or the one that `arouter --config FILE` or `AROUTER_CONFIG` names. Its names are those below in lower
case, without the prefix: [arouter.toml.example](../arouter.toml.example) has them all. Settings are read at the
start; a wrong one stops the start with one line. Providers and prices in the file are taken on by a
[reload](deploy.md#reload), too. Times are in seconds, sizes in bytes. A warning names each `AROUTER_…`
variable that no service knows.
"""
_PROVIDERS = """
## Providers

`AROUTER_PROVIDERS__<NAME>__…`. A provider is on as soon as it has a credential, or a base URL if it needs none. The
variables of the providers' own SDKs work too. Bedrock and Vertex are on with `REGION` or `PROJECT`, and take the
machine's own credentials where they have no key ([providers](providers.md)). Any other name is a provider of your own
and needs a base URL:
`AROUTER_PROVIDERS__VLLM__BASE_URL=http://vllm:8000/v1`.
"""
_ROUTES = """
### Routes

`[routes.NAME]`, or `AROUTER_ROUTES__<NAME>__…` for a name in lower case that a variable can have. A route is a
model name of your own; [fallback](fallback.md) shows what it is for.
"""
_ATTEMPTS = """
### Attempts

`AROUTER_ATTEMPTS__…`, `[attempts]` in the file: what is tried again before the first byte, where there is a second
candidate ([attempts](fallback.md#attempts)).
"""
_WEBHOOKS = """
### Webhooks

`[[webhooks]]` in the file for each, or `AROUTER_WEBHOOKS`, a list of objects in JSON ([webhooks](webhooks.md)):
"""
_CREDENTIALS = """
Each of a provider's `CREDENTIALS` is a table of the file, or an object in the JSON of the variable, with a name and one
way to give its secret:
"""


def render() -> str:
    """The whole page."""
    common = set(Settings.model_fields)
    return "\n".join(
        [
            _INTRODUCTION,
            "## Every service\n",
            *_table(Settings, Settings.model_fields, prefix=""),
            "\n## Gateway\n",
            *_table(GatewaySettings, set(GatewaySettings.model_fields) - common - _BLOCKS, prefix=""),
            _ATTEMPTS,
            *_table(AttemptSettings, AttemptSettings.model_fields, prefix="ATTEMPTS__"),
            "\n## Meter\n",
            *_table(MeterSettings, set(MeterSettings.model_fields) - common, prefix=""),
            "\n## Followers\n",
            *_table(SinkSettings, set(SinkSettings.model_fields) - common - _BLOCKS, prefix=""),
            _WEBHOOKS,
            *_members(WebhookSettings),
            "\n## Control\n",
            *_table(ControlSettings, set(ControlSettings.model_fields) - common, prefix=""),
            _PROVIDERS,
            *_table(ProviderSettings, ProviderSettings.model_fields, prefix="PROVIDERS__<NAME>__"),
            _CREDENTIALS,
            *_members(CredentialSettings),
            "",
            "| name | base URL | credential |",
            "|---|---|---|",
            *(f"| {p.name} | {p.base_url or 'your own'} | {_credential(p)} |" for p in PROVIDERS.values()),
            _ROUTES,
            *_table(RouteSettings, RouteSettings.model_fields, prefix="ROUTES__<NAME>__"),
            "",
        ]
    )


def _credential(provider: Provider) -> str:
    """The variables of its SDK, and what stands in for a key."""
    named = [f"`{variable}`" for variable in provider.variables]
    if provider.auth is not None:
        named.append(f"with `{provider.place.upper()}` and no key: {provider.auth}")
    return ", ".join(named)


def _table(model: type[BaseModel], names: Iterable[str], prefix: str) -> list[str]:
    wanted = set(names)
    lines = ["| variable | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in wanted:
            shown = "`REDIS_URL`" if name == "redis_url" else f"`{variable((prefix + name,))}`"
            lines.append(f"| {shown} | {_default(field)} | {field.description} |")
    return lines


def _members(model: type[BaseModel]) -> list[str]:
    lines = ["| member | default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {'' if field.is_required() else _default(field)} | {field.description} |")
    return lines


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`~/.local/state/arouter`"
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if field.is_required() or value is None or value in ("", ()) or isinstance(value, SecretStr):
        return ""
    if value == tuple(EventType):
        return "all"
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:,}".replace(",", " ") if isinstance(value, int) and value > 9999 else f"{value}"


if __name__ == "__main__":
    PATH.write_text(render())
