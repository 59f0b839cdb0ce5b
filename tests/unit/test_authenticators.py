"""Credentials that expire: what requests get, where they come from, and how they are renewed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.gateway.attempts import Candidate
from services.gateway.credentials.renewal import Renewal
from services.gateway.credentials.sources import Fetched, sources
from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.authenticators import Fixed, Held, Signature, Token
from services.gateway.routing.configured import upstreams
from services.gateway.routing.sigv4 import Keys, Signer
from services.gateway.settings import GatewaySettings
from shared.contract.providers import Auth
from shared.runtime.errors import SettingsError, UpstreamUnreachable
from tests.support.tokens import TokenServer, service_account

HEADERS = [(b"x-amzn-bedrock-trace", b"ENABLED")]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without any keys of AWS's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return monkeypatch


def outgoing(body: bytes = b"{}") -> Candidate:
    return Candidate("bedrock", "m", "", "POST", "http://h/model/m/converse", b"", HEADERS, body, Fixed())


def fetched(provider: str, **given: Any) -> Any:
    """The credential of a provider's source."""
    settings = GatewaySettings(providers={provider: ProviderSettings.model_validate(given)})
    ((held, source),) = sources(upstreams(settings), settings)
    assert held.provider == provider
    return source()


class TestAuthenticators:
    def test_a_token_serves_to_its_end(self) -> None:
        now = [100.0]
        held: Held[str] = Held("vertex", Auth.GOOGLE, lambda: now[0])
        token = Token(held)
        with pytest.raises(UpstreamUnreachable) as refused:
            token.prepare(outgoing())
        assert refused.value.cause == "credential"
        held.keep("first", expires=160)
        assert token.prepare(outgoing()) == ((b"authorization", b"Bearer first"),)
        now[0] = 159
        assert token.prepare(outgoing()) == ((b"authorization", b"Bearer first"),)
        now[0] = 160
        with pytest.raises(UpstreamUnreachable):
            token.prepare(outgoing())

    def test_each_attempt_is_signed_anew_and_over_its_body(self) -> None:
        now = [1_000_000_000.0]
        held: Held[Keys] = Held("bedrock", Auth.AWS, lambda: now[0])
        held.keep(Keys("AKIA", "secret"), None)
        signature = Signature(held, Signer("eu-west-1", "bedrock"), lambda: now[0])
        first = signature.prepare(outgoing())
        assert signature.prepare(outgoing()) == first
        assert signature.prepare(outgoing(b"{ }")) != first
        now[0] += 1
        assert signature.prepare(outgoing()) != first
        held.keep(Keys("AKIA2", "other"), None)
        assert b"Credential=AKIA2/" in dict(signature.prepare(outgoing()))[b"authorization"]


