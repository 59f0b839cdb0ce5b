"""What our own count says of an answer, and what it teaches beside a report. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.meter.estimate.calibration import Said
from services.meter.estimate.lesson import Lesson, lesson_of
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.readers.reading import CALL, REASONING, Reading
from services.meter.reconcile import Observed
from shared.contract.usage import Usage

# In every dialect's word for an answer that was as long as it was allowed to be.
_CUT_SHORT = re.compile(r"(?i)length|max|incomplete")


def said_of(reading: Reading, count: Callable[[str], int]) -> Said:
    """What an answer showed, read with `observe`."""
    counts = [(kind, count("".join(pieces))) for (kind, _), pieces in reading.output.items()]
    thoughts = sum(tokens for kind, tokens in counts if kind == REASONING)
    ended = reading.complete and not any(_CUT_SHORT.search(str(reason)) for reason in reading.finish)
    return Said(sum(tokens for _, tokens in counts), sum(kind == CALL for kind, _ in counts), thoughts, ended)


def taught(model: str, reported: Usage | None, observed: Observed | None) -> Lesson | None:
    """What there is to learn from a final report; None where there is no report, or nothing was observed."""
    if reported is None or reported.output_tokens is None or observed is None or observed.said is None:
        return None
    thinks = observed.asked.thinks if observed.asked else None
    said, reasoning = observed.said, reported.reasoning_tokens
    return lesson_of(tokenizer_of(model), said, reported.output_tokens, reasoning, thinks=thinks)
