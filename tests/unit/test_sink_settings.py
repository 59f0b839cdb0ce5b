"""Where the books are kept beyond Redis, by the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.sinks.settings import SinkSettings
from shared.runtime.errors import SettingsError

FOLDER = Path("/nowhere")


@pytest.mark.parametrize(
    ("redis_url", "database_url", "expected"),
    [
        (None, None, "sqlite:////nowhere/books.sqlite"),  # everything is in the data folder
        ("redis://r", None, None),
        ("redis://r", "postgresql://a:b@c/d", "postgresql://a:b@c/d"),
        (None, "postgresql://a:b@c/d", "postgresql://a:b@c/d"),
        (None, "off", None),
    ],
)
def test_the_database_follows_the_redis(redis_url: str | None, database_url: str | None, expected: str | None) -> None:
    settings = SinkSettings.load(data_dir=FOLDER, redis_url=redis_url, database_url=database_url)
    assert settings.database == expected
    assert "a:b" not in repr(settings)


@pytest.mark.parametrize(("rows", "usage"), [(35, 0), (400, 399), (0, 500)])
def test_nothing_is_kept_too_short_to_be_right(rows: int, usage: int) -> None:
    with pytest.raises(SettingsError, match="AROUTER_DATABASE_KEEP"):
        SinkSettings.load(database_keep_days=rows, database_keep_usage_days=usage)


@pytest.mark.parametrize(("rows", "usage"), [(0, 0), (36, 0), (400, 400)])
def test_what_is_kept_long_enough_is_taken(rows: int, usage: int) -> None:
    settings = SinkSettings.load(database_keep_days=rows, database_keep_usage_days=usage)
    assert (settings.database_keep_days, settings.database_keep_usage_days) == (rows, usage)
