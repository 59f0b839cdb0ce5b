import tomllib
from pathlib import Path

import pytest

from services.cli import settings_example
from services.cli.serving import SETTINGS
from services.control.settings import ControlSettings
from services.gateway.provider_settings import ProviderSettings
from services.gateway.settings import GatewaySettings
from services.meter.settings import MeterSettings
from shared.runtime.errors import SettingsError
from shared.runtime.settings import Settings, old_variables, unknown_variables


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "AROUTER_CONFIG",
        "REDIS_URL",
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
    ):
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
        ("AROUTER_PROVIDERS__OPENAI__PASS_HEADERS", "authorization"),
        ("AROUTER_PROVIDERS__OPENAI__PASS_HEADERS", "openai-project, host"),
        ("AROUTER_PROVIDERS__V1__BASE_URL", "http://x/v1"),
        ("AROUTER_PROVIDERS__V2__BASE_URL", "http://x/v1"),
        ("AROUTER_PROVIDERS__V1ALPHA2__BASE_URL", "http://x/v1"),
        ("AROUTER_PROVIDERS__API__BASE_URL", "http://x/v1"),
        ("AROUTER_PROVIDERS__READYZ__BASE_URL", "http://x/v1"),
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
        ("AROUTER_BASE_PATH", "llm"),
        ("AROUTER_BASE_PATH", "/llm?x"),
        ("AROUTER_BASE_PATH", "/v1"),
        ("AROUTER_BASE_PATH", "/api/llm"),
        ("AROUTER_HTTPS_PROXY", "http://sk-secret-word@proxy/path"),
        ("AROUTER_PROVIDERS__OPENAI__PROXY", "socks5://u:sk-secret-word@proxy:3128"),
        ("AROUTER_PROVIDERS__OPENAI__BASE_URL", "ftp://u:sk-secret-word@x"),
        ("AROUTER_PROVIDERS__OPENAI__BASE_URL", "http://u:sk-secret-word@"),
        ("AROUTER_PROVIDERS__OPENAI__CLIENT_KEY", "/a/key/and/no/certificate"),
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


@pytest.mark.parametrize(("value", "path"), [("", ""), ("/", ""), ("/llm", "/llm"), ("/a/b.c/", "/a/b.c")])
def test_a_base_path(monkeypatch: pytest.MonkeyPatch, value: str, path: str) -> None:
    monkeypatch.setenv("AROUTER_BASE_PATH", value)
    assert GatewaySettings.load().base_path == path


def test_a_base_path_must_not_hide_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_BASE_PATH", "/vllm/x")
    GatewaySettings.load()
    monkeypatch.setenv("AROUTER_PROVIDERS__VLLM__BASE_URL", "http://x")
    with pytest.raises(SettingsError, match="AROUTER_BASE_PATH"):
        GatewaySettings.load()


@pytest.mark.parametrize(
    ("url", "base", "user"),
    [
        ("http://user:sk-secret%40word@ollama:11434/v1", "http://ollama:11434/v1", "user:sk-secret@word"),
        ("https://user:sk-secret@word@x/", "https://x", "user:sk-secret@word"),
        ("https://sk-secret@x/a@b", "https://x/a@b", "sk-secret"),
        ("https://x/a@b", "https://x/a@b", None),
    ],
)
def test_the_user_of_a_base_url_is_kept_apart(
    monkeypatch: pytest.MonkeyPatch, url: str, base: str, user: str | None
) -> None:
    monkeypatch.setenv("AROUTER_PROVIDERS__MINE__BASE_URL", url)
    settings = GatewaySettings.load()
    mine = settings.providers["mine"]
    assert mine.base_url == base
    assert (mine.basic_auth and mine.basic_auth.get_secret_value()) == user
    assert "sk-secret" not in repr(settings) + settings.model_dump_json()


def test_a_user_and_a_key_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setenv("AROUTER_PROVIDERS__OPENAI__BASE_URL", "https://u:sk-secret-word@x/v1")
    with pytest.raises(SettingsError, match="an API key and a user:password; only one") as error:
        GatewaySettings.load()
    assert "sk-secret" not in str(error.value)


def test_an_empty_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_UPSTREAM_PROXY", "")
    assert GatewaySettings.load().upstream_proxy is None


def test_a_file_that_is_not_toml_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text("shards = = 3")
    with pytest.raises(SettingsError, match=r"^arouter\.toml: .*$"):
        Settings.load()


