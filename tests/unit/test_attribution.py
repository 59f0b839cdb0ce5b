"""Who asks: what is taken from headers and bodies, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.client.attribution import Attributing, Attribution, ClientAddress, header_names, networks
from services.gateway.client.flags import read_flags
from services.gateway.settings import GatewaySettings

DEFAULT = GatewaySettings().attributing
ACCOUNT, DEVICE, SESSION = "de007568-0000-4000-8000-000000000001", "18ab", "d644b5c1-0000-4000-8000-000000000002"
CLAUDE_CODE = json.dumps({"device_id": DEVICE, "account_uuid": ACCOUNT, "session_id": SESSION})
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def asker(headers: dict[str, str | bytes], said: str = "", attributing: Attributing = DEFAULT) -> dict[str, Any]:
    """What is found, without what is empty and without the address."""
    given = {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in headers.items()}
    found = attributing.of(given, "192.0.2.77", said)._asdict()
    del found["client_address"]
    return {name: value for name, value in found.items() if value}


FOUND: list[tuple[dict[str, str | bytes], str, dict[str, Any]]] = [
    ({}, "", {}),
    ({"x-arouter-user": "ann", "x-litellm-end-user-id": "bob"}, "eve", {"user": "ann"}),
    ({"x-arouter-user": "  ", "x-litellm-end-user-id": "bob"}, "eve", {"user": "bob"}),
    ({"x-openwebui-user-email": "a@b.example", "x-openwebui-user-id": "17"}, "", {"user": "17"}),
    ({}, "eve", {"user": "eve"}),
    ({"x-arouter-session": "s1", "x-openwebui-chat-id": "c1"}, "", {"session": "s1"}),
    ({"x-openwebui-chat-id": "c1"}, "", {"session": "c1"}),
    ({"session_id": "codex-1", "originator": "codex_cli_rs"}, "", {"session": "codex-1", "app": "codex_cli_rs"}),
    ({"x-claude-code-session-id": SESSION}, CLAUDE_CODE, {"session": SESSION, "user": ACCOUNT}),
    ({}, CLAUDE_CODE, {"session": SESSION, "user": ACCOUNT}),
    ({"x-arouter-user": "ann"}, CLAUDE_CODE, {"session": SESSION, "user": "ann"}),
    ({}, CLAUDE_CODE.replace(ACCOUNT, ""), {"session": SESSION, "user": DEVICE}),
    ({}, f"user_{DEVICE}_account_{ACCOUNT}_session_{SESSION}", {"session": SESSION, "user": ACCOUNT}),
    ({}, f"user_{DEVICE}_account__session_{SESSION}", {"session": SESSION, "user": DEVICE}),
    ({}, "user_of_ours", {"user": "user_of_ours"}),
    ({}, '{"session_id": 5}', {"user": '{"session_id": 5}'}),
    ({}, "{not json", {"user": "{not json"}),
    ({"x-arouter-tags": "a, b,a,, c d "}, "", {"tags": ("a", "b", "c d")}),
    ({"x-litellm-tags": ",,"}, "", {}),
    ({"x-title": "My App", "http-referer": "https://app.example/x"}, "", {"app": "My App"}),
    ({"http-referer": "https://app.example/x?token=1#y"}, "", {"app": "https://app.example/x"}),
    ({"user-agent": "OpenAI/Python 2.0"}, "", {"user_agent": "OpenAI/Python 2.0"}),
    ({"traceparent": TRACE}, "", {"traceparent": TRACE}),
    ({"traceparent": f"01{TRACE[2:]}-later"}, "", {"traceparent": f"01{TRACE[2:]}"}),
    ({"traceparent": TRACE + "x"}, "", {}),
    ({"traceparent": "ff" + TRACE[2:]}, "", {}),
    ({"traceparent": TRACE.replace("b7ad6b7169203331", "0" * 16)}, "", {}),
    ({"traceparent": "00-" + "0" * 32 + TRACE[35:]}, "", {}),
    ({"x-arouter-user": "a\x00b\x1fc\x7f\u2028d"}, "", {"user": "a\ufffdb\ufffdc\ufffd\ufffdd"}),
    ({"x-arouter-user": "jos\u00e9"}, "", {"user": "jos\u00e9"}),
    ({"x-arouter-user": b"jos\xe9"}, "", {"user": "jos\ufffd"}),
    ({}, "line\nbreak", {"user": "line\ufffdbreak"}),
]


@pytest.mark.parametrize(("headers", "said", "expected"), FOUND)
def test_who_asks(headers: dict[str, str | bytes], said: str, expected: dict[str, Any]) -> None:
    assert asker(headers, said) == expected


@given(st.binary(max_size=3000), st.text(max_size=3000))
def test_whatever_is_written_is_short_and_in_one_line(value: bytes, said: str) -> None:
    names = ("x-arouter-user", "x-arouter-session", "x-arouter-tags", "x-arouter-app", "user-agent", "traceparent")
    found = DEFAULT.of({name.encode(): value for name in names}, "192.0.2.77", said)
    texts = [text for text in found if isinstance(text, str)]
    assert all(len(text) <= 200 for text in texts)
    assert len(found.tags) <= 20
    assert all(0 < len(tag) <= 64 for tag in found.tags)
    assert all(one.isprintable() or one.isspace() or ord(one) > 0x9F for text in (*texts, *found.tags) for one in text)
    assert not any(one in text for text in (*texts, *found.tags) for one in "\0\x1f\n\r\x1b\u2028")
    assert DEFAULT.of({}, "192.0.2.77", said).user == DEFAULT.of({}, "192.0.2.77", said).user[:200]


BODIES: list[tuple[bytes, str]] = [
    (b'{"model":"m"}', ""),
    (b'{"model":"m","user":"ann"}', "ann"),
    (b'{"user":"ann","safety_identifier":"hash","metadata":{"user_id":"x"}}', "ann"),
    (b'{"safety_identifier":"hash","metadata":{"user_id":"x"}}', "hash"),
    (b'{"metadata":{"user_id":"x"},"user":""}', "x"),
    (b'{"metadata":{"topic":"x"}}', ""),
    (b'{"metadata":null,"user":null,"safety_identifier":null}', ""),
    (b'{"user":17}', "17"),
    (b'{"user":true}', ""),
    (b'{"user":{"name":"ann"}}', ""),
    (b'{"metadata":["user_id"],"user":"ann"}', "ann"),
    (b'{"metadata":{"user_id":17}}', "17"),
    (b'{"messages":[{"user":"not at the top"}]}', ""),
    (b'{"user":"ann","temperature":NaN}', "ann"),
    (b'{"metadata":{"user_id":"ann"},"temperature":NaN}', "ann"),
    (b'\xef\xbb\xbf{"metadata":{"user_id":"ann"}}', "ann"),
    (b'{"user":"ann","route":"fallback","models":["a"]}', "ann"),
    (b"[]", ""),
    (b"", ""),
]


@pytest.mark.parametrize(("body", "user"), BODIES)
def test_whom_a_body_names(body: bytes, user: str) -> None:
    assert read_flags(body).user == user


@pytest.mark.parametrize(
    "field", [b'"user":17', b'"metadata":[]', b'"safety_identifier":{}', b'"metadata":{"user_id":[]}']
)
def test_an_odd_user_costs_no_other_flag(field: bytes) -> None:
    flags = read_flags(b'{"model":"m","stream":true,' + field + b',"stream_options":{"include_usage":true}}')
    assert (flags.model, flags.stream, flags.usage_asked) == ("m", True, True)


def test_a_field_without_headers_is_not_booked_whatever_a_body_says() -> None:
    nobody = GatewaySettings(user_headers="", session_headers="").attributing
    assert asker({}, CLAUDE_CODE, nobody) == {}
    sessions = GatewaySettings(user_headers="").attributing
    assert asker({}, CLAUDE_CODE, sessions) == {"session": SESSION}


ADDRESSES = [
    ("whole", "192.0.2.77", "192.0.2.77"),
    ("truncated", "192.0.2.77", "192.0.2.0"),
    ("truncated", "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
    ("truncated", "fe80::1%eth0", "fe80::"),
    ("truncated", "::ffff:192.0.2.77", "192.0.2.0"),
    ("truncated", "", ""),
    ("off", "192.0.2.77", ""),
]


@pytest.mark.parametrize(("how", "peer", "expected"), ADDRESSES)
def test_how_much_of_an_address_is_booked(how: str, peer: str, expected: str) -> None:
    found = GatewaySettings(client_address=ClientAddress(how)).attributing.of({}, peer)
    assert found == Attribution(client_address=expected)


PROXIES = "10.0.0.0/8, 2001:db8::/32, 192.0.2.1"
FORWARDED = [
    ("198.51.100.9", "203.0.113.5", "198.51.100.9"),  # not from a proxy of ours: anybody can write it
    ("10.1.2.3", "203.0.113.5", "203.0.113.5"),
    ("10.1.2.3", "1.1.1.1, 203.0.113.5", "203.0.113.5"),  # what stands before it is the client's own
    ("10.1.2.3", "203.0.113.5, 10.9.9.9, 192.0.2.1", "203.0.113.5"),
    ("10.1.2.3", "10.9.9.9, 10.8.8.8", "10.9.9.9"),
    ("10.1.2.3", "203.0.113.5:4711", "203.0.113.5"),
    ("2001:db8::1", "[2001:db9::5]:4711", "2001:db9::5"),
    ("::ffff:10.1.2.3", "203.0.113.5", "203.0.113.5"),
    ("10.1.2.3", "unknown", "10.1.2.3"),
    ("10.1.2.3", "203.0.113.5, evil", "10.1.2.3"),
    ("10.1.2.3", "", "10.1.2.3"),
    ("10.1.2.3", "203.0.113.5," + "10.0.0.1," * 5000, "10.1.2.3"),
]


@pytest.mark.parametrize(("peer", "forwarded", "expected"), FORWARDED)
def test_where_a_request_came_from_by_proxies_of_ours(peer: str, forwarded: str, expected: str) -> None:
    found = GatewaySettings(client_address=ClientAddress.WHOLE, trusted_proxies=PROXIES).attributing
    assert found.of({b"x-forwarded-for": forwarded.encode()}, peer).client_address == expected
    deaf = GatewaySettings(client_address=ClientAddress.WHOLE).attributing
    assert deaf.of({b"x-forwarded-for": forwarded.encode()}, peer).client_address == peer


def test_headers_that_providers_do_not_know_are_for_us_alone() -> None:
    settings = GatewaySettings(user_headers="X-Corp-User", app_headers="X-Title, X-Corp-App")
    assert settings.attributing.taken_out >= {b"x-corp-user", b"x-corp-app", b"x-arouter-tags"}
    assert not settings.attributing.taken_out & {b"x-title", b"session_id", b"x-claude-code-session-id"}
    assert not DEFAULT.taken_out & {b"http-referer", b"x-title", b"x-openrouter-title", b"originator"}


@pytest.mark.parametrize("text", ["a b", "x:y", "ü", "a\nb", "x" * 101])
def test_what_is_no_name_of_a_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a header"):
        header_names(text)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "x-api-key"])
def test_a_header_with_a_credential_is_never_booked(name: str) -> None:
    with pytest.raises(ValueError, match="holds a credential"):
        GatewaySettings(session_headers=f"x-session, {name}")


def test_what_is_no_network_is_refused() -> None:
    assert [str(one) for one in networks("10.1.2.3/8, ::1")] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(ValueError, match="proxy"):
        networks("proxy.example")
