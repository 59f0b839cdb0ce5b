"""What is booked: reported usage, or an estimate where nothing was reported. Pure."""

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


NOTHING = Usage(input_tokens=0, output_tokens=0, total_tokens=0)


def needs_observing(end: End, reported: Usage | None, provisional: bool) -> bool:
    """Whether the content has to be counted: some was bought, and the provider's last word on it is missing."""
    if end.status is None:  # no answer, or one whose head is lost with its gateway
        return end.outcome is Outcome.GATEWAY_LOST and end.response_bytes > 0
    if end.status >= 300:
        return False  # an error's text is not output
    if end.outcome is Outcome.UPSTREAM_FAILED and end.first_byte_ms is None:
        return False  # nothing came, so nothing is owed
    return reported is None or provisional or end.outcome is not Outcome.COMPLETED


def reconcile(normal_end: bool, reported: Usage | None, observed: Observed | None) -> Booked:
    """Reported wins. `observed` is None where `needs_observing` said no: then nothing but the report is booked.

    `normal_end`: the exchange completed, all its bytes are here, and the report (if any) is the final one. Without
    it the report's input stands, and its output is raised to what came through where output came after the report:
    Anthropic's first report counts a handful of tokens, and a running count is as old as its last event.
    """
    if reported is None and observed is None:
        return Booked(NOTHING, Source.REPORTED if normal_end else Source.PARTIAL)
    if reported is None:
        assert observed is not None
        counted = Usage(input_tokens=observed.input_tokens, output_tokens=observed.output.tokens).completed()
        return Booked(counted, Source.ESTIMATED if normal_end else Source.PARTIAL, observed.output, True)
    if normal_end:
        return Booked(reported, Source.REPORTED)
    if observed is not None and observed.beyond_report and observed.output.tokens > (reported.output_tokens or 0):
        raised = replace(reported, output_tokens=observed.output.tokens, total_tokens=None).completed()
        return Booked(raised, Source.PARTIAL, observed.output)
    return Booked(reported, Source.PARTIAL)
