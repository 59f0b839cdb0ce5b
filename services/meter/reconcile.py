"""What is booked: reported usage where there is any, an estimate where there is none, both where it is half a report.
Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.meter.estimate.calibration import Estimate, Said
from services.meter.estimate.prompt import Asked
from shared.contract.tail import End, Outcome
from shared.contract.usage import Source, Usage


@dataclass(frozen=True, slots=True)
class Observed:
    """Our own count of an answer."""

    input_tokens: int
    output_tokens: int  # as counted, before any ratio
    output: Estimate  # as the provider would most likely report it
    beyond_report: bool = False  # some of the output came after the provider's last report
    asked: Asked | None = None  # the input with its interval
    said: Said | None = None  # the output by what it is


@dataclass(frozen=True, slots=True)
class Booked:
    """The usage of one exchange, and where it came from."""

    usage: Usage
    source: Source
    estimate: Estimate | None = None  # of the output, where that is what was booked
    input_estimated: bool = False
    half: bool = False  # one side was reported and the other had to be estimated


NOTHING = Usage(input_tokens=0, output_tokens=0, total_tokens=0)
# Nothing could be read, or nobody knows how to count it: unknown, which is not 0.
UNKNOWN = Booked(Usage(), Source.PARTIAL)


def needs_observing(end: End, reported: Usage | None, *, confirmed: bool) -> bool:
    """Whether the content has to be counted: some was bought, and the provider's last word on it is missing.

    `confirmed`: the report is final, because the answer ended the way its dialect ends.
    """
    if end.status is None:  # no answer, or one whose head is lost with its gateway
        return end.outcome is Outcome.GATEWAY_LOST and end.response_bytes > 0
    if end.status >= 300:
        return False  # an error's text is not output
    if end.outcome is Outcome.UPSTREAM_FAILED and end.first_byte_ms is None:
        return False  # nothing came, so nothing is owed
    doubtful = reported is None or reported.input_tokens is None or not reported.output_tokens
    return doubtful or not confirmed or end.outcome is not Outcome.COMPLETED


def reconcile(normal_end: bool, reported: Usage | None, observed: Observed | None) -> Booked:
    """Reported wins. `observed` is None where nothing was counted: then nothing but the report is booked.

    `normal_end`: the exchange completed, all its bytes are here, and the answer ended as its dialect ends. Without it
    the report's input stands, and its output is raised to what came through where output came after the report:
    Anthropic's first report counts a handful of tokens, and a running count is as old as its last event.
    """
    if reported is None and observed is None:
        return Booked(NOTHING, Source.REPORTED if normal_end else Source.PARTIAL)
    if reported is None:
        assert observed is not None
        counted = Usage(input_tokens=observed.input_tokens, output_tokens=observed.output.tokens).completed()
        return Booked(counted, Source.ESTIMATED if normal_end else Source.PARTIAL, observed.output, True)
    if observed is None:
        known = None not in (reported.input_tokens, reported.output_tokens)
        return Booked(reported, Source.REPORTED if normal_end and known else Source.PARTIAL)
    return _completed(normal_end, reported, observed)


def known_input(usage: Usage) -> int:
    """What went through the cache is input, even where the rest of it is not known."""
    return (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)


def _completed(normal_end: bool, reported: Usage, observed: Observed) -> Booked:
    """A report, with what it leaves out and with what came after it."""
    no_input, no_output = reported.input_tokens is None, reported.output_tokens is None
    late = not normal_end and observed.beyond_report and observed.output.tokens > (reported.output_tokens or 0)
    half = no_input or no_output
    if not half and not late:
        return Booked(reported, Source.REPORTED if normal_end else Source.PARTIAL)
    usage = replace(
        reported,
        input_tokens=max(observed.input_tokens, known_input(reported)) if no_input else reported.input_tokens,
        output_tokens=observed.output.tokens if no_output or late else reported.output_tokens,
        total_tokens=None,
    ).completed()
    source = Source.ESTIMATED if normal_end else Source.PARTIAL
    return Booked(usage, source, observed.output if no_output or late else None, no_input, half)
