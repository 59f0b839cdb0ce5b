"""What meters learn of token counts, shared through a real Redis."""

from __future__ import annotations

import math

import pytest

from services.meter.calibrations import Calibrations
from services.meter.estimate import calibration
from services.meter.estimate.calibration import Calibration
from services.meter.estimate.lesson import Lesson
from services.meter.estimate.tokenizers import tokenizer_of
from shared.contract import names
from shared.runtime.store import Store


async def test_meters_share_calibrations(redis: Store) -> None:
    first, second = Calibrations(), Calibrations()
    for _ in range(100):
        first.learn("openrouter", "x/claude-haiku", Lesson(100.0, 150))
        first.learn("google", "gemini-2.5-pro", Lesson(100.0, None, 700))
    await first.sync(redis)
    await redis.hset(names.CALIBRATIONS, "later\x1fversion", "v2:something else")  # type: ignore[misc]
    await second.sync(redis)
    for place in [("openrouter", "x/claude-haiku"), ("google", "gemini-2.5-pro")]:
        assert second.of(*place) == first.of(*place)
    assert second.of("openrouter", "x/claude-haiku").shown.mean == pytest.approx(math.log(1.5), abs=0.05)
    assert second.of("google", "gemini-2.5-pro").hidden.reach(0) == pytest.approx(700, rel=0.15)


async def test_old_meters_and_new_ones_work_on_one_hash(redis: Store) -> None:
    """A field used to be provider and model, over all answers: it is read where none hide reasoning, never written."""
    old = {"p\x1fdeepseek-chat": "40 0.2 0.01", "p\x1fgemini-2.5-pro": "40 2.0 0.5", "p\x1fm/with\x1fodd": "9 0.1 0.1"}
    await redis.hset(names.CALIBRATIONS, mapping=old)  # type: ignore[misc]
    meter = Calibrations()
    await meter.sync(redis)
    assert meter.of("p", "deepseek-chat").shown == Calibration(40, 0.2, 0.01)
    assert meter.of("p", "gemini-2.5-pro") == calibration.none_yet(tokenizer_of("gemini-2.5-pro"))
    meter.learn("p", "deepseek-chat", Lesson(100.0, 122))
    await meter.sync(redis)
    kept = await redis.hgetall(names.CALIBRATIONS)  # type: ignore[misc]
    stored = {field.decode(): value.decode() for field, value in kept.items()}
    assert {field: stored[field] for field in old} == old
    assert stored["p\x1fdeepseek-chat\x1fshown"].startswith("41 0.1999")
    for value in stored.values():
        Calibration.load(value)  # what old meters do with every field
