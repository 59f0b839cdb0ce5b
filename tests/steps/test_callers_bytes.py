"""Work on bytes that callers choose grows no faster than the bytes: steps of every parser, on texts that repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.control.app import ControlApp
from services.control.keys import KeyChanges, NewKey
from services.gateway.client import asgi, body, content_encoding, flags, form, headers, way_back
from services.gateway.client.body_stream import BodyStream
from services.gateway.client.cors import Cors
from services.gateway.client.headers import Header
from services.gateway.client.parser import BadRequest, RequestParser
from services.gateway.provider_settings import ProviderSettings
from services.gateway.routing.configured import upstreams
from services.gateway.routing.readings import understood
from services.gateway.routing.routes import choose, family_of, match
from services.gateway.settings import GatewaySettings
from services.gateway.websocket import handshake
from services.gateway.websocket.copying import Copies, bulky
from services.gateway.websocket.frames import FrameParser
from services.gateway.websocket.guard import Forbidden, Guard
from shared.access import key_format
from shared.access.credentials import caller_key, ticket_of, without_key
from shared.contract.dialects import Dialect, Family
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.runtime.errors import Refused
from shared.runtime.settings import Settings
from tests.support.steps import Pump, assert_linear

PROTOCOL = b"sec-websocket-protocol"
NAMES = ("openai", "anthropic", "gemini", "azure", "groq")
UPSTREAMS = upstreams(
    GatewaySettings(
        providers={
            name: ProviderSettings.model_validate({"api_key": "s", "base_url": f"http://{name}/a/v1"}) for name in NAMES
        }
    )
)


class Parser(NamedTuple):
    """Something that reads callers' bytes, and the pieces of which texts for it are made."""

    read: Callable[[bytes], object]
    pieces: tuple[str, ...]
    hard: tuple[Pump, ...] = ()


class Sink:
    """Takes requests and forgets them."""

    def begun(self, *_: object, keep_alive: bool) -> BodyStream:
        return BodyStream(self)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def request(text: bytes, piece: int) -> None:
    parser = RequestParser(Sink(), 32 * 1024, 100)
    for at in range(0, len(text), piece):
        parser.feed(bytes(text[at : at + piece]))


def to_match(method: str) -> Callable[[bytes], object]:
    return lambda text: match(method, text.decode("latin-1"), Family.OPENAI, UPSTREAMS)


def to_understood(method: str) -> Callable[[bytes], object]:
    return lambda text: understood(
        method, text.decode("latin-1"), partial(match, family=Family.OPENAI, upstreams=UPSTREAMS)
    )


def to_choose(text: bytes) -> object:
    matched = match("POST", "/v1/chat/completions", Family.OPENAI, UPSTREAMS)
    return choose(matched, text.decode("latin-1"), UPSTREAMS)


def lines(text: bytes) -> list[Header]:
    """The text as a list of headers."""
    return [(name.strip().lower(), value) for name, _, value in (line.partition(b":") for line in text.split(b"\n"))]


def control(text: bytes) -> None:
    """A request to the control API, with a body and a query, as far as it comes without a key."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(text), "more_body": False}

    async def send(_: object) -> None: ...

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/keys",
        "raw_path": b"/api/v1/keys",
        "query_string": bytes(text),
        "headers": [(b"content-type", b"application/json"), (b"x-own", bytes(text))],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "client": None,
        "server": None,
    }
    asyncio.run(CONTROL(scope, receive, send))


CONTROL = ControlApp(Settings(), "redis://127.0.0.1:1", frozenset(NAMES))

PATH_WORDS = r"""
    / models/ v1/ v1beta openai azure groq a/v1/ deployments/ : generateContent %2F %2e %25 .. ; \ chat/completions
    publishers/ model/ invoke ai/run/@ x A
"""
JSON_WORDS = r"""
    " \ \" { } [ ] : , "model" "model":"openai/x" "stream_options" "stream_options":{ null \u006d x 1
