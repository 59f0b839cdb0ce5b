"""What is booked of a socket: the sum of what its responses report, and an estimate of each that reports nothing. Pure,
except for the count that is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from services.meter.estimate import calibration, prompt
from services.meter.estimate.calibration import Estimate, Known, Said
from services.meter.estimate.tokenizers import tokenizer_of
from services.meter.readers.reading import CALL, Unreported
from services.meter.reconcile import NOTHING, UNKNOWN, Booked, Observed
from services.meter.tails import SWITCHED, Found, Tail
from shared.contract.dialects import SOCKETS
from shared.contract.tail import Outcome
from shared.contract.usage import Source

Count = Callable[[str], int]


def is_socket(tail: Tail) -> bool:
    """Whether a tail holds the messages of a socket, and not an answer to its handshake."""
    return tail.open.dialect in SOCKETS and tail.end.status == SWITCHED


def book(found: Found, outcome: Outcome, model: str, known: Known, count: Count) -> tuple[Booked, Observed | None]:
    """What is booked, and our own count of what was not reported."""
    reading, reported = found.reading, found.reported
    missing = reading.unreported
    if not missing:
        if reported is None and (reading.unread or (reading.documents and not reading.shaped)):
            return UNKNOWN, None
        source = Source.REPORTED if found.normal_end else Source.PARTIAL
        return Booked(reported or NOTHING, source), None
    asked = _input(missing, model, count)
    output = _output(missing, model, known, count)
    had = reported or NOTHING
    usage = replace(
        had,
        input_tokens=(had.input_tokens or 0) + asked,
        output_tokens=(had.output_tokens or 0) + output.tokens,
        total_tokens=None,
    ).completed()
    whole = outcome is Outcome.COMPLETED and all(one.done for one in missing) and not reading.provisional
    before = had.output_tokens or 0
    shown = Estimate(usage.output_tokens or 0, output.ratio, before + output.low, before + output.high)
    booked = Booked(usage, Source.ESTIMATED if whole else Source.PARTIAL, shown, half=reported is not None)
    return booked, Observed(asked, output.tokens, output)


def _input(missing: Iterable[Unreported], model: str, count: Count) -> int:
    """For each, the conversation as it was last reported, and what was added to it. What several have heard is counted
    once and added to each."""
    sums: dict[int, list[int]] = {}
    tokens = 0
    for one in missing:
        known = sums.setdefault(id(one.pieces), [0])
        for piece in one.pieces[len(known) - 1 : one.heard]:
            known.append(known[-1] + _piece(piece, model, count))
        tokens += one.base + known[one.heard]
    return tokens


def _piece(piece: bytes | str | int, model: str, count: Count) -> int:
    if isinstance(piece, int):
        return piece
    return count(piece) if isinstance(piece, str) else prompt.asked(piece, model, count).tokens


def _output(missing: Iterable[Unreported], model: str, known: Known, count: Count) -> Estimate:
    """The text as it would be reported; sound by the tokens of its length."""
    tokens = low = high = 0
    ratio = 1.0
    for one in missing:
        tokens, low, high = tokens + one.tokens, low + one.tokens, high + one.tokens
        if one.said:
            counted = {slot: count("".join(pieces)) for slot, pieces in one.said.items()}
            said = Said(sum(counted.values()), sum(kind == CALL for kind, _ in counted), 0, one.done)
            text = calibration.estimate(tokenizer_of(model), known, said)
            ratio = text.ratio
            tokens, low, high = tokens + text.tokens, low + text.low, high + text.high
    return Estimate(tokens, ratio, low, high)
