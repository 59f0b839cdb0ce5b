"""Seals: the form in which the content of tails leaves a gateway where the operator has given it a key.

Pure; the cipher is handed in.

Content is sealed with AES-256-GCM. A piece is a number (eight bytes, big-endian), and what the cipher makes of the
bytes: as many, and a tag of sixteen. The cipher's key is made for the boot of the exchange, and its nonce of the
number, which one boot gives to one piece alone: so no nonce comes twice under a key, however many pieces there are.
With each piece goes what it belongs to, as associated data: the exchange, the place in its tail, and whether the bytes
are compressed. So it opens nowhere else.

Opens, heads, sizes, times and outcomes are not sealed: with the key gone, an exchange is still known, and its text is
not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from shared.contract.errors import BadRecord
from shared.contract.tail import End, Packed, Record, Seal

KEY_BYTES: Final = 32
END: Final = "end"  # the place of the bytes of the end record; of a segment's, it is its seq
REQUEST: Final = "request"

_NUMBER_BYTES = 8
_TAG_BYTES = 16
_NONCE_PREFIX = bytes(12 - _NUMBER_BYTES)
_LABEL = b"arouter seal "


class Cipher(Protocol):
    """AES-256-GCM under one key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """BadRecord where it is not what was encrypted."""


Ciphers = Callable[[bytes], Cipher]


def key_id(key: bytes) -> str:
    """The name by which records and people know a key; it says nothing about it."""
    return hashlib.sha256(_LABEL + key).hexdigest()[:8]


def boot_key(key: bytes, boot: str) -> bytes:
    """The key that seals the exchanges of one boot: HKDF's expansion to one block."""
    return hmac.digest(key, _LABEL + boot.encode() + b"\x01", "sha256")


def place(seq: int, record: Record) -> str:
    """The place of a record's body."""
    return END if isinstance(record, End) else str(seq)


class Sealer:
    """Seals what one process writes, under one key."""

    def __init__(self, key: bytes, ciphers: Ciphers) -> None:
        self.id = key_id(key)
        self._key = key
        self._ciphers = ciphers
        self._boot = ""
        self._cipher: Cipher | None = None
        self._number = 0

    def seal(self, exchange_id: str, place: str, packed: Packed) -> Packed:
        """Packed bytes of an exchange, sealed as one piece; empty ones as they are."""
        if not packed.data:
            return packed
        boot = exchange_id.partition(".")[0]
        if self._cipher is None or boot != self._boot:
            self._boot, self._cipher = boot, self._ciphers(boot_key(self._key, boot))
        self._number += 1
        number = self._number.to_bytes(_NUMBER_BYTES, "big")
        associated = _associated(exchange_id, place, packed.zstd)
        data = number + self._cipher.encrypt(_NONCE_PREFIX + number, packed.data, associated)
        return Packed(data, True, Seal(self.id, packed.size, packed.zstd, (len(data),)))


def joined(pieces: Sequence[Packed]) -> Packed:
    """One sealed body of the sealed fragments that it consists of."""
    seals = [piece.seal for piece in pieces if piece.seal is not None]
    seal = Seal(seals[0].key, sum(one.size for one in seals), False, tuple(len(piece.data) for piece in pieces))
    return Packed(b"".join(piece.data for piece in pieces), True, seal)


def opened(exchange_id: str, place: str, packed: Packed, cipher: Cipher) -> Packed:
    """The packed bytes that were sealed. `cipher`: of the key and the boot. BadRecord where they were changed, or
    belong elsewhere."""
    seal = packed.seal
    if seal is None:
        return packed
    associated = _associated(exchange_id, place, seal.zstd)
    parts: list[bytes] = []
    at, last = 0, 0
    for size in seal.pieces:
        piece = packed.data[at : at + size]
        number = int.from_bytes(piece[:_NUMBER_BYTES], "big")
        if size < _NUMBER_BYTES + _TAG_BYTES or len(piece) < size or number <= last:
            raise BadRecord("its pieces are not in order")
        nonce = _NONCE_PREFIX + piece[:_NUMBER_BYTES]
        parts.append(cipher.decrypt(nonce, piece[_NUMBER_BYTES:], associated))
        at, last = at + size, number
    packed_again = Packed(b"".join(parts), seal.zstd)
    if at != len(packed.data) or packed_again.size != seal.size:
        raise BadRecord("it is not as long as it says")
    return packed_again


def _associated(exchange_id: str, place: str, zstd: bool) -> bytes:
    return f"{exchange_id} {place} {zstd:d}".encode()
