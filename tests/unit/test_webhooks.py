"""Webhooks without a network: signatures, settings, and which message is made of what."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from services.cli.main import parse
from services.sinks.settings import SinkSettings
from services.sinks.webhooks import messages, signing
from services.sinks.webhooks.settings import WebhookSettings
from shared.books.ledger import LedgerEntry
from shared.contract.events import Event, EventType, event_id
from shared.contract.ids import ExchangeId
from shared.runtime.errors import SettingsError
from tests.support.entries import entry

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b" * 44
URL = "https://hooks.example.com/in/to-ken"
ID = ExchangeId("01K0000000000000000000G01D", 0, 7)


def webhook(**given: Any) -> WebhookSettings:
    return WebhookSettings(**{"url": URL, "secret": SECRET, **given})


def settled(revision: int = 1, *, final: bool = True, repriced: bool = False, **fields: Any) -> LedgerEntry:
    what = entry(ID, **fields)
    return LedgerEntry(0, "1700000000123-0", str(ID), revision, final, what, {}, None, repriced)


def test_a_signature_is_the_published_one() -> None:
    """The vector of the specification's own libraries."""
    body = b'{"test": 2432232314}'
    headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, webhook().keys)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_each_of_several_secrets_verifies() -> None:
    body = '{"type":"key.created","data":{"name":"Zoë"}}'.encode()
    headers = signing.headers("evt_1", int(time.time()), body, webhook(secret=f"{SECRET} {OTHER}").keys)
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers)["type"] == "key.created"


def test_a_webhook_is_called_by_its_host_and_gets_everything() -> None:
    found = webhook()
    assert (found.name, found.events, found.sample) == ("hooks.example.com", tuple(EventType), 1)
    assert "to-ken" not in repr(found)
    assert "MfKQ9r8GKYqr" not in repr(found)


# Most of them are taken by urllib, whose error quotes the first one; HTTP libraries fall over each in a way of its own.
ODD = [
    "http://user:to-ken@ex\u2100mple.com/",
    "http://[::1/to-ken",
    "http://h:99999/to-ken",
    "http://h:to-ken/",
    "http://h ost/to-ken",
    "http://a..b/to-ken",
    f"http://{'a' * 64}/to-ken",
    "http://h/to-ken\n",
    "http:///to-ken",
]


