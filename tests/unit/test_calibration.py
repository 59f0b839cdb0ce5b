"""Ratios learned from reports, hidden reasoning apart, and intervals that hold."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from services.meter.calibrations import Calibrations
from services.meter.estimate import calibration
from services.meter.estimate.calibration import Calibration, Known, Said, estimate, expected, learn_hidden, learn_shown
from services.meter.estimate.lesson import Lesson, lesson_of
from services.meter.estimate.tokenizers import Hides, Tokenizer, tokenizer_of

PLAIN = Tokenizer(per_end=0, per_call=10)
HIDING = Tokenizer(per_end=0, hides=Hides.USUALLY)
ASKED = Tokenizer(per_end=0, hides=Hides.ASKED)


def shown(known: Known, *samples: tuple[int, float]) -> Known:
    """What is known after such reports and expectations."""
    learned = known.shown
    for reported, base in samples:
        learned = learn_shown(learned, reported, base)
    return Known(learned, known.hidden)


def hidden(known: Known, *samples: int) -> Known:
    learned = known.hidden
    for tokens in samples:
        learned = learn_hidden(learned, tokens)
    return Known(known.shown, learned)


@pytest.mark.parametrize("truth", [0.7, 1.0, 1.3, 2.5])
def test_the_ratio_is_learned(truth: float) -> None:
    rng, known = random.Random(truth), calibration.none_yet(PLAIN)
    for _ in range(200):
        observed = rng.randint(20, 900)
        reported = round(observed * truth * rng.lognormvariate(0, 0.1))
        known = shown(known, (reported, expected(PLAIN, Said(observed))))
    figure = estimate(PLAIN, known, Said(1000))
    assert figure.ratio == pytest.approx(truth, rel=0.05)
    assert figure.low < truth * 1000 < figure.high


@pytest.mark.parametrize("reports", [5, 20, 100])
def test_what_is_right_already_is_not_made_worse(reports: int) -> None:
    """The mean of a few answers is off by chance; the seed is not."""
    rng, off = random.Random(reports), []
    for _ in range(200):
        known = calibration.none_yet(PLAIN)
        for _ in range(reports):
            known = shown(known, (round(300 * rng.lognormvariate(0, 0.2)), 300))
        off.append(abs(estimate(PLAIN, known, Said(300)).tokens - 300) / 300)
    assert statistics.median(off) <= 0.01


def test_intervals_hold_for_nine_in_ten() -> None:
    rng, known, held = random.Random(7), calibration.none_yet(PLAIN), 0
    for n in range(600):
        observed = rng.randint(5, 900)
        reported = max(1, round(observed * 1.2 * rng.lognormvariate(0, 0.2)))
        figure = estimate(PLAIN, known, Said(observed))
        held += n >= 100 and figure.low <= reported <= figure.high
        known = shown(known, (reported, expected(PLAIN, Said(observed))))
    assert held / 500 >= 0.9
    assert estimate(PLAIN, known, Said(900)).high < 900 * 1.2 * 1.6


def test_one_wild_report_does_not_move_much() -> None:
    known = shown(calibration.none_yet(PLAIN), *[(100, 100.0)] * 50)
    moved = learn_shown(known.shown, 10**9, 100)
    assert math.exp(moved.mean) < 1.02
    assert learn_shown(known.shown, 0, 100) == learn_shown(known.shown, 100, 0) == known.shown
    assert learn_hidden(known.hidden, 0) == known.hidden


def test_short_answers_teach_little() -> None:
    none = calibration.none_yet(PLAIN).shown
    assert learn_shown(none, 4, 2).mean < learn_shown(none, 4000, 2000).mean / 3


def test_answers_cost_constants_of_their_kinds() -> None:
    claude, harmony = tokenizer_of("claude-sonnet-4-5"), tokenizer_of("openai/gpt-oss-20b")
    assert expected(claude, Said(100)) == pytest.approx(116 + 3)
    assert expected(claude, Said(100, calls=2)) == pytest.approx(116 + 3 + 76)
    assert expected(harmony, Said(48, thoughts=37)) == pytest.approx(58)
    assert expected(harmony, Said(13, thoughts=13)) == pytest.approx(16)
    assert expected(claude, Said(100, ended=False)) == pytest.approx(116)
    assert expected(claude, Said(0)) == 0


def test_calls_widen_an_interval_by_what_is_not_known_of_them() -> None:
    known, claude = calibration.none_yet(tokenizer_of("claude-3-opus")), tokenizer_of("claude-3-opus")
    text, called = estimate(claude, known, Said(100)), estimate(claude, known, Said(100, calls=3))
    assert called.high - called.tokens > text.high - text.tokens + 30


@pytest.mark.parametrize(
    ("tokenizer", "said", "reported", "reasoning", "thinks", "teaches"),
    [
        (PLAIN, Said(100), 110, None, None, (110, 0)),
        (PLAIN, Said(100), 110, 0, None, (110, 0)),
        (PLAIN, Said(100), 900, None, None, (900, 0)),  # nothing to hide: a ratio, or drift
        (HIDING, Said(100), 110, None, None, (110, 0)),
        (HIDING, Said(100), 900, None, None, (None, 0)),  # reasoning that goes unmentioned, or not
        (HIDING, Said(100), 900, 0, None, (900, 0)),
        (HIDING, Said(100), 900, None, False, (900, 0)),  # asked not to think
        (ASKED, Said(100), 900, None, None, (900, 0)),
        (ASKED, Said(100), 900, None, True, (None, 0)),
        (HIDING, Said(100), 740, 640, None, (None, 640)),
        (PLAIN, Said(100), 740, 640, None, (None, 640)),
        (PLAIN, Said(740, thoughts=640), 745, 642, None, (745, 0)),  # all of it was shown
        (HIDING, Said(160, thoughts=60), 740, 640, None, (None, 580)),  # a summary
        (HIDING, Said(300, thoughts=200), 150, 50, None, (None, 0)),  # longer than what it sums up
    ],
)
def test_hidden_reasoning_is_told_apart(
    tokenizer: Tokenizer, said: Said, reported: int, reasoning: int | None, thinks: bool | None, teaches: object
) -> None:
    lesson = lesson_of(tokenizer, said, reported, reasoning, thinks=thinks)
    assert (lesson.shown, lesson.hidden) == teaches
    assert lesson.expected == expected(tokenizer, said)


def test_hidden_reasoning_moves_no_estimate_but_its_interval() -> None:
    none = calibration.none_yet(HIDING)
    before, after = (estimate(HIDING, known, Said(50)) for known in (none, hidden(none, *[2000] * 60)))
    assert (after.tokens, after.low) == (before.tokens, before.low) == (50, before.low)
    assert after.high > 2000 > before.high - 300
    assert estimate(HIDING, none, Said(50), thinks=False).high < 100
    assert estimate(ASKED, none, Said(50)).high < 100
    assert estimate(ASKED, none, Said(50), thinks=True).high > 1000


def test_a_model_that_never_hid_any_is_believed_in_time() -> None:
    known = shown(calibration.none_yet(HIDING), *[(50, 50.0)] * 30)
    assert estimate(HIDING, known, Said(50)).high < 100
    seldom = hidden(known, 500, 600)
    assert estimate(HIDING, seldom, Said(50)).high > 500


def test_a_summary_may_be_longer_than_the_reasoning() -> None:
    none = calibration.none_yet(HIDING)
    assert estimate(HIDING, none, Said(110, thoughts=100)).low <= 12
    assert estimate(PLAIN, calibration.none_yet(PLAIN), Said(110, thoughts=100)).low > 60


def test_nothing_seen_is_not_nothing_for_certain() -> None:
    for tokenizer in (PLAIN, HIDING):
        figure = estimate(tokenizer, calibration.none_yet(tokenizer), Said(0))
        assert (figure.tokens, figure.low) == (0, 0)
        assert figure.high >= 200


def test_drift_is_beyond_limit_and_spread() -> None:
    steady = Calibration(100, 0.0, 0.01)
    assert calibration.drifted(steady, 300, 100, limit=2.0)
    assert not calibration.drifted(steady, 150, 100, limit=2.0)
    assert not calibration.drifted(steady, 5, 2, limit=2.0)  # too few tokens to tell
    assert not calibration.drifted(Calibration(100, 0.0, 1.0), 300, 100, limit=2.0)


def test_what_was_learned_survives_its_text() -> None:
    learned = Calibration(3, -0.123456789, 0.0625)
    assert Calibration.load(learned.dump()) == learned
    with pytest.raises(ValueError, match="unpack"):
        Calibration.load("garbage")


def test_families_are_found_by_name() -> None:
    assert tokenizer_of("gpt-4").encoding == "cl100k_base"
    assert tokenizer_of("gpt-4o-mini").encoding == "o200k_base"
    assert tokenizer_of("anthropic/claude-3-5-sonnet").ratio == 1.16
    assert tokenizer_of("claude-opus-4-8").ratio > tokenizer_of("claude-opus-4-5").ratio
    assert tokenizer_of("anthropic/claude-opus-4.8") == tokenizer_of("claude-opus-4-8")
    assert tokenizer_of("claude-sonnet-4-20250514").ratio == 1.16
    assert tokenizer_of("mistral-small-latest") == tokenizer_of("ministral-3b") != tokenizer_of("")
    assert tokenizer_of("openai/gpt-oss-20b").hides is Hides.NEVER
    assert tokenizer_of("gpt-5.2").hides is tokenizer_of("o4-mini").hides is Hides.USUALLY
    assert tokenizer_of("").ratio == tokenizer_of("something-new").ratio == tokenizer_of("x" * 100_000).ratio


def test_names_come_from_callers_and_are_bounded() -> None:
    meter = Calibrations()
    for n in range(10_050):
        meter.learn("p", f"model-{n}", Lesson(100.0, 150))
    learned = sum(meter.of("p", f"model-{n}").shown.count for n in range(10_050))
    assert learned == 10_000