"""
PATH = tuple(PATH_WORDS.split())
JSON = (" ", "\n", *JSON_WORDS.split())
QUERY = ("&", ";", "=", "%", "%2565", "key", "+", "[", "lr_live_", "a")
HEAD = (
    *("\r\n", "GET / HTTP/1.1\r\n", "host: h\r\n", "upgrade: h2c\r\nconnection: upgrade\r\n", "a: b\r\n"),
    *("transfer-encoding: chunked\r\n", "content-length: 3\r\n", "1\r\nx\r\n", "0\r\n\r\n", ":", ",", "x", "/", " "),
)
HEADER = ("x-a:1\n", "connection: a,b,c\n", ",", "x_forwarded_for:1\n", "lr_", "lr_live_", "cf-ray:1\n", "a", ":", "\n")

PATHS = (
    Pump(b"/", b"models/"),
    Pump(b"/", b"v1/"),
    Pump(b"/groq/", b"a/v1/"),
    Pump(b"/gemini/", b"openai/"),
    Pump(b"/v1beta/models/", b"x:"),
    Pump(b"/groq/", b"model/", b"invoke"),
    Pump(b"/groq/", b"%2525"),
)
BODIES = (
    Pump(b"{", b'"model":"openai/x",', b'"a":1}'),
    Pump(b'{"a":"', b'\\"'),
    Pump(b"", b'"'),
    Pump(b"", b"["),
    Pump(b'{"model":', b" "),
    Pump(b"{", b'"stream_options":{},', b'"a":1}'),
    Pump(b'{"', b"\\u006d"),
)
HEADS = (Pump(b"GET /", b"a"), Pump(b"", b"a: b\r\n"))

BACK = way_back.WayBack(lambda _: "t")
FORM = ("--b", "\r\n", "--", "content-disposition: form-data", '; name="model"', ";", '"', "a", "\r\n\r\n")


class Asked:
    """A client's request."""

    def __init__(self) -> None:
        self.headers: list[Header] = [(b"host", b"g")]
        self.server = None


def frames_of(text: bytes, piece: int) -> None:
    """Parsed and copied, as of a client's."""
    parser, copies = FrameParser(300, bulky), Copies(lambda _: None, 1000)
    for at in range(0, len(text), piece):
        for message in parser.feed(bytes(text[at : at + piece])):
            copies.take(message, sent=True)
    copies.close()


def guarded(text: bytes, piece: int) -> None:
    guard = Guard(lambda model: model == "m", Dialect.OPENAI_REALTIME, 1 << 20)
    for at in range(0, len(text), piece):
        guard.feed(bytes(text[at : at + piece]))


