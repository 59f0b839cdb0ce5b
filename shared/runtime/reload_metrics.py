"""What metrics say of reloads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.contract.running import Result


class ReloadMetrics:
    """The instruments of one process. `what`: that which it reloads."""

    def __init__(self, registry: CollectorRegistry, what: str) -> None:
        self._loaded = Gauge(
            f"arouter_{what}_loaded_seconds",
            f"When the {what} in use was loaded, in seconds since 1970, by a digest of it without credentials.",
            ["digest"],
            registry=registry,
        )
        self._reloads = Counter(
            f"arouter_{what}_reloads",
            "Reloads by result: changed, unchanged (once a while after the start, too), refused.",
            ["result"],
            registry=registry,
        )

    def loaded(self, digest: str, seconds: float) -> None:
        """Something else is used from now on."""
        self._loaded.clear()
        self._loaded.labels(digest).set(seconds)

    def reloaded(self, result: Result) -> None:
        """A reload has ended."""
        self._reloads.labels(result.value).inc()
