"""Cross-origin requests of browsers, for the origins that the operator names (decision 27). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.client.headers import ATTEMPTS, GENERATION_ID, PROVIDER, Header

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_EXPOSED = b", ".join((GENERATION_ID, ATTEMPTS, PROVIDER, b"x-request-id, request-id, retry-after"))
_REMEMBER_SECONDS = b"7200"  # the most any browser keeps a preflight


class Cors:
    """The CORS headers for each origin. Without origins there are none, and browsers keep answers from their pages."""

    def __init__(self, origins: str) -> None:
        """`origins`: comma-separated, or `*`."""
        named = {origin.strip().rstrip("/").encode() for origin in origins.split(",") if origin.strip()}
        self._any = b"*" in named
        self._origins = frozenset(named)

    def answer(self, given: Mapping[bytes, bytes]) -> list[Header]:
        """CORS headers for the answer to a request with the headers `given`; none where its origin is not allowed."""
        origin = given.get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        ]

    def preflight(self, given: Mapping[bytes, bytes]) -> list[Header]:
        """The same for the OPTIONS request that a browser sends first."""
        allowed = self.answer(given)
        if allowed and b"access-control-request-method" in given:
            allowed.append((b"access-control-allow-methods", _METHODS))
            allowed.append((b"access-control-max-age", _REMEMBER_SECONDS))
            if b"access-control-request-headers" in given:
                allowed.append((b"access-control-allow-headers", given[b"access-control-request-headers"]))
        return allowed


def replaced(headers: list[Header], ours: list[Header]) -> list[Header]:
    """An answer's headers with `ours` in place of the provider's CORS headers."""
    return [header for header in headers if not header[0].startswith(b"access-control-")] + ours
