"""Observers of exchanges: metrics and the access log. They are told what happens, and change nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from shared.contract.ids import ExchangeId
from shared.contract.tail import Attempt, Outcome

log = logging.getLogger("arouter.access")


class Summary(NamedTuple):
    """One exchange that has ended. Times are seconds, None where nothing came."""

    id: ExchangeId
    provider: str
    model: str
    status: int | None  # the provider's HTTP status; None where it sent none
    outcome: Outcome
    cause: str  # a machine word; "" where nothing went wrong
    attempts: Sequence[Attempt]
    response_bytes: int  # relayed body bytes
    lost_bytes: int  # how many of them the tap had no room for
    first_byte: float | None  # since the open record was durable
    first_byte_to_client: float | None  # since the request's head arrived
    duration: float


class StopWatch(Protocol):
    """Measures the gaps of one exchange, on both sides."""

    def came(self) -> None:
        """Bytes have come from the provider."""

    def went(self) -> None:
        """Bytes have gone to the client."""


class Observer:
    """Ignores everything; subclasses override what they observe. Called on the event loop: it must neither wait nor
    raise."""

    def began(self) -> StopWatch | None:
        """An exchange begins. Returns a stop watch where its gaps are to be measured, else None."""
        return None

    def refused(self, status: int) -> None:
        """A request was refused with this status before it became an exchange."""

    def ended(self, summary: Summary) -> None:
        """An exchange has ended."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def began(self) -> StopWatch | None:
        for observer in self._observers:
            watch = observer.began()
            if watch is not None:
                return watch
        return None

    def refused(self, status: int) -> None:
        for observer in self._observers:
            observer.refused(status)

    def ended(self, summary: Summary) -> None:
        for observer in self._observers:
            observer.ended(summary)


class AccessLog(Observer):
    """Logs a line for each exchange, and one for each refused request (`AROUTER_ACCESS_LOG`)."""

    def refused(self, status: int) -> None:
        log.info("refused %d", status)

    def ended(self, summary: Summary) -> None:
        log.info(
            "%s/%s status=%s outcome=%s cause=%s attempts=%d bytes=%d first_byte_ms=%s duration_ms=%d",
            summary.provider,
            summary.model or "-",
            summary.status or "-",
            summary.outcome,
            summary.cause or "-",
            len(summary.attempts),
            summary.response_bytes,
            "-" if summary.first_byte is None else int(summary.first_byte * 1000),
            int(summary.duration * 1000),
            extra={"exchange_id": str(summary.id)},
        )
