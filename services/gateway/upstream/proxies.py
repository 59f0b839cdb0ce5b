"""Which providers are reached by way of a proxy. Pure.

`no_proxy` is read as curl and httpx read `NO_PROXY`: hosts with everything below them, addresses, networks, `*`.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress

from services.gateway.settings import GatewaySettings
from services.gateway.upstream.connection import Origin


def proxy_of(settings: GatewaySettings, provider: str, origin: Origin) -> str | None:
    """The URL of the proxy to a provider's origin, which may hold a password; None where there is none."""
    scheme, host, port = origin
    configured = settings.providers.get(provider)
    own = configured.proxy if configured is not None else None
    if own is not None:
        return None if own.get_secret_value() == "off" else own.get_secret_value()
    every = settings.upstream_proxy or (settings.https_proxy if scheme == "https" else settings.http_proxy)
    if every is None or bypasses(settings.no_proxy, host, port):
        return None
    return every.get_secret_value()


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Whether a host is in a list as `NO_PROXY` has it."""
    host = _bare(host)
    return any(_fits(entry, host, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _fits(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    network = _network(entry)
    if network is not None:
        with suppress(ValueError):  # a name is in no network
            return ipaddress.ip_address(host) in network
        return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        return int(number) == port and _fits(name, host, port)
    name = _bare(entry).removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or (_network(host) is None and host.endswith("." + name)))


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(_bare(entry), strict=False)
    except ValueError:
        return None


def _bare(host: str) -> str:
    """A host without the brackets of a URL and the dot of the root."""
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
