"""The settings of what follows the ledger."""

from __future__ import annotations

from collections import Counter
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from services.sinks.webhooks.settings import WebhookSettings, host_of
from shared.runtime.settings import Settings

_LEAST_DAYS = 36  # an exchange may be amended for a day, and a replay of it is recognised for 35


class SinkSettings(Settings):
    """What processes read of the places that the books are written to: meters and `arouter follow`, which write, and
    gateways, `arouter control` and commands, which ask."""

    database_url: SecretStr | None = Field(
        default=None,
        description="Database that keeps the books beyond Redis (docs/books.md): postgresql://user:password@host/name "
        "(14 or later, needs arouter[postgres]) or sqlite:///path. Unset: books.sqlite in the data folder where "
        "REDIS_URL is unset too, else none; off: none.",
    )
    database_keep_days: int = Field(
        default=400,
        ge=0,
        description="Days that the row of an exchange stays in the database, 36 or more; PostgreSQL drops whole "
        "months. 0: for ever.",
    )
    database_keep_usage_days: int = Field(
        default=0, ge=0, description="Days that hourly usage stays in the database, no fewer than rows. 0: for ever."
    )

    webhooks: tuple[WebhookSettings, ...] = Field(
        default=(), description="URLs that events are sent to (docs/webhooks.md): JSON here, [[webhooks]] in the file."
    )

    otlp_endpoint: SecretStr | None = Field(
        default=None,
        description="Collector of OpenTelemetry that gets a span for each exchange, and metrics "
        "(docs/observability.md): an https:// or http:// URL, to which /v1/traces and /v1/metrics are added. Needs "
        "arouter[otlp]. Unset: none.",
    )
    otlp_headers: SecretStr | None = Field(
        default=None,
        description="Headers for it: name=value, with commas between them, values percent-encoded.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _web(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            host_of(value.get_secret_value())
        return value

    @field_validator("webhooks")
    @classmethod
    def _names_differ(cls, value: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
        twice = [name for name, times in Counter(one.name for one in value).items() if times > 1]
        if twice:
            raise ValueError(f"two webhooks are called {twice[0]!r}: give them a name each")
        return value

    @model_validator(mode="after")
    def _kept_long_enough(self) -> Self:
        rows, usage = self.database_keep_days, self.database_keep_usage_days
        if 0 < rows < _LEAST_DAYS:
            raise ValueError(f"AROUTER_DATABASE_KEEP_DAYS: must be 0, or {_LEAST_DAYS} or more")
        if usage and (not rows or usage < rows):
            raise ValueError("AROUTER_DATABASE_KEEP_USAGE_DAYS: must be 0, or no less than AROUTER_DATABASE_KEEP_DAYS")
        return self

    @property
    def database(self) -> str | None:
        """URL of the database, with its password; None where there is none."""
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
            return None if url == "off" else url
        if self.redis_url is not None:
            return None
        return f"sqlite:///{self.data_dir.expanduser().resolve() / 'books.sqlite'}"
