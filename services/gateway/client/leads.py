"""Headers of an answer that lead a client on: they lead to the gateway, or nowhere (decision 59). Pure.

A client that goes on at the provider itself sends it the caller's key, and is not metered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urljoin, urlsplit

from services.gateway.client.headers import Header

Inward = Callable[[str], str | None]  # from an absolute URL to a path of ours; None where none leads there

_LINK = b"link"
_NAMES = frozenset({b"location", b"content-location", b"operation-location", b"azure-asyncoperation"})
_EITHER = _NAMES | {_LINK}
_REDIRECTS = (301, 302, 303, 307, 308)
_target = re.compile(r"<([^<>]*)>")


def lead(answered: Iterable[bytes]) -> bool:
    """Whether an answer has such a header; `answered` holds its names in lower case."""
    return not _EITHER.isdisjoint(answered)


def elsewhere(status: int, location: str | None, asked: str, inward: Inward) -> str | None:
    """The host of a redirect that leads neither back to us nor anywhere we may send a caller; else None.

    `asked`: the URL that was asked.
    """
    if status not in _REDIRECTS or location is None or _path(location, asked, inward) is not None:
        return None
    try:
        return urlsplit(urljoin(asked, location)).hostname or "?"
    except ValueError:
        return "?"


def turned(given: list[Header], asked: str, here: str, inward: Inward) -> list[Header]:
    """Headers with lower-case names, whose URLs of the provider are relative to `here`, the path of the client's
    request: that holds behind any proxy. What leads elsewhere is left out; links to elsewhere stay."""
    found = []
    for name, value in given:
        text = value.decode("latin-1")
        if name == _LINK:
            found.append(
                (name, _target.sub(lambda link: _linked(link[1], asked, here, inward), text).encode("latin-1"))
            )
        elif name in _NAMES:
            path = _path(text, asked, inward)
            if path is not None:
                found.append((name, _relative(path, here).encode("latin-1")))
        else:
            found.append((name, value))
    return found


def _linked(url: str, asked: str, here: str, inward: Inward) -> str:
    path = _path(url, asked, inward)
    return f"<{url if path is None else _relative(path, here)}>"


def _path(url: str, asked: str, inward: Inward) -> str | None:
    if "\\" in url:
        return None  # browsers and fetch() read it as a slash, others as a letter
    try:
        return inward(urljoin(asked, url.strip()))
    except ValueError:
        return None


def _relative(path: str, here: str) -> str:
    """A path as a reference relative to another (RFC 3986, 4.2)."""
    if "//" in here:
        return path  # clients do not agree on what is above an empty segment
    bare, mark, rest = _cut(path)
    there, start = bare.split("/"), here.split("/")[:-1]
    same = 0
    while same < min(len(start), len(there) - 1) and start[same] == there[same]:
        same += 1
    reference = "../" * (len(start) - same) + "/".join(there[same:])
    # "./" where the first segment would be none, or be taken for a scheme.
    unclear = not reference or ":" in reference.partition("/")[0] or reference.startswith("/")
    return ("./" if unclear else "") + reference + mark + rest


def _cut(path: str) -> tuple[str, str, str]:
    """A path, and what begins with a ? or a #."""
    at = next((at for at, letter in enumerate(path) if letter in "?#"), len(path))
    return path[:at], path[at : at + 1], path[at + 1 :]
