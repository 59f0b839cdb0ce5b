"""What a writer knows of how far its client has come."""

from __future__ import annotations

import asyncio
import socket

from services.gateway.client.socket_writer import SocketWriter


async def test_what_a_client_takes_is_seen_before_it_has_made_room_for_more() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        served = listener.accept()[0]
        served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=served)
        writer = SocketWriter(transport)
        writer.write(b"x" * 300_000)
        assert writer.unsent == 0  # the socket's buffer has it
        first = writer.untaken
        assert first > 0
        client.setblocking(False)
        taken = 0
        while writer.untaken >= first - 10_000:  # the system tells us in its own time
            taken += len(await loop.sock_recv(client, 1000))
            await asyncio.sleep(0)
        assert writer.untaken > 0
        assert writer.unsent == 0
        transport.abort()
