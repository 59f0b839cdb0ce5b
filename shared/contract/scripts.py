"""Every Lua script, as it is sent to Redis. The head of each file in `lua/` says what it does and takes."""

from __future__ import annotations

from importlib.resources import files


def _script(name: str) -> str:
    """A script without its comments, because most are sent with each call. Its lines keep their numbers."""
    first, *rest = files("shared.contract").joinpath("lua", f"{name}.lua").read_text().splitlines()
    return "\n".join([first, *("" if line.lstrip().startswith("--") else line for line in rest)])


# Tail streams.
APPEND = _script("append")
CREATE_GROUP = _script("create_group")
EXCHANGES = _script("exchanges")
OPEN_RECORD = _script("open_record")
DROP = _script("drop")
# Quarantine.
HOLD = _script("hold")
RETRY = _script("retry")
# Gateways, meters, callers' keys and teams.
HEARTBEAT = _script("heartbeat")
ALIVE = _script("alive")
ASK_RELOAD = _script("ask_reload")
NOTE_RELOAD = _script("note_reload")
ASK_RUNNING = _script("ask_running")
TELL_RUNNING = _script("tell_running")
CANCEL = _script("cancel")
NOTE_CANCELLED = _script("note_cancelled")
LEASE = _script("lease")
BEGIN_TRY = _script("begin_try")
CHANGE_RECORD = _script("change_record")
# The books.
SETTLE = _script("settle")
FOLLOW = _script("follow")
REPRICE = _script("reprice")
# Work that ends elsewhere.
NOTE_WORK = _script("note_work")
EXPIRE_WORK = _script("expire_work")
# Events and webhooks.
NOTE_EVENT = _script("note_event")
WEBHOOK_PUT = _script("webhook_put")
WEBHOOK_TAKE = _script("webhook_take")
WEBHOOK_MOVE = _script("webhook_move")
# Limits.
SET_LIMITS = _script("set_limits")
LIMIT_PATTERNS = _script("limit_patterns")
LIMIT_ADMIT = _script("limit_admit")
LIMIT_APPLY = _script("limit_apply")
LIMIT_RELEASE = _script("limit_release")
LIMIT_SNAPSHOT = _script("limit_snapshot")
LIMIT_START = _script("limit_start")
