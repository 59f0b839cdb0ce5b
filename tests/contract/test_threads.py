"""Records are read in two threads at once: a meter measures large answers beside its loop."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from shared.contract.tail import Packed

_ROUNDS = 200


def test_two_threads_unpack_what_was_packed() -> None:
    def unpacked(seed: int) -> int:
        data = " ".join(str(number) for number in random.Random(seed).choices(range(9999), k=16_000)).encode()
        packed = Packed.pack(data)
        return sum(packed.unpack() == data for _ in range(_ROUNDS))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(unpacked, (1, 2))) == [_ROUNDS, _ROUNDS]
