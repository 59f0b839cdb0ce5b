"""How fast readers are on tails that report usage, and that their memory does not grow with the tail."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass

from services.demo.routes import answer, understand
from services.meter.readers.reader import Reader
from shared.contract.dialects import Dialect

_SEGMENT = 64 * 1024
_TAIL = 8 * 1024 * 1024
_LONG_TAIL = 200 * 1024 * 1024
_ROUNDS = 5

_COUNTED = {"stream": True, "stream_options": {"include_usage": True}}
_REQUESTS = {
    "OpenAI chat": ("/v1/chat/completions", {"model": "gpt-4o", **_COUNTED}),
    "OpenAI responses": ("/v1/responses", {"model": "gpt-4o", "stream": True}),
    "Anthropic messages": ("/v1/messages", {"model": "claude-x", "stream": True}),
    "Gemini events": ("/v1beta/models/g:streamGenerateContent?alt=sse", {}),
    "Gemini JSON array": ("/v1beta/models/g:streamGenerateContent", {}),
}


@dataclass(frozen=True, slots=True)
class Speed:
    """One dialect."""

    title: str
    mb_per_s: float  # without observing: the usage, the ids, the end
    observing_mb_per_s: float  # every document decoded, the text collected


def tail_of(path: str, body: dict[str, object], size: int) -> tuple[Dialect, str, list[bytes]]:
    """An answer of at least `size` bytes with its usage at the end, in segments."""
    headers = {"x-demo": "tokens=400"}
    script = answer(understand("POST", path, headers, json.dumps(body).encode()), path, headers)
    pieces = [piece.data for piece in script.pieces]
    middle = b"".join(pieces[len(pieces) // 4 : len(pieces) // 2])
    repeats = max(1, size // len(middle))
    whole = b"".join([*pieces[: len(pieces) // 2], middle * repeats, *pieces[len(pieces) // 2 :]])
    return (
        Dialect(script.dialect),
        script.content_type,
        [whole[at : at + _SEGMENT] for at in range(0, len(whole), _SEGMENT)],
    )


def read(dialect: Dialect, content_type: str, segments: list[bytes], *, observe: bool = False) -> float:
    """Seconds of CPU it takes to read a tail; it must report usage."""
    start = time.process_time()
    reader = Reader(dialect, content_type, observe=observe)
    for segment in segments:
        reader.feed(segment)
    assert reader.close().usage is not None
    return time.process_time() - start


def speeds() -> list[Speed]:
    """The best of several rounds: other work on the machine only makes a round slower."""
    found = []
    for title, (path, body) in _REQUESTS.items():
        dialect, content_type, segments = tail_of(path, dict(body), _TAIL)
        megabytes = sum(map(len, segments)) / 1e6
        plain = min(read(dialect, content_type, segments) for _ in range(_ROUNDS))
        observing = min(read(dialect, content_type, segments, observe=True) for _ in range(2))
        found.append(Speed(title, megabytes / plain, megabytes / observing))
    return found


def growth_on_a_long_tail() -> tuple[float, float]:
    """Megabytes of the tail, and megabytes the process grew by while reading it."""
    dialect, content_type, segments = tail_of("/v1/chat/completions", {"model": "gpt-4o", **_COUNTED}, _TAIL)
    head, last = segments[:-1], segments[-1]
    reader = Reader(dialect, content_type)
    for segment in head:
        reader.feed(segment)
    before, size = _peak_mb(), 0
    while size < _LONG_TAIL:
        for segment in head[1:]:
            reader.feed(segment)
            size += len(segment)
    reader.feed(last)
    assert reader.close().usage is not None
    return size / 1e6, _peak_mb() - before


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
