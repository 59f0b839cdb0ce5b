"""The gauge of a running meter: tiktoken, and what all meters have learned."""

from __future__ import annotations

from services.meter import prices, tokens
from services.meter.calibration import Experience
from services.meter.experience import Experiences
from services.meter.measure import Measured
from services.meter.settings import MeterSettings
from shared.store import Store


class LearningGauge:
    """Counts with tiktoken, expects what experience says, and learns from every exchange that has both figures."""

    def __init__(self, settings: MeterSettings) -> None:
        self.sample = settings.sample
        self.drift_limit = settings.drift_limit
        self.prices = prices.load(settings.prices)
        self._experiences = Experiences()

    def count(self, text: str, model: str) -> int:
        return tokens.count(text, model)

    def experience(self, provider: str, model: str) -> Experience:
        return self._experiences.of(provider, model)

    def learn(self, measured: Measured) -> None:
        """Take what an exchange teaches, if anything."""
        if measured.reported is not None and not measured.entry.drift:
            self._experiences.learn(measured.entry.provider, measured.entry.model, measured.reported, measured.expected)

    async def sync(self, store: Store) -> None:
        """Exchange experience with the other meters."""
        await self._experiences.sync(store)
