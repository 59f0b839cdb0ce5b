"""What one exchange with a report teaches of estimates. Pure.

Reasoning that was paid for and not shown is told apart from what was, or nothing is learned: a mean over both fits
neither.
"""

from __future__ import annotations

from typing import NamedTuple

from services.meter.estimate.calibration import Said, expected, may_hide
from services.meter.estimate.tokenizers import Tokenizer

# Shown reasoning within this factor of what was reported is that reasoning; anything else is a summary of it.
_SAME = 1.5
# A report beyond this many times what was shown, and so many tokens, may be reasoning that goes unmentioned.
_UNMENTIONED, _UNMENTIONED_TOKENS = 2.0, 16


class Lesson(NamedTuple):
    """Output tokens: by our own count, as reported without hidden reasoning, and hidden."""

    expected: float
    shown: int | None  # None where it cannot be told
    hidden: int = 0


def lesson_of(
    tokenizer: Tokenizer, said: Said, reported: int, reasoning: int | None, *, thinks: bool | None = None
) -> Lesson:
    """What a final report says beside what was observed. `thinks`: what the request says of reasoning."""
    base = expected(tokenizer, said)
    if not reasoning:
        unmentioned = reported > _UNMENTIONED * base + _UNMENTIONED_TOKENS
        open_ = reasoning is None and unmentioned and may_hide(tokenizer, thinks=thinks)
        return Lesson(base, None if open_ else reported)
    thoughts = tokenizer.ratio * said.thoughts
    if reasoning / _SAME <= thoughts <= reasoning * _SAME:
        return Lesson(base, reported)
    # What was reported beside it is no measure of the text: OpenAI's reasoning is rounded to 64 tokens.
    return Lesson(base, None, max(0, round(reasoning - thoughts)))
