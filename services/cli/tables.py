"""Files of rows: CSV, JSON lines and Parquet. Money is decimal, exactly; times are UTC."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from services.cli.output import csv_writer
from shared.runtime.errors import SettingsError

FORMATS = ("csv", "jsonl", "parquet")
Columns = Mapping[str, type]
"""By name: str, int, bool, Decimal (9 places), datetime, or tuple (of texts)."""


class Writer(Protocol):
    """Takes rows, whose values are in the order of the columns."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None: ...


@contextmanager
def writing(form: str, columns: Columns, output: Path | None) -> Iterator[Writer]:
    """A writer to `output`, which is there once the block has ended well; None: standard output.

    SettingsError where the file is there already, or where what writes Parquet is not installed.
    """
    if output is None:
        if form == "parquet":
            raise SettingsError("--output: a Parquet file needs a name")
        yield _text(form, columns, sys.stdout)
        sys.stdout.flush()
        return
    if output.exists():
        raise SettingsError(f"--output: {output} is there already")
    unfinished = output.with_name(output.name + ".new")
    try:
        if form == "parquet":
            with _parquet(columns, unfinished) as writer:
                yield writer
        else:
            with unfinished.open("w", newline="") as file:
                yield _text(form, columns, file)
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(output)
    except OSError as exc:
        raise SettingsError(f"--output: {exc}") from None
    finally:
        unfinished.unlink(missing_ok=True)


class _Lines:
    def __init__(self, columns: Columns, file: Any) -> None:
        self._columns, self._file = tuple(columns), file

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            values = {name: plain(value) for name, value in zip(self._columns, row, strict=True)}
            self._file.write(json.dumps(values, ensure_ascii=False) + "\n")


class _Csv:
    def __init__(self, columns: Columns, file: Any) -> None:
        self._writer = csv_writer(file, tuple(columns))

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self._writer([" ".join(value) if isinstance(value, tuple) else plain(value) for value in row])


def _text(form: str, columns: Columns, file: Any) -> Writer:
    return _Csv(columns, file) if form == "csv" else _Lines(columns, file)


def plain(value: Any) -> Any:
    """A value as text has it: exact decimals and times are words."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        micros = "milliseconds" if value.microsecond else "seconds"
        return value.isoformat(timespec=micros).replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else value


@contextmanager
def _parquet(columns: Columns, path: Path) -> Iterator[Writer]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # large, and needed for this alone
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise SettingsError("--format: parquet needs pyarrow: pip install arouter[export]") from None
    types = {
        str: pa.string(),
        int: pa.int64(),
        bool: pa.bool_(),
        Decimal: pa.decimal128(38, 9),
        datetime: pa.timestamp("us", tz="UTC"),
        tuple: pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])

    class Parquet:
        """Each call is a row group."""

        def write(self, rows: Sequence[Sequence[Any]]) -> None:
            values = [dict(zip(columns, row, strict=True)) for row in rows]
            file.write_table(pa.Table.from_pylist(values, schema))

    with parquet.ParquetWriter(path, schema) as file:
        yield Parquet()
