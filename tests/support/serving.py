"""A server on loopback, in the test's own loop, that leaves nothing open."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    handle: Handler, tls: ssl.SSLContext | None = None, *, listens: str = "127.0.0.1", host: str = "127.0.0.1"
) -> AsyncIterator[str]:
    """A server whose handler gets every connection; its URL, with that host. OSError where it cannot listen."""
    running: set[asyncio.StreamWriter] = set()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(writer)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            running.discard(writer)
            writer.close()

    server = await asyncio.start_server(handled, listens, 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}/x"
    finally:
        server.close()
        for writer in list(running):
            writer.transport.abort()
        while running:  # their handlers have closed them, and nothing is left for the collector to complain of
            await asyncio.sleep(0.01)
