"""Every key in Redis, every time to live, and why. Nothing else in the project spells a Redis key.

Keys that one script touches together share the hash tag `{shard}`, so that shards spread over a cluster.
"""

from __future__ import annotations

GROUP = "meter"  # the consumer group of every tail stream

# Keys of callers. Not sharded: read one by one.
KEYS = "ar:keys"  # sorted set: hash by time of creation (µs), the list of all keys ever made
PEPPER = "ar:pepper"  # used where AROUTER_KEY_PEPPER is unset

# Hash: what meters have learned of reported against observed usage. Fields are provider, model and "shown" or "hidden",
# with FIELD_SEPARATOR between them; those of 1.0 were provider and model, and are still read.
CALIBRATIONS = "ar:experience"

# Live meters: sorted set, worker id by the time of its last heartbeat (ms). Leases are shared out by its size.
METERS = "ar:meters"
METER_TTL_MS = 10_000

LEASE_TTL_MS = 10_000  # a dead meter's shard is taken over after this; renewed every third of it

# String: the newest version of the contract that has worked here. Only another major stops a process.
CONTRACT = "ar:{boots}:contract"

# Boots of gateways: sorted set, by the time each was last heard of (ms).
BOOTS = "ar:{boots}"
SHARDS = "ar:{boots}:shards"  # string: the most shards any of them has used; meters read that many
BOOT_TTL_MS = 15_000  # not heard of for this long, it is gone

# A replay older than this is no longer recognised as one: longer than anything keeps bytes to replay.
FINAL_TTL_S = 35 * 86_400
HOUR_TTL_S = 35 * 86_400  # hourly totals, from the hour's first request of a provider and model on
DAY_TTL_S = 400 * 86_400  # daily totals; the all-time totals have no end
_BUCKET_BITS = 8  # small hashes are stored compactly


def key(key_hash: str) -> str:
    """Hash: the record of one caller's key."""
    return f"ar:key:{key_hash}"


def boot(boot: str) -> str:
    """Hash: the state of a boot, and by shard how many exchanges it has opened."""
    return f"ar:{{boots}}:{boot}"


def tail(shard: int) -> str:
    """Stream: tail records, deleted by the settle script and by nothing else, never trimmed."""
    return f"ar:{{{shard}}}:tail"


def opened(shard: int) -> str:
    """Hash: boot to how many of its exchanges have an open record here, replays included."""
    return f"ar:{{{shard}}}:opened"


def final(shard: int, boot: str) -> str:
    """Bitmap: bit n is set once exchange boot.shard.n is settled for good."""
    return f"ar:{{{shard}}}:final:{boot}"


def provisional(shard: int) -> str:
    """Hash: exchange id to what is booked so far of an exchange that is not final (`booked.Provisional`)."""
    return f"ar:{{{shard}}}:provisional"


def totals(shard: int, key_hash: str) -> str:
    """Hash: counters of one key since its creation, by provider and model."""
    return f"ar:{{{shard}}}:totals:{key_hash}"


def hour(shard: int, key_hash: str, hour_utc: str) -> str:
    """Hash: the same for one hour, YYYYMMDDHH in UTC, of the open."""
    return f"ar:{{{shard}}}:hour:{key_hash}:{hour_utc}"


def day(shard: int, key_hash: str, day_utc: str) -> str:
    """Hash: the same for one day, YYYYMMDD in UTC, of the open."""
    return f"ar:{{{shard}}}:day:{key_hash}:{day_utc}"


def active(shard: int, day_utc: str) -> str:
    """Set: hashes of the keys on which something was booked that day."""
    return f"ar:{{{shard}}}:active:{day_utc}"


def entries(shard: int, boot: str, n: int) -> str:
    """Hash: n of an exchange to the id of its latest ledger entry; as long as those are kept, and a day."""
    return f"ar:{{{shard}}}:entries:{boot}:{n >> _BUCKET_BITS}"


def ledger(shard: int) -> str:
    """Stream: one entry per settlement, trimmed by age only."""
    return f"ar:{{{shard}}}:ledger"


def quarantine(shard: int) -> str:
    """Hash: stream entry id to what could not be read, with the reason. A hash, so that doing it twice is once."""
    return f"ar:{{{shard}}}:quarantine"


def stats(shard: int) -> str:
    """Hash: settled and drifted exchanges of the shard, and duplicates that were dropped."""
    return f"ar:{{{shard}}}:stats"


def lease(shard: int) -> str:
    """String: the worker that reads the shard now."""
    return f"ar:{{{shard}}}:lease"


# Totals hash fields are provider, model and counter. The unit separator cannot occur in a provider name, and is
# stripped from model names when they are booked.
FIELD_SEPARATOR = "\x1f"
