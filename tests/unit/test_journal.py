"""The journal on a real disk: torn, full, tidy, and a dead process's."""

from __future__ import annotations

import itertools
import random
import resource
import shutil
import time
from pathlib import Path

import pytest

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from shared.contract import tail
from shared.contract.ids import ExchangeId, new_boot
from shared.contract.tail import Packed, Segment
from shared.runtime.errors import JournalFailed, SettingsError

MIB = 1 << 20


class Disk:
    """A disk of a size, with nothing on it but the journal."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.size = size

    def free(self, _: Path) -> int:
        return self.size - sum(path.stat().st_size for path in self._folder.rglob("*.journal"))


def journal(folder: Path, *, limit: int = 16 * MIB, keep: float = 60, disk: int = 1 << 40) -> Journal:
    return Journal(folder, new_boot(), limit=limit, keep=keep, free=Disk(folder, disk).free)


def is_failed(journal: Journal) -> bool:
    return journal.failed


def name(n: int) -> str:
    return str(ExchangeId("0" * 26, 0, n))


def kept(folder: Path) -> list[str]:
    return [fields[b"x"].decode() for _, fields in replay.records(folder)]


def test_what_is_torn_ends_its_file_and_nothing_else(tmp_path: Path) -> None:
    whole = journal(tmp_path)
    for n in range(50):
        whole.open(name(n), b"open %d" % n)
    [path] = whole.folder.glob("*.journal")
    data = path.read_bytes()
    size = len(data) // 50
    rng = random.Random(1)
    for cut in rng.sample(range(len(data)), 40):
        path.write_bytes(data[:cut])
        assert kept(whole.folder) == [name(n) for n in range(len(kept(whole.folder)))]
        assert abs(len(kept(whole.folder)) - cut / size) <= 5
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    path.write_bytes(damaged)
    assert 20 <= len(kept(whole.folder)) <= 30
    (whole.folder / "00000002.journal").write_bytes(data)
    assert kept(whole.folder)[-50:] == [name(n) for n in range(50)]
    whole.close(complete=True)


def test_a_full_journal_refuses_and_goes_on_when_it_is_emptied(tmp_path: Path) -> None:
    small = journal(tmp_path, limit=9 * MIB, keep=0.01)
    number = 0
    with pytest.raises(JournalFailed):
        for number in range(100):  # how far it came is of interest
            small.open(name(number), bytes(MIB))
    assert 8 <= number <= 9
    assert is_failed(small)
    assert small.fill == 1
    small.tidy(time.monotonic())
    assert is_failed(small)  # nothing was shipped since
    time.sleep(0.05)
    small.tidy(time.monotonic() + 10)
    assert not is_failed(small)
    small.open(name(100), b"x")
    assert kept(small.folder)[-1] == name(100)
    small.close(complete=True)


def test_a_disk_that_refuses_is_an_error_until_it_does_not(tmp_path: Path) -> None:
    kept_by = journal(tmp_path)
    kept_by.open(name(0), b"x")
    [path] = kept_by.folder.glob("*.journal")
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        with pytest.raises(JournalFailed):
            kept_by.open(name(1), b"y" * 100)
        assert is_failed(kept_by)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == size  # what was torn is cut off
    kept_by.open(name(2), b"z")
    assert not is_failed(kept_by)
    assert kept(kept_by.folder) == [name(0), name(2)]
    kept_by.close(complete=True)


def test_a_segment_whose_first_bytes_are_deleted_is_left_out(tmp_path: Path) -> None:
    part = journal(tmp_path)
    part.fragment(name(0), 3, b"rest")
    part.cut(name(0), 3, 10)  # six bytes of it were in a file that is gone
    part.fragment(name(0), 4, b"all")
    part.cut(name(0), 4, 3)
    part.flush()
    [(_, fields)] = replay.records(part.folder)
    assert tail.decode(fields)[1:] == (4, Segment(Packed(b"all")))
    part.close(complete=True)


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="AROUTER_JOURNAL_DIR"):
        journal(tmp_path / "file")


def test_a_closed_journal_is_deleted_or_left_to_be_adopted(tmp_path: Path) -> None:
    done, left = journal(tmp_path), journal(tmp_path)
    left.open(name(0), b"x")
    done.close(complete=True)
    assert list(replay.orphaned_journals(tmp_path)) == []
    left.close(complete=False)
    [orphan] = replay.orphaned_journals(tmp_path)
    assert list(replay.orphaned_journals(tmp_path)) == []  # it is held
    orphan.close(complete=False)
    [again] = replay.orphaned_journals(tmp_path)
    assert len(list(again.records())) == 1
    again.close(complete=True)
    assert list(tmp_path.iterdir()) == []


def test_what_else_is_on_the_volume_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    (tmp_path / f"{new_boot()}.new").mkdir()
    assert list(replay.orphaned_journals(tmp_path)) == []


def test_a_cut_that_was_not_written_costs_its_own_segment_alone(tmp_path: Path) -> None:
    part = journal(tmp_path)
    part.fragment(name(0), 1, b"first")  # its cut is lost with a write that failed
    part.fragment(name(0), 2, b"second")
    part.cut(name(0), 2, 6)
    part.flush()
    [(_, fields)] = replay.records(part.folder)
    assert tail.decode(fields)[1:] == (2, Segment(Packed(b"second")))
    part.close(complete=True)


def shipped(journal: Journal) -> None:
    """Redis has everything, and the journal looks at its disk."""
    journal.tidy(time.monotonic() + 10)
    journal.look()


def test_a_small_disk_is_full_before_the_limit_and_takes_records_again_once_a_fifth_is_free(tmp_path: Path) -> None:
    small = journal(tmp_path, limit=1 << 30, disk=9 * MIB)  # of which one stays for what runs
    answers: list[bool] = []
    for number in range(400):
        small.look()
        answers.append(not is_failed(small))
        if answers[-1]:
            small.open(name(number), bytes(200_000))
        else:
            assert small.fill >= 0.8
            with pytest.raises(JournalFailed, match="full"):
                small.open(name(number), b"x")
            if number % 10 == 0:
                shipped(small)
    turns = sum(before != after for before, after in itertools.pairwise(answers))
    assert 4 <= turns <= 40  # full several times; each time it takes many records before it is full again
    assert len(list(small.folder.glob("*.journal"))) > 4
    small.close(complete=True)


def test_a_disk_that_others_fill_is_full(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1 << 30)
    mine = Journal(tmp_path, new_boot(), limit=16 * MIB, keep=60, free=disk.free)
    mine.open(name(0), b"x")
    disk.size = 0
    mine.look()
    assert is_failed(mine)
    assert mine.fill == 1.0
    disk.size = 1 << 30
    mine.look()
    assert not is_failed(mine)
    mine.close(complete=True)


def test_a_journal_that_was_deleted_begins_anew_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "journals"
    lost = journal(root)
    for deleted in (root, lost.folder, lost.folder / "00000003.journal"):
        lost.open(name(0), b"x")
        shutil.rmtree(deleted) if deleted.is_dir() else deleted.unlink()
        caplog.clear()
        lost.look()
        assert "was deleted" in caplog.text
        lost.open(name(1), b"y")
        assert kept(lost.folder) == [name(1)]
        assert list(replay.orphaned_journals(root)) == []  # it is locked again
        caplog.clear()
        lost.look()
        assert caplog.text == ""
    lost.close(complete=True)


def test_a_journal_that_was_deleted_and_cannot_begin_anew_refuses(tmp_path: Path) -> None:
    root = tmp_path / "journals"
    lost = journal(root)
    shutil.rmtree(root)
    root.write_text("in the way")
    for _ in range(3):
        lost.look()
        lost.flush()
        with pytest.raises(JournalFailed):
            lost.open(name(0), b"x")
    root.unlink()
    lost.look()
    lost.open(name(1), b"x")
    assert kept(lost.folder) == [name(1)]
    lost.close(complete=True)


def test_a_disk_that_takes_little_is_not_tried_with_nothing(tmp_path: Path) -> None:
    """A write of a few bytes says nothing of one that was refused."""
    tight = journal(tmp_path)
    tight.open(name(0), b"x")
    [path] = tight.folder.glob("*.journal")
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))
    try:
        tight.record(name(0), 1, bytes(5000))
        for _ in range(5):
            tight.flush()
            assert is_failed(tight)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tight.flush()
    assert not is_failed(tight)
    assert kept(tight.folder) == [name(0)]
    tight.close(complete=True)


def test_what_is_kept_of_a_disk_is_for_running_exchanges(tmp_path: Path) -> None:
    small = journal(tmp_path, disk=3 * MIB)
    number = 0
    while not is_failed(small):
        number += 1
        small.open(name(number), bytes(100_000))
    with pytest.raises(JournalFailed):
        small.open(name(0), b"x")
    small.record(name(1), 1, b"its end")
    assert small.flush()
    assert kept(small.folder)[-1] == name(1)
    small.close(complete=True)
