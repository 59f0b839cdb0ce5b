"""Named credentials: their settings, their secrets, and the state of them that is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from services.gateway.attempts import Candidate
from services.gateway.credential_health import Healths, Verdict
from services.gateway.routing.authenticators import Fixed, Token
from services.gateway.routing.configured import upstreams
from services.gateway.routing.states import states
from services.gateway.routing.upstreams import Upstream
from services.gateway.settings import GatewaySettings
from services.gateway.upstream.tls import Files, client_context
from shared.contract.dialects import Family
from shared.contract.providers import Auth
from shared.runtime.errors import SettingsError
from shared.runtime.files import contents

ASKED = Candidate("p", "m", "", "POST", "https://p/v1", b"", [], b"", Fixed())


def configured(provider: str = "openai", healths: Healths | None = None, **given: Any) -> Upstream:
    [found] = upstreams(GatewaySettings.load(providers={provider: given}), healths, lambda: 50.0)
    return found


def sent(upstream: Upstream, family: Family = Family.OPENAI) -> dict[str, tuple[bytes, bytes]]:
    """The header of each credential."""
    return {one.name: one.authenticators[family].prepare(ASKED)[0] for one in upstream.pool}


def test_credentials_go_before_a_key_and_each_has_its_own_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n sk-2\n")
    credentials = [
        {"name": "main", "api_key": " sk-1 ", "weight": 2},
        {"name": "file", "api_key_file": str(tmp_path / "key")},
        {"name": "basic", "basic_auth": "me:pw"},
    ]
    found = configured(api_key="sk-0", credentials=credentials)
    assert sent(found) == {
        "main": (b"authorization", b"Bearer sk-1"),
        "file": (b"authorization", b"Bearer sk-2"),
        "basic": (b"authorization", b"Basic bWU6cHc="),
    }
    assert sent(found, Family.ANTHROPIC)["main"] == (b"x-api-key", b"sk-1")
    assert [one.weight for one in found.pool] == [2, 1, 1]
    assert "sk-" not in repr(found)


def test_a_credential_without_a_name_is_the_only_one() -> None:
    assert sent(configured(api_key="sk-0")) == {"": (b"authorization", b"Bearer sk-0")}


def test_a_credentials_file_is_for_google() -> None:
    named = [{"name": "one", "credentials_file": "/run/one.json"}, {"name": "key", "api_key": "AIza"}]
    found = configured("vertex", project="p", credentials=named)
    first, second = (one.authenticators[Family.GEMINI] for one in found.pool)
    assert isinstance(first, Token)
    assert (first.held.auth, first.held.file) == (Auth.GOOGLE, Path("/run/one.json"))
    assert second.prepare(ASKED) == ((b"x-goog-api-key", b"AIza"),)
    with pytest.raises(SettingsError, match="only google has a credentials_file"):
        configured(credentials=named)


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        ([{"name": "a", "api_key": "k"}, {"name": "a", "api_key": "l"}], "two credentials of one name"),
        ([{"name": "a"}], "needs one of api_key"),
        ([{"name": "a", "api_key": ""}], "needs one of api_key"),
        ([{"name": "a", "api_key": "secret-1", "basic_auth": "secret-2"}], "needs one of api_key"),
        ([{"name": "a b", "api_key": "secret-1"}], "letters, digits"),
        ([{"name": "", "api_key": "secret-1"}], "letters, digits"),
        ([{"name": "a", "api_key": "secret-1\u00e9"}], "printable ASCII"),
        ([{"name": "a", "api_key": "secret-1", "weight": -1}], "greater than or equal to 0"),
        ([{"name": "a", "api_key": "secret-1", "colour": 1}], "Extra inputs"),
    ],
)
def test_wrong_credentials_are_one_line_without_a_secret(credentials: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as error:
        configured(credentials=credentials)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"k" * (16 << 20) + b"!", "cannot be read: File too large"),
        (b" \n", "is empty"),
        (b"\xff", "no key"),
        (b"a\nb", "no key"),
    ],
)
def test_a_key_file_that_is_no_use_is_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError, match=said) as error:
        configured(credentials=[{"name": "main", "api_key_file": str(tmp_path / "key")}])
    assert str(error.value).startswith("AROUTER_PROVIDERS__OPENAI__CREDENTIALS: main: ")


def test_a_file_that_may_have_no_end_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for file in (pipe, Path("/dev/zero")):
        with pytest.raises(SettingsError, match=f"{file} cannot be read: Not a regular file"):
            configured(credentials=[{"name": "main", "api_key_file": str(file)}])
        with pytest.raises(OSError, match="Not a regular file"):
            client_context(Files(ca=file))
        assert contents([file]) == ("",)
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        configured(credentials=[{"name": "main", "api_key_file": str(tmp_path)}])


@pytest.mark.parametrize("pasted", ["sk-secret-1234", "~sk-secret-1234/x", "sk-secret\0", "sk-secret-" + "x" * 5000])
def test_a_key_in_the_place_of_its_file_is_not_repeated(pasted: str) -> None:
    with pytest.raises(SettingsError, match="CREDENTIALS: main: api_key_file") as error:
        configured(credentials=[{"name": "main", "api_key_file": pasted}])
    assert "secret" not in str(error.value)


def test_a_reload_keeps_what_is_known_of_credentials_that_stay() -> None:
    healths = Healths(lambda: 50.0)
    before = configured(healths=healths, credentials=[{"name": name, "api_key": name} for name in "abc"])
    for one in before.pool:
        one.health.end(Verdict.REFUSED, 60, 60, cause="401")
    changed = [{"name": "a", "api_key": "a"}, {"name": "b", "api_key": "new"}, {"name": "d", "api_key": "c"}]
    after = configured(healths=healths, credentials=changed)
    [state] = states([after], now=70.0, now_ms=1_000_000)
    assert [(one.name, one.health, one.since_ms, one.cause) for one in state.credentials] == [
        ("a", "out", 990_000, "401"),
        ("b", "healthy", 980_000, ""),
        ("d", "healthy", 980_000, ""),
    ]
    assert (state.name, "openai_chat" in state.dialects) == ("openai", True)
    assert (state.credentials[0].requests, state.credentials[0].failures) == (0, 1)


def test_who_may_name_an_account_is_not_trusted_with_a_401() -> None:
    assert configured(api_key="k").trusted
    assert configured(api_key="k", pass_headers="X-Forwarded-For").trusted
    assert not configured(api_key="k", pass_headers="OpenAI-Project").trusted
