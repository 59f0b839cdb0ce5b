"""A gauge that counts words: what the meter does with counts can then be told by eye."""

from __future__ import annotations

from services.meter import calibration
from services.meter.calibration import Experience
from services.meter.gauge import LearningGauge
from services.meter.settings import MeterSettings
from services.meter.tokenizers import tokenizer_of


class WordGauge(LearningGauge):
    """Words instead of tokens; nothing learned, nothing sampled unless asked for."""

    def __init__(self, sample: float = 0.0) -> None:
        super().__init__(MeterSettings(sample=sample))

    def count(self, text: str, model: str) -> int:
        return len(text.split())

    def experience(self, provider: str, model: str) -> Experience:
        return calibration.none_yet(tokenizer_of(model))
