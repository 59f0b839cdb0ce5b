"""`arouter.toml.example`, written from the settings classes by `python -m services.cli.settings_example`.

A test holds it to them, and loads it with every line uncommented.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.control.settings import ControlSettings
from services.gateway.attempt_settings import AttemptSettings
from services.gateway.provider_settings import ProviderSettings
from services.gateway.route_settings import RouteSettings
from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from services.sinks.settings import SinkSettings
from services.sinks.webhooks.settings import WebhookSettings
from shared.runtime.settings import Settings

PATH = Path("arouter.toml.example")

_INTRODUCTION = """\
# Settings of every service, each with its default or with an example. Copy this file to arouter.toml, or name your copy
# with `arouter --config FILE`, and remove the # before the lines you want to change. The environment goes before the
# file: AROUTER_PORT before port. docs/settings.md has the same as a table.
"""
_BLOCKS = ("providers", "routes", "attempts", "webhooks")
# What stands for a setting whose default cannot be written down: there is none, or it depends on the machine.
_EXAMPLES = {
    "redis_url": "redis://127.0.0.1:6379/0",
    "data_dir": "~/.local/state/arouter",
    "embedded_server": "/usr/bin/valkey-server",
    "key_pepper": "replace-me-by-32-random-bytes-in-hex",
    "seal_keys_file": "/run/secrets/arouter-seal-keys",
    "journal_dir": "/var/lib/arouter/journal",
    "arq_redis_url": "redis://127.0.0.1:6379/1",
    "ranks_dir": "/var/lib/arouter/ranks",
    "upstream_proxy": "http://proxy:3128",
    "http_proxy": "http://proxy:3128",
    "https_proxy": "http://proxy:3128",
    "no_proxy": "localhost, .internal.example.com, 10.0.0.0/8",
    "prices": "prices.toml",
    "database_url": "postgresql://arouter:replace-me@db:5432/arouter",
    "otlp_endpoint": "http://otel-collector:4318",
    "otlp_headers": "authorization=Bearer%20replace-me",
    "cors_origins": "https://chat.example.com",
    "control_providers": "openai, vllm",
}
_PROVIDERS: dict[str, dict[str, object]] = {
    "openai": {"api_key": "sk-replace-me", "ask_usage": True},
    "anthropic": {"api_key": "sk-ant-replace-me", "on_disconnect": "close"},
    "mistral": {
        "credentials": [
            {"name": "main", "api_key": "replace-me", "weight": 2},
            {"name": "spare", "api_key": "replace-me-too", "weight": 0},
        ]
    },
    "bedrock": {"region": "eu-west-1"},
    "vertex": {"project": "my-project", "location": "global"},
    "vllm": {"base_url": "http://vllm:8000/v1", "dialects": "openai_chat, openai_completions"},
}
_WEBHOOK: dict[str, object] = {
    "name": "billing",
    "url": "https://billing.example.com/hooks/arouter",
    "secret": "whsec_" + "cmVwbGFjZS1tZS1ieS0yNC1ieXRlcy1vci1tb3Jl",
    "events": ["exchange.booked", "budget.threshold"],
    "sample": 0.1,
}
_ROUTES: dict[str, dict[str, object]] = {
    "fast": {"candidates": ["openai/gpt-4o-mini", "vllm/llama-3.3-70b"]},
    "claude": {
        "candidates": [
            {"model": "anthropic/claude-haiku-4-5", "weight": 9},
            {"model": "anthropic/claude-sonnet-4-5", "weight": 1},
        ],
        "sticky": True,
    },
}


def render() -> str:
    """The whole file."""
    common = Settings.model_fields
    return "\n".join(
        [
            _INTRODUCTION,
            *_section("Every service", common.items()),
            *_section("Gateway", _own(GatewaySettings)),
            *_section("Meter", _own(MeterSettings)),
            *_section("Followers", _own(SinkSettings)),
            *_section("Control plane in a process of its own", _own(ControlSettings)),
            *_attempts(),
            *_blocks("Providers: one section each, by its name", ProviderSettings, "providers", _PROVIDERS),
            *_webhooks(),
            *_blocks("Routes: model names of your own, one section each", RouteSettings, "routes", _ROUTES),
        ]
    )


def uncommented(text: str) -> str:
    """The file with every setting in force."""
    return re.sub(r"^#(?=[a-z\[])", "", text, flags=re.MULTILINE)


def _own(model: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if name not in Settings.model_fields and name not in _BLOCKS:
            yield name, field


def _section(title: str, fields: Iterable[tuple[str, FieldInfo]]) -> Iterator[str]:
    yield f"# --- {title} ---"
    for name, field in fields:
        yield ""
        yield from _comment(field)
        yield f"#{name} = {_toml(_EXAMPLES.get(name, field.default))}"
    yield ""


def _attempts() -> Iterator[str]:
    yield "# --- Attempts: what is tried again before the first byte, where there is a second candidate ---"
    yield ""
    yield "#[attempts]"
    for name, field in AttemptSettings.model_fields.items():
        yield from _comment(field)
        yield f"#{name} = {_toml(field.default)}"
    yield ""


def _webhooks() -> Iterator[str]:
    yield "# --- Webhooks: one section each ---"
    yield ""
    for name, field in WebhookSettings.model_fields.items():
        yield from _comment(field, f"{name}: ")
    yield "\n#[[webhooks]]"
    yield from (f"#{name} = {_toml(value)}" for name, value in _WEBHOOK.items())
    yield ""


def _blocks(title: str, model: type[BaseModel], table: str, blocks: Mapping[str, dict[str, object]]) -> Iterator[str]:
    yield f"# --- {title} ---"
    yield ""
    for name, field in model.model_fields.items():
        yield from _comment(field, f"{name}: ")
    for block, values in blocks.items():
        yield f"\n#[{table}.{block}]"
        yield from (f"#{name} = {_toml(value)}" for name, value in values.items())
    yield ""


def _comment(field: FieldInfo, before: str = "") -> list[str]:
    return textwrap.wrap(before + str(field.description), 118, initial_indent="# ", subsequent_indent="# ")


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(member)}" for name, member in value.items()) + " }"
    return json.dumps(value)  # what these are is written alike in both


if __name__ == "__main__":
    PATH.write_text(render())
