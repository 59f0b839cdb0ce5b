"""The form of keys: `lr_live_` or `lr_mgmt_` and 48 hex digits (24 random bytes). Pure, but for making one."""

from __future__ import annotations

import hmac
import secrets
from enum import StrEnum


class Kind(StrEnum):
    """The purpose of a key; neither kind can do the other's work."""

    LIVE = "live"  # calls models, and reads itself
    MANAGEMENT = "mgmt"  # manages keys, and reads everything


PREFIX = "lr_live_"  # of keys that call models
PREFIXES = tuple(f"lr_{kind}_" for kind in Kind)  # all of one length
_LENGTH = len(PREFIX) + 48
_HEX = frozenset("0123456789abcdef")


def new_key(kind: Kind = Kind.LIVE) -> str:
    return f"lr_{kind}_" + secrets.token_hex(24)


def well_formed(key: str) -> bool:
    """Whether `key` has the form of a key. Anything else is refused without asking Redis."""
    return len(key) == _LENGTH and key.startswith(PREFIXES) and _HEX.issuperset(key[len(PREFIX) :])


def hash_key(pepper: bytes, key: str) -> str:
    """HMAC-SHA256 in hex, the key's public name. With 192 random bits a slow hash would add nothing."""
    return hmac.digest(pepper, key.encode(), "sha256").hex()


def ticket(pepper: bytes, key_hash: str, target: bytes) -> str:
    """The hash of a key with a signature that binds it to a target. What is signed has a blank, so it is no key."""
    return f"{key_hash}.{hmac.digest(pepper, b'upload ' + key_hash.encode() + b' ' + target, 'sha256').hex()}"


def label(key: str) -> str:
    """The part of a key that may be shown, so that people recognise it."""
    return f"{key[: len(PREFIX) + 4]}…{key[-4:]}"
