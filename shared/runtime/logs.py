"""Logging: one line per event on stderr, as text or as JSON; credentials are struck out."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

# Keys, ours and the providers', and anything after Bearer or key=: a library may log what we do not.
_SECRETS = re.compile(r"(lr_(?:live|mgmt)_[0-9a-z]{4}|\bsk-|\bAIza|\bgsk_|\bxai-|Bearer\s+|[?&]key=)[^\s\"'&,@…]{6,}")
_PASSWORDS = re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)")  # in a URL
_BREAKS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")  # what begins a line, or moves the cursor
_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Set up the root logger of a process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def redacted(text: str) -> str:
    """The text without credentials."""
    return _SECRETS.sub(r"\1…", _PASSWORDS.sub(r"\1…", text))


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # as logging calls it
        """A message is one line: a caller's text in it must not make up others."""
        record.message = _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message"}`, with `exchange_id` and `exception` where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        exchange_id = getattr(record, "exchange_id", None)
        if exchange_id is not None:
            line["exchange_id"] = str(exchange_id)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redacted(json.dumps(line, ensure_ascii=False))
