"""Reading journals: the records in them, and the bytes that had not become a record when their process died."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Container, Iterator
from pathlib import Path

from services.gateway.capture.journal import SUFFIX
from services.gateway.capture.lock import try_lock
from shared.contract import frames, seals, tail
from shared.contract.frames import Cut, Fragment, Item, JournaledHead, JournaledRecord, SealedFragment
from shared.contract.ids import BOOT, ExchangeId
from shared.contract.tail import Fields, Head, Packed, Segment

log = logging.getLogger(__name__)


# The first journals were named after their boot alone.
_FOLDER = re.compile(rf"({BOOT.pattern})(?:\.v([0-9]{{1,3}}))?")


class OrphanedJournal:
    """The journal of a dead gateway, locked by this one."""

    def __init__(self, folder: Path, boot: str, lock: int) -> None:
        self.folder = folder
        self.boot = boot
        self.opened: dict[str, dict[int, int]] = {}  # exchanges by boot and shard; known once `records` is through
        self._lock = lock

    def records(self) -> Iterator[tuple[int, Fields]]:
        """All its records as `(shard, fields)`; bytes that had not become a record become one.

        BadRecord where some of it cannot be read: a later version has written it.
        """
        replay = _Replay()
        yield from replay.read(self.folder)
        yield from replay.rest()
        self.opened = replay.opened or {self.boot: {}}

    def close(self, *, complete: bool) -> None:
        """Give up the lock. `complete`: everything is in Redis, and the journal is deleted."""
        if complete:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def orphaned_journals(root: Path, *, but: Container[str] = ()) -> Iterator[OrphanedJournal]:
    """Journals below `root` whose writers are dead, each locked. Those of later versions are left for gateways that can
    read them. `but`: names of folders to leave as well."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        # Only folders that are named like a journal: the root may be a volume with other things in it.
        named = _FOLDER.fullmatch(folder.name)
        if named is None or int(named[2] or 0) > frames.VERSION or folder.name in but or not folder.is_dir():
            continue
        lock = try_lock(folder)
        if lock is None:
            continue
        if folder.exists():
            yield OrphanedJournal(folder, named[1], lock)
        else:  # somebody adopted it between the listing and the lock
            os.close(lock)


def records(folder: Path) -> Iterator[tuple[int, Fields]]:
    """The records of a journal that is still written, as `(shard, fields)`."""
    return _Replay().read(folder)


class _Running:
    """Bytes of one exchange that are in no record yet."""

    __slots__ = ("head", "parts", "sealed", "seq")

    def __init__(self) -> None:
        self.seq = 1  # of the segment that `parts`, or what is sealed, will become
        self.parts: list[bytes] = []
        self.sealed: list[Packed] = []
        self.head: Head | None = None

    def add(self, fragment: Fragment | SealedFragment) -> None:
        if fragment.seq != self.seq:  # the item that closed the segment before was not written
            self.seq, self.parts, self.sealed = fragment.seq, [], []
        if isinstance(fragment, Fragment):
            self.parts.append(fragment.body)
        else:
            self.sealed.append(fragment.body)

    def cut(self, size: int) -> Segment | None:
        """The segment of the last `size` bytes; None where some of them are in a deleted file: Redis has them all."""
        body = b"".join(self.parts)
        self.parts = [body[-size:]]  # there was no room for the bytes before these, and they are lost
        if len(body) >= size:
            return self.segment(len(body) - size)
        self.parts = []
        return None

    def segment(self, gap: int = 0) -> Segment:
        """The segment of all its bytes. `gap`: bytes that are missing before them."""
        body = seals.joined(self.sealed) if self.sealed else Packed.pack(b"".join(self.parts))
        segment = Segment(body, self.head, gap)
        self.parts, self.head = [], None
        return segment


class _Replay:
    """Makes the records of a journal's items, the same ones that the tap had made."""

    def __init__(self) -> None:
        self.opened: dict[str, dict[int, int]] = {}
        self._running: dict[str, _Running] = {}

    def read(self, folder: Path) -> Iterator[tuple[int, Fields]]:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            for item in _items(path):
                fields = self._take(item)
                if fields is not None:
                    yield ExchangeId.parse(item.exchange_id).shard, fields

    def rest(self) -> Iterator[tuple[int, Fields]]:
        """Segments of the bytes that were in no record when the process died."""
        for text, running in self._running.items():
            if running.parts or running.sealed:
                id = ExchangeId.parse(text)
                yield id.shard, tail.encode(id, running.seq, running.segment())

    def _take(self, item: Item) -> Fields | None:
        """The record that this item holds or completes; None where there is none yet."""
        running = self._running.get(item.exchange_id) or self._begin(item.exchange_id)
        match item:
            case JournaledRecord():
                if item.seq > 0:  # it carries the bytes since the record before
                    del self._running[item.exchange_id]
                return tail.fields(item.exchange_id, item.seq, item.record)
            case JournaledHead():
                running.head = item.head
            case Fragment() | SealedFragment():
                running.add(item)
            case Cut():
                segment = running.cut(item.size)
                if segment is not None:
                    return tail.encode(ExchangeId.parse(item.exchange_id), item.seq, segment)
        return None

    def _begin(self, id: str) -> _Running:
        boot, shard, n = ExchangeId.parse(id)
        counts = self.opened.setdefault(boot, {})
        counts[shard] = max(counts.get(shard, 0), n + 1)
        return self._running.setdefault(id, _Running())


def _items(path: Path) -> Iterator[Item]:
    data = path.read_bytes()
    at = 0
    for payload in frames.payloads(data):
        yield from frames.decode(payload)
        at += frames.OVERHEAD + len(payload)
    if at < len(data):
        log.warning("journal %s: its last %d bytes are torn", path.name, len(data) - at)
