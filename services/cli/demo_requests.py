"""The demo's round: one streamed request per dialect, and how to read the text out of each."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_QUESTION = "Tell me a story."
_PACE = "tokens=16, pace=25"


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One streamed request."""

    title: str
    dialect: str  # as the emit log names it
    provider: str
    path: str
    model: str
    body: Mapping[str, Any]
    key_header: str
    text_of: Callable[[Any], str]
    array: bool = False  # a JSON array instead of events
    extra: Mapping[str, str] = field(default_factory=dict)

    def headers(self, key: str) -> dict[str, str]:
        value = f"Bearer {key}" if self.key_header == "authorization" else key
        return {self.key_header: value, "x-demo": _PACE, **self.extra}

    async def texts(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
        """The pieces of text of an answer, as they arrive."""
        pending = b""
        async for chunk in chunks:
            *whole, pending = re.split(rb"\r?\n(?=,|\])" if self.array else rb"\r?\n\r?\n", pending + chunk)
            for part in whole:
                yield self._text(part)
        yield self._text(pending)

    def _text(self, part: bytes) -> str:
        data = part.lstrip(b"[,\r\n").rstrip(b"]\r\n") if self.array else part.rpartition(b"data:")[2]
        try:
            return self.text_of(json.loads(data))
        except (ValueError, LookupError, TypeError):
            return ""  # [DONE], a ping, the usage


def all_requests(real: Sequence[str]) -> list[DemoRequest]:
    """A request per dialect; legacy completions only at the demo provider, since few real models answer them."""
    chat = {"messages": [{"role": "user", "content": _QUESTION}]}
    openai, claude, gemini = "gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash"
    contents = {"contents": [{"role": "user", "parts": [{"text": _QUESTION}]}]}
    counted = {"stream": True, "stream_options": {"include_usage": True}}
    requests = [
        DemoRequest(
            title="OpenAI chat",
            dialect="openai_chat",
            provider="openai",
            path="/v1/chat/completions",
            model=openai,
            body={"model": openai, **counted, **chat},
            key_header="authorization",
            text_of=lambda event: event["choices"][0]["delta"]["content"],
        ),
        DemoRequest(
            title="OpenAI responses",
            dialect="openai_responses",
            provider="openai",
            path="/v1/responses",
            model=openai,
            body={"model": openai, "stream": True, "input": _QUESTION},
            key_header="authorization",
            text_of=lambda event: event["delta"],
        ),
        DemoRequest(
            title="OpenAI completions",
            dialect="openai_completions",
            provider="openai",
            path="/v1/completions",
            model=openai,
            body={"model": openai, **counted, "prompt": _QUESTION},
            key_header="authorization",
            text_of=lambda event: event["choices"][0]["text"],
        ),
        DemoRequest(
            title="Anthropic messages",
            dialect="anthropic_messages",
            provider="anthropic",
            path="/v1/messages",
            model=claude,
            body={"model": claude, "max_tokens": 200, "stream": True, **chat},
            key_header="x-api-key",
            text_of=lambda event: event["delta"]["text"],
            extra={"anthropic-version": "2023-06-01"},
        ),
        DemoRequest(
            title="Gemini events",
            dialect="gemini",
            provider="gemini",
            path=f"/v1beta/models/{gemini}:streamGenerateContent?alt=sse",
            model=gemini,
            body=contents,
            key_header="x-goog-api-key",
            text_of=lambda event: event["candidates"][0]["content"]["parts"][0]["text"],
        ),
        DemoRequest(
            title="Gemini JSON array",
            dialect="gemini",
            provider="gemini",
            path=f"/v1beta/models/{gemini}:streamGenerateContent",
            model=gemini,
            body=contents,
            key_header="x-goog-api-key",
            text_of=lambda event: event["candidates"][0]["content"]["parts"][0]["text"],
            array=True,
        ),
    ]
    return [request for request in requests if request.title != "OpenAI completions" or "openai" not in real]


def snippets(gateway: str, key: str) -> str:
    """Ready to paste."""
    return f"""
# curl
curl -N {gateway}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "gpt-4o-mini", "stream": true, "messages": [{{"role": "user", "content": "{_QUESTION}"}}]}}'

# Python, openai
from openai import OpenAI
client = OpenAI(base_url="{gateway}/v1", api_key="{key}")
for chunk in client.chat.completions.create(
    model="gpt-4o-mini", stream=True, messages=[{{"role": "user", "content": "{_QUESTION}"}}]
):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)

# Python, anthropic
import anthropic
client = anthropic.Anthropic(base_url="{gateway}", api_key="{key}")
with client.messages.stream(
    model="claude-haiku-4-5", max_tokens=200, messages=[{{"role": "user", "content": "{_QUESTION}"}}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)

# Python, google-genai
from google import genai
client = genai.Client(api_key="{key}", http_options={{"base_url": "{gateway}"}})
for chunk in client.models.generate_content_stream(model="gemini-2.5-flash", contents="{_QUESTION}"):
    print(chunk.text, end="", flush=True)

# what was booked
.venv/bin/arouter usage"""
