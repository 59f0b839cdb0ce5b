"""`make bench`: measures on this machine, prints, and writes `docs/performance.md`."""

from __future__ import annotations

import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench import books, metering, readers, relay
from bench.relay import Row
from tests.support.postgres import NoPostgres

PAGE = Path("docs/performance.md")

_HEAD = """# How fast it is

Measured by `make bench` on {date}: {machine}, {cores} cores, Python {python}. Times on another machine differ; compare
ratios, and numbers of one run.

## Relay
Every peer alone on one core, one after the other, with the same provider and the same clients on another core; the
gateway with keys, routing, journal and metering on, its Redis and meter beside the clients. CPU per event or request is
user and system time of the peer's own process. Delay is from the provider's write to the client's read. In brackets:
times nginx (`proxy_buffering off`), which neither knows keys nor counts.

| | CPU, us per | rate, per s | delay p50, us | delay p99, us | first byte p50, us | KiB per stream |
|---|---|---|---|---|---|---|
"""
_METER = """
## Meter
One process on one core, with everything waiting in the streams.

| exchanges | per second of its CPU | per second |
|---|---|---|
"""
_DATABASE = """
## Database
One follower and a PostgreSQL that syncs to its disk, on the same machine; all exchanges wait in the ledger. CPU per
exchange of the follower's process (reading, decoding, writing), and of all of the server's. `python -m bench.books
ROWS` measures with other numbers of rows in the database before.

| rows there | per second | CPU of the follower, us | CPU of the server, us |
|---|---|---|---|
"""
_READERS = """
## Readers
Megabytes of a provider's answer read per second of one core, on tails of 8 MB that report usage at their end, fed in
segments of 64 KiB. *Reading* is what every exchange costs: usage, ids, finish, end. *Observing* decodes every document
and collects the text, and is done for a sample, and where no usage was reported.

| dialect | reading, MB/s | observing, MB/s |
|---|---|---|
"""


def main() -> None:
    machine = f"{platform.machine()}, {_processor()}"
    page = _HEAD.format(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        machine=machine,
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
    )
    with tempfile.TemporaryDirectory(prefix="ar") as folder:
        page += _relay_table(relay.rows(Path(folder)))
    with tempfile.TemporaryDirectory(prefix="ar") as folder:
        page += _METER
        for one in metering.metered(Path(folder)):
            page += f"| {one.title} | {one.per_cpu_second:,.0f} | {one.per_second:,.0f} |\n"
    with tempfile.TemporaryDirectory(prefix="ar") as folder:
        lag = metering.lag(Path(folder))
        page += (
            f"\nWith {lag.per_second:,} short exchanges a second, one is booked {lag.p50_ms} ms after its records were "
        )
        page += f"made (p50; p99 {lag.p99_ms} ms).\n"
    page += _READERS
    for speed in readers.speeds():
        page += f"| {speed.title} | {speed.mb_per_s:.0f} | {speed.observing_mb_per_s:.0f} |\n"
    size, growth = readers.growth_on_a_long_tail()
    page += f"\nOn one tail of {size:.0f} MB the process grew by {growth:.1f} MB while reading.\n"
    try:
        written = books.written()
    except NoPostgres as exc:
        print(exc)
    else:
        page += _DATABASE
        for row in written:
            page += f"| {row.rows:,} | {row.per_second:,.0f} | {row.cpu_us:.0f} | {row.server_cpu_us:.0f} |\n"
    PAGE.write_text(page)
    print(page)


def _relay_table(rows: list[Row]) -> str:
    table = ""
    nginx = {row.scenario: row for row in rows if row.peer == "nginx"}
    for scenario in dict.fromkeys(row.scenario for row in rows):
        table += f"| **{scenario}** | | | | | | |\n"
        for row in rows:
            if row.scenario == scenario:
                table += _relay_row(row, nginx.get(scenario))
    if not nginx:
        table += "\nnginx is not installed here, so ratios are missing.\n"
    return table


def _relay_row(row: Row, nginx: Row | None) -> str:
    def beside(value: float, peer: float | None, digits: int = 0) -> str:
        ratio = f" ({value / peer:.2f})" if peer and row is not nginx else ""
        return f"{value:,.{digits}f}{ratio}" if value else ""

    failed = f", {row.errors} errors" if row.errors else ""
    cells = (
        f"{row.peer}{failed}",
        f"{row.unit}: {beside(row.cpu_us, nginx and nginx.cpu_us, 1)}",
        f"{row.rate:,.0f}",
        beside(row.delay_p50, nginx and nginx.delay_p50),
        beside(row.delay_p99, nginx and nginx.delay_p99),
        beside(row.first_p50, nginx and nginx.first_p50),
        beside(row.kib_per_stream or 0, nginx and nginx.kib_per_stream, 1),
    )
    return f"| {' | '.join(cells)} |\n"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
