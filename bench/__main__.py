"""`make bench`: measures on this machine, prints, and writes `docs/performance.md`."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

from bench import readers

PAGE = Path("docs/performance.md")

_HEAD = """# How fast it is

Measured by `make bench` on {date}: {machine}, Python {python}. Times on another machine differ; compare ratios, and
numbers of one run.

## Readers
Megabytes of a provider's answer read per second of one core, on tails of 8 MB that report usage at their end, fed in
segments of 64 KiB. *Reading* is what every exchange costs: usage, ids, finish, end. *Observing* decodes every document
and collects the text, and is done for a sample, and where no usage was reported.

| dialect | reading, MB/s | observing, MB/s |
|---|---|---|
"""


def main() -> None:
    speeds = readers.speeds()
    size, growth = readers.growth_on_a_long_tail()
    machine = f"{platform.machine()}, {_processor()}"
    page = _HEAD.format(date=datetime.now(UTC).strftime("%Y-%m-%d"), machine=machine, python=platform.python_version())
    for speed in speeds:
        page += f"| {speed.title} | {speed.mb_per_s:.0f} | {speed.observing_mb_per_s:.0f} |\n"
    page += f"\nOn one tail of {size:.0f} MB the process grew by {growth:.1f} MB while reading.\n"
    PAGE.write_text(page)
    print(page)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
