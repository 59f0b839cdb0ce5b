"""The demo's round: a streamed request per dialect and one that breaks off, and how to read the text out of each."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_QUESTION = "Tell me a story."
_PACE = "pace=60"  # slow enough to see it stream
# What the demo provider does where a request says nothing of it: those of the snippets.
DEFAULT = f"say=1, {_PACE}"


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
    say: int  # number of the demo provider's sentence
    array: bool = False  # a JSON array instead of events
    cut: bool = False  # the demo provider breaks off in the middle
    extra: Mapping[str, str] = field(default_factory=dict)

    def headers(self, key: str) -> dict[str, str]:
        value = f"Bearer {key}" if self.key_header == "authorization" else key
        directives = f"say={self.say}, {_PACE}" + (", cut" if self.cut else "")
        return {self.key_header: value, "x-demo": directives, **self.extra}

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
    """The round. `real`: providers that are not the demo provider, and cannot be asked for all of it."""
    chat = {"messages": [{"role": "user", "content": _QUESTION}]}
    openai, claude, sonnet, gemini = "gpt-4o-mini", "claude-haiku-4-5", "claude-sonnet-4-5", "gemini-2.5-flash"
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
            say=2,
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
            say=3,
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
            say=4,
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
            say=5,
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
            say=6,
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
            say=7,
            array=True,
        ),
        DemoRequest(
            title="Anthropic, cut off",
            dialect="anthropic_messages",
            provider="anthropic",
            path="/v1/messages",
            model=sonnet,
            body={"model": sonnet, "max_tokens": 200, "stream": True, **chat},
            key_header="x-api-key",
            text_of=lambda event: event["delta"]["text"],
            say=8,
            cut=True,
            extra={"anthropic-version": "2023-06-01"},
        ),
    ]
    # Few real models answer legacy completions, and none breaks off when it is asked to.
    return [r for r in requests if r.provider not in real or not (r.cut or r.dialect == "openai_completions")]


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
