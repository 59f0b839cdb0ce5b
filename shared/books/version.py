"""The check of its Redis that a process makes at its start."""

from __future__ import annotations

from shared.contract import names
from shared.contract.errors import BadRecord
from shared.contract.version import CURRENT, Version
from shared.runtime.errors import SettingsError, StoreUnavailable
from shared.runtime.store import Store, translated, verify


async def check(store: Store, current: Version = CURRENT) -> bool:
    """Check a Redis, and note the newest minor version there. A Redis that is away passes.

    Returns whether it has answered. SettingsError where it is unfit for usage, or belongs to another major version of
    the contract.
    """
    answered = await verify(store)
    try:
        there = await _there(store) or await _claimed(store, current)
        if there.major != current.major:
            raise SettingsError(
                f"REDIS_URL: this Redis holds version {there} of the contract, this program follows {current}; "
                "another major version needs a Redis of its own"
            )
        if there.minor < current.minor:
            with translated():
                await store.set(names.CONTRACT, str(current))
    except StoreUnavailable:
        return answered  # away, or full: then its version was read before
    except BadRecord as exc:
        raise SettingsError(f"REDIS_URL: {names.CONTRACT} holds something else: {exc}") from None
    return answered


async def _there(store: Store) -> Version | None:
    with translated():
        stored = await store.get(names.CONTRACT)
    return Version.parse(stored.decode()) if stored else None


async def _claimed(store: Store, current: Version) -> Version:
    """Claim a Redis without a version. Returns the version that counts: ours, unless another process was first."""
    with translated():
        first = await store.set(names.CONTRACT, str(current), nx=True, get=True)
    return Version.parse(first.decode()) if first else current
