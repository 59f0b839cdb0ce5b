"""Calibration of estimates by earlier reports: per provider and model, reported against expected (decision 11). Pure.

expected = (observed text + a constant per answer and tool call) x ratio of the family. A calibration is the running
mean and variance of log(reported / expected), so that a factor too high weighs as much as one too low; the mean moves
the estimate, the variance gives its interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.meter.estimate.tokenizers import Tokenizer

# How much one more exchange moves the mean once there are many: the last hundred or so count.
_MEMORY = 100
# The seed weighs as much as this many exchanges.
_SEED_WEIGHT = 2
# One exchange cannot move the mean by more than this factor, whatever it claims.
_CLIP = math.log(8)
_INTERVAL = 1.8  # standard deviations: 90 % of a normal distribution lie within 1.645, the tails here are fatter
_ROUNDING = 3  # tokens that even a perfect count may be off by


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mean and variance of log(reported / expected) over `count` exchanges."""

    count: int
    mean: float
    variance: float

    def dump(self) -> str:
        return f"{self.count} {self.mean!r} {self.variance!r}"

    @classmethod
    def load(cls, text: str) -> Calibration:
        """The inverse of `dump`; ValueError for anything else."""
        count, mean, variance = text.split(" ")
        return cls(int(count), float(mean), float(variance))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Output tokens that were not reported."""

    tokens: int
    ratio: float  # applied to what was observed
    low: int
    high: int  # the truth lies between them nine times out of ten, hidden reasoning aside


def none_yet(tokenizer: Tokenizer) -> Calibration:
    return Calibration(0, 0.0, tokenizer.spread**2)


def expected(tokenizer: Tokenizer, observed: int, calls: int) -> float:
    """Output tokens by the family's seeds alone. 0 where nothing was observed."""
    if not observed:
        return 0.0
    return (observed + tokenizer.per_answer + tokenizer.per_call * calls) * tokenizer.ratio


def estimate(tokenizer: Tokenizer, known: Calibration, observed: int, calls: int) -> Estimate:
    """The seeds' figure, corrected by the calibration."""
    base = expected(tokenizer, observed, calls)
    factor = math.exp(known.mean)
    width = math.exp(_INTERVAL * math.sqrt(max(known.variance, 0.0)))
    tokens = round(base * factor)
    low, high = math.floor(base * factor / width) - _ROUNDING, math.ceil(base * factor * width) + _ROUNDING
    return Estimate(
        tokens, tokens / observed if observed else factor * tokenizer.ratio, max(0, low), high if base else 0
    )


def learn(known: Calibration, reported: int, base: float) -> Calibration:
    """One more exchange that has both a report and an expectation."""
    if reported <= 0 or base <= 0:
        return known
    sample = max(-_CLIP, min(_CLIP, math.log(reported / base)))
    weight = 1 / min(_MEMORY, known.count + 1 + _SEED_WEIGHT)
    step = sample - known.mean
    mean = known.mean + weight * step
    variance = (1 - weight) * (known.variance + weight * step * step)
    return Calibration(known.count + 1, mean, variance)


def drifted(known: Calibration, reported: int, base: float, limit: float) -> bool:
    """Whether a report is off the expected count by more than a factor of `limit` and more than the known spread."""
    if reported <= 0 or base <= 0 or abs(reported - base) <= _ROUNDING:
        return False
    off = abs(math.log(reported / base) - known.mean)
    return off > math.log(limit) and off > 3 * math.sqrt(max(known.variance, 0.0))