def test_misspelt_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_SHRADS", "3")
    monkeypatch.setenv("AROUTER_SHARDS", "3")
    monkeypatch.setenv("AROUTER_PROVIDERS__X__BASE_URL", "http://x")
    monkeypatch.setenv("AROUTER_LEDGER_KEEP", "7200")
    assert unknown_variables(GatewaySettings, MeterSettings) == ["AROUTER_SHRADS"]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (
            "groq/llama",
            "AROUTER_ROUTES: route 'fast': provider 'groq' of its candidate 'groq/llama' is not",
        ),
        ("misspelt/x", "provider 'misspelt' of its candidate 'misspelt/x' is not configured"),
        ("", "AROUTER_ROUTES__FAST__CANDIDATES: a route needs at least one candidate"),
        ("[]", "a route needs at least one candidate"),
        (",".join(f"openai/m{number}" for number in range(17)), "a route has at most 16 candidates"),
        ("openai/a, openai/a", "'openai/a' is there twice"),
        ("gpt-4o", "its candidate 'gpt-4o' is not of the form provider/model"),
        ("openai/", "its candidate 'openai/' is not of the form provider/model"),
        ("fast", "its candidate 'fast' is a route, and a route leads to models alone"),
        ("other", "its candidate 'other' is a route"),
        ('{"model": "openai/a"}', "must be a list of models"),
        ("[5]", "5 is neither a model, provider/model, nor a table with model and weight"),
        (
            '[{"model": "openai/a", "weight": -1}]',
            "AROUTER_ROUTES__FAST__CANDIDATES__0__WEIGHT: Input should be greater",
        ),
        (
            '[{"model": "openai/a", "weight": 1e308}]',
            "AROUTER_ROUTES__FAST__CANDIDATES__0__WEIGHT: Input should be less",
        ),
        ('[{"weight": 1}]', "AROUTER_ROUTES__FAST__CANDIDATES__0__MODEL: Field required"),
        ('[{"model": "openai/a", "wait": 1}]', "AROUTER_ROUTES__FAST__CANDIDATES__0__WAIT: Extra inputs are not"),
    ],
)
def test_a_route_that_leads_nowhere_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, candidates: str, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    monkeypatch.setenv("AROUTER_ROUTES__OTHER__CANDIDATES", "openai/x")
    monkeypatch.setenv("AROUTER_ROUTES__FAST__CANDIDATES", candidates)
    with pytest.raises(SettingsError) as error:
        GatewaySettings.load()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["openai/x", "/x", "", "a b", "é", "-x", "x" * 257])
def test_a_name_that_no_route_can_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    (tmp_path / "arouter.toml").write_text(f'[routes."{name}"]\ncandidates = ["openai/gpt-4o"]\n')
    with pytest.raises(SettingsError, match="cannot be a route's name"):
        GatewaySettings.load()


def test_routes_come_from_the_environment_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    (tmp_path / "arouter.toml").write_text(
        '[routes."anthropic.claude-v2:1"]\ncandidates = ["openai/a"]\n'
        "[routes.new]\n"
        'candidates = [{ model = "openai/a", weight = 9 }, { model = "openai/b", weight = 0.5 }, "openai/c"]\n'
    )
    monkeypatch.setenv("AROUTER_ROUTES__FAST__CANDIDATES", "openai/a , openai/b")
    monkeypatch.setenv("AROUTER_ROUTES__DRAWN__CANDIDATES", '[{"model": "openai/a", "weight": 2}, "openai/b"]')
    routes = GatewaySettings.load().routes
    found = {name: [(one.model, one.weight) for one in route.candidates] for name, route in routes.items()}
    assert found == {
        "anthropic.claude-v2:1": [("openai/a", 0)],
        "new": [("openai/a", 9), ("openai/b", 0.5), ("openai/c", 0)],
        "fast": [("openai/a", 0), ("openai/b", 0)],
        "drawn": [("openai/a", 2), ("openai/b", 0)],
    }


def test_the_example_is_up_to_date_and_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = (Path(__file__).parents[2] / settings_example.PATH).read_text()
    assert example == settings_example.render(), "run: .venv/bin/python -m services.cli.settings_example"
    assert tomllib.loads(example) == {}, "nothing is in force before it is uncommented"
    file = tmp_path / "all.toml"
    file.write_text(settings_example.uncommented(example))
    monkeypatch.setenv("AROUTER_CONFIG", str(file))
    gateway, meter, control = GatewaySettings.load(), MeterSettings.load(), ControlSettings.load()
    assert set(gateway.providers) == {"openai", "anthropic", "mistral", "bedrock", "vertex", "vllm"}
    assert [one.weight for one in gateway.routes["claude"].candidates] == [9, 1]
    assert (gateway.port, meter.shards, control.control_port) == (8080, 16, 8081)
    assert unknown_variables(*SETTINGS) == []
    fields = {name for service in SETTINGS for name in service.model_fields}
    assert fields == set(tomllib.loads(file.read_text())), "every setting is in it"