class TestSources:
    def test_keys_in_variables_do_not_expire(self, aws: pytest.MonkeyPatch) -> None:
        aws.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        assert fetched("bedrock", region="eu-west-1") == Fetched(Keys("AKIA", "secret"), None)

    def test_keys_of_a_container_expire(self, aws: pytest.MonkeyPatch) -> None:
        with TokenServer() as server:
            aws.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/aws")
            keys, expires = fetched("bedrock", region="eu-west-1")
        assert keys == Keys("AKIA1", "secret", "session")
        assert 3000 < expires - time.time() <= 3600

    def test_a_role_of_a_service_account(self, aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("a token of Kubernetes")
        with TokenServer() as server:
            aws.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/tests")
            aws.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
            aws.setenv("AWS_ENDPOINT_URL_STS", server.url)
            keys, expires = fetched("bedrock", region="eu-west-1")
        assert keys == Keys("AKIA1", "secret", "session")
        assert 3000 < expires - time.time() <= 3600

    def test_instance_metadata(self, aws: pytest.MonkeyPatch) -> None:
        with TokenServer() as server:
            aws.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
            keys, expires = fetched("bedrock", region="eu-west-1")
        assert (keys.secret_key, keys.token) == ("secret", "session")
        assert 3000 < expires - time.time() <= 3600

    def test_a_profile(self, aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "shared").write_text("[mine]\naws_access_key_id = AKIA\naws_secret_access_key = s\n")
        aws.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "shared"))
        aws.setenv("AWS_PROFILE", "mine")
        assert fetched("bedrock", region="eu-west-1") == Fetched(Keys("AKIA", "s"), None)

    def test_no_keys_at_all(self, aws: pytest.MonkeyPatch) -> None:
        aws.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(LookupError, match="finds no keys"):
            fetched("bedrock", region="eu-west-1")

    def test_a_second_region_under_a_name_of_ones_own(self, aws: pytest.MonkeyPatch) -> None:
        aws.setenv("AWS_ACCESS_KEY_ID", "AKIA")
        aws.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        mine = ProviderSettings.model_validate({"base_url": "http://x", "region": "us-east-1", "auth": "aws"})
        settings = GatewaySettings(providers={"bedrock-us": mine})
        configured = upstreams(settings)
        ((held, source),) = sources(configured, settings)
        held.keep(*source())
        (upstream,) = configured
        for authenticator in upstream.authenticators.values():
            assert b"/us-east-1/bedrock/aws4_request" in dict(authenticator.prepare(outgoing()))[b"authorization"]

    def test_workload_identity_of_google(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("a token of Kubernetes")
        with TokenServer() as server:
            file = {
                "type": "external_account",
                "audience": "//iam.googleapis.com/locations/global/workloadIdentityPools/p/providers/q",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{server.url}/sts",
                "credential_source": {"file": str(tmp_path / "token")},
            }
            (tmp_path / "identity.json").write_text(json.dumps(file))
            token, expires = fetched("vertex", project="demo", credentials_file=tmp_path / "identity.json")
        assert token == "google-1"
        assert 3000 < expires - time.time() <= 3600

    def test_a_service_account(self, tmp_path: Path) -> None:
        with TokenServer() as server:
            token, expires = fetched(
                "vertex", project="demo", credentials_file=service_account(tmp_path, f"{server.url}/token")
            )
        assert token == "google-1"
        assert 3000 < expires - time.time() <= 3600

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (None, "No such file or directory"),
            ("no JSON", "it holds no credentials of Google's"),
            ("[]", "it holds no credentials of Google's"),
            ('{"type": "service_account"}', "it holds no credentials of Google's"),
        ],
    )
    def test_a_bad_file_is_one_line(self, tmp_path: Path, text: str | None, why: str) -> None:
        file = tmp_path / "account.json"
        if text is not None:
            file.write_text(text)
        with pytest.raises(SettingsError) as failed:
            fetched("vertex", project="demo", credentials_file=file)
        assert str(failed.value) == f"AROUTER_PROVIDERS__VERTEX__CREDENTIALS_FILE: cannot be used: {why}"

    def test_google_metadata_server(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))  # no login of this machine
        with TokenServer() as server:
            monkeypatch.setenv("GCE_METADATA_HOST", server.place)
            monkeypatch.setenv("GCE_METADATA_IP", server.place)
            token, expires = fetched("vertex", project="demo")
        assert token.startswith("google-")
        assert 3000 < expires - time.time() <= 3600

    def test_azure_managed_identity(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
            monkeypatch.delenv(name, raising=False)
        with TokenServer() as server:
            monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/azure")
            monkeypatch.setenv("IDENTITY_HEADER", "x")
            token, expires = fetched("azure", base_url="https://mine.openai.azure.com", auth="entra")
            assert "resource=https" in server.asked[0]
        assert token == "azure-1"
        assert 3000 < expires - time.time() <= 3600

    def test_a_variable_of_azures_that_means_nothing_stops_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
            monkeypatch.setenv(name, "")
        with pytest.raises(SettingsError, match=r"^Azure's default credential cannot be used: client_id should be"):
            fetched("azure", base_url="https://mine.openai.azure.com", auth="entra")

    def test_a_key_needs_no_source(self) -> None:
        bedrock = ProviderSettings.model_validate({"region": "eu-west-1", "api_key": "k"})
        settings = GatewaySettings(providers={"bedrock": bedrock})
        configured = upstreams(settings)
        assert sources(configured, settings) == []
        upstream = configured.get("bedrock")
        assert upstream is not None
        assert all(one.prepare(outgoing())[0][1].endswith(b"k") for one in upstream.authenticators.values())

    @pytest.mark.parametrize(
        ("provider", "given", "extra"),
        [
            ("bedrock", {"region": "eu-west-1"}, "aws"),
            ("vertex", {"project": "p"}, "gcp"),
            ("azure", {"base_url": "https://x", "auth": "entra"}, "azure"),
        ],
    )
    def test_a_missing_extra_is_one_line(self, provider: str, given: dict[str, str], extra: str) -> None:
        settings = GatewaySettings(providers={provider: ProviderSettings.model_validate(given)})

        def missing(name: str) -> Any:
            raise ModuleNotFoundError(name)

        with pytest.raises(SettingsError) as failed:
            sources(upstreams(settings), settings, missing)
        assert str(failed.value) == f"provider '{provider}' needs the extra '{extra}': pip install 'arouter[{extra}]'"


class Played:
    """A source that a test plays."""

    def __init__(self, *answers: Fetched | Exception) -> None:
        self._answers = list(answers)
        self.asked = threading.Semaphore(0)

    def __call__(self) -> Fetched:
        self.asked.release()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestRenewal:
    async def test_the_first_one_is_here_before_the_start_is_over(self) -> None:
        held: Held[str] = Held("vertex", Auth.GOOGLE)
        renewal = Renewal([(held, Played(Fetched("first", None)))])
        await renewal.start()
        assert held.get() == "first"
        renewal.stop()

    async def test_it_is_renewed_ahead_of_its_expiry(self) -> None:
        held: Held[str] = Held("vertex", Auth.GOOGLE)
        now = time.time()
        source = Played(Fetched("first", now + 241), Fetched("second", None))
        renewal = Renewal([(held, source)], retry=0.01, ahead=240.5)
        await renewal.start()
        until(lambda: held.get() == "second")
        renewal.stop()

    async def test_one_that_fails_keeps_the_old_one_and_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        held: Held[str] = Held("vertex", Auth.GOOGLE)
        source = Played(
            Fetched("first", time.time() + 500),
            OSError("the server is away\nwith a secret"),
            Fetched("second", None),
        )
        renewal = Renewal([(held, source)], retry=0.01, ahead=499.99)
        await renewal.start()
        until(lambda: held.get() == "second")  # get never fails in between
        renewal.stop()
        assert "provider vertex: no new credential (google): OSError: the server is away; the old one serves for" in (
            caplog.text
        )
        assert "secret" not in caplog.text

    async def test_one_that_cannot_be_fetched_stops_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        held: Held[str] = Held("vertex", Auth.GOOGLE)
        source = Played(OSError("away"), Fetched("late", None))
        renewal = Renewal([(held, source)], retry=0.01)
        await renewal.start()
        until(lambda: held.remaining is None)
        assert held.get() == "late"
        assert "its requests get 502" in caplog.text

    async def test_a_server_that_hangs_delays_the_start_no_longer_than_that(self) -> None:
        hanging = threading.Event()

        def hang() -> Fetched:
            hanging.wait(60)
            return Fetched("late", None)

        held: Held[str] = Held("vertex", Auth.GOOGLE)
        renewal = Renewal([(held, hang)])
        await renewal.start(timeout=0.01)
        with pytest.raises(UpstreamUnreachable):
            held.get()
        hanging.set()
        until(lambda: held.remaining is None)
