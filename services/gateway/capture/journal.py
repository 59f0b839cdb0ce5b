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

import errno
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from services.gateway.capture.lock import try_lock
from services.gateway.capture.room import Room, free_bytes
from shared.contract import frames
from shared.contract.frames import Cut, Fragment, Item, JournaledHead, JournaledRecord, SealedFragment
from shared.contract.tail import Head, Packed
from shared.runtime.errors import JournalFailed, SettingsError

SUFFIX = ".journal"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MOST_TRIED = 64 * 1024
_CUT_SLACK_SECONDS = 2.0  # more than the second within which bytes become a segment and are shipped

log = logging.getLogger(__name__)


class _Closed(NamedTuple):
    path: Path
    size: int
    at: float  # monotonic


class _File:
    """The file that is being written."""

    __slots__ = ("_handle", "path", "size", "started", "written")

    def __init__(self, path: Path) -> None:
        """OSError where it cannot be made."""
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.path = path
        self.size = 0
        self.started = self.written = time.monotonic()

    @property
    def gone(self) -> bool:
        """Whether somebody has deleted or moved it, or what it lies in."""
        try:
            there = self.path.stat()
        except OSError:
            return True
        return there.st_ino != os.fstat(self._handle).st_ino

    def append(self, frame: bytes) -> None:
        """Write a whole frame. OSError where the disk does not take all of it."""
        written = 0
        try:
            while written < len(frame):  # a write that was cut short says why when it is continued
                written += os.write(self._handle, frame[written:])
        finally:
            if written < len(frame):
                self._cut()
        self.size += written
        self.written = time.monotonic()

    def try_out(self, size: int) -> None:
        """OSError where the disk does not take so many bytes."""
        try:
            left = size
            while left > 0:
                left -= os.write(self._handle, bytes(left))
        finally:
            self._cut()

    def empty(self) -> None:
        """Delete its content. OSError where that fails."""
        os.ftruncate(self._handle, 0)
        self.size = 0

    def _cut(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._handle, self.size)  # a torn frame would end the file for its readers

    def close(self) -> _Closed:
        os.close(self._handle)
        return _Closed(self.path, self.size, time.monotonic())


