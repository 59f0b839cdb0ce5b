"""From a URL of a provider to the path at the gateway that leads there. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from services.gateway.routing.routes import match
from services.gateway.routing.upstreams import Upstream, Upstreams
from shared.contract.dialects import Family
from shared.runtime.errors import Refused

_PORTS = {"http": 80, "https": 443}


def inward(url: str, upstream: Upstream, upstreams: Upstreams) -> str | None:
    """The path, with query and fragment, for an absolute URL; None where it is not the provider's, or no path of ours
    leads there."""
    found, own = _split(url), _split(upstream.base_url)
    if found is None or own is None or _place(found) != _place(own):
        return None
    path = f"/{upstream.provider}{found.path}"
    try:
        matched = match("GET", path, Family.OPENAI, upstreams)
    except Refused:
        return None
    there = _split(matched.url or "")
    # Our own routing is asked, because it drops what repeats the base URL's path and adds what it lacks.
    if matched.upstream is not upstream or there is None or unquote(there.path) != unquote(found.path):
        return None
    return path + (f"?{found.query}" if found.query else "") + (f"#{found.fragment}" if found.fragment else "")


def _split(url: str) -> SplitResult | None:
    try:
        found = urlsplit(url)
        _ = found.port  # which may be bad, too
    except ValueError:
        return None
    return found


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)
