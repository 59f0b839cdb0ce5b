"""Which proxy a provider is reached by: a table, and the variables it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.gateway.settings import GatewaySettings
from services.gateway.upstream.connection import Origin
from services.gateway.upstream.proxies import bypasses, proxy_of
from shared.runtime.errors import SettingsError

HTTP: Origin = ("http", "vllm.internal", 8000)
HTTPS: Origin = ("https", "api.example.com", 443)


@pytest.mark.parametrize(
    ("no_proxy", "host", "expected"),
    [
        ("", "api.example.com", False),
        (" , ", "api.example.com", False),
        ("*", "api.example.com", True),
        ("example.com", "api.example.com", True),
        ("example.com", "example.com", True),
        (".example.com", "api.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "api.example.com", True),
        ("EXAMPLE.com", "Api.Example.COM", True),
        ("example.com.", "api.example.com", True),
        ("example.com", "api.example.com.", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil.org", False),
        ("a.org,example.com", "api.example.com", True),
        ("a.org  example.com", "api.example.com", True),
        ("example.com:443", "api.example.com", True),
        ("example.com:80", "api.example.com", False),
        (".", "api.example.com", False),
        ("localhost", "localhost", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.10", False),
        ("0.0.1", "127.0.0.1", False),
        ("10.0.0.0/8", "10.2.3.4", True),
        ("10.0.0.0/8", "11.2.3.4", False),
        ("10.0.0.0/8", "ten.example", False),
        ("127.0.0.1:443", "127.0.0.1", True),
        ("127.0.0.1:444", "127.0.0.1", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("[::1]:443", "::1", True),
        ("[::1]:444", "::1", False),
        ("fd00::/8", "fd00::5", True),
        ("fd00::/8", "10.0.0.1", False),
    ],
)
def test_hosts_without_a_proxy(no_proxy: str, host: str, expected: bool) -> None:
    assert bypasses(no_proxy, host, 443) is expected


def settings(**values: Any) -> GatewaySettings:
    own = values.pop("own", None)
    provider = {"base_url": "http://vllm.internal:8000/v1"} | ({"proxy": own} if own else {})
    return GatewaySettings.model_validate({"providers": {"vllm": provider}, **values})


@pytest.mark.parametrize(
    ("values", "http", "https"),
    [
        ({}, None, None),
        ({"upstream_proxy": "http://all"}, "http://all", "http://all"),
        ({"http_proxy": "http://plain", "https_proxy": "http://tls"}, "http://plain", "http://tls"),
        ({"upstream_proxy": "http://all", "https_proxy": "http://tls"}, "http://all", "http://all"),
        ({"upstream_proxy": "http://all", "no_proxy": ".internal"}, None, "http://all"),
        ({"https_proxy": "http://tls", "no_proxy": "*"}, None, None),
        ({"upstream_proxy": "http://all", "own": "off"}, None, None),
        ({"upstream_proxy": "http://all", "own": "http://own"}, "http://own", "http://own"),
        ({"no_proxy": "*", "own": "http://own"}, "http://own", "http://own"),
    ],
)
def test_the_proxy_of_a_provider(values: dict[str, Any], http: str | None, https: str | None) -> None:
    made = settings(**values)
    assert (proxy_of(made, "vllm", HTTP), proxy_of(made, "vllm", HTTPS)) == (http, https)


@pytest.mark.parametrize(
    ("environment", "http", "https", "no_proxy"),
    [
        ({"HTTP_PROXY": "http://plain"}, "http://plain", None, ""),
        ({"https_proxy": "http://tls", "NO_PROXY": "a, b"}, None, "http://tls", "a, b"),
        ({"ALL_PROXY": "http://all", "HTTPS_PROXY": "http://tls"}, "http://all", "http://tls", ""),
        ({"https_proxy": "http://lower", "HTTPS_PROXY": "http://upper"}, None, "http://lower", ""),
        ({"HTTPS_PROXY": "proxy:3128"}, None, "http://proxy:3128", ""),
        ({"HTTPS_PROXY": "", "NO_PROXY": ""}, None, None, ""),
        ({"HTTPS_PROXY": "http://tls", "AROUTER_HTTPS_PROXY": "http://ours"}, None, "http://ours", ""),
        ({"NO_PROXY": "theirs", "AROUTER_NO_PROXY": "ours"}, None, None, "ours"),
    ],
)
def test_variables_that_other_programs_read(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    http: str | None,
    https: str | None,
    no_proxy: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = GatewaySettings.load()
    shown = [url and url.get_secret_value() for url in (made.http_proxy, made.https_proxy)]
    assert (*shown, made.no_proxy) == (http, https, no_proxy)


def test_a_proxy_that_is_not_spoken_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALL_PROXY", "socks5://user:s3cret@proxy:1080")
    with pytest.raises(SettingsError, match=r"HTTP_PROXY.* http:// or https:// URL of a proxy") as error:
        GatewaySettings.load()
    assert "s3cret" not in str(error.value)
