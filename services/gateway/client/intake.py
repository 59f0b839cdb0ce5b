"""Takes in request bodies: whole, or as the first part of an upload."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import NamedTuple

from services.gateway.client import content_encoding, form
from services.gateway.client.received import Received
from services.gateway.client.request import ClientRequest
from services.gateway.client.upload import Upload, UploadLimits
from shared.runtime.errors import Refused

_SMALL = 1024 * 1024  # declared bytes: so few are taken whole, and can be sent again
_FIRST = 64 * 1024  # bytes of an upload that are read for its model before the rest passes
_ON_THE_LOOP = 32 * 1024  # encoded bytes: more are decoded in a thread


class Wanted(NamedTuple):
    """What the gateway needs of a body."""

    whole: bool  # to estimate or to check it; else the rest may go upstream as it arrives
    read: bool  # it has to be read, or the request is refused
    checked: bool = False  # a list of models holds for it


class Intake:
    """The limits of request bodies, in bytes and seconds."""

    def __init__(self, most: int, most_of_upload: int, idle: float, total: float = math.inf) -> None:
        """`idle`: between two reads; `total`: for what is held."""
        self._most = most
        self._total = total
        self._idle = idle
        self._upload = UploadLimits(most_of_upload, idle)

    def at_once(self, client: ClientRequest, given: Mapping[bytes, bytes]) -> Received | None:
        """The body of a usual request, JSON that is here as a whole; else None, and nothing is taken of it."""
        if given.get(b"content-type") != b"application/json" or b"content-encoding" in given:
            return None
        if client.body.size > self._most:
            return None
        sent = client.whole_body()
        return None if sent is None else Received(sent, sent)

    async def receive(self, client: ClientRequest, given: Mapping[bytes, bytes], wanted: Wanted) -> Received:
        """The body of a request, whose header fields are `given`.

        Refused: 413 where it is larger than its limit, 408 where it does not come in time; 400 or 415 where it is
        wanted and cannot be decoded.
        """
        sent = client.whole_body()
        rest: Upload | None = None
        if sent is None or len(sent) > self._most:
            sent, rest = await self._read(client, given, sent, whole=wanted.whole)
        kind = given.get(b"content-type", b"").lower()
        boundary = None
        clear = True
        if not kind.startswith(b"application/json"):
            boundary = form.boundary(given.get(b"content-type", b"").decode("latin-1"))
            clear = boundary is not None or b"multipart" not in kind
        if wanted.checked:
            clear = clear and [name for name, _ in client.headers].count(b"content-type") <= 1
        plain: bytes | None = sent
        if b"content-encoding" in given:
            plain = await self._decoded(client, sent, rest, needed=wanted.read)
        return Received(sent, plain, rest, boundary, clear)

    async def _read(
        self, client: ClientRequest, given: Mapping[bytes, bytes], here: bytes | None, *, whole: bool
    ) -> tuple[bytes, Upload | None]:
        declared = given.get(b"content-length", b"")
        length = int(declared) if declared.isdigit() else None
        most = self._most if whole else self._upload.bytes
        too_large = Refused(413, f"the request body is larger than {most} bytes")
        if (length or 0) > most or len(here or b"") > most:
            raise too_large
        if here is not None:
            return here, None
        held = most if whole else self._held(length, given)
        parts: list[bytes] = []
        size = 0
        latest = asyncio.get_running_loop().time() + self._total
        while part := await self._part(client, latest):
            parts.append(part)
            size += len(part)
            if size > most:
                raise too_large
            if size >= held and size != length and not whole:
                first = b"".join(parts)
                return first, Upload(first, client, length, self._upload)
        return parts[0] if len(parts) == 1 else b"".join(parts), None

    def _held(self, length: int | None, given: Mapping[bytes, bytes]) -> int:
        """How much of a body is taken before the rest passes: all of it where it is JSON, which must be read whole to
        know its model, and small enough."""
        kind = given.get(b"content-type", b"").partition(b";")[0].strip().lower()
        json = kind == b"application/json" or kind.endswith(b"+json")
        most = self._most if json else _SMALL if length is not None else _FIRST
        if length is None or length <= most:
            return most
        return _FIRST

    async def _part(self, client: ClientRequest, latest: float) -> bytes:
        try:
            async with asyncio.timeout_at(min(latest, asyncio.get_running_loop().time() + self._idle)):
                return await client.read()
        except TimeoutError:
            raise Refused(408, "the request body did not arrive in time") from None

    async def _decoded(self, client: ClientRequest, sent: bytes, rest: Upload | None, *, needed: bool) -> bytes | None:
        """The body without its content encodings; itself where it has none."""
        names = content_encoding.codings(client.headers)
        if not names:
            return sent
        if rest is not None:
            return None  # only a whole body is decoded
        try:
            if len(sent) <= _ON_THE_LOOP:
                return content_encoding.decoded(sent, names, self._most)
            return await asyncio.to_thread(content_encoding.decoded, sent, names, self._most)
        except Refused:
            if needed:
                raise
            return None
