"""Memories of a bounded size, and one of the hashes of keys."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Memory(dict[_K, _V]):
    """A bounded memory: at its limit it forgets what was noted first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def note(self, name: _K, value: _V) -> None:
        self.pop(name, None)
        if len(self) >= self._most:
            del self[next(iter(self))]
        self[name] = value


class KeyHashes:
    """The hashes of keys that are known, each found by a hash that takes a quarter of the time. That one is made with a
    secret of this process: neither keys nor anything that holds elsewhere is remembered."""

    __slots__ = ("_known", "_secret")

    def __init__(self, most: int) -> None:
        self._known: Memory[bytes, tuple[bytes, str]] = Memory(most)  # with the pepper of each
        self._secret = secrets.token_bytes(32)

    def find(self, pepper: bytes, key: str) -> str | None:
        """The hash of a key under this pepper; None where it was not noted."""
        known, key_hash = self._known.get(self._name(key), (None, ""))
        return key_hash if known is pepper else None

    def note(self, pepper: bytes, key: str, key_hash: str) -> None:
        self._known.note(self._name(key), (pepper, key_hash))

    def _name(self, key: str) -> bytes:
        return blake2b(key.encode(), digest_size=16, key=self._secret).digest()
