"""What a report is worth once the answer has ended: zeros beside output, or before the end, are no fact, and a count
that output came after is not the last. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.meter.readers.reading import Reading
from shared.contract.entry import Mark


def settle(reading: Reading) -> Reading:
    """Take back what cannot be a report. Providers fill every chunk with zeros, and only the last with counts."""
    if reading.empty_report and not (reading.whole and not reading.output):
        reading.usage = reading.billed = None
        reading.cost_nanousd = reading.cost_nanousd or None
        reading.marks.add(Mark.PLACEHOLDER)
    usage = reading.usage
    if usage is not None and usage.input_tokens and usage.output_tokens == 0 and _said(reading):
        reading.usage = replace(usage, output_tokens=None, total_tokens=None)
        reading.marks |= {Mark.PLACEHOLDER, Mark.HALF_REPORT}
    elif usage is not None and usage.output_tokens and reading.output_beyond_report and not reading.provisional:
        reading.provisional = True  # a running count: output came after it, and no further report
        reading.marks.add(Mark.HALF_REPORT)
    return reading


def _said(reading: Reading) -> bool:
    return bool(reading.output) and not reading.provisional
