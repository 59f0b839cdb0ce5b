"""The journal: what the tap has seen and Redis may not have, on the gateway's own disk, until it certainly has.

A folder per boot, locked by the process that writes it, so that another one can tell a dead orphan's from a live
one's. A file is a run of frames: length, CRC, and a msgpack list of entries; a torn frame ends its file. Written ahead:
nothing is shipped to Redis before it is in the journal. What was shipped stays for a while, because a Redis that
fails over or loses its last second has forgotten what it acknowledged.

Not synced to the disk: the journal outlives its process, not its machine.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from shared.contract import tail
from shared.contract.ids import BOOT, ExchangeId
from shared.contract.tail import Fields, Head, Packed, Segment
from shared.runtime.errors import JournalFailed, SettingsError

_FRAME = struct.Struct("<II")  # length and CRC-32 of what follows
_FILE_BYTES = 8 * 1024 * 1024
_CUT_SLACK_SECONDS = 2.0  # bytes are cut into a record, and so shipped, within one second
_LOCK = "lock"
_SUFFIX = ".journal"

# An entry is (exchange id, number, data, size). Number: the `seq` of a record, or one of these.
_BYTES = -1  # data: body bytes, not cut into a record yet; size: the `seq` their segment will have
_HEAD = -2  # data: a `Head`, msgpack
# A record has data; one without data is a segment, made of the `size` bytes that came before it.

_Entry = tuple[str, int, bytes, int]
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_Entry])
_HEAD_DECODER = msgspec.msgpack.Decoder(Head)

log = logging.getLogger(__name__)


class _Closed(NamedTuple):
    path: Path
    size: int
    at: float  # monotonic


class Journal:
    """The journal of this process."""

    def __init__(self, root: Path, boot: str, *, limit: int, keep: float) -> None:
        """SettingsError where the folder cannot be written. `limit` in bytes, `keep` in seconds after shipping."""
        self.folder = root / boot
        self._limit = limit
        self._keep = keep
        self._pending: list[_Entry] = []
        self._closed: deque[_Closed] = deque()
        self._closed_bytes = 0
        self._size = 0
        self._number = 0
        self._broken = False
        try:
            # Under another name until it is locked: a orphan that looks just now must not take it for a dead one's.
            making = root / f"{boot}.new"
            making.mkdir(parents=True)
            lock = _try_lock(making)
            assert lock is not None, "a boot is minted once"
            self._lock = lock
            making.rename(self.folder)
            self._file = self._create()
        except OSError as exc:
            raise SettingsError(f"AROUTER_JOURNAL_DIR: cannot write to {root}: {exc.strerror}") from exc

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._closed_bytes + self._size

    @property
    def fill(self) -> float:
        """How much of the limit is used, 0 to 1."""
        return min(1.0, self.size / self._limit)

    @property
    def failed(self) -> bool:
        """Whether what comes now would not be kept: the limit is reached, or the disk refuses."""
        return self._broken or self.fill >= 1.0

    def open(self, id: str, record: bytes) -> None:
        """Write an open record at once. JournalFailed where it is not kept."""
        if self.fill >= 1.0:
            raise JournalFailed("the journal is full")
        self._pending.append((id, 0, record, 0))
        self.flush()
        if self._broken:
            raise JournalFailed("the journal cannot be written")

    def record(self, id: str, seq: int, record: bytes) -> None:
        """Take a record, to be written with the next flush."""
        self._pending.append((id, seq, record, 0))

    def head(self, id: str, head: Head) -> None:
        """Take the head of an answer."""
        self._pending.append((id, _HEAD, _ENCODER.encode(head), 0))

    def fragment(self, id: str, seq: int, body: bytes) -> None:
        """Take body bytes, which will be part of segment `seq`."""
        self._pending.append((id, _BYTES, body, seq))

    def cut(self, id: str, seq: int, size: int) -> None:
        """Take that the last `size` bytes of an exchange have become its segment `seq`."""
        self._pending.append((id, seq, b"", size))

    def flush(self) -> None:
        """Write what was taken, as one frame. Where that fails it is lost here, and still on its way to Redis."""
        if not self._pending and not self._broken:
            return  # else an empty frame: whether the disk takes anything again must not wait for a request
        entries, self._pending = self._pending, []
        if self.fill >= 1.0:
            return
        payload = _ENCODER.encode(entries)
        frame = _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = os.write(self._file, frame)
        except OSError as exc:
            self._fail(str(exc))
            return
        if written < len(frame):
            self._fail("the disk is full")
            return
        self._broken = False
        self._size += len(frame)
        if self._size >= _FILE_BYTES:
            self._rotate()

    def tidy(self, shipped: float) -> None:
        """Delete what is no longer needed. All that was taken before `shipped` (monotonic) is in Redis."""
        now = time.monotonic()
        if self._size and now - self._started > max(1.0, self._keep / 4):
            self._rotate()
        while self._closed:
            oldest = self._closed[0]
            in_redis = oldest.at < shipped - _CUT_SLACK_SECONDS
            if not in_redis or (now - oldest.at < self._keep and self.fill < 0.5):
                return
            self._closed.popleft()
            self._closed_bytes -= oldest.size
            oldest.path.unlink(missing_ok=True)

    def close(self, *, shipped: bool) -> None:
        """Stop writing. The folder goes where everything is in Redis; else another gateway will adopt it."""
        self.flush()
        os.close(self._file)
        if shipped:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def _fail(self, reason: str) -> None:
        if not self._broken:
            log.error("the journal cannot be written, new requests are refused: %s", reason)
        self._broken = True
        with suppress(OSError):
            os.ftruncate(self._file, self._size)  # what is torn would end the file for its readers

    def _create(self) -> int:
        path = self.folder / f"{self._number + 1:08d}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._number += 1
        self._path = path
        self._started = time.monotonic()
        return file

    def _rotate(self) -> None:
        path, size, old = self._path, self._size, self._file
        try:
            self._file = self._create()
        except OSError as exc:  # the old one takes more
            log.warning("the journal cannot start a new file: %s", exc)
            return
        os.close(old)
        self._closed.append(_Closed(path, size, time.monotonic()))
        self._closed_bytes += size
        self._size = 0


class OrphanedJournal:
    """The journal of a gateway that is dead, held by this one."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.opened: dict[str, dict[int, int]] = {}  # exchanges by boot and shard, known once all was read
        self._lock = lock

    def records(self) -> Iterator[tuple[int, Fields]]:
        """All it holds, as `(shard, fields)`, with the bytes that had not become a record yet."""
        reader = _Reader()
        yield from reader.read(self.folder)
        yield from reader.rest()
        self.opened = reader.opened or {self.folder.name: {}}

    def close(self, *, shipped: bool) -> None:
        """Let go of it, and delete it where everything is in Redis."""
        if shipped:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def orphaned_journals(root: Path) -> Iterator[OrphanedJournal]:
    """Journals below `root` whose writers are dead, each locked for us."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        # Only what is named like a boot: the folder may be a volume with other things in it.
        lock = _try_lock(folder) if BOOT.fullmatch(folder.name) and folder.is_dir() else None
        if lock is None:
            continue
        if folder.exists():
            yield OrphanedJournal(folder, lock)
        else:  # somebody adopted it between the listing and the lock
            os.close(lock)


def records(folder: Path) -> Iterator[tuple[int, Fields]]:
    """The records of a journal that is being written, as `(shard, fields)`, as far as they were made."""
    return _Reader().read(folder)


class _Running:
    """What a journal holds of an exchange that is not a record yet."""

    __slots__ = ("head", "parts", "seq")

    def __init__(self) -> None:
        self.seq = 1  # of the segment that `parts` will become
        self.parts: list[bytes] = []
        self.head: Head | None = None

    def segment(self) -> Segment:
        segment = Segment(Packed.pack(b"".join(self.parts)), self.head)
        self.parts, self.head = [], None
        return segment


class _Reader:
    """Makes records of a journal's entries again, the same ones that the tap had made."""

    def __init__(self) -> None:
        self.opened: dict[str, dict[int, int]] = {}
        self._running: dict[str, _Running] = {}

    def read(self, folder: Path) -> Iterator[tuple[int, Fields]]:
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
            for frame in _frames(path):
                for entry in frame:
                    fields = self._take(*entry)
                    if fields is not None:
                        yield ExchangeId.parse(entry[0]).shard, fields

    def rest(self) -> Iterator[tuple[int, Fields]]:
        """What was not a record yet when the process died."""
        for text, running in self._running.items():
            if running.parts:
                id = ExchangeId.parse(text)
                yield id.shard, tail.encode(id, running.seq, running.segment())

    def _take(self, id: str, number: int, data: bytes, size: int) -> Fields | None:
        running = self._running.get(id)
        if running is None:
            running = self._running[id] = _Running()
            boot, shard, n = ExchangeId.parse(id)
            counts = self.opened.setdefault(boot, {})
            counts[shard] = max(counts.get(shard, 0), n + 1)
        if number == _HEAD:
            running.head = _HEAD_DECODER.decode(data)
        elif number == _BYTES:
            if size != running.seq:  # the cut before it was not written
                running.seq, running.parts = size, []
            running.parts.append(data)
        elif data:
            if number > 0:  # the end, which carries the bytes that were not cut
                del self._running[id]
            return tail.fields(id, number, data)
        elif sum(map(len, running.parts)) >= size:
            running.parts = [b"".join(running.parts)[-size:]]  # bytes before these had no room and are lost
            return tail.encode(ExchangeId.parse(id), number, running.segment())
        else:  # some of it is in a file that is deleted, and all of it in Redis
            running.parts = []
        return None


def _frames(path: Path) -> Iterator[list[_Entry]]:
    data = path.read_bytes()
    at = 0
    while at + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(payload) < length or zlib.crc32(payload) != crc:
            break
        try:
            entries = _DECODER.decode(payload)
        except msgspec.MsgspecError:
            break
        yield entries
        at += _FRAME.size + length
    if at < len(data):
        log.warning("journal %s: its last %d bytes are torn", path.name, len(data) - at)


def _try_lock(folder: Path) -> int | None:
    """The folder's lock; None where a live process has it, or the folder is gone."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
