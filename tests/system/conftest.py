"""Fixtures of the tests of whole systems."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.cli.processes import free_port
from tests.support import web
from tests.support.controlled import Controlled


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    """One for each file that asks for it."""
    with Controlled(tmp_path_factory.mktemp("controlled")) as system:
        key = system.command("keys", "create", "--name", "admin", "--management").strip()
        assert key.startswith("lr_mgmt_")
        system.second = f"http://127.0.0.1:{free_port(0)}"
        system.start_gateway(system.second)
        system.processes.wait_for(f"{system.second}/readyz")
        with web.client(base_url=system.url, headers={"authorization": f"Bearer {key}"}) as client:
            system.manager = client
            yield system
