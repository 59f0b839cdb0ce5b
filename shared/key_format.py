"""What a caller's key looks like: `lr_live_` and 48 hex digits, 24 random bytes. Pure, but for making one."""

from __future__ import annotations

import hmac
import secrets

PREFIX = "lr_live_"
_LENGTH = len(PREFIX) + 48
_HEX = frozenset("0123456789abcdef")


def new_key() -> str:
    return PREFIX + secrets.token_hex(24)


def well_formed(key: str) -> bool:
    """Whether `key` has the shape of a key; anything else is refused without asking Redis."""
    return len(key) == _LENGTH and key.startswith(PREFIX) and _HEX.issuperset(key[len(PREFIX) :])


def hash_key(pepper: bytes, key: str) -> str:
    """HMAC-SHA256 in hex: the key's public name. A slow hash buys nothing for 192 random bits."""
    return hmac.digest(pepper, key.encode(), "sha256").hex()


def label(key: str) -> str:
    """What may be shown of a key, to recognise it by."""
    return f"{key[: len(PREFIX) + 4]}…{key[-4:]}"
