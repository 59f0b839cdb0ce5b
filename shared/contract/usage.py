"""Usage in its normal form: six inclusive counters, and their source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter


class Source(StrEnum):
    """The source of a usage; every figure has one."""

    REPORTED = "reported"  # the provider said so
    ESTIMATED = "estimated"  # ended normally and nothing (or not everything) was reported: counted from the content
    PARTIAL = "partial"  # did not end normally: the latest report where there is one, counted otherwise


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counters of one exchange. `None` is "not reported", never 0.

    `input_tokens` holds all input, cache reads and writes included; `output_tokens` all output, reasoning included.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None

    @property
    def any_known(self) -> bool:
        """Whether there is a count at all: without one it is no report."""
        return _counts(self) != _UNKNOWN

    @property
    def any(self) -> bool:
        """Whether there is a count that is not 0."""
        return any(_counts(self))

    def as_dict(self) -> dict[str, int | None]:
        return dict(zip(COUNTERS, _counts(self), strict=True))

    def completed(self) -> Usage:
        """The same with the counters that the others imply: the total, or the output that a total leaves.

        Embeddings and blocked prompts report only input and total: their output is 0, and not unknown.
        """
        if self.input_tokens is None:
            return self
        if self.total_tokens is None and self.output_tokens is not None:
            return replace(self, total_tokens=self.input_tokens + self.output_tokens)
        if self.output_tokens is None and self.total_tokens is not None and self.total_tokens >= self.input_tokens:
            return replace(self, output_tokens=self.total_tokens - self.input_tokens)
        return self


COUNTERS: tuple[str, ...] = tuple(Usage.__dataclass_fields__)
_UNKNOWN = (None,) * len(COUNTERS)
_counts = attrgetter(*COUNTERS)
