"""Playing a script: what is written when, and how it goes wrong. The connection itself is the server's."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli
import zstandard

from services.demo.scenario import Scenario
from services.demo.script import Request, Script


class Stage(Protocol):
    """The connection a script is played on. Writing raises ConnectionError once the client is gone."""

    async def start(self, status: int, headers: list[tuple[str, str]], framing: str) -> None:
        """Send the head; `framing` is chunked, close, or the length of the body in digits."""

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None:
        """End the body properly."""

    def close(self, *, reset: bool) -> None:
        """Close the connection as it is."""


class _Encoder:
    """A content encoding that lets every piece out at once."""

    def __init__(self, encoding: str) -> None:
        self._zlib = (
            zlib.compressobj(wbits=31 if encoding == "gzip" else 15) if encoding in ("gzip", "deflate") else None
        )
        self._brotli = brotli.Compressor(quality=4) if encoding == "br" else None
        self._zstd = zstandard.ZstdCompressor().compressobj() if encoding == "zstd" else None

    def encode(self, data: bytes) -> bytes:
        if self._zlib:
            return self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        if self._brotli:
            return bytes(self._brotli.process(data) + self._brotli.flush())
        if self._zstd:
            return self._zstd.compress(data) + self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return data

    def finish(self) -> bytes:
        if self._zlib:
            return self._zlib.flush()
        if self._brotli:
            return bytes(self._brotli.finish())
        return self._zstd.flush() if self._zstd else b""


class Performance:
    """One answer on its way out; its fields are what the emit log says of it."""

    def __init__(self, request: Request, script: Script, name: str = "") -> None:
        """`name`: of the provider that answers."""
        self.name = name
        self.began = time.time()
        self.request = request
        self.script = script
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self.events = 0
        self.tokens = 0
        self.usage: dict[str, int | None] | None = None  # set once the final usage is out
        self.ended = "client_gone"  # until something else is true
        self._encoder = _Encoder(request.scenario.encoding)
        self._rng = random.Random(request.scenario.seed)

    async def play(self, stage: Stage) -> None:
        """Play to the end the scenario has for it. ConnectionError where the client leaves first."""
        scenario = self.request.scenario
        if scenario.hang:
            await asyncio.sleep(scenario.hang / 1000)
        if scenario.refuse:
            self.ended = "refused"
            stage.close(reset=False)
            return
        pieces = self.script.pieces
        strike = scenario.after if scenario.after is not None else (len(pieces) + 1) // 2
        await stage.start(self.script.status, self._headers(), self._framing())
        for at, piece in enumerate(pieces):
            if at == strike and await self._strike(stage):
                return
            if at and scenario.pace:
                await asyncio.sleep(scenario.pace / 1000)
            data = piece.data
            if at == strike - 1 and len(pieces) == 1 and scenario.breaks:
                data = data[: len(data) // 2]  # a document breaks in its middle
            else:
                self.events += 1
                self.tokens += piece.tokens
                self.usage = self.script.usage if piece.usage else self.usage
            await self._write(stage, self._encoder.encode(data))
        if strike >= len(pieces) and await self._strike(stage):
            return
        await self._write(stage, self._encoder.finish())
        await stage.end()
        self.ended = "complete"

    def _headers(self) -> list[tuple[str, str]]:
        headers = [("content-type", self.script.content_type), ("x-request-id", "req_demo"), ("set-cookie", "demo=1")]
        if self.request.scenario.encoding:
            headers.append(("content-encoding", self.request.scenario.encoding))
        retry_after = self.request.scenario.retry_after
        if retry_after is not None or self.script.status == 429:
            headers.append(("retry-after", str(retry_after or 0)))
        if self.name:
            headers.append(("x-demo-provider", self.name))
        if self.request.credential:
            headers.append(("x-demo-credential", self.request.credential))
        return headers

    def _framing(self) -> str:
        scenario = self.request.scenario
        if scenario.close_delimited:
            return "close"
        whole = len(self.script.pieces) == 1 and not scenario.encoding and not scenario.error
        if whole and not scenario.truncate:
            return str(len(self.script.pieces[0].data))
        return "chunked"

    async def _strike(self, stage: Stage) -> bool:
        """Misbehave; whether that was the end of it."""
        scenario = self.request.scenario
        if scenario.stall:
            await asyncio.sleep(scenario.stall / 1000)
        if scenario.error:
            await self._write(stage, self._encoder.encode(self.script.error) + self._encoder.finish())
            await stage.end()
            self.ended = "error"
        elif scenario.truncate:
            await stage.end()
            self.ended = "truncated"
        elif scenario.cut or scenario.reset:
            stage.close(reset=scenario.reset)
            self.ended = "reset" if scenario.reset else "cut"
        return scenario.breaks

    async def _write(self, stage: Stage, data: bytes) -> None:
        for part in _parts(data, self.request.scenario, self._rng):
            await stage.write(part)
            self.sha256.update(part)
            self.bytes += len(part)


def _parts(data: bytes, scenario: Scenario, rng: random.Random) -> Iterator[bytes]:
    most = 1 if scenario.bytewise else scenario.split
    if not most:
        if data:
            yield data
        return
    at = 0
    while at < len(data):
        size = rng.randint(1, most)
        yield data[at : at + size]
        at += size
