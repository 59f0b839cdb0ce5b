import gzip
import random
import zlib

import brotli
import pytest
import zstandard

from services.meter.readers.encodings import decoder
from shared.contract.errors import BadRecord

BODY = b"".join(b'data: {"n":%d,"t":"caf\xc3\xa9"}\n\n' % n for n in range(2000))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODED = {
    "": BODY,
    "identity": BODY,
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY[:100]) + gzip.compress(BODY[100:]),
    "deflate": zlib.compress(BODY),
    "deflate ": raw_deflate(BODY),
    "br": brotli.compress(BODY),
    "zstd": zstandard.compress(BODY[:999]) + zstandard.compress(BODY[999:]),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
}


@pytest.mark.parametrize("name", ENCODED)
def test_whole_or_in_pieces(name: str) -> None:
    encoded, rng = ENCODED[name], random.Random(1)
    assert b"".join(decoder(name).feed(encoded)) == BODY
    pieces, at = decoder(name), 0
    decoded = b""
    while at < len(encoded):
        size = rng.randint(1, 50)
        decoded += b"".join(pieces.feed(encoded[at : at + size]))
        at += size
    assert decoded == BODY


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_truncated_body_gives_what_came(name: str) -> None:
    encoded = ENCODED[name]
    decoded = b"".join(decoder(name).feed(encoded[: len(encoded) // 2]))
    assert BODY.startswith(decoded)


@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
def test_garbage_is_a_bad_record(name: str) -> None:
    with pytest.raises(BadRecord):
        list(decoder(name).feed(b"\xff" * 200))


def test_an_unknown_encoding_is_a_bad_record() -> None:
    with pytest.raises(BadRecord, match="snappy"):
        decoder("snappy")
