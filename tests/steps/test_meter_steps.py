"""The work of a meter grows with its input and no faster, whatever the bytes are and however they are cut."""

from __future__ import annotations

import base64
import json

import pytest

from services.meter import sockets
from services.meter.estimate import calibration, media, prompt
from services.meter.estimate.blobs import Blob, Kind
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.readers import documents
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading, Unreported
from services.meter.readers.sockets import SocketReader
from services.meter.tails import Found
from shared.contract.dialects import Dialect
from shared.contract.entry import Ended
from shared.contract.messages import SocketMessage, encode
from shared.contract.tail import Outcome
from tests.support.steps import Pump, assert_linear, steps

EVENTS, JSON, LINES = "text/event-stream", "application/json", "application/x-ndjson"
CHAT, GEMINI, OTHER = Dialect.OPENAI_CHAT, Dialect.GEMINI, Dialect.PASSTHROUGH
PIECE = 25  # bytes of a read

BODIES: dict[str, tuple[Dialect, str, Pump]] = {
    "a line without an end": (CHAT, EVENTS, Pump(b"", b"x")),
    "a carriage return that may be half a line end": (CHAT, EVENTS, Pump(b"data: {}", b"\r")),
    "white space": (CHAT, EVENTS, Pump(b"", b"\n")),
    "white space before a document": (CHAT, JSON, Pump(b"", b" \r\n", b"{}")),
    "comments": (CHAT, EVENTS, Pump(b"", b": ping\n\n")),
    "an event of many lines": (CHAT, EVENTS, Pump(b"", b"data: 1\n")),
    "lines that are no fields": (CHAT, EVENTS, Pump(b"data: 1\n\n", b"xy\n")),
    "reports that say nothing": (CHAT, EVENTS, Pump(b'data: {"id":"a"}\n\n' * 3, b'data: {"usage":{}}\n\n')),
    "reports of null": (CHAT, EVENTS, Pump(b'data: {"id":"a"}\n\n' * 3, b'data: {"usage":null}\n\n')),
    "running reports": (GEMINI, EVENTS, Pump(b"", b'data: {"usageMetadata":{}}\n\n')),
    "errors in one event": (CHAT, EVENTS, Pump(b'data: {"id":"a"}\n\n' * 3 + b"data: ", b"error", b"\n\n")),
    "names in one event": (CHAT, EVENTS, Pump(b'data: {"id":"a"}\n\n' * 3 + b"data: ", b'usage":1 ', b"\n\n")),
    "a name and white space": (CHAT, EVENTS, Pump(b'data: {"id":"a"}\n\n' * 3 + b'data: "usage"', b" ", b"\n\n")),
    "documents in a row": (CHAT, EVENTS, Pump(b"data: ", b"{}", b"\n\n")),
    "documents in a row that is all": (CHAT, JSON, Pump(b"", b"{}")),
    "a document that breaks off, deep": (CHAT, JSON, Pump(b"", b'{"a":')),
    "a document that breaks off in many places": (CHAT, JSON, Pump(b'{"a":[', b"[1,{},")),
    "a document of quotes": (CHAT, JSON, Pump(b'{"a":"', b'\\"')),
    "an array that is deep": (CHAT, JSON, Pump(b"", b"[")),
    "an array of nothing": (GEMINI, JSON, Pump(b"[", b"{},")),
    "an array in lines": (GEMINI, JSON, Pump(b"[{\n}", b",{\n}")),
    "lines of nothing": (Dialect.OLLAMA_CHAT, LINES, Pump(b"", b"{}\n")),
    "frames of nothing": (Dialect.BEDROCK_CONVERSE_STREAM, "application/vnd.amazon.eventstream", Pump(b"", b"\0")),
    "a file": (OTHER, "application/octet-stream", Pump(b"\x89PNG", b"\x01\x02")),
}


def of_socket(document: bytes, times: int = 1) -> bytes:
    return encode(SocketMessage(False, len(document), document, times=times))


