"""Fuzz target for the readers: `make fuzz`. The first bytes choose dialect, content type and cut; the rest is a body.

Clean means: nothing raises, and the cut changes nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports():
    from services.demo.routes import answer, understand
    from services.meter.readers import encodings
    from services.meter.readers.reader import Reader
    from services.meter.readers.reading import Reading
    from shared.contract.dialects import Dialect
    from shared.contract.errors import BadRecord

DIALECTS = list(Dialect)
TYPES = ["", "text/event-stream", "application/json", "application/x-ndjson", "application/vnd.amazon.eventstream"]
ENCODINGS = ["", "gzip", "deflate", "br", "zstd"]


def read(dialect: Dialect, content_type: str, pieces: list[bytes], *, observe: bool) -> Reading:
    reader = Reader(dialect, content_type, observe=observe)
    for piece in pieces:
        reader.feed(piece)
    return reader.close()


def outcome(reading: Reading) -> tuple[Any, ...]:
    return reading.usage, reading.raw_usage, reading.bad_usage, reading.finish, reading.complete


def check(data: bytes) -> None:
    """One input."""
    if len(data) < 4:
        return
    dialect, content_type = DIALECTS[data[0] % len(DIALECTS)], TYPES[data[1] % len(TYPES)]
    encoding, step, body = ENCODINGS[data[2] % len(ENCODINGS)], data[3] + 1, data[4:]
    try:
        body = b"".join(encodings.decoder(encoding).feed(body))
    except BadRecord:
        body = data[4:]
    whole = read(dialect, content_type, [body], observe=False)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    assert outcome(read(dialect, content_type, pieces, observe=False)) == outcome(whole), "the cut matters"
    read(dialect, content_type, pieces, observe=True).texts()


def write_seeds(folder: Path) -> None:
    """Answers of the demo provider in every dialect, so that the fuzzer starts from what bodies look like."""
    paths = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]
    paths += ["/v1beta/models/g:generateContent", "/v1beta/models/g:streamGenerateContent", "/?alt=sse"]
    for path in paths:
        for stream in (True, False):
            body = json.dumps({"model": "m", "stream": stream, "stream_options": {"include_usage": True}}).encode()
            target = "/v1beta/models/g:streamGenerateContent?alt=sse" if path == "/?alt=sse" else path
            script = answer(understand("POST", target, {"x-demo": "tokens=3"}, body), target, {})
            dialect = bytes([DIALECTS.index(Dialect(script.dialect)), 0, 0, 255])
            name = f"{script.dialect}-{len(list(folder.iterdir()))}"
            (folder / name).write_bytes(dialect + b"".join(piece.data for piece in script.pieces))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as seeds:
        write_seeds(Path(seeds))
        atheris.Setup([*sys.argv, seeds], check)
        atheris.Fuzz()
