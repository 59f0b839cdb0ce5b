"""How many tokens a request body is likely to have cost as input, where the provider did not say. Pure.

The text of every message, tool and instruction is counted, plus the per-message overhead OpenAI publishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

Count = Callable[[str], int]

# OpenAI's cookbook: three per message, three to prime the answer.
_PER_MESSAGE = 3
_PRIMING = 3
_BYTES_PER_TOKEN = 4

# Values below these names are data of other kinds: their characters are no text.
_NOT_TEXT = frozenset({"data", "image_url", "file_data", "inlineData", "inline_data", "input_audio", "source", "model"})
# Names whose strings are text the model reads; a tool's schema is counted as the JSON it is.
_MESSAGES = ("messages", "input", "contents", "prompt")
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction")
_SCHEMAS = ("tools", "functions", "response_format", "text", "toolConfig")


def input_tokens(body: bytes, tokens: Count) -> int:
    """An estimate for a request body of any dialect; by its length where it is no JSON object."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return len(body) // _BYTES_PER_TOKEN
    said: list[str] = []
    messages = 0
    for name in (*_MESSAGES, *_INSTRUCTIONS):
        value = request.get(name)
        messages += len(value) if isinstance(value, list) else value is not None
        said.extend(_strings(value))
    schemas = [msgspec.json.encode(request[name]).decode() for name in _SCHEMAS if request.get(name)]
    return tokens("\n".join(said + schemas)) + _PER_MESSAGE * messages + _PRIMING


def from_length(request_bytes: int) -> int:
    """An estimate for a request whose body was not kept."""
    return request_bytes // _BYTES_PER_TOKEN


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from _strings(item)
