"""The control API against its own document, by schemathesis: no 500, and no answer that is not documented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support import web
from tests.support.requests import ASKS
from tests.support.system import System

OPERATIONS = {
    ("POST", "/api/v1/keys"),
    ("GET", "/api/v1/keys"),
    ("PATCH", "/api/v1/keys/{hash}"),
    ("DELETE", "/api/v1/keys/{hash}"),
    ("GET", "/api/v1/key"),
    ("POST", "/api/v1/teams"),
    ("GET", "/api/v1/teams"),
    ("PATCH", "/api/v1/teams/{name}"),
    ("GET", "/api/v1/limits/everything"),
    ("PATCH", "/api/v1/limits/everything"),
    ("GET", "/api/usage/summary"),
    ("GET", "/api/usage/timeseries"),
    ("GET", "/api/v1/exchanges"),
    ("GET", "/api/v1/generation"),
    ("GET", "/api/v1/streams"),
    ("DELETE", "/api/v1/streams/{id}"),
    ("GET", "/api/v1/providers"),
    ("GET", "/api/v1/pulse"),
}
# All but positive_data_acceptance: no schema can say that hours are kept for 35 days, or which providers are on.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,"
    "allow_header_conformance,use_after_free,ensure_resource_availability,ignored_auth"
)


def test_every_route_is_described(system: System) -> None:
    document = web.get(f"{system.url}/api/openapi.json").json()
    assert {(method.upper(), path) for path, found in document["paths"].items() for method in found} == OPERATIONS
    for path, found in document["paths"].items():
        for method, operation in found.items():
            assert operation["summary"], path
            assert operation["description"], path
            assert {"400", "401", "403", "404", "413", "503"} <= operation["responses"].keys(), (method, path)
            assert "422" not in operation["responses"]
            assert operation["security"] == [{"HTTPBearer": []}]
    assert "swagger" in web.get(f"{system.url}/api/docs").text
    assert "lr_mgmt_" in json.dumps(document["info"])


def test_no_answer_is_a_surprise(tmp_path: Path) -> None:
    """On a system of its own: it changes and deletes whatever keys it finds."""
    with System(tmp_path) as own:
        _attack(own)


def _attack(system: System) -> None:
    key = system.command("keys", "create", "--name", "schemathesis", "--management").strip()
    ask = ASKS["chat"]
    assert web.post(system.url + ask.path, headers=ask.headers(system.key), json=ask.body).status_code == 200
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{system.url}/api/openapi.json"]
    options = ["--header", f"Authorization: Bearer {key}", "--exclude-path", "/api/v1/pulse", "--checks", CHECKS]
    bounds = ["--max-examples", "25", "--seed", "1", "--request-timeout", "60", "--no-color"]
    done = subprocess.run([*command, *options, *bounds], capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{len(OPERATIONS) - 1} selected" in done.stdout  # all but the probe stream
