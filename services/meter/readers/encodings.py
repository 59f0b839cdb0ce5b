"""Content encodings: undoing what a provider compressed, as far as it came. Pure and incremental.

A few bytes may decode to gigabytes, and a caller may choose them. So a decoder gives pieces of a bounded size, and ends
with BadRecord where an answer decodes to more than any answer holds.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli
import zstandard

from shared.contract.errors import BadRecord

# The most bytes of one answer that are decoded, and, beyond the first megabytes, how many for each byte that came:
# events shrink to a hundredth at best, a bomb to a thousandth and less.
MAX_DECODED: Final = 128 * 1024 * 1024
_MAX_RATIO: Final = 500
_ANY_RATIO: Final = 16 * 1024 * 1024

PLAIN: Final = frozenset({"", "identity"})
_MOST_CODINGS: Final = 4  # each has a window in memory; nobody sends more than two
_PIECE: Final = 256 * 1024
_STEP: Final = 16 * 1024  # encoded bytes that are looked at together: zlib copies what is left of them for each piece
# zstandard has no limit to its output: a block of three bytes and a half decodes to 128 KiB.
_ZSTD_STEP: Final = 256
_ZSTD_WINDOW: Final = 8 * 1024 * 1024  # RFC 9659


class Decoder(Protocol):
    """Takes encoded bytes as they come and gives what they decode to so far, in pieces."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Identity:
    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data


class _Zlib:
    """gzip (of one or many members) and deflate, which some servers send without its zlib header."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inner = zlib.decompressobj(wbits)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._begun and self._wbits == zlib.MAX_WBITS and data[:1] and data[0] & 0x0F != 8:
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begun = self._begun or bool(data)
        while data:
            if self._inner.eof:
                self._inner = zlib.decompressobj(self._wbits)
            try:
                out = self._inner.decompress(data, _PIECE)
            except zlib.error as exc:
                raise BadRecord(f"body does not decode: {exc}") from exc
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            yield out
            if len(out) == _PIECE and not data and not self._inner.eof:
                yield from self._held_back()

    def _held_back(self) -> Iterator[bytes]:
        """What the decoder has taken in and had no room to give."""
        while out := self._inner.decompress(b"", _PIECE):
            yield out


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            piece = bytes(self._inner.process(data, output_buffer_limit=_PIECE))
            while piece:  # it may hold output back though it would take more input
                yield piece
                piece = bytes(self._inner.process(b"", output_buffer_limit=_PIECE))
        except brotli.error as exc:
            raise BadRecord(f"body does not decode: {exc}") from exc


class _Zstd:
    def __init__(self) -> None:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._inner = unpacker.decompressobj(read_across_frames=True)

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            for at in range(0, len(data), _ZSTD_STEP):
                yield self._inner.decompress(data[at : at + _ZSTD_STEP])
        except zstandard.ZstdError as exc:
            raise BadRecord(f"body does not decode: {exc}") from exc


class _Chain:
    """One decoder behind the other, each bounded: what is between them may be the bomb."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = [_Bounded(decoder) for decoder in decoders]

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._through(data, 0)

    def _through(self, data: bytes, number: int) -> Iterator[bytes]:
        if number == len(self._decoders):
            yield data
            return
        for piece in self._decoders[number].feed(data):
            yield from self._through(piece, number + 1)


class _Bounded:
    """A decoder that stops where more comes out than any answer holds."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self._taken = 0
        self._given = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _STEP):
            step = data[at : at + _STEP]
            self._taken += len(step)
            for piece in self._inner.feed(step):
                self._given += len(piece)
                if self._given > min(MAX_DECODED, max(_ANY_RATIO, _MAX_RATIO * self._taken)):
                    raise BadRecord(f"body decodes to more than {self._given} bytes: that is a bomb")
                yield piece


_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5"
# How an answer begins that is not compressed: a document, an array of them, an event stream. No control characters.
_PLAIN = re.compile(
    rb"""\s*(?:\{\s*["}]|\[\s*[{\]]|data:|event:|: ?[a-zA-Z])[^\x00-\x08\x0b\x0c\x0e-\x1f]{0,32}(?!.)""", re.DOTALL
)


class _Checked:
    """Believes the first bytes over the header: relays forget to set it, or to drop it once they have decoded."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._head = b""
        self._inner: Decoder | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inner is None:
            data = self._head = self._head + data
            if len(data) < len(_GZIP):
                return
            self._inner = self._chosen(data)
        yield from self._inner.feed(data)

    def _chosen(self, head: bytes) -> Decoder:
        if not self._names and head.startswith((_GZIP, _ZSTD)):
            return _Bounded(_one("gzip" if head.startswith(_GZIP) else "zstd"))
        if not self._names or _is_plain(head):
            return _Identity()
        return _Chain([_one(name) for name in reversed(self._names)])


def _is_plain(head: bytes) -> bool:
    """Whether it is text that begins as an answer does; what is compressed is hardly that for so many bytes."""
    return _PLAIN.match(head.lstrip()[:32]) is not None


def decoder(content_encoding: str) -> Decoder:
    """A decoder for a Content-Encoding header; BadRecord for an encoding nobody registered, or too many of them."""
    names = [name.strip().lower() for name in content_encoding.split(",") if name.strip()]
    if len(names) > _MOST_CODINGS:
        raise BadRecord(f"a content encoding of {len(names)} codings")
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
