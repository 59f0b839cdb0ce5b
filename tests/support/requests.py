"""One request per dialect, as a client would send it, and raw HTTP for what no client would."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

MESSAGES = [{"role": "user", "content": "Tell me a story."}]
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of one dialect."""

    path: str
    body: dict[str, Any]
    key_header: str = "authorization"

    def headers(self, key: str, directives: str = "") -> dict[str, str]:
        value = f"Bearer {key}" if self.key_header == "authorization" else key
        return {self.key_header: value, "content-type": "application/json", "x-demo": directives}


ASKS: dict[str, Ask] = {
    "chat": Ask("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}),
    "chat stream": Ask("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES, **COUNTED}),
    "completions stream": Ask("/v1/completions", {"model": "davinci", "prompt": "hi", **COUNTED}),
    "responses": Ask("/v1/responses", {"model": "gpt-4o", "input": "hi"}),
    "responses stream": Ask("/v1/responses", {"model": "gpt-4o", "input": "hi", "stream": True}),
    "embeddings": Ask("/v1/embeddings", {"model": "embed", "input": "hi"}, "api-key"),
    "messages": Ask("/v1/messages", {"model": "claude", "max_tokens": 9, "messages": MESSAGES}, "x-api-key"),
    "messages stream": Ask(
        "/v1/messages", {"model": "claude", "max_tokens": 9, "messages": MESSAGES, "stream": True}, "x-api-key"
    ),
    "gemini": Ask("/v1beta/models/gemini-x:generateContent", {"contents": []}, "x-goog-api-key"),
    "gemini events": Ask("/v1/models/gemini-x:streamGenerateContent?alt=sse", {"contents": []}, "x-goog-api-key"),
    "gemini array": Ask("/v1beta/models/gemini-x:streamGenerateContent", {"contents": []}, "x-goog-api-key"),
}
STREAMS = [name for name in ASKS if "stream" in name or name in ("gemini events", "gemini array")]


def raw_request(path: str, key: str, body: dict[str, Any], *lines: str) -> bytes:
    """The bytes of a POST."""
    content = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "host: gateway", f"authorization: Bearer {key}", f"content-length: {len(content)}"]
    return "\r\n".join([*head, *lines]).encode() + b"\r\n\r\n" + content


def connected(url: str, timeout: float = 60) -> socket.socket:
    """A connection to the server of a URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout)


def exchange_bytes(url: str, data: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with connected(url) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
