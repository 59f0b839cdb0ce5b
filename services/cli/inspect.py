"""`arouter inspect`: what the meter reads in recorded bodies."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from services.meter import endings, tails
from services.meter.estimate import calibration, prompt, tokens
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.observing import said_of
from services.meter.readers.reader import Reader
from services.meter.readers.reading import Reading
from services.meter.settings import MeterSettings
from shared.contract.dialects import Dialect
from shared.contract.usage import Usage
from shared.runtime.errors import SettingsError

_CHUNK = 64 * 1024


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("inspect", help="print what the meter reads in a recorded body")
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--dialect", choices=list(Dialect), metavar="D", help=", ".join(Dialect))
    parser.add_argument("--content-type", default="", metavar="T")
    parser.add_argument("--request", type=Path, metavar="FILE", help="the request body, to count the prompt from")
    parser.add_argument(
        "--batch",
        action="store_true",
        help='read JSON lines {"path", "dialect", "content_type", "request_path"}, print a line for each',
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what the meter reads, as JSON; 0 whatever the bodies hold."""
    settings = MeterSettings.load()
    tokens.load(settings.ranks_dir or settings.data_dir.expanduser() / "ranks")
    if arguments.batch:
        for line in batch(sys.stdin):
            print(json.dumps(line, ensure_ascii=False), flush=True)
        return 0
    if arguments.file is None or arguments.dialect is None:
        raise SettingsError("inspect: give a FILE and --dialect, or --batch")
    found = inspect(arguments.file, arguments.dialect, arguments.content_type, arguments.request)
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def batch(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One result per line, in order, even where a line is garbage."""
    for line in lines:
        try:
            asked = json.loads(line)
            request = asked.get("request_path")
            found = inspect(
                Path(asked["path"]),
                Dialect(asked["dialect"]),
                asked.get("content_type") or "",
                Path(request) if request else None,
            )
            yield {name: found[name] for name in _BATCH_FIELDS}
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as exc:
            path = asked.get("path") if isinstance(asked := _object(line), dict) else None
            yield _nothing(path) | {"error": f"{type(exc).__name__}: {exc}"}


_BATCH_FIELDS = ("path", "reported", "usage", "observed_output_tokens", "model", "response_id", "finish", "error")


def inspect(path: Path, dialect: Dialect, content_type: str, request: Path | None) -> dict[str, Any]:
    """The report in a body, what is booked of it, our own count, and the estimate that would be booked without it.

    `usage` is what the model counted; where the provider bills other counts (Cohere), `booked` differs (decision 33).
    """
    reading = _read(path, dialect, content_type)
    body = request.read_bytes() if request is not None else b""
    model = _asked_model(body) or reading.model
    tokenizer = tokenizer_of(model)
    said = said_of(reading, lambda text: tokens.count(text, model))
    asked = prompt.asked(body, model, lambda text: tokens.count(text, model)) if body else None
    thinks = asked.thinks if asked else None
    estimate = calibration.estimate(tokenizer, calibration.none_yet(tokenizer), said, thinks=thinks)
    unreadable = reading.unreadable
    booked, model_usage = tails.reported(dialect, reading), tails.of_model(reading)
    return {
        "path": str(path),
        "reported": booked is not None,
        "usage": (model_usage if model_usage.any_known else booked or Usage()).as_dict(),
        "booked": booked.as_dict() if booked else None,
        "reported_cost_nanousd": reading.cost_nanousd,
        "raw_usage": reading.raw_usage,
        "marks": sorted(reading.marks),
        "units": reading.units,
        "modalities": dict(reading.modalities),
        "provisional": reading.provisional,
        "observed_output_tokens": said.tokens,
        "estimated": {
            "input_tokens": asked.tokens if asked else None,
            "input_low": asked.low if asked else None,
            "input_high": asked.high if asked else None,
            "output_tokens": None if unreadable else estimate.tokens,
            "output_low": None if unreadable else estimate.low,
            "output_high": None if unreadable else estimate.high,
            "ratio": round(estimate.ratio, 4),
        },
        "model": reading.model or None,
        "response_id": reading.response_id or None,
        "finish": reading.finish,
        "service_tier": reading.service_tier or None,
        "complete": reading.complete,
        "error": reading.bad_usage or reading.error or (endings.UNREADABLE if unreadable else None),
    }


def _read(path: Path, dialect: Dialect, content_type: str) -> Reading:
    reader = Reader(dialect, content_type, observe=True)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            reader.feed(chunk)
    return reader.close()


def _asked_model(body: bytes) -> str:
    document = _object(body)
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) else ""


def _object(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, UnicodeDecodeError):
        return None


def _nothing(path: Any) -> dict[str, Any]:
    empty = dict.fromkeys(_BATCH_FIELDS)
    return empty | {"path": path, "reported": False, "usage": Usage().as_dict(), "finish": []}