class Journal:
    """The journal of this process."""

    def __init__(
        self, root: Path, boot: str, *, limit: int, keep: float, free: Callable[[Path], int] = free_bytes
    ) -> None:
        """`limit` in bytes; `keep`: seconds that a record stays after it was shipped; `free`: bytes that a disk
        still takes. SettingsError where the folder cannot be written."""
        self.folder = root / f"{boot}.v{frames.VERSION}"
        self._room = Room(limit, free)
        self._keep = keep
        self._pending: list[Item] = []
        self._closed: deque[_Closed] = deque()
        self._closed_bytes = 0
        self._number = 0
        self._broken = 0  # how many bytes the disk did not take
        try:
            self._lock = self._make_folder()
            self._file = self._create()
        except OSError as exc:
            raise SettingsError(f"AROUTER_JOURNAL_DIR: cannot write to {root}: {exc.strerror}") from exc
        self.look()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._closed_bytes + self._file.size

    @property
    def fill(self) -> float:
        """How much of its room is used, 0 to 1."""
        return self._room.fill(self.size)

    @property
    def failed(self) -> bool:
        """Whether the journal would not keep a new exchange: it is full, or the disk refuses."""
        return self._broken > 0 or self._room.full

    def open(self, id: str, record: bytes) -> None:
        """Write an open record at once. JournalFailed where it cannot be kept."""
        if self._broken:
            self.flush()
        if self.failed:
            raise JournalFailed("the journal is full" if self._room.full else "the journal cannot be written")
        self._pending.append(JournaledRecord(id, 0, record))
        if not self.flush():
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

    def sealed_fragment(self, id: str, seq: int, body: Packed) -> None:
        """Queue the same, sealed; the segment is queued as a record, and not as a cut."""
        self._pending.append(SealedFragment(id, seq, body))

    def cut(self, id: str, seq: int, size: int) -> None:
        """Queue the note that the last `size` bytes of an exchange have become its segment `seq`."""
        self._pending.append(Cut(id, seq, size))

    def flush(self) -> bool:
        """Write the queue as one frame. Returns whether that is done: where it fails, the records are lost here, and
        still on their way to Redis."""
        if not self._pending and not self._broken:
            return True  # a broken journal goes on, to learn without a request that the disk works again
        items, self._pending = self._pending, []
        if self._room.exhausted(self.size) or (self._broken and self._file.gone):
            return False
        frame = frames.encode(items)
        try:
            if self._broken:
                self._file.try_out(self._broken)
            self._file.append(frame)
        except OSError as exc:
            self._fail(exc, len(frame))
            return False
        self._broken = 0
        self._room.judge(self.size)
        if self._file.size >= self._room.file_bytes:
            self._rotate()
        return True

    def look(self) -> None:
        """Ask the disk how much room there is, and whether the journal is still there; once a second is enough."""
        try:
            if self._file.gone:
                self._begin_anew()
            self._room.look(self.folder, self.size)
        except OSError as exc:
            self._fail(exc, 1)

    def tidy(self, shipped: float) -> None:
        """Delete files that are no longer needed. Redis has every record from before `shipped`, a monotonic time."""
        now = time.monotonic()
        in_redis = shipped - _CUT_SLACK_SECONDS
        scarce = self.fill >= 0.5 or self._room.full
        if self._file.size and (scarce or now - self._file.started > max(1.0, self._keep / 4)):
            rotated = self._rotate()
            if not rotated and scarce and self._file.written < in_redis:
                self._file.empty()  # there is no room for another file beside it
        while self._closed and self._closed[0].at < in_redis:
            if now - self._closed[0].at < self._keep and self.fill < 0.5:
                break
            oldest = self._closed.popleft()
            self._closed_bytes -= oldest.size
            oldest.path.unlink(missing_ok=True)
        self._room.judge(self.size)

    def close(self, *, complete: bool) -> None:
        """Stop writing. `complete`: everything is in Redis, and the folder is deleted; else a gateway adopts it."""
        self.flush()
        self._file.close()
        if complete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _fail(self, error: OSError, size: int) -> None:
        if not self.failed:
            log.error("the journal cannot be written, new requests are refused: %s", error)
        if error.errno in _NO_ROOM:
            self._room.refused(self.size, size)
        else:
            self._broken = max(self._broken, min(size, _MOST_TRIED))

    def _make_folder(self) -> int:
        """Make and lock the folder; the lock's open file."""
        # Under another name until it is locked: another gateway must not take it for a dead one's meanwhile.
        making = self.folder.with_suffix(".new")
        making.mkdir(parents=True, exist_ok=True)
        lock = try_lock(making)
        assert lock is not None, "a boot is minted once"
        making.rename(self.folder)
        return lock

    def _begin_anew(self) -> None:
        """Somebody has deleted the journal: what only it had is lost. OSError where another cannot be made."""
        if not self._broken:
            log.error("the journal was deleted, and begins anew: %s", self.folder)
        if not self.folder.is_dir():
            lock, self._lock = self._lock, self._make_folder()
            os.close(lock)
        gone, self._file = self._file, self._create()
        gone.close()
        self._closed.clear()
        self._closed_bytes = 0
        self._broken = 0

    def _create(self) -> _File:
        file = _File(self.folder / f"{self._number + 1:08d}{SUFFIX}")
        self._number += 1
        return file

    def _rotate(self) -> bool:
        """Start a new file. Returns whether that was possible; otherwise this one goes on."""
        full = self._file
        try:
            self._file = self._create()
        except OSError as exc:
            if not self.failed:
                log.warning("the journal cannot start a new file: %s", exc)
            return False
        self._closed.append(full.close())
        self._closed_bytes += full.size
        return True
