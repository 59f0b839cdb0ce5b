"""URLs of uploads that lead back to the gateway, and the tickets in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from services.gateway.client.headers import Header
from services.gateway.client.way_back import WayBack, led_back
from shared.access import key_format
from shared.access.credentials import ticket_of, with_ticket, without_key

GOOGLE = "https://generativelanguage.googleapis.com"


@dataclass
class Asked:
    """A client's request."""

    headers: list[Header] = field(default_factory=lambda: [(b"host", b"gateway.example:8080")])
    server: tuple[str, int] | None = ("192.0.2.1", 8080)


def moved(url: str, asked: Asked | None = None, base_path: bytes = b"") -> str:
    """Where the URL of an upload leads; a ticket is the target that it was made for."""
    given = [(b"x-goog-upload-url", url.encode()), (b"x-other", b"https://generativelanguage.googleapis.com/")]
    way = WayBack(lambda target: f"[{target.decode()}]", base_path)
    signed = led_back(given, asked or Asked(), "gemini", f"{GOOGLE}/upload/v1beta/files", way)
    assert signed[1:] == given[1:]
    return signed[0][1].decode()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (
            f"{GOOGLE}/upload/v1beta/files?upload_id=a&upload_protocol=resumable",
            "upload_id=a&upload_protocol=resumable",
        ),
        (f"{GOOGLE}:443/upload/v1beta/files?upload_id=a", "upload_id=a"),
        (f"{GOOGLE}/upload/v1beta/files?key=AIza-of-the-operator&upload_id=a", "upload_id=a"),
        (f"{GOOGLE}/upload/v1beta/files?", ""),
        (f"{GOOGLE}/upload/v1beta/files", ""),
    ],
)
def test_it_leads_to_the_gateway_without_a_key(url: str, target: str) -> None:
    path = f"/gemini/upload/v1beta/files?{target}"
    assert moved(url) == f"http://gateway.example:8080{path}{'&' if target else ''}arouter_upload=[{path}]"


def test_a_base_path_is_not_signed() -> None:
    """It is taken off before the request is understood."""
    there = "http://gateway.example:8080/llm/gemini/upload?a=b&arouter_upload=[/gemini/upload?a=b]"
    assert moved(f"{GOOGLE}/upload?a=b", base_path=b"/llm") == there


@pytest.mark.parametrize("url", ["https://storage.googleapis.com/upload?id=a", "/upload?id=a", "nonsense", ""])
def test_what_leads_elsewhere_stays(url: str) -> None:
    assert moved(url) == url


@pytest.mark.parametrize(
    ("headers", "server", "own"),
    [
        ([(b"host", b"g.example")], ("192.0.2.1", 8080), "http://g.example/"),
        ([(b"host", b"g.example"), (b"x-forwarded-proto", b"https")], None, "https://g.example/"),
        ([(b"host", b"pod"), (b"x-forwarded-host", b"g.example, pod")], ("127.0.0.1", 80), "http://g.example/"),
        ([(b"host", b"[::1]:8080")], None, "http://[::1]:8080/"),
        ([(b"host", b"service")], ("10.0.0.7", 8080), "http://service/"),
        ([(b"host", b"made-up")], ("127.0.0.1", 8080), "http://127.0.0.1:8080/"),
        ([(b"host", b"evil.example/x?")], None, GOOGLE),
        ([], None, GOOGLE),
    ],
)
def test_the_gateway_is_where_the_client_has_reached_it(
    headers: list[Header], server: tuple[str, int] | None, own: str
) -> None:
    assert moved(f"{GOOGLE}/upload?a=b", Asked(headers, server)).startswith(own)


def test_a_ticket_is_found_and_taken_out() -> None:
    query = with_ticket(b"a=b&c=d", "hash.signature")
    assert (ticket_of(query), without_key(query)) == ("hash.signature", b"a=b&c=d")
    assert (ticket_of(b"a=b"), without_key(b"a=b")) == (None, b"a=b")
    assert without_key(with_ticket(b"", "x")) == b""


def test_a_ticket_is_good_for_one_key_and_one_target() -> None:
    tickets = {
        key_format.ticket(pepper, key, target)
        for pepper in (b"p", b"q")
        for key in ("k", "l")
        for target in (b"/a?b", b"/a?c")
    }
    assert len(tickets) == 8
    assert not any(key_format.well_formed(ticket) for ticket in tickets)
