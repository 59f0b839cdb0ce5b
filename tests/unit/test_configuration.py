"""What a reload makes anew, and what it keeps; and when it is refused as a whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from services.gateway import configuration
from services.gateway.configuration import Configuration, Loaded, Parts
from services.gateway.configured import Configured
from services.gateway.credential_health import Healths
from services.gateway.settings import GatewaySettings
from shared.contract.dialects import Family
from shared.runtime.errors import Refused, SettingsError
from tests.support.certificates import PEM, certificate

PARTS = Parts(Healths(time.monotonic))
ONE = {"base_url": "http://one.test/v1", "api_key": "sk-1"}
TWO = {"base_url": "http://two.test/v1", "api_key": "sk-2"}


def settings(**given: Any) -> GatewaySettings:
    return GatewaySettings.model_validate(given)


def loaded(given: GatewaySettings, before: Loaded | None = None) -> Loaded:
    return configuration.loaded(given, PARTS, before)


def way(now: Loaded, provider: str) -> object:
    return now.client.ways.get(provider)


def upstream(now: Loaded, provider: str) -> object:
    return now.configured.upstreams.get(provider)


CHANGES = {
    "nothing": (ONE, True, True),
    "the key": (ONE | {"api_key": "sk-new"}, False, True),
    "the place": (ONE | {"base_url": "http://other.test/v1"}, False, False),
    "the proxy": (ONE | {"proxy": "http://proxy.test:3128"}, False, False),
    "the dialects": (ONE | {"dialects": "openai_chat"}, False, True),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_what_has_not_changed_is_kept(changed: str) -> None:
    block, same_upstream, same_way = CHANGES[changed]
    before = loaded(settings(providers={"one": ONE, "two": TWO}))
    now = loaded(settings(providers={"one": block, "two": TWO}), before=before)
    assert (upstream(now, "one") is upstream(before, "one"), way(now, "one") is way(before, "one")) == (
        same_upstream,
        same_way,
    )
    assert upstream(now, "two") is upstream(before, "two")
    assert way(now, "two") is way(before, "two")


def test_another_certificate_in_the_same_file_is_a_change(tmp_path: Path) -> None:
    certificate(tmp_path)
    file = tmp_path / PEM
    given = settings(providers={"one": ONE | {"ca_file": str(file)}})
    before = loaded(given)
    assert way(loaded(given, before=before), "one") is way(before, "one")
    file.write_text(file.read_text() + "\n")
    now = loaded(given, before=before)
    assert way(now, "one") is not way(before, "one")
    assert upstream(now, "one") is not upstream(before, "one")
    file.write_text("none")
    with pytest.raises(SettingsError, match="AROUTER_PROVIDERS__ONE__CA_FILE: cannot be used"):
        loaded(given, before=before)


class Reloads:
    """A configuration, and the settings that it reads next."""

    def __init__(self, **given: Any) -> None:
        self.next: GatewaySettings | SettingsError = settings(**given)
        self.configuration = Configuration(self.next, self._load)
        self.used: list[Configured] = []

    def _load(self) -> GatewaySettings:
        if isinstance(self.next, SettingsError):
            raise self.next
        return self.next

    async def reload(self, **given: Any) -> tuple[bool, tuple[str, ...]]:
        self.next = settings(**given)
        change = await self.configuration.reload(self.used.append)
        assert change.digest == self.configuration.digest
        return change.changed, change.restart


async def test_a_reload_is_used_where_something_has_changed() -> None:
    reloads = Reloads(providers={"one": ONE})
    digest = reloads.configuration.digest
    assert await reloads.reload(providers={"one": ONE}) == (False, ())
    assert (reloads.used, reloads.configuration.digest) == ([], digest)
    assert await reloads.reload(providers={"two": TWO}) == (True, ())
    [configured] = reloads.used
    assert configured is reloads.configuration.configured
    assert reloads.configuration.digest != digest
    assert configured.match("POST", "/two/v1/chat/completions", Family.OPENAI, False).upstream is not None
    with pytest.raises(Refused):
        configured.match("POST", "/one/v1/chat/completions", Family.OPENAI, False)


async def test_the_digest_shows_no_credential() -> None:
    reloads = Reloads(providers={"one": ONE})
    digest = reloads.configuration.digest
    assert await reloads.reload(providers={"one": ONE | {"api_key": "sk-other"}}) == (True, ())
    assert reloads.configuration.digest == digest


async def test_what_only_a_restart_changes_is_named_and_not_used() -> None:
    reloads = Reloads(providers={"one": ONE})
    found = await reloads.reload(providers={"one": ONE}, port=9999, redis_url="redis://elsewhere", no_proxy="*")
    assert found == (False, ("AROUTER_NO_PROXY", "AROUTER_PORT", "REDIS_URL"))
    assert await reloads.reload(providers={"one": TWO}, port=9999) == (True, ("AROUTER_PORT",))
    assert reloads.configuration.settings.port == 8080
    assert await reloads.reload(providers={"one": TWO}) == (False, ())


async def test_a_wrong_configuration_changes_nothing() -> None:
    reloads = Reloads(providers={"one": ONE})
    configured = reloads.configuration.configured
    with pytest.raises(SettingsError):
        await reloads.reload(providers={"one": TWO | {"ca_file": "/nowhere"}})
    reloads.next = SettingsError("it is wrong")
    with pytest.raises(SettingsError):
        await reloads.configuration.reload(reloads.used.append)
    assert (reloads.used, reloads.configuration.configured) == ([], configured)
    assert await reloads.reload(providers={"one": ONE}) == (False, ())


async def test_a_key_file_is_read_again_and_the_other_credentials_keep_their_health(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1\n")
    pool = [{"name": "main", "api_key_file": str(file)}, {"name": "spare", "api_key": "sk-2"}]
    given = {"mine": {"base_url": "http://mine.test/v1", "credentials": pool}}
    reloads = Reloads(providers=given)

    def sent() -> list[tuple[str, bytes]]:
        upstream = reloads.configuration.configured.upstreams.get("mine")
        assert upstream is not None
        return [
            (one.name, dict(one.authenticators[Family.OPENAI].prepare(cast("Any", None)))[b"authorization"])
            for one in upstream.pool
        ]

    def healths() -> dict[str, object]:
        upstream = reloads.configuration.configured.upstreams.get("mine")
        assert upstream is not None
        return {one.name: one.health for one in upstream.pool}

    before = healths()
    assert sent() == [("main", b"Bearer sk-1"), ("spare", b"Bearer sk-2")]
    file.write_text("sk-new\n")
    assert await reloads.reload(providers=given) == (True, ())
    assert sent() == [("main", b"Bearer sk-new"), ("spare", b"Bearer sk-2")]
    assert healths()["spare"] is before["spare"]
    assert healths()["main"] is not before["main"]
    file.unlink()
    with pytest.raises(SettingsError):
        await reloads.reload(providers=given)
    assert sent()[0] == ("main", b"Bearer sk-new")


async def test_another_policy_of_attempts_is_used_and_keeps_its_counts() -> None:
    reloads = Reloads(providers={"one": ONE})
    retries = reloads.configuration.configured.retries
    retries.unmade = 3
    assert await reloads.reload(providers={"one": TWO}) == (True, ())
    assert reloads.configuration.configured.retries is retries
    assert await reloads.reload(providers={"one": TWO}, attempts={"budget": 0.5}) == (True, ())
    now = reloads.configuration.configured.retries
    assert (now.settings.budget, now.unmade) == (0.5, 3)
