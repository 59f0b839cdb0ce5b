"""Sealed bytes: what opens them, what does not, and a gateway's tail that is sealed all the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.capture import replay
from services.gateway.capture.journal import Journal
from services.gateway.capture.tap import Tap
from services.meter.assembly import Assembler
from services.meter.measuring import measured
from services.meter.tails import Tail
from shared.contract import seals, tail
from shared.contract.dialects import Dialect
from shared.contract.entry import Ended, Mark
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId, ExchangeIds, new_boot
from shared.contract.seals import Sealer
from shared.contract.tail import End, Fields, Head, Open, Outcome, Packed, Segment, StreamEntry
from shared.runtime import seal_keys
from shared.runtime.errors import SettingsError
from shared.runtime.seal_keys import NO_KEYS, SealKeys
from tests.support.estimator import WordEstimator

NEW, OLD = b"n" * 32, b"o" * 32
KEYS = SealKeys((NEW, OLD))
ID = ExchangeId(new_boot(), 0, 7)
SAID = Packed(b"data: a secret\n\n")


def sealer(*keys: bytes) -> Sealer:
    made = SealKeys(keys or (NEW,)).sealer()
    assert made is not None
    return made


def sealed(place: str = "1", packed: Packed = SAID) -> Packed:
    return sealer().seal(str(ID), place, packed)


def changed(packed: Packed, **changes: Any) -> Packed:
    assert packed.seal is not None
    return msgspec.structs.replace(packed, seal=msgspec.structs.replace(packed.seal, **changes))


class TestOpening:
    @given(st.binary(max_size=3000), st.sampled_from(["1", "17", seals.END, seals.REQUEST]))
    def test_what_was_sealed_comes_back(self, data: bytes, place: str) -> None:
        packed = Packed.pack(data)
        there = sealed(place, packed)
        assert there.size == len(data)
        assert len(data) < 8 or data not in there.data
        assert KEYS.opened(ID, place, there) == packed

    @given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6))
    def test_fragments_come_back_as_one_body(self, parts: list[bytes]) -> None:
        sealing = sealer()
        joined = seals.joined([sealing.seal(str(ID), "2", Packed(part)) for part in parts])
        assert joined.size == len(b"".join(parts))
        assert KEYS.opened(ID, "2", joined) == Packed(b"".join(parts))

    def test_no_number_comes_twice(self) -> None:
        sealing = sealer()
        assert len({sealing.seal(str(ID), "1", SAID).data for _ in range(100)}) == 100

    def test_two_boots_have_two_keys(self) -> None:
        other = ExchangeId(new_boot(), 0, 7)
        assert seals.boot_key(NEW, ID.boot) != seals.boot_key(NEW, other.boot)
        sealing = sealer()  # a process that has used up its ids begins another boot
        for id in (ID, other, ID):
            assert KEYS.opened(id, "1", sealing.seal(str(id), "1", SAID)) == SAID

    def test_a_key_that_was_replaced_opens_what_it_has_sealed(self) -> None:
        before = sealer(OLD).seal(str(ID), "1", SAID)
        assert KEYS.opened(ID, "1", before) == SAID
        with pytest.raises(BadRecord, match=f"with the key {seals.key_id(OLD)}, which AROUTER_SEAL_KEYS_FILE does not"):
            SealKeys((NEW,)).opened(ID, "1", before)
        with pytest.raises(BadRecord, match="does not have here"):
            NO_KEYS.opened(ID, "1", before)

    def test_what_is_not_sealed_needs_no_key(self) -> None:
        assert NO_KEYS.opened(ID, "1", SAID) is SAID
        assert NO_KEYS.sealer() is None

    def test_it_opens_nowhere_else(self) -> None:
        there = sealed("1")
        for id, place in (
            (ID._replace(n=8), "1"),
            (ID._replace(shard=1), "1"),
            (ID._replace(boot=new_boot()), "1"),
            (ID, "2"),
            (ID, seals.END),
        ):
            with pytest.raises(BadRecord, match="it was changed, or belongs elsewhere"):
                KEYS.opened(id, place, there)

    def test_every_bit_of_it_counts(self) -> None:
        there = sealed()
        for at in range(len(there.data)):
            data = bytearray(there.data)
            data[at] ^= 1
            with pytest.raises(BadRecord, match="does not open"):
                KEYS.opened(ID, "1", msgspec.structs.replace(there, data=bytes(data)))

    @pytest.mark.parametrize(
        "changes",
        [
            {"zstd": True},
            {"size": 3},
            {"pieces": ()},
            {"pieces": (-1,)},
            {"pieces": (20,)},
            {"pieces": (41, 1)},
            {"pieces": (10**9,)},
            {"key": "0" * 8},
            {"key": seals.key_id(OLD)},
        ],
    )
    def test_what_it_says_of_itself_has_to_be_true(self, changes: dict[str, Any]) -> None:
        with pytest.raises(BadRecord):
            KEYS.opened(ID, "1", changed(sealed(), **changes))

    def test_pieces_stay_in_their_order(self) -> None:
        sealing = sealer()
        first, second = (sealing.seal(str(ID), "1", Packed(said)) for said in (b"one", b"two"))
        for wrong in ([second, first], [first, first]):
            with pytest.raises(BadRecord, match="not in order"):
                KEYS.opened(ID, "1", seals.joined(wrong))

    def test_sealed_bytes_do_not_unpack(self) -> None:
        with pytest.raises(BadRecord, match="sealed with the key"):
            sealed().unpack()


class TestFile:
    def test_the_first_key_seals(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(f"# since May\n{NEW.hex()}\n\n  {OLD.hex().upper()}  \n")
        keys = seal_keys.load(tmp_path / "keys")
        assert keys.ids == [seals.key_id(NEW), seals.key_id(OLD)]
        made = keys.sealer()
        assert made is not None
        assert made.id == keys.ids[0]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (f"{NEW.hex()}\n{OLD.hex()[:-2]}\n", "line 2 of {} is not a key: 64 hex digits, as `arouter seal-key`"),
            ("x" * 64, "line 1 of {} is not a key"),
            ("", "{} has no key"),
            ("# none\n", "{} has no key"),
            ("\xe4", "{} is not text"),
        ],
    )
    def test_a_file_that_is_wrong_is_one_line_without_the_key(self, tmp_path: Path, content: str, said: str) -> None:
        path = tmp_path / "keys"
        path.write_text(content)
        with pytest.raises(SettingsError) as failed:
            seal_keys.load(path)
        assert str(failed.value).startswith("AROUTER_SEAL_KEYS_FILE: " + said.format(path))
        assert OLD.hex()[:8] not in str(failed.value)

    def test_a_file_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"AROUTER_SEAL_KEYS_FILE: cannot read .*No such file"):
            seal_keys.load(tmp_path / "none")

    def test_without_the_library_it_is_one_line(self) -> None:
        def missing(name: str) -> Any:
            raise ImportError(name)

        assert SealKeys((), missing).ids == []
        with pytest.raises(SettingsError, match=r"needs the extra 'seal': pip install 'arouter\[seal\]'"):
            SealKeys((NEW,), missing)


class Sent:
    """Keeps what a gateway would send to Redis."""

    full = False

    def __init__(self) -> None:
        self.fields: list[Fields] = []

    def put(self, shard: int, fields: Fields) -> None:
        self.fields.append(fields)


ENDING = End(Outcome.COMPLETED, 200, "text/event-stream", "", 0, 2, 3, 4, "req", Packed(b""))
OPEN = Open("k" * 64, Dialect.OPENAI_CHAT, "openai", "gpt-4o", 1_700_000_000_000, True, "/v1/chat/completions")
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a secret word"}}]}\n\n'
PROMPT = b'{"messages":[{"role":"user","content":"a secret prompt"}]}'
SECRET = b"secret"


class Relayed:
    """One exchange through a tap and a journal."""

    def __init__(self, folder: Path, *, key: bytes = NEW) -> None:
        self.sent = Sent()
        self.journal = Journal(folder, new_boot(), limit=1 << 30, keep=60)
        self.taps = Tap(ExchangeIds(new_boot(), 1), cast("Any", self.sent), self.journal, sealer=sealer(key))
        self.tap = self.taps.open(OPEN)
        self.tap.head(Head(200, "text/event-stream", ""))

    def stream(self, events: int) -> None:
        for number in range(events):
            self.tap.feed(EVENT)
            if number % 3 == 0:
                self.taps.tick()
        self.taps.tick()

    def end(self) -> None:
        self.tap.end(ENDING, PROMPT)
        self.taps.tick()

    def on_disk(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.journal.folder.glob("*.journal"))


def assembled(fields: list[Fields]) -> Tail:
    """The exchange that these records make, or what a dead gateway has left of it."""
    assembler = Assembler(0)
    found = None
    for number, one in enumerate(fields):
        found = assembler.add(StreamEntry(b"%d-0" % number, one), 0.0) or found
    if found is None:
        [id] = assembler.idle(1.0)
        found = assembler.rest(id)
    assert found is not None
    return found.tail


class TestTail:
    async def test_nothing_of_it_can_be_read_on_its_way(self, tmp_path: Path) -> None:
        relayed = Relayed(tmp_path)
        relayed.stream(70)
        relayed.end()
        assert len(relayed.sent.fields) > 3
        assert SECRET not in b"".join(one[b"r"] for one in relayed.sent.fields)
        assert SECRET not in relayed.on_disk()
        opened = assembled(relayed.sent.fields).opened(KEYS.opened)
        assert b"".join(piece or b"" for piece in opened.body()) == EVENT * 70
        assert opened.end.request is not None
        assert opened.end.request.unpack() == PROMPT
        relayed.journal.close(complete=True)

    def test_its_journal_sends_the_same_bytes_again(self, tmp_path: Path) -> None:
        relayed = Relayed(tmp_path)
        relayed.stream(70)
        relayed.end()
        assert [fields for _, fields in replay.records(relayed.journal.folder)] == relayed.sent.fields
        relayed.journal.close(complete=True)

    async def test_what_a_dead_gateway_had_not_cut_is_adopted_without_the_key(self, tmp_path: Path) -> None:
        """Whoever adopts it passes on what is sealed; a meter opens it."""
        relayed = Relayed(tmp_path)
        relayed.stream(70)  # 25 ticks: two segments, and fragments that are in no record
        relayed.journal.close(complete=False)
        [orphan] = replay.orphaned_journals(tmp_path)
        found = [fields for _, fields in orphan.records()]
        orphan.close(complete=True)
        assert found[:-1] == relayed.sent.fields
        assert SECRET not in b"".join(one[b"r"] for one in found)
        left = assembled(found)
        pieces = [len(segment.body.seal.pieces) for segment in left.segments if segment.body.seal is not None]
        assert (pieces[:-1], pieces[-1] > 1) == ([1, 1], True)
        assert (left.end.outcome, left.end.response_bytes) == (Outcome.GATEWAY_LOST, len(EVENT) * 70)
        assert b"".join(piece or b"" for piece in left.opened(KEYS.opened).body()) == EVENT * 70
        entry = (await measured(left, WordEstimator(), KEYS)).entry
        assert (entry.ended, entry.source) == (Ended.CUT, "partial")
        assert (entry.observed_output_tokens or 0) > 100

    @pytest.mark.parametrize("ended", [True, False])
    async def test_without_its_key_nothing_is_known_which_is_not_0(self, tmp_path: Path, *, ended: bool) -> None:
        relayed = Relayed(tmp_path, key=OLD)
        relayed.stream(46)
        if ended:
            relayed.end()
        found = await measured(assembled(relayed.sent.fields), WordEstimator(), SealKeys((NEW,)))
        entry = found.entry
        assert found.held == f"sealed with the key {seals.key_id(OLD)}, which AROUTER_SEAL_KEYS_FILE does not have here"
        assert (entry.ended, entry.cause, entry.marks) == (
            Ended.UNREADABLE,
            "unreadable",
            (Mark.UNPRICED, Mark.UNREADABLE),
        )
        assert (entry.input_tokens, entry.output_tokens, entry.cost_nanousd) == (None, None, None)
        assert (entry.model, entry.key, entry.response_bytes > 0) == ("gpt-4o", OPEN.key, True)
        assert found.lesson is None
        relayed.journal.close(complete=True)

    async def test_an_error_whose_text_is_sealed_is_not_free_either(self) -> None:
        end = msgspec.structs.replace(ENDING, status=400, response_bytes=9, body=sealed(seals.END))
        found = await measured(Tail(ID, OPEN, [], end), WordEstimator())
        assert (found.entry.ended, found.entry.input_tokens, found.held != "") == (Ended.UNREADABLE, None, True)

    async def test_a_segment_of_another_exchange_is_noticed(self, tmp_path: Path) -> None:
        relayed = Relayed(tmp_path)
        relayed.stream(46)
        relayed.end()
        tail_ = assembled(relayed.sent.fields)
        stranger = sealer().seal(str(ID), "1", Packed(EVENT))
        wrong = msgspec.structs.replace(tail_, segments=[Segment(stranger), *tail_.segments[1:]])
        found = await measured(wrong, WordEstimator(), KEYS)
        assert (found.entry.ended, found.entry.input_tokens) == (Ended.UNREADABLE, None)
        assert "was changed, or belongs elsewhere" in found.held
        relayed.journal.close(complete=True)

    def test_records_that_carry_nothing_are_not_sealed(self, tmp_path: Path) -> None:
        relayed = Relayed(tmp_path)
        relayed.tap.end(ENDING, None)
        _, _, record = tail.decode(relayed.sent.fields[-1])
        assert isinstance(record, End)
        assert (record.body, record.request) == (Packed(b""), None)
        relayed.journal.close(complete=True)
