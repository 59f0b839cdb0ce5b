import gzip
import random
import zlib

import brotli
import pytest
import zstandard

from services.meter.readers import encodings
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


def packed_zeros(name: str, size: int) -> bytes:
    if name == "gzip, gzip":
        return gzip.compress(gzip.compress(bytes(size)))
    packers = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress}
    return bytes(packers[name](bytes(size)))


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_bomb_goes_off_in_small_pieces_and_not_for_long(name: str) -> None:
    bomb, sizes = packed_zeros(name, 64 << 20), []
    with pytest.raises(BadRecord, match="bomb"):  # the pieces before it matter
        for piece in decoder(name).feed(bomb):
            sizes.append(len(piece))
    assert sum(sizes) < 32 << 20
    assert max(sizes) <= 8 << 20


def test_an_answer_has_an_end_however_well_it_is_packed() -> None:
    """Of noise nothing but the size can be said."""
    rng = random.Random(1)
    noise = rng.randbytes(1 << 20)
    pieces = decoder("gzip")
    with pytest.raises(BadRecord, match="bomb"):
        for _ in range(encodings.MAX_DECODED // len(noise) + 1):
            for _ in pieces.feed(gzip.compress(noise, 0)):
                pass


def test_what_repeats_itself_is_no_bomb() -> None:
    events = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"ha"}}]}\n\n' * 100_000
    for name in ("gzip", "br", "zstd"):
        packers = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}
        packed, pieces = packers[name](events), decoder(name)
        assert b"".join(pieces.feed(packed)) == events


def test_many_codings_are_a_bad_record() -> None:
    with pytest.raises(BadRecord, match="codings"):
        decoder(", ".join(["gzip"] * 1000))


def test_an_unknown_encoding_is_a_bad_record() -> None:
    with pytest.raises(BadRecord, match="snappy"):
        decoder("snappy")
