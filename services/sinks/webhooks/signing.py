"""Signatures of Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 of `id.timestamp.body`. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable


def headers(id: str, seconds: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of a message that is sent at this time (UTC seconds since the epoch): a signature by each key."""
    signed = b"%s.%d.%s" % (id.encode(), seconds, body)
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        "content-type": "application/json",
        "user-agent": "arouter",
    }
