"""Fixtures for all tests. Redis is always a real one: the embedded server, one per test session and worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from shared.runtime import embedded, store
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings
from shared.runtime.store import Store
from tests.support.system import System

# No deadline: a busy machine is not a failure. `make test` tries more examples than `make unit`.
hypothesis.settings.register_profile("quick", max_examples=10, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=100, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("quick")

pytest_plugins = ["tests.support.leftovers", "tests.support.paths"]


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> Iterator[None]:
    """Providers of tests are on loopback, which a machine's proxy does not reach."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


def pytest_report_header() -> str:
    """Which server the tests run on; AROUTER_EMBEDDED_SERVER names another one."""
    try:
        server = embedded.find_server(Settings.load())
    except SettingsError as exc:
        return f"Redis: {exc}"
    return f"Redis: {embedded.describe(server)} ({server})"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of this session alone."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("redis"), redis_url=None)
    with embedded.redis_url(settings) as url:
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Store]:
    """A client of an empty Redis."""
    client = store.connect(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Redis, demo provider, gateway and meter as real processes, shared by the tests that leave them running."""
    folder: Path = tmp_path_factory.mktemp("system")
    with System(folder) as running:
        yield running
