"""Ratios learned from reports, and intervals that hold."""

from __future__ import annotations

import math
import random

import pytest

from services.meter.estimate import calibration
from services.meter.estimate.calibration import Calibration, estimate, expected, learn
from services.meter.estimate.tokenizers import Tokenizer, tokenizer_of

PLAIN = Tokenizer(per_answer=0, per_call=10)


@pytest.mark.parametrize("truth", [0.7, 1.0, 1.3, 2.5])
def test_the_ratio_is_learned(truth: float) -> None:
    rng, known = random.Random(truth), calibration.none_yet(PLAIN)
    for _ in range(200):
        observed = rng.randint(20, 900)
        reported = round(observed * truth * rng.lognormvariate(0, 0.1))
        known = learn(known, reported, expected(PLAIN, observed, 0))
    figure = estimate(PLAIN, known, 1000, 0)
    assert figure.ratio == pytest.approx(truth, rel=0.05)
    assert figure.low < truth * 1000 < figure.high


def test_intervals_hold_for_nine_in_ten() -> None:
    rng, known, held = random.Random(7), calibration.none_yet(PLAIN), 0
    for n in range(600):
        observed = rng.randint(5, 900)
        reported = max(1, round(observed * 1.2 * rng.lognormvariate(0, 0.2)))
        figure = estimate(PLAIN, known, observed, 0)
        held += n >= 100 and figure.low <= reported <= figure.high
        known = learn(known, reported, expected(PLAIN, observed, 0))
    assert held / 500 >= 0.9


def test_one_wild_report_does_not_move_much() -> None:
    known = calibration.none_yet(PLAIN)
    for _ in range(50):
        known = learn(known, 100, 100)
    moved = learn(known, 10**9, 100)
    assert math.exp(moved.mean) < 1.1
    assert learn(known, 0, 100) == learn(known, 100, 0) == known


def test_drift_is_beyond_limit_and_spread() -> None:
    steady = Calibration(100, 0.0, 0.01)
    assert calibration.drifted(steady, 300, 100, limit=2.0)
    assert not calibration.drifted(steady, 150, 100, limit=2.0)
    assert not calibration.drifted(steady, 5, 2, limit=2.0)  # too few tokens to tell
    assert not calibration.drifted(Calibration(100, 0.0, 1.0), 300, 100, limit=2.0)


def test_a_calibration_survives_its_text() -> None:
    known = Calibration(3, -0.123456789, 0.0625)
    assert Calibration.load(known.dump()) == known
    with pytest.raises(ValueError, match="unpack"):
        Calibration.load("garbage")


def test_families_are_found_by_name() -> None:
    assert tokenizer_of("gpt-4").encoding == "cl100k_base"
    assert tokenizer_of("gpt-4o-mini").encoding == "o200k_base"
    assert tokenizer_of("anthropic/claude-3-5-sonnet").ratio == 1.15
    assert tokenizer_of("claude-opus-4-8").ratio > tokenizer_of("claude-opus-4-5").ratio
    assert tokenizer_of("claude-sonnet-4-20250514").ratio == 1.15
    assert tokenizer_of("").ratio == tokenizer_of("something-new").ratio