FRAME = ("\x01", "\x00", "\x02", "\t", "{}", "~", "\x7f")
FRAMES = (
    Pump(b"", b"\x81\x00"),
    Pump(b"", b"\x89\x80mask"),
    Pump(b"\x01\x00", b"\x00\x01x"),
    Pump(b"\x01\x80mask", b"\x00\x81maskx"),
    Pump(b"\x81\x7f" + b"\0\0\0\0\0\xff\xff\xff", b"x"),
    Pump(b"\x81\x7f" + b"\0\0\0\0\0\xff\xff\xff" + b'{"audio":{"', b"x"),
    Pump(b"", b"\x81\x06" + b'"usage'),
    Pump(b"\x01\x00", b"\x00\x06" + b'"usage', b"\x80\x00"),
    Pump(b"", b"\xff"),
)
NESTED = (Pump(b"\x01\x00", b"\x00\x01[", b"\x80\x00"), Pump(b"\x01\x01[", b"\x00\x03{},", b"\x80\x03{}]"))
PARSERS = {
    "frames, whole": Parser(lambda text: frames_of(text, 1 << 20), FRAME, FRAMES),
    "frames, in pieces": Parser(lambda text: frames_of(text, 3), FRAME, FRAMES),
    "guarded messages": Parser(lambda text: guarded(text, 3), FRAME, (*FRAMES, *NESTED)),
    "model in a query": Parser(
        lambda text: handshake.with_model(text, (b"model",), handshake.model_of(text, (b"model",)) or ""),
        QUERY,
        (Pump(b"", b"&"), Pump(b"", b";"), Pump(b"model=", b"%25")),
    ),
    "subprotocols": Parser(
        lambda text: (handshake.with_key({PROTOCOL: text}, text), handshake.cleaned([(PROTOCOL, text)], frozenset())),
        ("openai-insecure-api-key.", ",", " ", "a"),
        (Pump(b"", b","), Pump(b"", b"openai-insecure-api-key.,")),
    ),
    "request head, whole": Parser(lambda text: request(text, 1 << 20), HEAD),
    "request head, in pieces": Parser(lambda text: request(text, 3), HEAD, HEADS),
    "family": Parser(lambda text: family_of(text.decode("latin-1"), {}, text), (*PATH, *QUERY), PATHS),
    "match": Parser(to_match("POST"), PATH, PATHS),
    "match, of a GET": Parser(to_match("GET"), PATH, PATHS),
    "understood": Parser(to_understood("POST"), PATH, PATHS),
    "understood, of a PUT": Parser(to_understood("PUT"), PATH, PATHS),
    "choose": Parser(to_choose, PATH, (Pump(b"", b"openai/"),)),
    "target of the control plane": Parser(lambda text: asgi.path(text.replace(b"\xff", b"")), PATH),
    "key": Parser(lambda text: caller_key({b"api-key": text}, text), (*QUERY, "Bearer ", " "), (Pump(b"", b"key=&"),)),
    "form of a key": Parser(lambda text: key_format.well_formed(text.decode("latin-1")), ("lr_live_", "0", "f")),
    "query": Parser(without_key, QUERY, (Pump(b"", b"a;"), Pump(b"", b"a&"), Pump(b"k", b"%25", b"65y=1"))),
    "form": Parser(
        lambda text: form.last(text, b"b", "model"),
        FORM,
        (Pump(b"", b"--b\r\n"), Pump(b"--b\r\nA:", b";a=", b"\r\n\r\n\r\n--b--")),
    ),
    "model of a form": Parser(lambda text: form.names_one_model(text, b"b"), FORM, (Pump(b"", b"--b\r\n\r\n\r\n"),)),
    "boundary": Parser(
        lambda text: form.boundary(text.decode("latin-1")), ("multipart/form-data", ";", " ", "boundary=", '"', "b")
    ),
    "sound": Parser(flags.is_sound, JSON, BODIES),
    "scanned flags": Parser(lambda text: flags.read_flags(b'{"a":NaN,' + text), JSON, BODIES),
    "way back": Parser(
        lambda text: way_back.led_back([(b"x-goog-upload-url", text)], Asked(), "p", "http://h/x", BACK),
        ("http://h", "/", "?", "#", "a", ":"),
    ),
    "ticket": Parser(ticket_of, QUERY),
    "codings": Parser(lambda text: content_encoding.codings([(b"content-encoding", text)]), ("gzip", ",", " ", "x-")),
    "flags": Parser(flags.read_flags, JSON, BODIES),
    "names of a body": Parser(body.names_one_model, JSON, BODIES),
    "another model": Parser(lambda text: body.with_model(text, "other"), JSON, BODIES),
    "usage asked": Parser(lambda text: body.with_usage_asked(b"{" + text), JSON, BODIES),
    "headers": Parser(lambda text: headers.upstream_request(lines(text)), HEADER),
    "origins": Parser(lambda text: Cors("*").preflight({b"origin": text}), ("http://", "a", ",")),
    "id of an exchange": Parser(lambda text: ExchangeId.parse(text.decode("latin-1")), ("0", ".", "A")),
    "control API": Parser(control, (*JSON, *QUERY), BODIES),
    "new key": Parser(NewKey.model_validate_json, JSON, (Pump(b'{"allowed_models":[', b"1,", b"1]}"), *BODIES)),
    "changes of a key": Parser(KeyChanges.model_validate_json, JSON, BODIES),
}  # fmt: skip
REFUSALS = (Refused, BadRequest, BadRecord, ValidationError, ValueError, Forbidden)
HARD = [
    pytest.param(parser.read, pump, id=f"{name}-{pump}") for name, parser in PARSERS.items() for pump in parser.hard
]


@pytest.mark.parametrize(("read", "pump"), HARD)
def test_the_attacks_of_old_take_no_more_steps_than_bytes(read: Callable[[bytes], object], pump: Pump) -> None:
    assert_linear(read, pump, refusals=REFUSALS)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_steps_grow_no_faster_than_the_bytes(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    pieces = st.lists(st.sampled_from(parser.pieces), min_size=1, max_size=4).map(lambda some: "".join(some).encode())
    head, middle, tail = (data.draw(pieces, label=part) for part in ("head", "middle", "tail"))
    # The head of a long message is put together anew until it has 512 bytes, once: that is no growth.
    size = 2000 if name == "guarded messages" else 400
    assert_linear(parser.read, Pump(head, middle, tail), size=size, refusals=REFUSALS)