MESSAGES: dict[str, tuple[Dialect, Pump]] = {
    "turns without a report": (
        Dialect.OPENAI_REALTIME,
        Pump(b"", of_socket(b'{"type":"response.created"}') + of_socket(b'{"type":"response.done","response":{}}')),
    ),
    "text of one turn": (Dialect.OPENAI_REALTIME, Pump(b"", of_socket(b'{"type":"response.text.delta","delta":"a"}'))),
    "turns of Gemini's": (Dialect.GEMINI_LIVE, Pump(b"", of_socket(b'{"serverContent":{"turnComplete":1},"x":{}}'))),
    "runs": (Dialect.GEMINI_LIVE, Pump(b"", of_socket(b'{"serverContent":', times=7))),
    "one message": (Dialect.OPENAI_REALTIME, Pump(b"\0\1\0\0", b"x")),
    "no messages": (Dialect.OPENAI_REALTIME, Pump(b"", b"\0\0\0\1x")),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_reading_of_sockets(name: str) -> None:
    dialect, pump = MESSAGES[name]

    def read(text: bytes) -> object:
        reader = SocketReader(dialect)
        for at in range(0, len(text), PIECE):
            reader.feed(bytes(text[at : at + PIECE]))
        return reader.close()

    assert_linear(read, pump, size=4000)


def test_an_estimate_of_many_turns_counts_each_piece_once() -> None:
    def book(text: bytes) -> object:
        pieces: list[bytes | str | int] = [text[at : at + 10].decode() for at in range(0, len(text), 10)]
        missing = tuple(Unreported(0, pieces, at, {}, 0, done=True) for at in range(len(pieces)))
        reading = Reading(unreported=missing)
        found = Found(reading, None, normal_end=True, how=Ended.WHOLE, note=None)
        known = calibration.none_yet(tokenizer_of("m"))
        return sockets.book(found, Outcome.COMPLETED, "m", known, len)

    assert_linear(book, Pump(b"", b"some words"), size=2000)


@pytest.mark.parametrize("observe", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_reading(name: str, observe: bool) -> None:
    dialect, content_type, pump = BODIES[name]

    def read(body: bytes) -> object:
        reader = Reader(dialect, content_type, observe=observe)
        for at in range(0, len(body), PIECE):
            reader.feed(body[at : at + PIECE])
        return reader.close()

    assert_linear(read, pump, size=1000)


@pytest.mark.parametrize("name", [name for name in BODIES if EVENTS in BODIES[name]])
def test_reading_at_once(name: str) -> None:
    """What was decompressed comes in large pieces."""
    dialect, content_type, pump = BODIES[name]

    def read(body: bytes) -> object:
        reader = Reader(dialect, content_type)
        reader.feed(body)
        return reader.close()

    assert_linear(read, pump)


@pytest.mark.parametrize(
    "pump",
    [Pump(b"", b"["), Pump(b"", b'{"a":'), Pump(b"[", b"[1],"), Pump(b'{"a":"', b"x"), Pump(b'{"a":[', b'{"b":1},')],
)
def test_what_a_document_says_that_breaks_off(pump: Pump) -> None:
    assert_linear(documents.beginning, pump)


@pytest.mark.parametrize(
    "pump", [Pump(b"", b'"usage":{'), Pump(b"", b'"usage":{},'), Pump(b'"usage":{}', b',"a":[]', b"}")]
)
def test_what_a_document_ends_with(pump: Pump) -> None:
    assert_linear(documents.ending, pump)


@pytest.mark.parametrize(
    "pump",
    [
        Pump(b'{"messages":[', b'{"role":"user"},', b"{}]}"),
        Pump(b'{"messages":[{"content":[', b'{"text":"a"},', b"{}]}]}"),
        Pump(b'{"messages":', b"[", b""),
        Pump(b'{"messages":[{"thinking":[', b'{"thinking":[{}]},', b"{}]}]}"),
        Pump(b'{"tools":[', b'{"name":"a"},', b"{}]}"),
    ],
)
def test_estimating_a_request(pump: Pump) -> None:
    assert_linear(lambda body: prompt.asked(body, "gpt-4o", len), pump)


def test_a_request_may_be_as_deep_as_a_decoder_reads() -> None:
    for depth in range(900, 1100, 7):
        body = b'{"messages":[],"tools":[{"name":"a","x":' + b"[" * depth + b"]" * depth + b"}]}"
        assert prompt.asked(body, "gpt-4o", len).high > 0


def test_pages_of_a_document_full_of_streams() -> None:
    """Streams of a PDF may overlap; their bytes are not inflated again for each."""
    empty = b"\x00\x00\x00\xff\xff" * 2000  # blocks of deflate that hold nothing

    def work(streams: int) -> int:
        data = b"%PDF" + b"/ObjStm stream\n\x78\x01" + b"/ObjStm stream\n" * streams + empty
        blob = Blob(Kind.PDF, base64.b64encode(data.replace(b"stream\n/", b"stream\n\x78\x01/")).decode())
        return steps(lambda: media.pdf_pages(blob))

    assert work(200) < 3 * work(2)


def test_a_document_of_millions_of_values_is_read_without_them() -> None:
    body = b'{"object":"list","data":[' + b"1," * 1_100_000 + b'1],"model":"m","usage":{"prompt_tokens":7}}'
    assert documents.decode(body) == {"object": "list", "data": None, "model": "m", "usage": {"prompt_tokens": 7}}
    plain = {"data": "," * 3_000_000, "model": "m"}
    assert documents.decode(json.dumps(plain).encode())["model"] == "m"
