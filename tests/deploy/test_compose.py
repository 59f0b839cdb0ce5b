"""docker-compose.yml, its nginx and the Dockerfile, as far as they can be checked without Docker."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.main import parse
from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from shared.runtime.settings import PREFIX, variable

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    known = {variable((name,)) for model in (GatewaySettings, MeterSettings) for name in model.model_fields}
    env_file = dict(line.split("=", 1) for line in (ROOT / ".env").read_text().splitlines() if not line.startswith("#"))
    in_image = dict(re.findall(r"\b(AROUTER_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    given = compose["services"]["gateway"]["environment"] | env_file | in_image
    for name in given:
        assert name in known or name == "COMPOSE_PROFILES" or name.startswith(f"{PREFIX}PROVIDERS__"), name
    GatewaySettings.model_validate(
        {name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name in known}
    )


def test_commands_exist_and_what_they_wait_for(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("gateway", "meter", "provider"):
        parse(services[name]["command"])
        assert services[name]["healthcheck"]["test"]
        assert services[name]["read_only"] is True
    for service in services.values():
        assert set(service.get("depends_on", {})) <= services.keys()
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")}
        assert named <= compose["volumes"].keys()
        for volume in service.get("volumes", []):
            assert not volume.startswith(".") or (ROOT / volume.split(":")[0]).exists()
    assert services["gateway"]["deploy"]["replicas"] == services["meter"]["deploy"]["replicas"] == 2
    assert services["provider"]["profiles"] == ["demo"]


def test_one_service_builds_the_image_of_all(compose: dict[str, Any]) -> None:
    ours = {name: one for name, one in compose["services"].items() if one["image"] == "arouter:dev"}
    assert [name for name, one in ours.items() if "build" in one] == ["gateway"]
    # `build` would build it anew at every `up`, and anything but `never` would look for it in a registry.
    assert {one["pull_policy"] for one in ours.values()} == {"never"}


def test_the_demo_can_be_emptied(compose: dict[str, Any]) -> None:
    settings = GatewaySettings.model_validate({"providers": {"openai": {"base_url": "", "api_key": "sk-x"}}})
    assert settings.providers["openai"].base_url is None


def test_redis_keeps_what_it_has(compose: dict[str, Any]) -> None:
    command = compose["services"]["valkey"]["command"]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert re.search(r"--maxmemory \d+", command), "doctor warns where it is missing"


def test_the_grace_is_longer_than_the_drain(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    needed = int(gateway["environment"]["AROUTER_SHUTDOWN_TIMEOUT"])
    needed += int(gateway["environment"]["AROUTER_SHUTDOWN_DELAY"]) + 15
    assert int(gateway["stop_grace_period"].removesuffix("s")) >= needed


def test_the_image_copies_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in copied.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in (ROOT / ".dockerignore").read_text()
    assert re.search(r"^USER 10001", text, re.MULTILINE)
    for module, names in re.findall(r"from (services[\w.]+) import (\w+)", text):
        assert importlib.util.find_spec(f"{module}.{names}"), f"the image imports {module}.{names}"
