"""The border to the database: connecting, migrating, and translating its errors into ours."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoConnection

from shared.runtime.errors import SettingsError, SinkRefused, SinkUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATIONS_TABLE = "arouter_migrations"
_LOCK = 7_236_815_001  # of everybody who writes to these tables
_AWAY = (OperationalError, InterfaceError, InternalError, NoConnection)  # InternalError: a replica that is read-only
_WAIT_SECONDS = 10
_READS = {"reads": True}
_INSTRUCTIONS = 10_000  # of SQLite between two looks at the clock
_STATEMENT_SECONDS = 25
_POSTGRES = {
    "connect_timeout": _WAIT_SECONDS,
    "prepare_threshold": None,  # a pooler in between may not know what was prepared
    "application_name": "arouter",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Database:
    """One database. Its methods wait, and are called in a thread; a writer has one connection open at a time."""

    def __init__(self, url: str, *, statement_seconds: float = _STATEMENT_SECONDS, connections: int = 1) -> None:
        """No connection is made yet. SettingsError where the URL is neither PostgreSQL's nor SQLite's.

        `statement_seconds`: how long a statement may take; in SQLite this bounds those that only read.
        """
        parsed = _parsed(url)
        self.postgres = parsed.get_backend_name() == "postgresql"
        self._file = None if self.postgres else parsed.database
        self._statement_seconds = statement_seconds
        self._engine = _postgres(parsed, statement_seconds, connections) if self.postgres else _sqlite(parsed)
        self._connection: Connection | None = None

    @property
    def file(self) -> Path | None:
        """SQLite's; None of a server."""
        return None if self._file is None else Path(self._file)

    @property
    def exists(self) -> bool:
        """Whether there is anything to read: SQLite makes a new file of every name."""
        return self._file is None or Path(self._file).exists()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction. Writers exclude each other for as long as it lasts, so that none of them meets a deadlock.

        SinkUnavailable where the database is away or busy, SinkRefused where it does not take what it is given.
        """
        with translated():
            if self._file is not None and not self.exists:
                Path(self._file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
            with self._engine.begin() as connection:
                self._connection = connection
                try:
                    if self.postgres:
                        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                    yield connection
                finally:
                    self._connection = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot to read. The errors are those of `begin`."""
        with translated(), self._engine.connect() as connection:
            snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if self.postgres else _READS
            yield connection.execution_options(**snapshot)

    @contextmanager
    def ask(self) -> Iterator[Connection]:
        """The same for one question: in SQLite, too, it ends when its time is over, with SinkUnavailable."""
        deadline = time.monotonic() + self._statement_seconds
        with self.read() as connection:
            if self.postgres:
                yield connection
                return
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS)
            try:
                yield connection
            finally:
                driver.set_progress_handler(None, 0)

    def has_tables(self) -> bool:
        """Whether a follower has made them."""
        if not self.exists:
            return False
        with self.read() as connection:
            return sa.inspect(connection).has_table("exchanges")

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to this revision; `base` takes them away."""
        with self.begin() as connection:
            if self.postgres:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            try:
                (command.downgrade if revision == "base" else command.upgrade)(config, revision)
            except CommandError as exc:
                raise SinkRefused(f"the database belongs to another version of this program: {exc}") from None

    def abort(self) -> None:
        """Break off what another thread is waiting for: a server that does not answer would be waited for for ever."""
        connection = self._connection
        if not self.postgres or connection is None:
            return
        with suppress(Exception):  # it may have ended meanwhile, in any way
            driver: Any = connection.connection.driver_connection
            with socket.socket(fileno=os.dup(driver.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the database in the block leave it as a SinkError, without the values that it was given."""
    try:
        yield
    except _AWAY as exc:
        raise SinkUnavailable(_said(exc)) from None
    except DBAPIError as exc:
        raise (SinkUnavailable if exc.connection_invalidated else SinkRefused)(_said(exc)) from None
    except SQLAlchemyError as exc:
        raise SinkRefused(f"{type(exc).__name__}: {_first_line(exc)}") from None
    except OSError as exc:
        raise SinkUnavailable(str(exc)) from None


def _said(error: SQLAlchemyError) -> str:
    """What the database said, in one line: further ones hold values."""
    origin = getattr(error, "orig", None) or error
    return f"{type(origin).__name__}: {_first_line(origin)}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]


def _parsed(url: str) -> URL:
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = ""
    if backend in ("postgresql", "postgres"):
        if "@" in (parsed.host or ""):  # a part of the password, which errors of the driver would show
            raise SettingsError("AROUTER_DATABASE_URL: an @ within the password has to be written as %40")
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database:
        return parsed.set(drivername="sqlite")
    raise SettingsError("AROUTER_DATABASE_URL: is not a postgresql:// or sqlite:/// URL")


def _postgres(url: URL, statement_seconds: float, connections: int) -> Engine:
    limits = f"lock_timeout={_WAIT_SECONDS}s -c statement_timeout={int(statement_seconds * 1000)}"
    arguments = {**_POSTGRES, "options": f"-c TimeZone=UTC -c {limits}"}
    try:
        return sa.create_engine(url, pool_size=connections, max_overflow=1, pool_pre_ping=True, connect_args=arguments)
    except ImportError:
        raise SettingsError("AROUTER_DATABASE_URL: needs psycopg: pip install arouter[postgres]") from None


def _sqlite(url: URL) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": _WAIT_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(driver: Any, _: Any) -> None:
        driver.isolation_level = None  # transactions begin below, and not where the driver thinks that they should
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def _begins(connection: Connection) -> None:
        reads = connection.get_execution_options().get("reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
