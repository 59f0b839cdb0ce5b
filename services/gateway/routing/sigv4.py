"""AWS Signature Version 4, for requests whose body is here (AWS: "Create a signed AWS API request"). Pure.

It is our own because it runs for each request: botocore's signer takes objects of botocore's own (decision 75). Signed
are the host and every `x-amz-` header; what is added to the request later stays outside.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

Header = tuple[bytes, bytes]

ALGORITHM = "AWS4-HMAC-SHA256"
_SPACES = re.compile(r" +")


@dataclass(frozen=True, slots=True)
class Keys:
    """A key pair of AWS; the token goes with temporary ones."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one service in one region, such as `bedrock` in `eu-west-1`."""

    region: str
    service: str

    def headers(
        self, keys: Keys, now: datetime, method: str, url: str, query: bytes, given: Iterable[Header], body: bytes
    ) -> list[Header]:
        """The headers that sign a request. `now` in UTC; `url`: absolute, without the query, escaped as it is sent;
        `given`: the request's other headers, with lower-case names."""
        at = now.strftime("%Y%m%dT%H%M%SZ")
        added = [(b"x-amz-date", at.encode())]
        if keys.token is not None:
            added.append((b"x-amz-security-token", keys.token.encode()))
        host, path = _place(url)
        signed = [("host", host), *_signed([*given, *added])]
        names = ";".join(name for name, _ in signed)
        lines = [method, quote(path, safe="/~"), _query(query), *(f"{name}:{value}" for name, value in signed), ""]
        request = "\n".join([*lines, names, hashlib.sha256(body).hexdigest()])
        scope = f"{at[:8]}/{self.region}/{self.service}/aws4_request"
        text = "\n".join([ALGORITHM, at, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = _signing_key(keys.secret_key, at[:8], self.region, self.service)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        value = f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return [*added, (b"authorization", value.encode())]


def _place(url: str) -> tuple[str, str]:
    """The Host header that goes out, and the path."""
    scheme, _, rest = url.partition("://")
    place, _, path = rest.partition("/")
    return place.lower().removesuffix(":443" if scheme == "https" else ":80"), "/" + path


def _signed(headers: Iterable[Header]) -> list[tuple[str, str]]:
    """The headers that must be signed, in order; the values of a repeated one are joined."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith(b"x-amz-"):
            values.setdefault(name.decode("latin-1"), []).append(_SPACES.sub(" ", value.decode("latin-1").strip()))
    return [(name, ",".join(values[name])) for name in sorted(values)]


def _query(query: bytes) -> str:
    """The parameters in order, escaped as AWS wants them."""
    if not query:
        return ""
    pairs = (part.partition(b"=") for part in query.split(b"&") if part)
    return "&".join("=".join(pair) for pair in sorted((_escaped(name), _escaped(value)) for name, _, value in pairs))


def _escaped(text: bytes) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


@lru_cache(64)  # one for each key pair and day
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
