"""Identities: the boot of a process, and the exchange.

`exchange_id` is `boot.shard.n`: `boot` a ULID minted once per gateway process, `n` dense per boot and shard.
Because `n` is dense, "already settled?" costs one bit per exchange in Redis.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from shared.contract.errors import BadRecord

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# 2^24 exchanges per boot and shard: bounds the bitmap at 2 MiB, so that a corrupt n cannot allocate 512 MiB.
MAX_N = 1 << 24

BOOT = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
ID = re.compile(rf"^({BOOT.pattern})\.([0-9]{{1,5}})\.([0-9]{{1,8}})$")


def new_boot() -> str:
    """A ULID: 48 bits of milliseconds, 80 random bits, 26 characters of Crockford base 32."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))


class ExchangeId(NamedTuple):
    """The id of an exchange; booking is idempotent by it."""

    boot: str
    shard: int
    n: int

    def __str__(self) -> str:
        return f"{self.boot}.{self.shard}.{self.n}"

    @classmethod
    def parse(cls, text: str) -> ExchangeId:
        """The inverse of `str()`. BadRecord for anything else, including an `n` that is too large."""
        match = ID.fullmatch(text)
        if match is None or int(match[3]) >= MAX_N:
            raise BadRecord(f"not an exchange id: {text[:60]!r}")
        return cls(match[1], int(match[2]), int(match[3]))


class ExchangeIds:
    """Mints the ids of one process: shards in turn, `n` dense within each."""

    def __init__(self, boot: str, shards: int, *, limit: int = MAX_N) -> None:
        """`limit`: ids of one boot and shard; then another boot begins."""
        self.boot = boot
        self._shards = shards
        self._limit = limit
        self._minted = 0
        self._exhausted: list[str] = []

    def next(self) -> ExchangeId:
        n, shard = divmod(self._minted, self._shards)
        if n >= self._limit:  # after days; meters refuse larger numbers
            self._exhausted.append(self.boot)
            self.boot, self._minted = new_boot(), 0
            n, shard = 0, 0
        self._minted += 1
        return ExchangeId(self.boot, shard, n)

    def give_back(self) -> None:
        """Take back the id minted last, which was not used, so that ids stay dense."""
        self._minted -= 1

    def opened(self) -> dict[str, dict[int, int]]:
        """How many ids each boot of this process has minted, by shard."""
        n, rest = divmod(self._minted, self._shards)
        full = {boot: dict.fromkeys(range(self._shards), self._limit) for boot in self._exhausted}
        return full | {self.boot: {shard: n + (shard < rest) for shard in range(self._shards)}}
