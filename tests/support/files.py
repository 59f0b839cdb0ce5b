"""Media of a few bytes, made by hand: just enough of each format to say how large it is."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x06\0\0\0"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int) -> bytes:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2002) + b"\0" * 2000
    return b"\xff\xd8" + thumbnail + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 9


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size


def wav(seconds: float) -> bytes:
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data\0\0\0\0"
    return head + b"\0" * round(seconds * 32000)


def flac(seconds: float) -> bytes:
    stream = (16000 << 44 | round(seconds * 16000)).to_bytes(8)
    return b"fLaC\x80\0\0\x22" + b"\0" * 10 + stream + b"\0" * 16


def ogg(seconds: float) -> bytes:
    first = b"OggS\0\x02" + b"\0" * 21 + b"\x13OpusHead" + b"\0" * 11
    return first + b"OggS\0\x04" + struct.pack("<q", round(seconds * 48000)) + b"\0" * 40


def mp3(seconds: float) -> bytes:
    """64 kbit/s, behind a tag."""
    return b"ID3\4\0\0\0\0\0\x0a" + b"\0" * 10 + b"\xff\xfb\x50\0" + b"\0" * (round(seconds * 8000) - 4)


def mp4(seconds: float, version: int = 0) -> bytes:
    """The film first, what is said of it behind."""
    times = struct.pack(">QQIQ", 0, 0, 1000, round(seconds * 1000)) if version else None
    times = times or struct.pack(">IIII", 0, 0, 1000, round(seconds * 1000))
    header = _box(b"mvhd", bytes([version, 0, 0, 0]) + times + b"\0" * 80)
    return _box(b"ftyp", b"isom\0\0\2\0") + _box(b"mdat", b"\0" * 5000) + _box(b"moov", header)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def pdf(pages: int) -> bytes:
    """With a page tree that counts."""
    return pdf_without_tree(pages) + b"1 0 obj<</Type /Pages /Kids [] /Count %d>>endobj" % pages


def pdf_without_tree(pages: int) -> bytes:
    return b"%PDF-1.4\n" + b"2 0 obj<</Type/Page/Parent 1 0 R>>endobj\n" * pages


def pdf_packed(pages: int) -> bytes:
    """As newer programs write them: all objects in a compressed stream."""
    packed = zlib.compress(pdf(pages))
    return b"%PDF-1.5\n9 0 obj<</Type/ObjStm/Filter/FlateDecode>>stream\n" + packed + b"\nendstream endobj"


def pdf_linearized(pages: int) -> bytes:
    return b"%%PDF-1.4\n1 0 obj<</Linearized 1/L 9/O 3/E 5/N %d/T 7>>endobj\n" % pages + b"\0" * 100
