"""Content encodings of request bodies: undone so that the model in a body can be read, within bounds. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import brotli
import zstandard

from services.gateway.client.headers import Header
from shared.runtime.errors import Refused

_ACCEPTED = "zstd, gzip, br, deflate"
_MOST_CODINGS = 3
_MOST_MEMBERS = 10_000  # gzip members or zstd frames; each costs a decoder and a copy of the slice it ends in
_MOST_RATIO = 200  # beyond the first MiB; JSON shrinks to a tenth, and a bomb to a thousandth
_FREE = 1024 * 1024
_SLICE = 1024  # decoded at once: in zstd four bytes can stand for 128 KiB, in gzip for four
_ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659


class _Damaged(Exception):
    """The bytes are not what their encoding says."""


class _Member(Protocol):
    """zlib's and zstandard's decompression object: one member or frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def codings(headers: Iterable[Header]) -> list[str]:
    """The content encodings of a request, in the order in which they were applied; without `identity`."""
    values = b",".join(value for name, value in headers if name == b"content-encoding").decode("latin-1")
    names = (name.strip().lower().removeprefix("x-") for name in values.split(","))
    return [name for name in names if name not in ("", "identity")]


def decoded(body: bytes, names: list[str], limit: int) -> bytes:
    """A whole body without its encodings.

    Refused: 415 for an encoding that nobody registered, 400 where the bytes are damaged or incomplete, 413 where there
    are more than `limit` bytes, or suspiciously many for so few.
    """
    if len(names) > _MOST_CODINGS or any(name not in _DECODERS for name in names):
        refused = Refused(415, f"the content encoding of the request body is not one of {_ACCEPTED}")
        refused.headers.append((b"accept-encoding", _ACCEPTED.encode()))  # RFC 9110, 15.5.16
        raise refused
    if not body:
        return body
    most = min(limit, _FREE + _MOST_RATIO * len(body))
    for name in reversed(names):
        body = _one(body, name, most)
    return body


def _one(body: bytes, name: str, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        for part in _DECODERS[name](body):
            parts.append(part)
            size += len(part)
            if size > most:
                raise Refused(413, f"the request body is larger than {most} bytes once it is decoded")
    except (_Damaged, zlib.error, brotli.error, zstandard.ZstdError) as exc:
        raise Refused(400, f"the request body is not valid {name}") from exc
    return b"".join(parts)


def _gzip(body: bytes) -> Iterator[bytes]:
    return _members(body, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16))


def _deflate(body: bytes) -> Iterator[bytes]:
    """Some clients leave out the zlib header (RFC 1950: 16 bits, a multiple of 31)."""
    headed = body[:1] and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    return _members(body, lambda: zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS))


def _zstd(body: bytes) -> Iterator[bytes]:
    return _members(body, zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj)


def _members(body: bytes, begin: Callable[[], _Member]) -> Iterator[bytes]:
    """What the members of a body hold, one after the other."""
    count, member = 1, begin()
    for at in range(0, len(body), _SLICE):
        piece = body[at : at + _SLICE]
        while piece:
            if member.eof:
                count, member = count + 1, begin()
                if count > _MOST_MEMBERS:
                    raise _Damaged
            yield member.decompress(piece)
            piece = member.unused_data
    if not member.eof:
        raise _Damaged  # it is incomplete


def _brotli(body: bytes) -> Iterator[bytes]:
    inner = brotli.Decompressor()
    yield bytes(inner.process(body, output_buffer_limit=_FREE))
    while not inner.is_finished():
        part = bytes(inner.process(b"", output_buffer_limit=_FREE))
        if not part and not inner.is_finished():
            raise _Damaged  # it is incomplete
        yield part


_DECODERS: Mapping[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
    "br": _brotli,
}
