"""Content encodings: undoing what a provider compressed, as far as it came. Pure and incremental."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli
import zstandard

from shared.contract.errors import BadRecord


class Decoder(Protocol):
    """Takes encoded bytes as they come and gives what they decode to so far."""

    def feed(self, data: bytes) -> bytes: ...


class _Identity:
    def feed(self, data: bytes) -> bytes:
        return data


class _Zlib:
    """gzip (of one or many members) and deflate, which some servers send without its zlib header."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inner = zlib.decompressobj(wbits)
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        if not self._begun and self._wbits == zlib.MAX_WBITS and data[:1] and data[0] & 0x0F != 8:
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begun = self._begun or bool(data)
        try:
            out = self._inner.decompress(data)
            while self._inner.eof and self._inner.unused_data:
                rest = self._inner.unused_data
                self._inner = zlib.decompressobj(self._wbits)
                out += self._inner.decompress(rest)
        except zlib.error as exc:
            raise BadRecord(f"body does not decode: {exc}") from exc
        return out


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def feed(self, data: bytes) -> bytes:
        try:
            return bytes(self._inner.process(data)) if data else b""
        except brotli.error as exc:
            raise BadRecord(f"body does not decode: {exc}") from exc


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)

    def feed(self, data: bytes) -> bytes:
        try:
            return self._inner.decompress(data) if data else b""
        except zstandard.ZstdError as exc:
            raise BadRecord(f"body does not decode: {exc}") from exc


class _Chain:
    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.feed(data)
        return data


_GZIP = b"\x1f\x8b"
_PLAIN = (b"{", b"[", b"data:", b"event:", b":")


class _Checked:
    """Believes the first bytes over the header: relays forget to set it, or to drop it once they have decoded."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._head = b""
        self._inner: Decoder | None = None

    def feed(self, data: bytes) -> bytes:
        if self._inner is None:
            data = self._head = self._head + data
            if len(data) < len(_GZIP):
                return b""
            self._inner = self._chosen(data)
        return self._inner.feed(data)

    def _chosen(self, head: bytes) -> Decoder:
        zipped = head.startswith(_GZIP)
        if zipped and not self._names:
            return _one("gzip")
        if not zipped and self._names[:1] in (["gzip"], ["x-gzip"]) and head.lstrip().startswith(_PLAIN):
            return _Identity()
        return _Chain([_one(name) for name in reversed(self._names)])


def decoder(content_encoding: str) -> Decoder:
    """A decoder for a Content-Encoding header; BadRecord for an encoding nobody registered."""
    names = [name.strip().lower() for name in content_encoding.split(",") if name.strip()]
    for name in names:
        _one(name)
    return _Checked([name for name in names if name != "identity"])


def _one(name: str) -> Decoder:
    match name:
        case "identity":
            return _Identity()
        case "gzip" | "x-gzip":
            return _Zlib(zlib.MAX_WBITS | 16)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
    raise BadRecord(f"content encoding {name!r} is unknown")
