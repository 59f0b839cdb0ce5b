"""Every key in Redis, every time to live, and why. No other module spells a Redis key.

Keys that one script touches together share the hash tag `{shard}`, so that shards spread over a cluster.
"""

from __future__ import annotations

GROUP = "meter"  # the consumer group of every tail stream

# Keys of callers. They are not sharded, and are read one by one (decision 20).
KEYS = "ar:keys"  # sorted set: hashes of all keys ever made, by time of creation (µs)
TEAMS = "ar:teams"  # sorted set: names of all teams, by time of creation (µs)
PEPPER = "ar:pepper"  # used where AROUTER_KEY_PEPPER is unset
PEPPER_FINGERPRINT = "ar:pepper:fingerprint"  # string: by which a pepper that does not fit the keys is noticed

# Hash: what meters have learned of reported against observed usage. Fields are provider, model and "shown" or "hidden",
# with FIELD_SEPARATOR between them; those of 1.0 were provider and model, and are still read.
CALIBRATIONS = "ar:experience"

# Sorted set: live meters by the time of their last heartbeat (ms). It decides how many leases each takes.
METERS = "ar:meters"
METER_TTL_MS = 10_000

LEASE_TTL_MS = 10_000  # a dead meter's shard is free after this; leases are renewed every third of it

# String: the newest version of the contract that has worked here. Only another major version stops a process.
CONTRACT = "ar:{boots}:contract"

# Sorted set: boots of gateways by the time of their last heartbeat (ms).
BOOTS = "ar:{boots}"
SHARDS = "ar:{boots}:shards"  # string: the most shards any of them has used; meters read that many
BOOT_TTL_MS = 15_000  # a boot without a heartbeat for this long is gone
RELOAD = "ar:{boots}:reload"  # string: the number of the last reload that was asked for
RELOADED_TTL_S = 3600  # answers to one are kept for this long
# String: when somebody last asked what runs (ms of Redis's clock). Heartbeats bring it back; gateways answer it once.
ASKED = "ar:{boots}:asked"
RUNNING_TTL_MS = 10_000  # the question, and the answers, are kept for this long
CANCEL_TTL_S = 60  # a gateway that comes back within this time still cancels; answers are kept for as long

# A replay is recognised for this long, which is longer than anything keeps bytes to replay.
FINAL_TTL_S = 35 * 86_400
HOUR_TTL_S = 35 * 86_400  # hourly totals, from the first request of a provider and model on (decision 31)
DAY_TTL_S = 400 * 86_400  # daily totals (decision 25); all-time totals stay for ever
_BUCKET_BITS = 8  # Redis stores small hashes compactly

# Sorted set: work that ends elsewhere and whose result nobody has booked, as provider:id, by when its start was first
# metered (ms of Redis's clock). All of work is in one slot, because one script touches it together.
OPEN_WORK = "ar:{work}"
WORK_STATS = "ar:{work}:stats"  # hash: how many pieces of work have expired
# A result must not be booked again while a provider still hands it out. Responses stay with OpenAI for 30 days, results
# of batches with Anthropic for 29; after this, work that nobody fetched has expired. It is also as long as a replay of
# the exchange that books it is recognised, which finds its own id here.
WORK_TTL_S = FINAL_TTL_S
BATCH_TTL_S = DAY_TTL_S  # OpenAI keeps a batch's output file until somebody deletes it

# Stream: events that webhooks may send on. It is short, because they are rare and soon read.
EVENTS = "ar:{events}"
MOST_EVENTS = 10_000
EVENT_TTL_S = 35 * 86_400  # the same event is known again for this long, unless its writer says otherwise

# Set: names of the webhooks that have been configured. What belongs to one of them is in one slot.
WEBHOOKS = "ar:webhooks"

# Set: names of the followers of the ledger. What one of them has not read is held back from the trim for a while.
FOLLOWERS = "ar:followers"

# Hash: the limits of teams and of everything, by scope (`team:ID` or `all`), and `version`, by which gateways notice a
# change. Those of a key are in its record.
LIMITS = "ar:limits"
# Hash: scope of which amounts are counted to a JSON list of its patterns of models, "" among them for all models. What
# follows the ledger for limits reads it after the entries, and a scope is in it before its snapshot is taken.
LIMITED = "ar:limited"


def key(key_hash: str) -> str:
    """Hash: the record of one caller's key."""
    return f"ar:key:{key_hash}"


def team(name: str) -> str:
    """Hash: the record of one team."""
    return f"ar:team:{name}"


def boot(boot: str) -> str:
    """Hash: the state of a boot, and by shard how many exchanges it has opened."""
    return f"ar:{{boots}}:{boot}"


def gateway(boot: str) -> str:
    """String: what the gateway of a boot says of itself; it lives as long as the boot may be silent."""
    return f"ar:{{boots}}:{boot}:gateway"


