"""Encoded request bodies: undone within bounds, in every encoding that is registered for them."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from services.gateway.client.content_encoding import codings, decoded
from shared.runtime.errors import Refused

TEXT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"' + bytes(range(32, 127)) * 50 + b'"}]}'
LIMIT = 1 << 20
ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip of two members": ("gzip", lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without its header": ("deflate", lambda text: zlib.compress(text, wbits=-zlib.MAX_WBITS)),
    "zstd": ("zstd", zstandard.compress),
    "zstd of two frames": ("zstd", lambda text: zstandard.compress(text[:9]) + zstandard.compress(text[9:])),
    "br": ("br", brotli.compress),
}
encoders = pytest.mark.parametrize(("name", "encode"), ENCODERS.values(), ids=ENCODERS)


def status(body: bytes, *names: str, limit: int = LIMIT) -> int:
    with pytest.raises(Refused) as refused:
        decoded(body, list(names), limit)
    return refused.value.status


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], []),
        ([b"Identity"], []),
        ([b""], []),
        ([b"GZIP"], ["gzip"]),
        ([b"x-gzip"], ["gzip"]),
        ([b"deflate, identity ,br"], ["deflate", "br"]),
        ([b"zstd", b"identity"], ["zstd"]),
    ],
)
def test_encodings_are_read_in_any_case(values: list[bytes], names: list[str]) -> None:
    assert codings([(b"host", b"h"), *((b"content-encoding", value) for value in values)]) == names


@encoders
def test_each_is_undone(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert decoded(encode(TEXT), [name], LIMIT) == TEXT
    assert decoded(encode(gzip.compress(TEXT)), ["gzip", name], LIMIT) == TEXT
    assert decoded(b"", [name], LIMIT) == b""


@encoders
def test_damaged_and_incomplete_ones_are_refused(name: str, encode: Callable[[bytes], bytes]) -> None:
    whole = encode(TEXT)
    for bad in (whole[:-3], whole[: len(whole) // 2], b"{}" + whole, TEXT):
        assert status(bad, name) == 400


@encoders
def test_too_much_is_refused_before_it_is_there(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert status(encode(TEXT), name, limit=len(TEXT) - 1) == 413
    assert status(encode(bytes(16 << 20)), name, limit=32 << 20) == 413  # a thousand bytes of nothing for each
    assert status(gzip.compress(encode(bytes(16 << 20))), name, "gzip", limit=32 << 20) == 413


def test_unknown_ones_are_refused_with_what_is_known() -> None:
    with pytest.raises(Refused) as refused:
        decoded(TEXT, ["compress"], LIMIT)
    assert (refused.value.status, refused.value.headers) == (415, [(b"accept-encoding", b"zstd, gzip, br, deflate")])
    assert status(TEXT, *["gzip"] * 4) == 415
