"""The border to receivers: a body is posted to a URL of the operator's, who may well mean an address of a private
network. Redirects are not followed, and nothing of a URL is ever in an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx

from shared.runtime.errors import SinkUnavailable

_SECONDS = 10.0  # from the connection to the last byte of an answer
_MOST_BYTES = 64 * 1024  # of an answer; the rest is not read
_MOST_WAIT = 3600.0

for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)  # below it, they log URLs


class Answer(NamedTuple):
    """A receiver's answer. `retry_after`: seconds for which it asks to be left alone, an hour at most; 0: it does not
    say."""

    status: int
    retry_after: float
    body: bytes

    @property
    def taken(self) -> bool:
        """Whether it has what it was sent."""
        return 200 <= self.status < 300


class Poster:
    """Posts to one receiver."""

    def __init__(self, url: str, seconds: float = _SECONDS) -> None:
        """`seconds`: for one request."""
        self._url = url
        self._seconds = seconds
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a body. SinkUnavailable where no answer came in time."""
        if self._client is None:  # made in the loop that uses it
            self._client = httpx.AsyncClient(timeout=self._seconds, follow_redirects=False)
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream("POST", self._url, content=body, headers=dict(headers)) as response,
            ):
                return Answer(response.status_code, _retry_after(response.headers), await _beginning(response))
        except TimeoutError:
            raise SinkUnavailable(f"no answer within {self._seconds:g} s") from None
        except Exception as exc:  # noqa: BLE001  # of a host that is none, say, it is one of another library
            raise SinkUnavailable(type(exc).__name__) from None  # its text may hold the URL

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


async def _beginning(response: httpx.Response) -> bytes:
    """The body as it came, as far as it is read."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) >= _MOST_BYTES:
            break
    return body[:_MOST_BYTES]


def _retry_after(headers: httpx.Headers) -> float:
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return min(_MOST_WAIT, float(said[:9]))
    try:
        return min(_MOST_WAIT, max(0.0, parsedate_to_datetime(said).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return 0.0
