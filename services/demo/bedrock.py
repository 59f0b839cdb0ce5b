"""Bedrock's dialects: Converse, and Invoke with Anthropic's bodies, as documents and as AWS's event streams.

Requests are signed, or carry an API key; of a signature the form is checked."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from services.demo import anthropic
from services.demo.script import Piece, Request, Script, compact, normal, words

_STREAM = "application/vnd.amazon.eventstream"
_KINDS = {401: "UnrecognizedClientException", 403: "ExpiredTokenException", 429: "ThrottlingException"}
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/ ]+/(\d{8})/[a-z0-9-]+/bedrock/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}"
)


def admitted(headers: Mapping[str, str]) -> bool:
    """Whether a request carries an API key, or a signature that is well formed and covers what it must."""
    given = headers.get("authorization", "")
    if given.startswith("Bearer "):
        return True
    found, date = _SIGNATURE.fullmatch(given), headers.get("x-amz-date", "")
    if found is None or not re.fullmatch(rf"{found[1]}T\d{{6}}Z", date):
        return False
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    return needed <= set(found[2].split(";"))


def refused() -> Script:
    """AWS's answer to a request without a valid signature."""
    message = {"message": "The security token included in the request is invalid."}
    return Script("bedrock", "application/json", [Piece(compact(message))], status=403)


def converse(request: Request) -> Script:
    usage, booked = _usage(request)
    message = {"role": "assistant", "content": [{"text": "".join(words(request.scenario))}]}
    body = {"output": {"message": message}, "stopReason": "end_turn", "metrics": {"latencyMs": 7}, "usage": usage}
    return Script("bedrock_converse", "application/json", [_document(request, body)], booked)


def converse_stream(request: Request) -> Script:
    usage, booked = _usage(request)
    script = Script("bedrock_converse_stream", _STREAM, usage=booked, error=_exception())
    script.pieces.append(Piece(frame("messageStart", {"role": "assistant"})))
    for word in words(request.scenario):
        delta = {"contentBlockIndex": 0, "delta": {"text": word}, "p": "abcdefghij"}
        script.pieces.append(Piece(frame("contentBlockDelta", delta), tokens=1))
    script.pieces += [
        Piece(frame("contentBlockStop", {"contentBlockIndex": 0})),
        Piece(frame("messageStop", {"stopReason": "end_turn"})),
        Piece(frame("metadata", {"usage": usage, "metrics": {"latencyMs": 7}}), usage=True),
    ]
    return script


def invoke(request: Request) -> Script:
    said = anthropic.messages(request)
    return Script("bedrock_invoke", said.content_type, said.pieces, said.usage)


def invoke_stream(request: Request) -> Script:
    """Anthropic's events, each within a chunk; the last one has the metrics."""
    said = anthropic.messages(request)
    script = Script("bedrock_invoke_stream", _STREAM, usage=said.usage, error=_exception())
    for piece in said.pieces:
        event = json.loads(piece.data.partition(b"data: ")[2])
        if event["type"] == "ping":
            continue  # Bedrock has none
        if event["type"] == "message_stop" and said.usage is not None:
            counts = said.usage
            event["amazon-bedrock-invocationMetrics"] = {
                "inputTokenCount": request.input_tokens,
                "outputTokenCount": counts["output_tokens"],
                "cacheReadInputTokenCount": counts["cache_read_tokens"],
                "cacheWriteInputTokenCount": counts["cache_write_tokens"],
            }
        chunk = {"bytes": base64.b64encode(compact(event)).decode(), "p": "abcd"}
        script.pieces.append(Piece(frame("chunk", chunk), tokens=piece.tokens, usage=piece.usage))
    return script


def http_error(status: int) -> bytes:
    kind = _KINDS.get(status, "ValidationException" if status < 500 else "ServiceUnavailableException")
    return compact({"__type": kind, "message": f"demo error {status}"})


def _usage(request: Request) -> tuple[dict[str, int], dict[str, int | None]]:
    plain, answer = request.input_tokens, request.scenario.tokens
    read, written = plain // 3, plain // 7
    whole = plain + read + written
    counts = {
        "inputTokens": plain,
        "outputTokens": answer,
        "totalTokens": whole + answer,
        "cacheReadInputTokens": read,
        "cacheReadInputTokenCount": read,
        "cacheWriteInputTokens": written,
        "cacheWriteInputTokenCount": written,
    }
    return counts, normal(whole, answer, read, written, None)


def _document(request: Request, body: dict[str, Any]) -> Piece:
    return Piece(compact(body), tokens=request.scenario.tokens, usage=True)


def _exception() -> bytes:
    headers = {":exception-type": "modelStreamErrorException", ":message-type": "exception"}
    return _framed(headers, {"message": "demo error", "originalStatusCode": 424})


def frame(event: str, document: dict[str, Any]) -> bytes:
    """One event of a stream, in AWS's framing."""
    return _framed({":event-type": event, ":message-type": "event"}, document)


def _framed(headers: Mapping[str, str], document: dict[str, Any]) -> bytes:
    """A frame: lengths, checksum, headers, payload, checksum."""
    head, payload = b"", compact(document)
    for name, value in {**headers, ":content-type": "application/json"}.items():
        head += bytes([len(name)]) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return frame + struct.pack(">I", zlib.crc32(frame))