def test_another_file_is_read_in_place_of_the_usual_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text("shards = 8\nmisspelt = 1\n")
    (tmp_path / "other.toml").write_text("port = 1234\nunheard_of = 1\n")
    monkeypatch.setenv("AROUTER_CONFIG", "other.toml")
    settings = GatewaySettings.load()
    assert (settings.shards, settings.port) == (16, 1234)
    assert unknown_variables(*SETTINGS) == ["AROUTER_UNHEARD_OF"]


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("AROUTER_CONFIG", str(tmp_path / name))
    with pytest.raises(SettingsError, match=r"^AROUTER_CONFIG: there is no file .*$"):
        Settings.load()


def test_a_key_may_be_restricted_to_the_providers_that_are_named_or_configured() -> None:
    configured = frozenset({"openai"})
    assert ControlSettings().provider_names(configured) == configured
    named = ControlSettings(control_providers=" groq,vllm, ")
    assert named.provider_names(configured) == {"groq", "vllm"}


def test_old_names_still_work_and_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text(
        "drain_bytes = 5\ndrain_streams = 6\n[providers.groq]\non_disconnect = 'drain'\n"
    )
    monkeypatch.setenv("AROUTER_DRAIN_SECONDS", "7")
    monkeypatch.setenv("AROUTER_READ_ON_STREAMS", "8")  # the present name goes before the old one
    monkeypatch.setenv("AROUTER_PROVIDERS__GROQ__API_KEY", "x")
    monkeypatch.setenv("AROUTER_PROVIDERS__XAI__ON_DISCONNECT", "read_on")
    settings = GatewaySettings.load()
    assert (settings.read_on_seconds, settings.read_on_bytes, settings.read_on_streams) == (7, 5, 8)
    assert settings.providers["groq"].reads_on
    assert settings.providers["xai"].reads_on
    assert not ProviderSettings().reads_on
    assert unknown_variables(*SETTINGS) == []
    assert old_variables(*SETTINGS) == {
        f"AROUTER_DRAIN_{what}": f"AROUTER_READ_ON_{what}" for what in ("SECONDS", "BYTES", "STREAMS")
    }
    assert settings.old_values() == {
        "AROUTER_PROVIDERS__GROQ__ON_DISCONNECT=drain": "AROUTER_PROVIDERS__GROQ__ON_DISCONNECT=read_on"
    }


def test_a_wrong_value_under_an_old_name_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AROUTER_DRAIN_SECONDS", "soon")
    with pytest.raises(SettingsError, match=r"^AROUTER_READ_ON_SECONDS: .*$"):
        GatewaySettings.load()


CLOUD_VARIABLES = ("AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION", "AWS_DEFAULT_REGION", "AZURE_OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[providers.bedrock]\napi_key = "k"', "provider 'bedrock' needs AROUTER_PROVIDERS__BEDROCK__REGION"),
        ('[providers.vertex]\nlocation = "eu"', "provider 'vertex' needs AROUTER_PROVIDERS__VERTEX__PROJECT"),
        ('[providers.mine]\nauth = "aws"\nbase_url = "http://x"', "needs AROUTER_PROVIDERS__MINE__REGION"),
        ('[providers.bedrock]\nregion = "eu/../west"', "letters, digits and hyphens"),
        ('[providers.azure]\nbase_url = "http://x"\nauth = "entra"\napi_key = "k"', "only one of them"),
        ('[providers.azure]\nbase_url = "http://x"\nauth = "kerberos"', "PROVIDERS__AZURE__AUTH"),
    ],
)
def test_a_cloud_needs_its_place_and_one_credential(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: str, said: str
) -> None:
    for name in CLOUD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "arouter.toml").write_text(lines)
    with pytest.raises(SettingsError, match=said):
        GatewaySettings.load()


def test_places_come_from_the_sdks_variables_beside_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLOUD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "bedrock" not in GatewaySettings.load().providers  # many machines have a region
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key")
    bedrock = GatewaySettings.load().providers["bedrock"]
    assert (bedrock.region, bedrock.on) == ("eu-west-1", True)
    assert "bedrock-api-key" not in repr(bedrock)


def test_a_base_url_without_a_place_stays_a_provider_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "arouter.toml").write_text('[providers.vertex]\nbase_url = "http://x/v1"\napi_key = "k"')
    assert GatewaySettings.load().providers["vertex"].on
