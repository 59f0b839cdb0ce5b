"""The token estimator of a running meter: tiktoken, and the calibrations of all meters."""

from __future__ import annotations

import asyncio

from services.meter import prices
from services.meter.calibrations import Calibrations
from services.meter.estimate import tokens
from services.meter.estimate.calibration import Known
from services.meter.measure import Measured
from services.meter.settings import MeterSettings
from shared.runtime.store import Store


class TokenEstimator:
    """Counts with tiktoken, expects what was learned, and learns from every exchange that has both figures."""

    def __init__(self, settings: MeterSettings) -> None:
        self.sample = settings.sample
        self.drift_limit = settings.drift_limit
        self.prices = prices.load(settings.prices, difference=settings.cost_difference)
        self.alone = asyncio.Lock()  # held while an exchange is measured that may have killed a meter
        self._calibrations = Calibrations()

    def count(self, text: str, model: str) -> int:
        return tokens.count(text, model)

    def calibration(self, provider: str, model: str) -> Known:
        return self._calibrations.of(provider, model)

    def learn(self, measured: Measured) -> None:
        """Learn from an exchange, where it has both figures."""
        if measured.lesson is not None and not measured.entry.drift:
            self._calibrations.learn(measured.entry.provider, measured.entry.model, measured.lesson)

    async def sync(self, store: Store) -> None:
        """Share calibrations with the other meters."""
        await self._calibrations.sync(store)
