"""The operator's keys for sealing tails: the file that has them, and the library that uses them."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from shared.contract import seals
from shared.contract.errors import BadRecord
from shared.contract.ids import ExchangeId
from shared.contract.seals import Cipher, Sealer
from shared.contract.tail import Packed
from shared.runtime.errors import SettingsError

SETTING = "AROUTER_SEAL_KEYS_FILE"
_BOOTS = 256  # whose ciphers are kept

Importing = Callable[[str], Any]  # a module by its name


class SealKeys:
    """Keys by their ids: the first one seals, all of them open. Without any, nothing is sealed or opened."""

    def __init__(self, keys: tuple[bytes, ...] = (), importing: Importing = import_module) -> None:
        """SettingsError where the library is missing."""
        self._keys = {seals.key_id(key): key for key in keys}
        self._aes = _Aes(importing) if keys else None
        self._cipher = lru_cache(_BOOTS)(self._new_cipher)

    @property
    def ids(self) -> list[str]:
        """The one that seals, and the others."""
        return list(self._keys)

    def sealer(self) -> Sealer | None:
        """What seals the records of one gateway process; None where nothing is sealed."""
        if self._aes is None:
            return None
        return Sealer(next(iter(self._keys.values())), self._aes)

    def opened(self, id: ExchangeId, place: str, packed: Packed) -> Packed:
        """Packed bytes of an exchange, no longer sealed. BadRecord says why they cannot be opened here."""
        if packed.seal is None:
            return packed
        key = packed.seal.key
        if key not in self._keys:
            raise BadRecord(f"sealed with the key {key[:16]}, which {SETTING} does not have here")
        try:
            return seals.opened(str(id), place, packed, self._cipher(key, id.boot))
        except BadRecord as exc:
            raise BadRecord(f"sealed with the key {key}, and does not open: {exc}") from exc

    def _new_cipher(self, key: str, boot: str) -> Cipher:
        assert self._aes is not None
        return self._aes(seals.boot_key(self._keys[key], boot))


NO_KEYS = SealKeys()


def load(path: Path | None) -> SealKeys:
    """The keys in a file: one a line, the first one seals; empty lines and those with # at the beginning are passed
    over. SettingsError, which never shows a key, where it cannot be used."""
    if path is None:
        return NO_KEYS
    try:
        lines = path.expanduser().read_text("ascii").splitlines()
    except OSError as exc:
        raise SettingsError(f"{SETTING}: cannot read {path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{SETTING}: {path} is not text") from None
    given = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    keys = [_key(text, number, path) for number, text in given if text and not text.startswith("#")]
    if not keys:
        raise SettingsError(f"{SETTING}: {path} has no key; `arouter seal-key` makes one")
    return SealKeys(tuple(keys))


def _key(text: str, number: int, path: Path) -> bytes:
    try:
        key = binascii.unhexlify(text)
    except ValueError:
        key = b""
    if len(key) != seals.KEY_BYTES:
        needed = f"{2 * seals.KEY_BYTES} hex digits, as `arouter seal-key` prints them"
        raise SettingsError(f"{SETTING}: line {number} of {path} is not a key: {needed}")
    return key


class _Aes:
    """Makes ciphers, and translates what the library raises."""

    def __init__(self, importing: Importing) -> None:
        try:
            self._gcm = importing("cryptography.hazmat.primitives.ciphers.aead").AESGCM
            self._invalid = importing("cryptography.exceptions").InvalidTag
        except ImportError:
            raise SettingsError(f"{SETTING}: needs the extra 'seal': pip install 'arouter[seal]'") from None

    def __call__(self, key: bytes) -> Cipher:
        return _Gcm(self._gcm(key), self._invalid)


class _Gcm:
    def __init__(self, gcm: Any, invalid: Any) -> None:
        self.encrypt = gcm.encrypt
        self._decrypt = gcm.decrypt
        self._invalid = invalid

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        try:
            plain: bytes = self._decrypt(nonce, data, associated_data)
        except self._invalid:
            raise BadRecord("it was changed, or belongs elsewhere") from None
        return plain
