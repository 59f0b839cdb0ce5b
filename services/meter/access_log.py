"""The meter's half of the access log (`AROUTER_ACCESS_LOG`): how each answer ended, which only its reader knows."""

from __future__ import annotations

import json
import logging
import re

from services.meter.metrics import MeterMetrics
from shared.contract.entry import Entry

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+-]+")

log = logging.getLogger("arouter.access")


class AccessLog(MeterMetrics):
    """The same instruments, with a line for each exchange that is booked for good or held as unreadable."""

    def settled(self, entry: Entry, lag: float, *, final: bool) -> None:
        super().settled(entry, lag, final=final)
        if final:
            _line(entry)

    def unreadable(self, entry: Entry) -> None:
        super().unreadable(entry)
        _line(entry)


def _line(entry: Entry) -> None:
    log.info(
        "%s/%s status=%s outcome=%s ended=%s cause=%s source=%s input=%s output=%s team=%s user=%s session=%s app=%s",
        entry.provider,
        entry.model or "-",
        entry.status or "-",
        entry.outcome,
        entry.ended,
        entry.cause or "-",
        entry.source,
        _shown(entry.input_tokens),
        _shown(entry.output_tokens),
        *map(_word, (entry.team, entry.user, entry.session, entry.app)),
        extra={"exchange_id": entry.exchange_id},
    )


def _word(text: str) -> str:
    """What a caller has written, as one word of a line."""
    return "-" if not text else text if _PLAIN.fullmatch(text) else json.dumps(text)


def _shown(tokens: int | None) -> str:
    """A count; a question mark where it is unknown, which is not 0."""
    return "?" if tokens is None else str(tokens)
