"""A small forward proxy on loopback: CONNECT tunnels, and plain requests in absolute form."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from tests.support.serving import Handler


@dataclass
class Proxy:
    """Records its requests. `handle` serves one connection; with `refuses` it answers with that status line."""

    heads: list[bytes] = field(default_factory=list)
    refuses: bytes = b""

    @property
    def handle(self) -> Handler:
        return self._serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.refuses:
            writer.write(b"HTTP/1.1 " + self.refuses + b"\r\ncontent-length: 0\r\n\r\n")
            return
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        place = target if method == b"CONNECT" else target.removeprefix(b"http://").partition(b"/")[0]
        host, _, port = place.decode().rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            upwards = _copy(reader, up_writer)
        else:
            upwards = self._forward(head, b"http://" + place, reader, up_writer)
        try:
            await asyncio.gather(upwards, _copy(up_reader, writer))
        finally:
            up_writer.close()

    async def _forward(
        self, head: bytes, origin: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Request by request, as a proxy must."""
        while True:
            length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            writer.write(_forwarded(head, origin) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)


def _forwarded(head: bytes, origin: bytes) -> bytes:
    """The request with its target in origin form, without headers for the proxy."""
    return re.sub(rb"(?im)^proxy-[^\n]*\n", b"", head.replace(b" " + origin, b" ", 1))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
