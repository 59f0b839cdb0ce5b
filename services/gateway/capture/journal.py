"""The journal: a copy on the gateway's own disk of every record that Redis may not have yet.

Each boot has a folder, locked by its process, so that other gateways can tell a dead journal from a live one. The
folder is named after the boot and the version of its frames: a gateway that cannot read them must not adopt it
(decision 31). A torn frame ends its file.

The journal is written ahead: a record is in it before it is sent to Redis, and an open before the request goes upstream
(decision 1). Records stay for a while after Redis has taken them, because a Redis that fails over forgets records that
it has acknowledged. The journal is not synced to the disk: it outlives its process, not its machine (decision 17).
`replay` reads it.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from services.gateway.capture.lock import try_lock
from shared.contract import frames
from shared.contract.frames import Cut, Fragment, Item, JournaledHead, JournaledRecord
from shared.contract.tail import Head
from shared.runtime.errors import JournalFailed, SettingsError

SUFFIX = ".journal"
_FILE_BYTES = 8 * 1024 * 1024
_CUT_SLACK_SECONDS = 2.0  # more than the second within which bytes become a segment and are shipped

log = logging.getLogger(__name__)


class _Closed(NamedTuple):
    path: Path
    size: int
    at: float  # monotonic


class _File:
    """The file that is being written."""

    __slots__ = ("_handle", "path", "size", "started")

    def __init__(self, path: Path) -> None:
        """OSError where it cannot be made."""
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.path = path
        self.size = 0
        self.started = time.monotonic()

    def append(self, frame: bytes) -> None:
        """Write a whole frame. OSError where the disk does not take all of it."""
        written = 0
        try:
            written = os.write(self._handle, frame)
        finally:
            if written < len(frame):
                with suppress(OSError):
                    os.ftruncate(self._handle, self.size)  # a torn frame would end the file for its readers
        if written < len(frame):
            raise OSError("the disk is full")
        self.size += written

    def close(self) -> _Closed:
        os.close(self._handle)
        return _Closed(self.path, self.size, time.monotonic())


class Journal:
    """The journal of this process."""

    def __init__(self, root: Path, boot: str, *, limit: int, keep: float) -> None:
        """`limit` in bytes; `keep`: seconds that a record stays after it was shipped. SettingsError where the folder
        cannot be written."""
        self.folder = root / f"{boot}.v{frames.VERSION}"
        self._limit = limit
        self._keep = keep
        self._pending: list[Item] = []
        self._closed: deque[_Closed] = deque()
        self._closed_bytes = 0
        self._number = 0
        self._broken = False
        try:
            # Under another name until it is locked: another gateway must not take it for a dead one's meanwhile.
            making = root / f"{boot}.new"
            making.mkdir(parents=True)
            lock = try_lock(making)
            assert lock is not None, "a boot is minted once"
            self._lock = lock
            making.rename(self.folder)
            self._file = self._create()
        except OSError as exc:
            raise SettingsError(f"AROUTER_JOURNAL_DIR: cannot write to {root}: {exc.strerror}") from exc

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._closed_bytes + self._file.size

    @property
    def fill(self) -> float:
        """How much of the limit is used, 0 to 1."""
        return min(1.0, self.size / self._limit)

    @property
    def failed(self) -> bool:
        """Whether the journal would not keep a record now: its limit is reached, or the disk refuses."""
        return self._broken or self.fill >= 1.0

    def open(self, id: str, record: bytes) -> None:
        """Write an open record at once. JournalFailed where it cannot be kept."""
        if self.fill >= 1.0:
            raise JournalFailed("the journal is full")
        self._pending.append(JournaledRecord(id, 0, record))
        self.flush()
        if self._broken:
            raise JournalFailed("the journal cannot be written")

    def record(self, id: str, seq: int, record: bytes) -> None:
        """Queue a record for the next flush."""
        self._pending.append(JournaledRecord(id, seq, record))

    def head(self, id: str, head: Head) -> None:
        """Queue the head of an answer."""
        self._pending.append(JournaledHead(id, head))

    def fragment(self, id: str, seq: int, body: bytes) -> None:
        """Queue body bytes, which will be part of segment `seq`."""
        self._pending.append(Fragment(id, seq, body))

    def cut(self, id: str, seq: int, size: int) -> None:
        """Queue the note that the last `size` bytes of an exchange have become its segment `seq`."""
        self._pending.append(Cut(id, seq, size))

    def flush(self) -> None:
        """Write the queue as one frame. If that fails, the records are lost here, and still on their way to Redis."""
        if not self._pending and not self._broken:
            return  # a broken journal writes an empty frame, to learn without a request that the disk works again
        items, self._pending = self._pending, []
        if self.fill >= 1.0:
            return
        try:
            self._file.append(frames.encode(items))
        except OSError as exc:
            self._fail(str(exc))
            return
        self._broken = False
        if self._file.size >= _FILE_BYTES:
            self._rotate()

    def tidy(self, shipped: float) -> None:
        """Delete files that are no longer needed. Redis has every record from before `shipped`, a monotonic time."""
        now = time.monotonic()
        if self._file.size and now - self._file.started > max(1.0, self._keep / 4):
            self._rotate()
        while self._closed:
            oldest = self._closed[0]
            in_redis = oldest.at < shipped - _CUT_SLACK_SECONDS
            if not in_redis or (now - oldest.at < self._keep and self.fill < 0.5):
                return
            self._closed.popleft()
            self._closed_bytes -= oldest.size
            oldest.path.unlink(missing_ok=True)

    def close(self, *, complete: bool) -> None:
        """Stop writing. `complete`: everything is in Redis, and the folder is deleted; else a gateway adopts it."""
        self.flush()
        self._file.close()
        if complete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _fail(self, reason: str) -> None:
        if not self._broken:
            log.error("the journal cannot be written, new requests are refused: %s", reason)
        self._broken = True

    def _create(self) -> _File:
        file = _File(self.folder / f"{self._number + 1:08d}{SUFFIX}")
        self._number += 1
        return file

    def _rotate(self) -> None:
        full = self._file
        try:
            self._file = self._create()
        except OSError as exc:  # the full file goes on
            log.warning("the journal cannot start a new file: %s", exc)
            return
        self._closed.append(full.close())
        self._closed_bytes += full.size
