"""What meters learn of token counts, shared through a real Redis."""

from __future__ import annotations

import math

import pytest

from services.meter.calibrations import Calibrations
from shared.contract import names
from shared.runtime.store import Store


async def test_meters_share_calibrations(redis: Store) -> None:
    first, second = Calibrations(), Calibrations()
    for _ in range(100):
        first.learn("openrouter", "x/claude-haiku", 150, 100.0)
    await first.sync(redis)
    await redis.hset(names.CALIBRATIONS, "later\x1fversion", "v2:something else")  # type: ignore[misc]
    await second.sync(redis)
    assert second.of("openrouter", "x/claude-haiku") == first.of("openrouter", "x/claude-haiku")
    assert second.of("openrouter", "x/claude-haiku").mean == pytest.approx(math.log(1.5), abs=0.05)
