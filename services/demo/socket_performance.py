"""Playing a conversation over a WebSocket: the frames of a server, and how it goes wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import time
from typing import Protocol

from services.demo.scenario import Scenario
from services.demo.script import Request, Script
from services.demo.sockets import Conversation

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


class Stage(Protocol):
    """The connection it is played on."""

    async def send(self, data: bytes) -> None: ...

    def close(self, *, reset: bool) -> None: ...


def accept(key: str) -> str:
    """What a handshake's key is answered with (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame of a server's: without a mask."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, size]) + payload
    if size < 65536:
        return struct.pack(">BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack(">BBQ", 0x80 | opcode, 127, size) + payload


class _Incoming(asyncio.Queue[tuple[int, bytes]]):
    """What a client says: opcode and payload, a message as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._received = b""
        self._message = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of its frames."""
        self._received += data
        while (taken := _frame_in(self._received)) is not None:
            opcode, final, payload, size = taken
            self._received = self._received[size:]
            if opcode >= _CLOSE:
                self.put_nowait((opcode, payload))
                continue
            self._message += payload
            if final:
                self.put_nowait((_TEXT, self._message))
                self._message = b""


class SocketPerformance:
    """One socket; its fields are what the emit log says of it."""

    def __init__(self, request: Request, conversation: Conversation, name: str = "") -> None:
        """`name`: of the provider that answers."""
        self.name = name
        self.began = time.time()
        self.request = request
        self.script = Script(conversation.dialect, "", status=101)
        self.sha256 = hashlib.sha256()  # of what was sent, frames and all
        self.bytes = 0
        self.events = 0
        self.tokens = 0
        self.usage: dict[str, int | None] | None = None
        self.ended = "client_gone"
        self._conversation = conversation
        self._incoming = _Incoming()

    def feed(self, data: bytes) -> None:
        """Take bytes of the client's."""
        self._incoming.feed(data)

    async def play(self, stage: Stage) -> None:
        """Play until either side closes. ConnectionError where the client leaves first."""
        kind = _BINARY if self._conversation.binary else _TEXT
        for piece in self._conversation.greet():
            await self._send(stage, frame(kind, piece.data))
        while True:
            opcode, payload = await self._incoming.get()
            if opcode == _CLOSE:
                await self._send(stage, frame(_CLOSE, payload))
                self.ended = "complete"
                stage.close(reset=False)
                return
            if opcode == _PING:
                await self._send(stage, frame(_PONG, payload))
            elif opcode == _TEXT and await self._answer(stage, kind, self._conversation.answer(payload)):
                return

    async def _answer(self, stage: Stage, kind: int, script: Script) -> bool:
        """Answer a message; whether that was the end of the socket."""
        scenario = self.request.scenario
        strike = scenario.after if scenario.after is not None else (len(script.pieces) + 1) // 2
        for at, piece in enumerate(script.pieces):
            long = len(script.pieces) > 2  # an answer of the model, and no mere confirmation
            if long and at == strike and await self._strike(stage, script, scenario):
                return True
            if at and scenario.pace:
                await asyncio.sleep(scenario.pace / 1000)
            await self._send(stage, frame(kind, piece.data))
            self.events += 1
            self.tokens += piece.tokens
            if piece.usage:
                self.usage = script.usage
        return False

    async def _strike(self, stage: Stage, script: Script, scenario: Scenario) -> bool:
        if scenario.stall:
            await asyncio.sleep(scenario.stall / 1000)
        if scenario.error:
            await self._send(stage, frame(_TEXT, script.error))
            await self._send(stage, frame(_CLOSE, struct.pack(">H", 1011)))
            self.ended = "error"
        elif scenario.truncate:
            await self._send(stage, frame(_CLOSE, struct.pack(">H", 1000)))
            self.ended = "truncated"
        elif scenario.cut or scenario.reset:
            self.ended = "reset" if scenario.reset else "cut"
        if scenario.breaks:
            stage.close(reset=scenario.reset)
        return scenario.breaks

    async def _send(self, stage: Stage, data: bytes) -> None:
        step = 1 if self.request.scenario.bytewise else self.request.scenario.split or len(data)
        for at in range(0, len(data), step):
            part = data[at : at + step]
            await stage.send(part)
            self.sha256.update(part)
            self.bytes += len(part)
            await asyncio.sleep(0)


def _frame_in(data: bytes) -> tuple[int, bool, bytes, int] | None:
    """Opcode, whether it is the last of its message, payload, and size of the first frame; None until it is whole."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    wide = {126: 2, 127: 8}.get(size, 0)
    if wide:
        if len(data) < at + wide:
            return None
        size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
    key, at = data[at : at + 4], at + 4  # a client's frames have a mask
    if len(data) < at + size:
        return None
    mask = (key * (size // 4 + 1))[:size]
    payload = (int.from_bytes(data[at : at + size], "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
    return data[0] & 0x0F, bool(data[0] & 0x80), payload, at + size
