from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings, unknown_variables


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text(
        'shards = 8\nport = 1234\nredis_url = "redis://file"\n'
        '[providers.groq]\napi_key = "from-file"\nask_usage = true\n'
    )
    monkeypatch.setenv("AROUTER_PORT", "4321")
    monkeypatch.setenv("AROUTER_PROVIDERS__GROQ__API_KEY", "from-environment")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    settings = GatewaySettings.load()
    assert (settings.shards, settings.port) == (8, 4321)
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://file"
    groq, openai = settings.providers["groq"], settings.providers["openai"]
    assert groq.api_key is not None
    assert openai.api_key is not None
    assert (groq.api_key.get_secret_value(), groq.ask_usage) == ("from-environment", True)
    assert openai.api_key.get_secret_value() == "sk-usual"


def test_our_own_names_go_before_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    monkeypatch.setenv("AROUTER_PROVIDERS__OPENAI__API_KEY", "sk-ours")
    monkeypatch.setenv("REDIS_URL", "redis://there")
    settings = GatewaySettings.load()
    key = settings.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-ours"
    assert "sk-ours" not in repr(settings)
    assert "there" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AROUTER_SHARDS", "none"),
        ("AROUTER_SHARDS", "0"),
        ("AROUTER_PORT", "99999"),
        ("AROUTER_KEY_PEPPER", "short"),
        ("AROUTER_LOG_LEVEL", "loud"),
        ("AROUTER_PROVIDERS__OPENAI__BASE_URL", "ftp://x"),
        ("AROUTER_PROVIDERS__OPENAI__ON_DISCONNECT", "explode"),
        ("AROUTER_PROVIDERS__OPENAI__DIALECTS", "klingon"),
        ("AROUTER_PROVIDERS__OPENAI__API_KEYS", "sk-secret-typo"),
        ("AROUTER_PROVIDERS__MINE__API_KEY", "sk-secret-typo"),
        ("AROUTER_PROVIDERS", "{not json"),
        ("AROUTER_UPSTREAM_PROXY", "proxy:3128"),
        ("AROUTER_UPSTREAM_PROXY", "socks5://u:sk-secret-word@proxy:3128"),
        ("AROUTER_UPSTREAM_PROXY", "http://u:sk-secret-word@proxy:99999"),
        ("AROUTER_UPSTREAM_PROXY", "http://u:sk-secret-word@proxy:0"),
        ("AROUTER_UPSTREAM_PROXY", "http://u:sk-secret-word@"),
        ("AROUTER_UPSTREAM_PROXY", "http://u:sk-secret@word@proxy"),
        ("AROUTER_UPSTREAM_PROXY", "http://sk-secret-word@proxy/path"),
        ("AROUTER_UPSTREAM_PROXY", "http://[::g]:3128"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        GatewaySettings.load()
    message = str(error.value)
    assert "\n" not in message
    assert variable.split("__", maxsplit=1)[0].removeprefix("AROUTER_").lower() in message.lower()
    assert "sk-secret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy",
        "https://proxy:3128/",
        "http://user:sk-secret%40word@10.0.0.1:3128",
        "http://:sk-secret@proxy.example",
        "http://[::1]:3128",
    ],
)
def test_a_proxy_is_kept_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AROUTER_UPSTREAM_PROXY", url)
    settings = GatewaySettings.load()
    assert settings.upstream_proxy is not None
    assert settings.upstream_proxy.get_secret_value() == url
    assert "sk-secret" not in repr(settings) + settings.model_dump_json()


def test_an_empty_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_UPSTREAM_PROXY", "")
    assert GatewaySettings.load().upstream_proxy is None


def test_a_file_that_is_no_toml_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text("shards = = 3")
    with pytest.raises(SettingsError) as error:
        Settings.load()
    assert "\n" not in str(error.value)


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_SHRADS", "3")
    monkeypatch.setenv("AROUTER_SHARDS", "3")
    monkeypatch.setenv("AROUTER_PROVIDERS__X__BASE_URL", "http://x")
    monkeypatch.setenv("AROUTER_LEDGER_KEEP", "7200")
    assert unknown_variables(GatewaySettings, MeterSettings) == ["AROUTER_SHRADS"]
