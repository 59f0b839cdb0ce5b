"""The manifests, rendered as `kubectl apply -k` would and checked without a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from shared.contract import names
from shared.runtime.settings import PREFIX, Settings, variable
from tests.deploy.schemas import SCHEMAS
from tests.support.metric_labels import labels, mistakes

ROOT = Path(__file__).parents[2] / "deploy" / "k8s"
# preStop's sleep is on by default from 1.30; the newest is what the validator knows.
VERSIONS = ("1.30", "1.32", "1.37")
OVERLAYS = {
    "dev": ["../overlays/dev"],
    "prod": ["../overlays/prod"],
    "prod with KEDA": ["../overlays/prod", "../components/valkey", "../components/keda"],
    "prod with journals on volumes": ["../overlays/prod", "../components/journal-volume"],
    "prod with Valkey": ["../overlays/prod", "../components/valkey", "../components/receivers"],
}

Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return rendered(tmp_path_factory.mktemp("k8s"), *OVERLAYS[request.param])


def rendered(folder: Path, overlay: str, *components: str, **more: Any) -> list[Manifest]:
    """What an operator's own overlay renders that builds on these, with `more` in it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    shutil.copytree(ROOT, folder / "k8s")
    here = folder / "k8s" / "rendered"
    here.mkdir()
    kustomization = {"resources": [overlay], "components": list(components), **more}
    (here / "kustomization.yaml").write_text(yaml.dump(kustomization))
    done = subprocess.run(["kubectl", "kustomize", str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by name of their workload."""
    kinds = ("Deployment", "StatefulSet")
    return {m["metadata"]["name"]: m["spec"]["template"] for m in manifests if m["kind"] in kinds}


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def configured(manifests: list[Manifest]) -> Manifest:
    """The config map; the generator ends its name in a hash of what it holds."""
    [found] = [m for m in manifests if m["kind"] == "ConfigMap"]
    assert re.fullmatch(r"arouter-[a-z0-9]{10}", found["metadata"]["name"])
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes_agree(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] in SCHEMAS:
            jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_noticed(manifests: list[Manifest]) -> None:
    manifest = one(manifests, "Service", "gateway")
    manifest = {**manifest, "spec": {**manifest["spec"], "selectr": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    known = {variable((name,)) for model in (GatewaySettings, MeterSettings) for name in model.model_fields}
    given = configured(manifests)["data"]
    for name in given:
        assert name in known or name.startswith(f"{PREFIX}PROVIDERS__"), name
    settings = GatewaySettings.model_validate(
        {name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name in known}
    )
    assert settings.metrics_port == 9090
    template = pods(manifests)["gateway"]["spec"]
    reserve = template["terminationGracePeriodSeconds"] - settings.shutdown_timeout - settings.shutdown_delay
    assert settings.shutdown_delay >= 5
    assert template["enableServiceLinks"] is False  # a Service named arouter would inject AROUTER_PORT=tcp://…
    assert reserve >= template["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] + 15  # and the flush
    ports = {port["name"]: port["containerPort"] for port in template["containers"][0]["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}


def test_the_journal_stays_below_its_volume(manifests: list[Manifest]) -> None:
    limit = int(configured(manifests)["data"]["AROUTER_JOURNAL_BYTES"])
    volumes = {v["name"]: v for v in pods(manifests)["gateway"]["spec"].get("volumes", [])}
    if "journal" in volumes:
        # A container that was restarted while Redis is away has the journals of its former lives beside its own.
        assert volumes["journal"]["emptyDir"]["sizeLimit"] == "4Gi"
        assert 3 * limit < 4 * 1024**3
    else:
        claims = one(manifests, "StatefulSet", "gateway")["spec"]["volumeClaimTemplates"]
        assert [claim["metadata"]["name"] for claim in claims] == ["journal"]


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    for name, template in pods(manifests).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert {"cpu", "memory"} == container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_what_selects_selects_something(manifests: list[Manifest]) -> None:
    labels = [template["metadata"]["labels"] for template in pods(manifests).values()]
    for manifest in manifests:
        selector = {
            "Service": lambda m: m["spec"]["selector"],
            "PodDisruptionBudget": lambda m: m["spec"]["selector"]["matchLabels"],
            "NetworkPolicy": lambda m: m["spec"]["podSelector"].get("matchLabels", {}),
        }.get(manifest["kind"])
        if selector is not None:
            wanted = selector(manifest).items()
            assert any(wanted <= given.items() for given in labels), manifest["metadata"]["name"]
    for manifest in manifests:
        if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = manifest["spec"]["scaleTargetRef"]
            assert one(manifests, target.get("kind", "Deployment"), target["name"])


def test_meters_are_scaled_by_one_thing_alone(manifests: list[Manifest]) -> None:
    scalers = [
        m
        for m in manifests
        if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") and m["spec"]["scaleTargetRef"]["name"] == "meter"
    ]
    assert len(scalers) <= 1
    if scalers and scalers[0]["kind"] == "ScaledObject":
        streams = [trigger["metadata"]["stream"] for trigger in scalers[0]["spec"]["triggers"]]
        assert streams == [names.tail(shard) for shard in range(Settings.model_fields["shards"].default)]


def test_what_can_be_pruned_has_the_label_by_which_it_is(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        labels = manifest["metadata"].get("labels", {})
        if manifest["kind"] != "Secret":  # the development overlay's own
            assert labels.get("app.kubernetes.io/part-of") == "arouter", manifest["metadata"]["name"]


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_a_plain_cluster_knows_every_kind(overlay: str, tmp_path: Path) -> None:
    for manifest in rendered(tmp_path, f"../overlays/{overlay}"):
        assert manifest["kind"] not in SCHEMAS, f"{manifest['kind']} is of an operator that may not be installed"


def test_another_setting_is_another_config_map_which_pods_name(tmp_path: Path) -> None:
    setting = {"name": "arouter", "behavior": "merge", "literals": ["AROUTER_LOG_LEVEL=debug"]}
    before = rendered(tmp_path / "before", "../overlays/prod")
    after = rendered(tmp_path / "after", "../overlays/prod", namespace="arouter", configMapGenerator=[setting])
    assert configured(after)["data"] == configured(before)["data"] | {"AROUTER_LOG_LEVEL": "debug"}
    for found in (before, after):
        for workload in ("gateway", "meter"):
            [container] = pods(found)[workload]["spec"]["containers"]
            assert container["envFrom"][0]["configMapRef"]["name"] == configured(found)["metadata"]["name"]
    assert configured(after)["metadata"]["name"] != configured(before)["metadata"]["name"]


def test_alerts_name_metrics_that_exist() -> None:
    [rules] = yaml.safe_load_all((ROOT / "components" / "monitoring" / "rules.yaml").read_text())
    known = labels()
    for rule in [rule for group in rules["spec"]["groups"] for rule in group["rules"]]:
        assert mistakes(rule["expr"], known) == [], rule["alert"]
