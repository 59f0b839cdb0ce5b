"""The frames of a journal's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from shared.contract import frames
from shared.contract.errors import BadRecord
from shared.contract.frames import Cut, Fragment, Item, JournaledHead, JournaledRecord, SealedFragment
from shared.contract.ids import new_boot
from shared.contract.tail import Head, Packed, Seal

IDS = st.text(max_size=30)
SEALS = st.builds(Seal, IDS, st.integers(0, 2**40), st.booleans(), st.tuples(st.integers(0, 2**20)))
ITEMS = st.lists(
    st.builds(JournaledRecord, IDS, st.integers(0, 2**40), st.binary(max_size=40))
    | st.builds(JournaledHead, IDS, st.builds(Head, st.none() | st.integers(100, 599), IDS, IDS))
    | st.builds(Fragment, IDS, st.integers(0, 2**40), st.binary(max_size=40))
    | st.builds(
        SealedFragment, IDS, st.integers(0, 2**40), st.builds(Packed, st.binary(max_size=40), st.just(True), SEALS)
    )
    | st.builds(Cut, IDS, st.integers(0, 2**40), st.integers(0, 2**40)),
    max_size=5,
)


@given(st.lists(ITEMS, max_size=4), st.data())
def test_frames_come_back_up_to_the_one_that_is_torn(written: list[list[Item]], data: st.DataObject) -> None:
    encoded = [frames.encode(items) for items in written]
    assert [frames.decode(payload) for payload in frames.payloads(b"".join(encoded))] == written
    size = data.draw(st.integers(0, len(b"".join(encoded))))
    whole = [frames.decode(payload) for payload in frames.payloads(b"".join(encoded)[:size])]
    assert whole == written[: len(whole)]
    assert (
        sum(map(len, encoded[: len(whole)]))
        <= size
        < sum(map(len, encoded[: len(whole) + 1])) + (len(whole) == len(written))
    )


def test_no_version_looks_like_the_payloads_of_before_there_were_versions() -> None:
    first = frames.encode([])[frames.OVERHEAD]
    assert first == frames.VERSION
    assert first not in (*range(0x90, 0xA0), 0xDC, 0xDD)


@pytest.mark.parametrize(
    "payload", [b"\x02\x90", b"\x7f", b"\x01", b"\x01\x91\x94\x09\xa1x\x00\x00", b"\x91\xc0", b"\x90\x90"]
)
def test_another_payload_is_no_frame_of_ours(payload: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="journal frame"):
        frames.decode(payload)
    folder = tmp_path / f"{new_boot()}.v{frames.VERSION}"
    folder.mkdir()
    (folder / "00000001.journal").write_bytes(frames.framed(payload))
    [orphan] = replay.orphaned_journals(tmp_path)
    with pytest.raises(BadRecord):
        list(orphan.records())
    orphan.close(complete=False)
    assert list(replay.orphaned_journals(tmp_path, but={folder.name})) == []


def test_zeros_behind_the_last_frame_are_torn() -> None:
    """A file system may leave zeros after a loss of power."""
    assert list(frames.payloads(frames.encode([]) + bytes(64))) == [b"\x01\x90"]


def test_the_journal_of_a_later_version_is_left_for_others(tmp_path: Path) -> None:
    mine = Journal(tmp_path, new_boot(), limit=1 << 20, keep=1)
    mine.close(complete=False)
    later = tmp_path / f"{new_boot()}.v{frames.VERSION + 1}"
    later.mkdir()
    assert [orphan.folder for orphan in replay.orphaned_journals(tmp_path)] == [mine.folder]
