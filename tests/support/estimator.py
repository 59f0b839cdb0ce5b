"""An estimator that counts words, so that the expected counts are easy to see."""

from __future__ import annotations

from services.meter.estimate import calibration
from services.meter.estimate.calibration import Known
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.estimator import TokenEstimator
from services.meter.settings import MeterSettings


class WordEstimator(TokenEstimator):
    """Counts words instead of tokens. It does not learn, and samples only where it is told to."""

    def __init__(self, sample: float = 0.0) -> None:
        super().__init__(MeterSettings(sample=sample, prices=""))
        self.factor = 1  # tokens of a word

    def count(self, text: str, model: str) -> int:
        return self.factor * len(text.split())

    def calibration(self, provider: str, model: str) -> Known:
        return calibration.none_yet(tokenizer_of(model))
