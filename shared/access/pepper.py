"""The pepper under which keys are hashed: the setting, else one that is made once and kept in Redis.

Beside the keys stands a fingerprint of their pepper, so that a pepper that does not fit them is noticed (decision 66).
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

from shared.access.memory import KeyHashes
from shared.contract import names
from shared.runtime.errors import SettingsError, StoreError
from shared.runtime.settings import Settings
from shared.runtime.store import Store, translated

_AGAIN_SECONDS = 1.0  # an emptied Redis may hold keys under another pepper

log = logging.getLogger(__name__)


class Pepper:
    """The pepper as one process knows it, and the hashes of keys under it."""

    def __init__(
        self, store: Store, settings: Settings, monotonic: Callable[[], float] = time.monotonic, most: int = 1
    ) -> None:
        """`most`: how many hashes are remembered."""
        self.hashes = KeyHashes(most)
        self._store = store
        self._settings = settings
        self._monotonic = monotonic
        self._at = monotonic()
        given = settings.key_pepper
        self.value = None if given is None else given.get_secret_value().encode()
        self._proven = False

    async def load(self, *, again: bool = False) -> bytes:
        """The pepper. `again`: where it is kept in Redis, look whether it has changed; at most once a second.

        SettingsError as in `load`.
        """
        now = self._monotonic()
        if self.value is None or (self._settings.key_pepper is None and again and now - self._at >= _AGAIN_SECONDS):
            self._at = now
            before, self.value = self.value, await _kept(self._store, self.value)
            if before not in (None, self.value):
                log.warning("Redis was emptied: keys are made under another pepper now")
        return self.value

    async def prove(self) -> None:
        """Note beside the keys that this pepper fits them: one of them was found."""
        if not self._proven and self.value is not None:
            self._proven = True
            with suppress(StoreError):  # another process, or a later one, proves it as well
                await note(self._store, self.value)


async def load(store: Store, settings: Settings) -> bytes:
    """The pepper of the settings, else the one in Redis, which is made on first use.

    SettingsError where the keys in this Redis are hashed under another one.
    """
    pepper = await Pepper(store, settings).load()
    await _check(store, pepper)
    return pepper


async def check(store: Store, settings: Settings) -> None:
    """SettingsError where the keys in this Redis are hashed under another pepper. Nothing is made."""
    given = settings.key_pepper
    if given is not None:
        await _check(store, given.get_secret_value().encode())
        return
    with translated():
        kept = await store.get(names.PEPPER)
    await _check(store, kept)


async def note(store: Store, pepper: bytes) -> None:
    """Leave the fingerprint of the pepper of these keys, unless there is one."""
    with translated():
        await store.set(names.PEPPER_FINGERPRINT, fingerprint(pepper), nx=True)


def fingerprint(pepper: bytes) -> str:
    """A few bits of a digest: enough to tell peppers apart, too few to search for one."""
    return hmac.digest(pepper, b"arouter pepper", "sha256").hex()[:8]


async def _check(store: Store, pepper: bytes | None) -> None:
    with translated():
        expected = await store.get(names.PEPPER_FINGERPRINT)
    if expected is None or (pepper is not None and fingerprint(pepper) == expected.decode()):
        return
    what = "the pepper that was kept in Redis is gone" if pepper is None else "this is not the pepper of these keys"
    raise SettingsError(
        f"AROUTER_KEY_PEPPER: {what}, so that none of the keys in this Redis would work; "
        f"set the former one, or delete {names.PEPPER_FINGERPRINT} from Redis if all keys are to be made anew"
    )


async def _kept(store: Store, offered: bytes | None) -> bytes:
    """The pepper in Redis; where there is none, the one that is offered is put there, or a new one."""
    with translated():
        kept = await store.get(names.PEPPER)
        if kept is None:
            if offered is None:
                await _check(store, None)
                log.warning(
                    "AROUTER_KEY_PEPPER is not set: one was made and is kept in Redis, beside the keys that it protects"
                )
            await store.set(names.PEPPER, offered or secrets.token_hex(32), nx=True)
            kept = await store.get(names.PEPPER)
    return bytes(kept)
