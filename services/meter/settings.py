"""The meter's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import Settings


class MeterSettings(Settings):
    """Everything a meter can be told."""

    arq_redis_url: SecretStr | None = Field(
        default=None, description="Redis for arq's own lifecycle and cron. Unset: the same as REDIS_URL."
    )
    ranks_dir: Path | None = Field(
        default=None, description="Folder with tiktoken's rank files. Unset: in the data folder, unpacked on first use."
    )
    ledger_keep: int = Field(
        default=7 * 86_400, ge=3600, description="Seconds a ledger entry stays; older ones are trimmed by age."
    )
    batch: int = Field(default=200, ge=1, le=10_000, description="Most records read from a shard at once.")
