"""An estimator that counts words: what the meter does with counts can then be told by eye."""

from __future__ import annotations

from services.meter.estimate import calibration
from services.meter.estimate.calibration import Known
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.estimator import TokenEstimator
from services.meter.settings import MeterSettings


class WordEstimator(TokenEstimator):
    """Words instead of tokens; nothing learned, nothing sampled unless asked for."""

    def __init__(self, sample: float = 0.0) -> None:
        super().__init__(MeterSettings(sample=sample))

    def count(self, text: str, model: str) -> int:
        return len(text.split())

    def calibration(self, provider: str, model: str) -> Known:
        return calibration.none_yet(tokenizer_of(model))
