"""Who watches exchanges: metrics and the access log today, traces later. Observers are told; they change nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from shared.contract.ids import ExchangeId
from shared.contract.tail import Outcome

log = logging.getLogger("arouter.access")


class Summary(NamedTuple):
    """One exchange that has ended. Times are seconds, None where nothing came."""

    id: ExchangeId
    provider: str
    model: str
    status: int | None  # the provider's HTTP status
    outcome: Outcome
    cause: str  # a machine word; "" where nothing went wrong
    response_bytes: int  # of the body, relayed
    lost_bytes: int  # those of them the tap had no room for
    first_byte: float | None  # from the request going out
    first_byte_to_client: float | None  # from the request's head coming in
    duration: float


class StopWatch(Protocol):
    """Measures the silences of one exchange, on both of its sides."""

    def came(self) -> None:
        """Bytes have come from the provider."""

    def went(self) -> None:
        """They have gone to the client."""


class Observer:
    """Sees what it overrides, and ignores the rest. Called on the event loop: it must neither wait nor raise."""

    def began(self) -> StopWatch | None:
        """An exchange begins; its stop watch, where its gaps are to be measured."""
        return None

    def refused(self, status: int) -> None:
        """A request was turned away with this status before it was an exchange."""

    def ended(self, summary: Summary) -> None:
        """An exchange has ended."""


class Observers(Observer):
    """Several as one."""

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
    """One line an exchange, and one for each request that was refused (`AROUTER_ACCESS_LOG`)."""

    def refused(self, status: int) -> None:
        log.info("refused %d", status)

    def ended(self, summary: Summary) -> None:
        log.info(
            "%s/%s status=%s outcome=%s cause=%s bytes=%d first_byte_ms=%s duration_ms=%d",
            summary.provider,
            summary.model or "-",
            summary.status or "-",
            summary.outcome,
            summary.cause or "-",
            summary.response_bytes,
            "-" if summary.first_byte is None else int(summary.first_byte * 1000),
            int(summary.duration * 1000),
            extra={"exchange_id": str(summary.id)},
        )
