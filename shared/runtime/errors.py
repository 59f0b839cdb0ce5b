"""Every error this project raises, as one tree. A library's errors are translated into it once, at its border.

ARouterError
├── SettingsError           a setting is wrong: start-up stops with its text, one line
├── StoreError              Redis, translated in shared/runtime/store.py
│   ├── StoreUnavailable    busy: unreachable, loading, full, read-only, failing over; try again later
│   └── StoreRefused        bad: the command itself is wrong; trying again cannot help
├── SinkError               where a follower writes to: a database or a receiver, translated in
│   │                       services/sinks/database.py and posting.py
│   ├── SinkUnavailable     busy: unreachable, starting, full, locked; try again later
│   └── SinkRefused         bad: it does not take what it is given; trying again cannot help
├── Overtaken               another process has moved a follower's cursor; read it again
├── JournalFailed           the gateway's journal is full, or its disk refuses; nothing new may start
├── BadRecord               bytes in a tail stream that are not a record of ours; they go to quarantine
├── Refused                 the gateway turns a request away before it is an exchange
├── UploadBroken            the rest of a body that goes upstream as it arrives did not come: client_gone, body_timeout,
│                           body_too_large
└── UpstreamError           the provider, translated in services/gateway/upstream/errors.py; `cause` says in a word why
    ├── UpstreamUnreachable no connection, or it broke before an answer began: connect_refused, connect_failed, dns,
    │                       certificate, tls, proxy, reset, closed_early, protocol, too_large, bad_status, redirect,
    │                       request; or nothing was sent, as there is no valid credential for it: credential
    ├── UpstreamTimeout     no connection, no first byte, or silence for longer than the limit: connect_timeout,
    │                       pool_timeout, write_timeout, first_byte_timeout, idle_timeout
    └── UpstreamBroken      the answer broke off after it had begun: reset, closed_early, protocol, too_large, tls
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contract.errors import ARouterError


class SettingsError(ARouterError):
    """A setting is missing or wrong. `str()` is one line that names the setting."""


class StoreError(ARouterError):
    """A command to Redis failed."""


class StoreUnavailable(StoreError):
    """Redis cannot answer now; the same command may succeed later."""


class StoreRefused(StoreError):
    """Redis answered that the command is wrong."""


class SinkError(ARouterError):
    """A write to where a follower writes to failed."""


class SinkUnavailable(SinkError):
    """It cannot answer now; the same write may succeed later: not before `after` seconds, where it says so."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class SinkRefused(SinkError):
    """It does not take what it is given."""


class Overtaken(ARouterError):
    """Another process has moved the cursor of a follower: its lease had ended."""


class JournalFailed(ARouterError):
    """The journal keeps nothing new: its limit is reached, or the disk refuses."""


class Refused(ARouterError):
    """A request we turn away ourselves, in the caller's dialect.

    `status` is the HTTP status; `message` is shown to the caller and never holds a secret; `code` is a machine word for
    it, "" for none; `headers` go with the answer. 429 and 503 say when to come back: after a second, unless told.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        retry_after: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`retry_after` in seconds; `metadata`: figures that explain it, where the dialect has a place for them."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.metadata = metadata
        if retry_after is None and status in (429, 503):
            retry_after = 1
        self.headers: list[tuple[bytes, bytes]] = [] if retry_after is None else [(b"retry-after", b"%d" % retry_after)]


class UploadBroken(ARouterError):
    """A body broke off on its way from the client. `refused`: what the client is told, if it is still there."""

    def __init__(self, cause: str, refused: Refused | None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.refused = refused


class UpstreamError(ARouterError):
    """The provider did not answer as HTTP asks. `cause` is one of the words above, or `unknown`; `again`: the same
    request may be sent once more, on a new connection (decision 57)."""

    def __init__(self, message: str, cause: str = "unknown") -> None:
        super().__init__(message)
        self.cause = cause
        self.again = False


class UpstreamUnreachable(UpstreamError):
    """No connection to the provider, or it broke before the answer began."""


class UpstreamTimeout(UpstreamError):
    """The provider exceeded the connect, first-byte or idle limit."""


class UpstreamBroken(UpstreamError):
    """The provider's answer broke off before its end."""
