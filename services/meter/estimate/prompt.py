"""How many tokens a request body is likely to have cost as input, where the provider did not say. Pure.

A body is taken apart (`request.py`), its text is counted, its media are measured (`vision.py`), and what the family's
providers put around them is added (`framing.py`). Each piece has an interval of its own; theirs is the sum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from services.meter.estimate.framing import Framing, framing_of
from services.meter.estimate.request import Request, take_apart
from services.meter.estimate.vision import Cost, cost_of, senses_of

Count = Callable[[str], int]

_BYTES_PER_TOKEN = 4
_MOST_TEXT_BYTES = 400_000
# Where the body was not kept, little is known: it may be one image, or text in a dense script.
_LENGTH_LOW, _LENGTH_HIGH = 0.01, 3.0
# What comes before a request out of a stored conversation: nobody here knows.
_STORED = 60_000
# What a tool of the provider's own reads in, by what its JSON speaks of: any of these are far from certain.
_BUILTIN = (
    (re.compile(r"(?i)tool_search|parser|connector"), 0),
    (re.compile(r"(?i)file_search"), 1_000),
    (re.compile(r"(?i)search"), 9_000),
    (re.compile(r"(?i)mcp"), 1_000),
    (re.compile(r"(?i)fetch|code|interpreter"), 3_000),
    (re.compile(r""), 1_800),
)
_BUILTIN_HIGH = 45_000
_FEWEST_LEFT = 0.25  # of tools some providers count only the names and descriptions
_OPAQUE_HIGH = 0.25  # tokens per character of reasoning that only the provider can read


class Asked(NamedTuple):
    """Input tokens nobody reported."""

    tokens: int
    low: int
    high: int  # the truth lies between them nine times out of ten
    unbilled: int = 0  # of the tokens, those that the provider counts and does not bill
    thinks: bool | None = None  # what the request says of reasoning: on, off, or nothing


def asked(body: bytes, model: str, count: Count) -> Asked:
    """An estimate for a request body of any dialect; by its length where it is no JSON object."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return from_length(len(body))
    request = take_apart(document)
    senses = senses_of(model)
    media = (cost_of(blob, senses) for blob in request.blobs)
    framing = framing_of(model)
    figure = _sum((*_said(request, framing, count), *media), request.thinks)
    if framing.billed:
        return figure
    own = _own(request, framing)
    return figure._replace(unbilled=own, low=min(figure.low, max(0, figure.tokens - own)))


def from_length(request_bytes: int) -> Asked:
    """An estimate for a request whose body was not kept. Large bodies are large by their images, not by their text."""
    tokens = min(request_bytes, _MOST_TEXT_BYTES) // _BYTES_PER_TOKEN
    return Asked(tokens, int(tokens * _LENGTH_LOW), int(tokens * _LENGTH_HIGH) + 500)


def _said(request: Request, framing: Framing, count: Count) -> Iterable[Cost]:
    """The costs of everything but media."""
    text = framing.ratio * _count(request.texts, count) + request.token_ids
    yield _about(text, framing.spread)
    thoughts = framing.ratio * _count(request.thoughts, count)
    yield Cost(round(thoughts), 0, round(thoughts * (1 + framing.spread)))
    yield _around(request, framing)
    yield _tools(request, framing, count)
    schemas = _count(request.schemas, count)
    schema = (framing.schema + framing.schema_ratio * schemas) if schemas else 0
    yield Cost(round(schema), 0, round(2 * schema + 1.5 * schemas))
    opaque = request.opaque + request.opaque_past
    yield Cost(round(framing.opaque * request.opaque), 0, round(_OPAQUE_HIGH * opaque))
    yield from (_builtin(tool, framing) for tool in request.builtin)
    yield Cost(0, 0, _STORED * request.stored)


def _own(request: Request, framing: Framing) -> int:
    """Tokens of the provider's own prompts."""
    return _around(request, framing).tokens + (framing.tools if request.tools else 0)


def _around(request: Request, framing: Framing) -> Cost:
    """Template, tool calls, documents: constants, which a provider may leave out, and may add to."""
    tokens = framing.base + framing.per_message * request.messages + framing.per_call * request.calls
    tokens += framing.per_document * request.documents + framing.thinking * request.thinking
    tokens += framing.citations * request.cited
    return Cost(tokens, max(0, tokens - max(tokens // 2, framing.hidden)), tokens + framing.hidden)


def _tools(request: Request, framing: Framing, count: Count) -> Cost:
    if not request.tools or (framing.dropped_if_none and request.choice == "none"):
        return Cost(0, 0, 0)
    base = framing.tools_forced if request.choice == "forced" and framing.tools_forced else framing.tools
    base += framing.tools_in_chat * request.chat
    said = _count(request.tools, count)
    tokens = base + framing.per_tool * len(request.tools) + framing.tool_ratio * said
    return Cost(round(tokens), round(tokens * _FEWEST_LEFT), round(tokens * (1.1 + framing.spread)) + said)


def _builtin(tool: str, framing: Framing) -> Cost:
    tokens = next(tokens for pattern, tokens in _BUILTIN if pattern.search(tool))
    return Cost(round(tokens * framing.builtin), 0, _BUILTIN_HIGH)


def _count(texts: list[str], count: Count) -> int:
    return count("\n".join(texts)) if texts else 0


def _about(tokens: float, spread: float) -> Cost:
    return Cost(round(tokens), int(tokens * (1 - spread)) - 2, round(tokens * (1 + spread)) + 3)


def _sum(costs: Iterable[Cost], thinks: bool | None) -> Asked:
    tokens, low, high = (sum(column) for column in zip(*costs, strict=True))
    return Asked(tokens, max(0, low), high, thinks=thinks)