@pytest.mark.parametrize("url", [*ODD, "ftp://x/to-ken"])
def test_a_collector_has_a_url_of_the_web(url: str) -> None:
    with pytest.raises(SettingsError, match="https:// or http:// URL") as caught:
        SinkSettings.load(otlp_endpoint=url)
    assert "to-ken" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "ftp://x/to-ken"}, "https:// or http:// URL"),
        ({"url": "/to-ken"}, "name|URL"),
        *(({"url": url, **named}, "https:// or http:// URL") for url in ODD for named in ({}, {"name": "n"})),
        ({"secret": "whsec_dG8ta2Vu"}, "24 to 64 bytes"),
        ({"secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "must be whsec_"),
        ({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa??"}, "base64"),
        ({"secret": ""}, "must not be empty"),
        ({"secret": None}, "needs one of secret, secret_file"),
        ({"secret_file": "/x"}, "needs one of secret, secret_file"),
        ({"name": "a b"}, "letters, digits"),
        ({"events": ["exchange.eaten"]}, "exchange.booked"),
        ({"sample": 1.5}, "less than or equal to 1"),
        ({"colour": "green"}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_said_without_the_secret(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        webhook(**given)
    assert "to-ken" not in str(caught.value)
    assert "MfKQ9r8GKYqr" not in str(caught.value)


def test_two_webhooks_of_one_host_need_names() -> None:
    with pytest.raises(SettingsError, match=r"AROUTER_WEBHOOKS: .*'hooks\.example\.com'"):
        SinkSettings.load(webhooks=[{"url": URL, "secret": SECRET}] * 2)
    both = SinkSettings.load(webhooks=[{"url": URL, "secret": SECRET}, {"url": URL, "secret": SECRET, "name": "b"}])
    assert [one.name for one in both.webhooks] == ["hooks.example.com", "b"]


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{OTHER}\n")
    found = webhook(secret=None, secret_file=file)
    assert found.keys == webhook(secret=f"{SECRET} {OTHER}").keys
    for wrong in ("nothing of the kind", "", "é"):
        file.write_text(wrong)
        with pytest.raises(SettingsError, match=r"secret_file of 'hooks\.example\.com': holds no secret"):
            _ = found.keys
    file.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        _ = found.keys


def test_what_is_delivered_twice_has_the_same_id_and_each_revision_its_own() -> None:
    [first], [again], [second] = (list(messages.of_entry(webhook(), settled(n))) for n in (1, 1, 2))
    assert first == again
    assert first.id != second.id
    assert "." not in first.id, "signatures put a full stop behind it"


def test_an_exchange_is_told_in_figures_and_names() -> None:
    what = settled(2, input_tokens=None, cost_nanousd=1_500, error="the request said: my diary", client_address="::1")
    [message] = messages.of_entry(webhook(events=["exchange.booked"]), what)
    said = json.loads(message.body)
    assert (said["type"], said["timestamp"]) == ("exchange.booked", "2023-11-14T22:13:20.123+00:00")
    assert said["data"]["input_tokens"] is None, "unknown, and not 0"
    assert (said["data"]["cost_nanousd"], said["data"]["revision"], said["data"]["final"]) == (1_500, 2, True)
    assert b"diary" not in message.body
    assert b"::1" not in message.body


@pytest.mark.parametrize(
    ("events", "drift", "repriced", "expected"),
    [
        (tuple(EventType), False, False, ["exchange.booked"]),
        (tuple(EventType), True, False, ["exchange.booked", "usage.drift"]),
        (tuple(EventType), True, True, ["exchange.booked"]),  # another price is no other drift
        (["usage.drift"], True, False, ["usage.drift"]),
        (["key.created"], True, False, []),
    ],
)
def test_a_webhook_gets_what_it_wants(events: Any, drift: bool, repriced: bool, expected: list[str]) -> None:
    found = messages.of_entry(webhook(events=events), settled(drift=drift, repriced=repriced))
    assert [message.type for message in found] == expected


def test_a_sample_holds_the_same_exchanges_every_time() -> None:
    ids = [str(ExchangeId(ID.boot, 0, n)) for n in range(2000)]
    tenth = {id for id in ids if messages.sampled(id, 0.1)}
    assert 120 < len(tenth) < 280
    assert tenth < {id for id in ids if messages.sampled(id, 0.5)}
    assert [id for id in ids if messages.sampled(id, 0)] == []
    assert [id for id in ids if messages.sampled(id, 1)] == ids


def test_an_event_is_sent_on_as_it_is() -> None:
    event = Event(event_id("budget.threshold", "a"), "budget.threshold", 1_700_000_000_000, {"percent": 80})
    [message] = messages.of_event(webhook(), event)
    assert json.loads(message.body)["data"] == {"percent": 80}
    assert message.id == event.id
    assert list(messages.of_event(webhook(events=["key.created"]), event)) == []
    later = Event("evt_1", "word.of.a.later.version", 0, {})
    assert list(messages.of_event(webhook(), later)) == []


def test_a_new_secret_is_one_that_webhooks_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["webhooks", "secret"]).run(None) == 0
    [key] = webhook(secret=capsys.readouterr().out.strip()).keys
    assert len(key) == 32


@pytest.mark.parametrize("arguments", [["resend", "mine"], ["resend", "mine", "evt_0", "--all"]])
def test_it_is_said_which_letters_are_sent_again(arguments: list[str]) -> None:
    given = parse(["webhooks", *arguments])
    with pytest.raises(SettingsError, match="needs ids, or --all"):
        given.run(given)


def test_a_follower_alone_needs_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AROUTER_WEBHOOKS", raising=False)
    given = parse(["follow", "webhook"])
    with pytest.raises(SettingsError, match="AROUTER_WEBHOOKS: the follower webhook needs it"):
        given.run(given)
