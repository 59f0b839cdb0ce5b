"""Calibration of estimates by earlier reports: per provider and model, reported against expected (decision 11). Pure.

expected = observed text x ratio of the family + constants per answer, tool call and shown reasoning. What is learned
are running means and variances of two things that are never mixed: log(reported / expected) of answers that showed all
they cost, so that a factor too high weighs as much as one too low; and log(tokens) of the reasoning of those that hid
some. The first mean moves estimates; both variances make their intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from services.meter.estimate.tokenizers import Hides, Tokenizer

# How much one more exchange moves the mean once there are many: the last hundred or so count.
_MEMORY = 100
# The seed weighs as much as this many exchanges.
_SEED_WEIGHT = 3
# One exchange cannot move the mean by more than this factor, whatever it claims.
_CLIP = math.log(8)
# Nor by more than this many standard deviations, or this factor where they are small.
_CLIP_DEVIATIONS, _CLIP_LEAST = 3.0, math.log(1.5)
# Of an answer this short half of the difference is rounding, and constants that are not known to a token.
_SHORT = 16
# A mean within so many of its standard errors is taken for chance.
_CHANCE = 1.0
_INTERVAL = 1.8  # standard deviations: 90 % of a normal distribution lie within 1.645, the tails here are fatter
_ROUNDING = 3  # tokens that even a perfect count may be off by
_UNSEEN = 200  # tokens of an answer in which nothing could be seen: it may still have cost some
_CONSTANTS = 0.3  # share of the constants that may be missing, or come twice
# Hidden reasoning before any was reported: half of it is within a hundred tokens, nine tenths within fifteen hundred.
_RARELY = 0.05  # a smaller share of answers that hide reasoning is left to the tenth that an interval may miss
_HIDDEN_MEAN, _HIDDEN_SPREAD = math.log(100), 1.5


class Said(NamedTuple):
    """What an answer showed, in tokens of ours."""

    tokens: int
    calls: int = 0
    thoughts: int = 0  # of the tokens, those of reasoning
    ended: bool = True  # by the model's own will: an answer cut short has no end to pay for


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mean and variance of a logarithm over `count` exchanges."""

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

    def reach(self, deviations: float) -> float:
        """exp of the mean, and so many standard deviations more."""
        return math.exp(min(self.mean + deviations * math.sqrt(max(self.variance, 0.0)), 50.0))

    def certain(self) -> Calibration:
        """The same with as much of its mean as is no chance, and the rest as variance.

        Seeds are right in the median: a mean of a few answers within their noise makes estimates worse.
        """
        error = self.variance / max(1, min(self.count, _MEMORY))
        share = max(0.0, 1 - _CHANCE**2 * error / self.mean**2) if self.mean else 0.0
        return Calibration(self.count, share * self.mean, self.variance + ((1 - share) * self.mean) ** 2)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a provider's model."""

    shown: Calibration  # of log(reported / expected), where nothing was hidden
    hidden: Calibration  # of log(tokens) of reasoning, where there was some that was not shown


@dataclass(frozen=True, slots=True)
class Estimate:
    """Output tokens that were not reported."""

    tokens: int
    ratio: float  # applied to what was observed
    low: int
    high: int  # the truth lies between them nine times out of ten


def none_yet(tokenizer: Tokenizer) -> Known:
    return Known(Calibration(0, 0.0, tokenizer.spread**2), Calibration(0, _HIDDEN_MEAN, _HIDDEN_SPREAD**2))


def expected(tokenizer: Tokenizer, said: Said) -> float:
    """Output tokens by the family's seeds alone, hidden reasoning aside. 0 where nothing was observed."""
    return tokenizer.ratio * said.tokens + _constants(tokenizer, said)


def may_hide(tokenizer: Tokenizer, *, thinks: bool | None) -> bool:
    """Whether answers of a family may cost reasoning they do not show. `thinks`: what the request says of it."""
    if thinks is None:
        return tokenizer.hides is Hides.USUALLY
    return thinks and tokenizer.hides is not Hides.NEVER


def _hidden(tokenizer: Tokenizer, known: Known, *, thinks: bool | None) -> float:
    """Tokens of hidden reasoning there may be, so that nine answers in ten have less. The seed counts for one."""
    if thinks is False:
        return 0.0
    seed = may_hide(tokenizer, thinks=thinks)
    seen, all_ = known.hidden.count + seed, known.hidden.count + known.shown.count + seed
    return known.hidden.reach(_INTERVAL) if seen > _RARELY * all_ else 0.0


def estimate(tokenizer: Tokenizer, known: Known, said: Said, *, thinks: bool | None = None) -> Estimate:
    """The seeds' figure, moved by what was learned. Hidden reasoning is in its interval, and nowhere else."""
    base = expected(tokenizer, said)
    slack = _ROUNDING + _CONSTANTS * _constants(tokenizer, said) if said.tokens else _UNSEEN
    shown, hidden = known.shown.certain(), _hidden(tokenizer, known, thinks=thinks)
    # A summary of reasoning may be longer than what it sums up.
    sure = base - tokenizer.ratio * said.thoughts if tokenizer.hides is not Hides.NEVER else base
    low = math.floor(sure * shown.reach(-_INTERVAL) - slack)
    high = math.ceil(base * shown.reach(_INTERVAL) + slack + hidden)
    tokens = round(base * shown.reach(0))
    ratio = tokens / said.tokens if said.tokens else shown.reach(0) * tokenizer.ratio
    return Estimate(tokens, ratio, max(0, low), high)


def learn_shown(known: Calibration, reported: int, base: float) -> Calibration:
    """One more exchange that showed all it cost, and has both a report and an expectation."""
    if reported <= 0 or base <= 0:
        return known
    return _learn(known, math.log(reported / base), base / (base + _SHORT))


def learn_hidden(known: Calibration, tokens: int) -> Calibration:
    """One more exchange whose reasoning was not shown."""
    return _learn(known, math.log(tokens), 1.0) if tokens > 0 else known


def drifted(known: Calibration, reported: int, base: float, limit: float) -> bool:
    """Whether a report is off the expected count by more than a factor of `limit` and more than the known spread."""
    if reported <= 0 or base <= 0 or abs(reported - base) <= _ROUNDING:
        return False
    off = abs(math.log(reported / base) - known.mean)
    return off > math.log(limit) and off > 3 * math.sqrt(max(known.variance, 0.0))


def _constants(tokenizer: Tokenizer, said: Said) -> float:
    if not said.tokens:
        return 0.0
    thought = tokenizer.per_thought if 0 < said.thoughts < said.tokens else 0
    end = tokenizer.per_end if said.ended else 0
    return tokenizer.per_start + tokenizer.per_call * said.calls + thought + end


def _learn(known: Calibration, sample: float, trust: float) -> Calibration:
    """`trust`: how much of a whole exchange this one teaches, 0 to 1."""
    weight = trust / min(_MEMORY, known.count + 1 + _SEED_WEIGHT)
    most = min(_CLIP, max(_CLIP_LEAST, _CLIP_DEVIATIONS * math.sqrt(max(known.variance, 0.0))))
    step = max(-most, min(most, sample - known.mean))
    mean = known.mean + weight * step
    variance = (1 - weight) * (known.variance + weight * step * step)
    return Calibration(known.count + 1, mean, variance)
