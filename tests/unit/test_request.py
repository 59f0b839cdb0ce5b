"""Request bodies taken apart: every form in which dialects write text, tools and media."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from services.meter.estimate.blobs import Kind
from services.meter.estimate.request import take_apart
from tests.support import files


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


TOOL = {"name": "get_time", "description": "the time of day", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "get_time", "description": "the time of day"}}
OPAQUE = "gAAAAABo" * 500
PNG = b64(files.png(512, 512))
PDF = b64(files.pdf(2))


def test_tools_are_found_in_every_dialect() -> None:
    spec = {"name": "get_time", "description": "the time of day"}
    for body in (
        {"tools": [FUNCTION]},
        {"tools": [{"type": "function", **spec, "parameters": {}}]},
        {"tools": [{"functionDeclarations": [spec]}]},
        {"tools": [{"function_declarations": [spec]}]},
        {"toolConfig": {"tools": [{"toolSpec": spec}]}},
        {"tools": [TOOL]},
        {"tools": [{"name": "get_time", "description": "the time of day", "parameter_definitions": {}}]},
        {"functions": [spec]},
        {"tools": [{"type": "namespace", "name": "clock", "tools": [spec]}]},
    ):
        request = take_apart(body)
        assert (len(request.tools), request.builtin) == (1, []), body
        assert "the time of day" in request.tools[0]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PNG}},
        {"type": "image_url", "image_url": "data:image/png;base64," + PNG},
        {"type": "input_image", "image_url": "data:image/png;base64," + PNG, "detail": "auto"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
        {"inline_data": {"mime_type": "image/png", "data": PNG}},
        {"image": {"format": "png", "source": {"bytes": PNG}}},
        {"type": "image", "mime_type": "image/png", "data": PNG},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "data": PNG}}]},
    ],
)
def test_images_stand_in_prompts_in_many_ways(part: dict[str, Any]) -> None:
    request = take_apart({"messages": [{"role": "user", "content": [part]}]})
    assert [blob.kind for blob in request.blobs] == [Kind.IMAGE]
    assert request.blobs[0].data == PNG
    assert request.texts == []


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}, Kind.IMAGE),
        ({"type": "image", "source": {"type": "url", "url": "https://example.com/cat"}}, Kind.IMAGE),
        ({"type": "input_image", "file_id": "file-1"}, Kind.IMAGE),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}, Kind.VIDEO),
        ({"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.com/a"}}, Kind.VIDEO),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}, Kind.AUDIO),
        ({"type": "input_audio", "input_audio": b64(files.mp3(1))}, Kind.AUDIO),
        ({"type": "audio_url", "audio_url": {"url": "https://example.com/a"}}, Kind.AUDIO),
        ({"inlineData": {"mimeType": "audio/ogg", "data": "AAAA"}}, Kind.AUDIO),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}, Kind.PDF),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, Kind.PDF),
        ({"type": "document_url", "document_url": "https://example.com/a"}, Kind.PDF),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64," + PDF}, Kind.PDF),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}, Kind.PDF),
        ({"type": "file", "file": {"file_data": PDF}}, Kind.PDF),
        ({"document": {"format": "pdf", "name": "a", "source": {"bytes": PDF}}}, Kind.PDF),
        ({"type": "file", "file": {"file_id": "file-1"}}, Kind.FILE),
        ({"type": "file", "file": {"file_data": b64(files.mp4(4))}}, Kind.VIDEO),
        ({"type": "file", "file": {"file_data": b64(files.webp(9, 9))}}, Kind.IMAGE),
        ({"type": "file", "file": {"file_data": b64(files.wav(1))}}, Kind.AUDIO),
    ],
)
def test_media_are_known_by_what_is_said_of_them(part: dict[str, Any], kind: Kind) -> None:
    request = take_apart({"messages": [{"role": "user", "content": [part]}]})
    assert [blob.kind for blob in request.blobs] == [kind]
    assert request.texts == []


@pytest.mark.parametrize("url", ["cat.png", "https://example.com/cat.png", "data:image/svg+xml,%3Csvg%3E", "file-1"])
def test_an_address_is_no_data(url: str) -> None:
    request = take_apart({"messages": [{"content": [{"type": "image_url", "image_url": {"url": url}}]}]})
    assert [(blob.kind, blob.data) for blob in request.blobs] == [(Kind.IMAGE, None)]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "hello", "images": [b64(files.png(9, 9) + b"\1" * 30_000)]}]},
        {"contents": [{"parts": [{"text": "hello", "thoughtSignature": OPAQUE}]}]},
        {"input": [{"type": "reasoning", "summary": [], "encrypted_content": OPAQUE}, {"content": "hello"}]},
        {"messages": [{"content": [{"type": "thinking", "thinking": "hello", "signature": OPAQUE}]}]},
        {"messages": [{"content": [{"type": "redacted_thinking", "data": OPAQUE}, {"text": "hello"}]}]},
        {"messages": [{"content": "hello", "reasoning_details": [{"type": "reasoning.encrypted", "data": OPAQUE}]}]},
    ],
)
def test_what_only_machines_read_is_no_text(body: dict[str, Any]) -> None:
    request = take_apart(body)
    assert request.texts + request.thoughts == ["hello"]


def test_cohere_sends_text_beside_messages() -> None:
    request = take_apart(
        {
            "message": "and?",
            "preamble": "be brief",
            "chat_history": [{"role": "USER", "message": "who"}, {"role": "CHATBOT", "message": "me"}],
            "documents": ["plain", {"id": "1", "data": {"text": "nested"}}],
        }
    )
    assert request.texts[:2] == ["and?", "who"]
    assert "be brief" in request.texts
    assert any("nested" in text for text in request.texts)
    assert (request.messages, request.documents) == (4, 2)


def test_calls_and_results_are_text() -> None:
    request = take_apart(
        {
            "messages": [
                {"tool_calls": [{"id": "call_1", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
                {"content": [{"type": "tool_use", "id": "x", "name": "g", "input": {"b": 2}}]},
                {"parts": [{"functionCall": {"name": "h", "args": {"c": 3}}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "4"},
            ]
        }
    )
    assert request.texts == ["f", '{"a": 1}', "g", '{"b":2}', "h", '{"c":3}', "4"]