def running(boot: str) -> str:
    """Hash: what the gateway of a boot runs (`said`), and the question that it answers (`asked`, as ASKED)."""
    return f"ar:{{boots}}:{boot}:running"


def cancel(boot: str) -> str:
    """Set: exchanges of a boot that are to be cancelled."""
    return f"ar:{{boots}}:{boot}:cancel"


def cancelled(boot: str) -> str:
    """Hash: exchange id to what its gateway has answered."""
    return f"ar:{{boots}}:{boot}:cancelled"


def reloaded(number: int) -> str:
    """Hash: process to how a reload went there."""
    return f"ar:{{boots}}:reload:{number}"


def work(provider: str, id: str) -> str:
    """Hash: a piece of work by one of its names: who began it (`start`), and which exchange books its result."""
    return f"ar:{{work}}:{provider}:{id}"


def event(id: str) -> str:
    """String: the mark that an event is noted; it lives as long as the same may be said again."""
    return f"ar:{{events}}:{id}"


def events_follow(name: str) -> str:
    """Hash: how far a follower has read the events, as `follow`."""
    return f"ar:{{events}}:follow:{name}"


def webhook_due(name: str) -> str:
    """Sorted set: ids of the messages that wait to be sent to a webhook, by when each is due (ms)."""
    return f"ar:{{webhook:{name}}}:due"


def webhook_dead(name: str) -> str:
    """Sorted set: ids of its dead letters, by when they became that (ms)."""
    return f"ar:{{webhook:{name}}}:dead"


def webhook_messages(name: str) -> str:
    """Hash: id to message, of both."""
    return f"ar:{{webhook:{name}}}:messages"


def webhook_counts(name: str) -> str:
    """Hash: how many messages were sent, and how many dead letters were lost."""
    return f"ar:{{webhook:{name}}}:counts"


def tail(shard: int) -> str:
    """Stream: tail records. It is never trimmed: records are deleted once they are settled, dropped or quarantined."""
    return f"ar:{{{shard}}}:tail"


def opened(shard: int) -> str:
    """Hash: boot to how many of its exchanges have sent an open record here."""
    return f"ar:{{{shard}}}:opened"


def final(shard: int, boot: str) -> str:
    """Bitmap: bit n is set once exchange boot.shard.n is settled for good."""
    return f"ar:{{{shard}}}:final:{boot}"


def provisional(shard: int) -> str:
    """Hash: id of an exchange that is not final to its provisional value (`booked.Provisional`)."""
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


def team_totals(shard: int, name: str) -> str:
    """Hash: as `totals`, of what the keys of a team have opened while they belonged to it."""
    return f"ar:{{{shard}}}:team:{name}"


def team_day(shard: int, name: str, day_utc: str) -> str:
    """Hash: the same for one day. There are no hours of teams: no limit needs them."""
    return f"ar:{{{shard}}}:team:{name}:{day_utc}"


def active(shard: int, day_utc: str) -> str:
    """Set: hashes of the keys on which something was booked that day."""
    return f"ar:{{{shard}}}:active:{day_utc}"


def entries(shard: int, boot: str, n: int) -> str:
    """Hash: n of an exchange to the id of its latest ledger entry; it lives a day longer than the entry."""
    return f"ar:{{{shard}}}:entries:{boot}:{n >> _BUCKET_BITS}"


def ledger(shard: int) -> str:
    """Stream: one entry per settlement, trimmed by age, and by what followers have read."""
    return f"ar:{{{shard}}}:ledger"


def following(name: str) -> str:
    """Sorted set: processes that run a follower by the time of their last heartbeat (ms), as METERS."""
    return f"ar:followers:{name}"


def follow(shard: int, name: str) -> str:
    """Hash: how far a follower has read the shard's ledger, and how it does."""
    return f"ar:{{{shard}}}:follow:{name}"


def follow_lease(shard: int, name: str) -> str:
    """String: the process that runs a follower on the shard."""
    return f"ar:{{{shard}}}:follow:{name}:lease"


def limit(scope: str) -> str:
    """Hash: what a scope has used and reserved, and how far each shard's ledger is in it."""
    return f"ar:{{limit:{scope}}}"


def quarantine(shard: int) -> str:
    """Hash: stream entry id to a record that could not be read, with the reason. Holding it twice changes nothing."""
    return f"ar:{{{shard}}}:quarantine"


def tries(shard: int) -> str:
    """Hash: id of an exchange to how many meters have begun to measure it alone, and not come back yet."""
    return f"ar:{{{shard}}}:tries"


def stats(shard: int) -> str:
    """Hash: counts of settled, drifted and duplicate exchanges of the shard."""
    return f"ar:{{{shard}}}:stats"


def lease(shard: int) -> str:
    """String: the meter that reads the shard."""
    return f"ar:{{{shard}}}:lease"


# Fields of totals are provider, model and counter. A provider's name cannot hold the unit separator; in the names of
# models a space takes its place.
FIELD_SEPARATOR = "\x1f"
