import pytest

from shared.contract.errors import BadRecord
from shared.contract.ids import MAX_N, ExchangeId, ExchangeIds, new_boot


def test_boots_are_ulids_in_order_of_time_and_unique() -> None:
    boots = [new_boot() for _ in range(100)]
    assert len(set(boots)) == 100
    assert all(len(boot) == 26 for boot in boots)
    assert [boot[:10] for boot in boots] == sorted(boot[:10] for boot in boots)


def test_ids_are_dense_per_shard() -> None:
    ids = ExchangeIds("B" * 26, shards=3)
    minted = [ids.next() for _ in range(9)]
    for shard in range(3):
        assert [id.n for id in minted if id.shard == shard] == [0, 1, 2]


def test_a_new_boot_begins_before_the_numbers_run_out() -> None:
    ids = ExchangeIds("B" * 26, shards=2, limit=3)
    minted = [ids.next() for _ in range(14)]
    assert len({str(id) for id in minted}) == 14
    assert max(id.n for id in minted) == 2
    assert len({id.boot for id in minted}) == 3


def test_a_process_that_runs_out_of_numbers_tells_of_all_its_boots() -> None:
    ids = ExchangeIds("A" * 26, shards=2, limit=3)
    for _ in range(6):
        ids.next()
    assert ids.opened() == {"A" * 26: {0: 3, 1: 3}}
    second = ids.next()
    assert (second.shard, second.n) == (0, 0)
    assert ids.opened() == {"A" * 26: {0: 3, 1: 3}, second.boot: {0: 1, 1: 0}}


def test_an_id_that_begins_a_boot_can_be_given_back() -> None:
    ids = ExchangeIds("A" * 26, shards=1, limit=1)
    ids.next()
    second = ids.next()
    ids.give_back()
    assert ids.opened() == {"A" * 26: {0: 1}, second.boot: {0: 0}}
    assert ids.next() == second


def test_an_id_survives_its_text() -> None:
    id = ExchangeId(new_boot(), 15, 12345)
    assert ExchangeId.parse(str(id)) == id


@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b.c", f"{'B' * 26}.1", f"{'B' * 26}.1.-1", f"{'B' * 26}.1.{MAX_N}", f"{'U' * 26}.1.1", "٣" * 30],
)
def test_other_text_is_no_id(text: str) -> None:
    with pytest.raises(BadRecord):
        ExchangeId.parse(text)
