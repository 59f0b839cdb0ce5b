"""The meter's settings."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from services.meter.prices import paths
from shared.runtime.settings import EVERYWHERE, Settings


class MeterSettings(Settings):
    """What a meter reads."""

    RELOADED: ClassVar[frozenset[str]] = frozenset({"prices"})

    arq_redis_url: SecretStr | None = Field(
        default=None,
        description="Redis for arq's own lifecycle and cron. Unset: the same as REDIS_URL. Needed with a cluster, "
        "which arq cannot use: any plain Redis will do, nothing in it is billing data.",
    )
    meter_metrics_host: str = Field(
        default="127.0.0.1", description=f"Address of /metrics, /healthz and /readyz. {EVERYWHERE}"
    )
    meter_metrics_port: int = Field(
        default=9091, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz; 0 for none."
    )
    metrics_usage_series: int = Field(
        default=200,
        ge=0,
        le=10_000,
        description="Pairs of team and model that metrics of usage tell apart; what is beyond is `other`. 0: none.",
    )
    ranks_dir: Path | None = Field(
        default=None, description="Folder with tiktoken's rank files. Unset: in the data folder, unpacked on first use."
    )
    ledger_keep: int = Field(
        default=7 * 86_400, ge=3600, description="Seconds a ledger entry stays; older ones are trimmed by age."
    )
    ledger_hold: int = Field(
        default=7 * 86_400,
        ge=0,
        description="Seconds that an entry stays beyond AROUTER_LEDGER_KEEP for a follower that has not read it. "
        "Then it is trimmed, and the follower shows the gap.",
    )
    ledger_hold_memory: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Nothing is held back for a follower while Redis uses more than this share of its maxmemory.",
    )
    aof_rewrite_hours: int = Field(
        default=24,
        ge=0,
        le=24 * 7,
        description="Hours between two rewrites of Redis's append-only file, which take the text of settled exchanges "
        "off its disk; 0 leaves them to Redis.",
    )
    prices: str = Field(
        default="list",
        description="Files of the price book (docs/prices.md), comma-separated: the first one that has a price for a "
        "model decides. `list` stands for the list prices that come with this version; empty: every exchange is "
        "unpriced.",
    )
    cost_difference: float = Field(
        default=0.05,
        ge=0,
        description="Share by which the cost by the price book may differ from the provider's own figure; beyond it "
        "the exchange is marked.",
    )
    sample: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of exchanges with reported usage that are counted too, for calibration.",
    )
    drift_limit: float = Field(
        default=2.0, gt=1, description="A report that differs from our own count by this factor is marked as drift."
    )
    batch: int = Field(
        default=200,
        ge=1,
        le=10_000,
        description="Most records read from a shard at once; fewer where they are large: about 8 MiB.",
    )

    def reloaded_files(self) -> list[Path]:
        """As everywhere, with the files of the price book."""
        return [*super().reloaded_files(), *paths(self.prices)]
