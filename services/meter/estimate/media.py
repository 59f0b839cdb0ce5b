"""Sizes of images, lengths of recordings, pages of documents, from inline data. Pure; bounded work for any size.

Only the bytes that are looked at are decoded: a head of an image, a few boxes of a film, a head and a tail of a PDF.
"""

from __future__ import annotations

import re
import struct
import zlib

from services.meter.estimate.blobs import Blob

# Enough of a file to hold its dimensions, JPEG's embedded thumbnails included.
_HEAD_BYTES = 96 * 1024
_BYTES_PER_SECOND = 16_000  # 128 kbit/s, where a recording does not say how long it is
_FILM_BYTES_PER_SECOND = 250_000  # 2 Mbit/s


def image_size(blob: Blob) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, WebP or JPEG; None where they cannot be seen."""
    head = blob.bytes(0, _HEAD_BYTES)
    try:
        size = _size(head)
    except (struct.error, IndexError):
        return None
    return size if size and size[0] and size[1] else None


def _size(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    if head.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", head, 6)
        return width, height
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    return _jpeg(head) if head.startswith(b"\xff\xd8") else None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        at += 2 + length
    return None


def audio_seconds(blob: Blob) -> float:
    """Length of a recording: WAV, FLAC, Ogg and MP4 say it, an MP3 its bit rate; anything else by a typical one."""
    head = blob.bytes(0, 4096)
    try:
        seconds = _recorded(blob, head)
    except (struct.error, IndexError):
        seconds = 0.0
    return seconds or blob.size() / _BYTES_PER_SECOND


def video_seconds(blob: Blob) -> float:
    """Length of a film: an MP4 says it, anything else by a typical bit rate."""
    try:
        seconds = _mp4_seconds(blob)
    except (struct.error, IndexError):
        seconds = 0.0
    return seconds or blob.size() / _FILM_BYTES_PER_SECOND


def _recorded(blob: Blob, head: bytes) -> float:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        (rate,) = struct.unpack_from("<I", head, 28)
        return blob.size() / rate if rate else 0.0
    if head[:4] == b"fLaC":
        bits = int.from_bytes(head[18:26])  # of STREAMINFO: 20 bits of rate, 8 of format, 36 of samples
        return (bits & ((1 << 36) - 1)) / (bits >> 44) if bits >> 44 else 0.0
    if head[:4] == b"OggS":
        return _ogg_seconds(blob, head)
    if head[4:8] == b"ftyp":
        return _mp4_seconds(blob)
    return _mp3_seconds(blob, head)


def _ogg_seconds(blob: Blob, head: bytes) -> float:
    tail = blob.bytes(max(0, blob.size() - 70_000), 70_100)  # a page is at most 65,307 bytes
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0.0
    (samples,) = struct.unpack_from("<q", tail, at + 6)
    vorbis = head.find(b"\x01vorbis")
    rate = struct.unpack_from("<I", head, vorbis + 12)[0] if vorbis >= 0 else 48_000
    return max(0, samples) / rate if rate else 0.0


def _mp3_seconds(blob: Blob, head: bytes) -> float:
    """By the bit rate of the first frame, behind an ID3 tag if there is one."""
    start = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    frame = blob.bytes(start, 4)
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return 0.0
    rates = _MP3_KILOBITS[frame[1] >> 3 & 3 == 3]
    rate = rates[min(frame[2] >> 4, len(rates) - 1)]
    return (blob.size() - start) / (rate * 125) if rate else 0.0


# By the four bits of a frame's header: MPEG-2 and 2.5, MPEG-1.
_MP3_KILOBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MOST_BOXES = 64


def _mp4_seconds(blob: Blob) -> float:
    """From `mvhd` inside `moov`, walking over boxes without reading them."""
    at, end = 0, blob.size()
    for _ in range(_MOST_BOXES):
        head = blob.bytes(at, 16)
        if len(head) < 8:
            return 0.0
        size, kind = int.from_bytes(head[:4]), head[4:8]
        length = int.from_bytes(head[8:16]) if size == 1 else size
        if kind == b"moov":
            at += 16 if size == 1 else 8
        elif kind == b"mvhd":
            return _mvhd_seconds(blob.bytes(at, 40))
        elif size == 0 or length < 8 or at + length > end:
            return 0.0
        else:
            at += length
    return 0.0


def _mvhd_seconds(box: bytes) -> float:
    scale, length = struct.unpack_from(">IQ" if box[8] else ">II", box, 28 if box[8] else 20)
    return float(length / scale) if scale else 0.0


# How much of a PDF is looked through from its beginning and its end, and how much is inflated for it.
_PDF_HEAD = 4 << 20
_PDF_TAIL = 1 << 20
_PDF_INFLATED = 4 << 20
_PDF_STREAMS = 256
_PAGE = re.compile(rb"/Type[ \r\n]{0,2}/Page[^a-zA-Z]")
_COUNT = re.compile(rb"/Count[ \r\n]{1,2}(\d{1,6})")
_LINEARIZED = re.compile(rb"/Linearized[^>]{0,200}/N (\d{1,6})")
_BYTES_PER_PAGE = 60_000
_MOST_PAGES = 5_000


def pdf_pages(blob: Blob) -> int:
    """Pages of a PDF: as it says itself, or its page objects, packed ones included; else by its length. At least 1."""
    size = blob.size()
    head = blob.bytes(0, _PDF_HEAD)
    tail = blob.bytes(max(_PDF_HEAD, size - _PDF_TAIL), _PDF_TAIL) if size > _PDF_HEAD else b""
    said = _LINEARIZED.search(head[:2048])
    if said is not None:
        return _bounded(int(said[1]))
    pages = _pages_in(head, tail) or _pages_in(_inflated(head), _inflated(tail))
    return _bounded(pages or size // _BYTES_PER_PAGE)


def _pages_in(head: bytes, tail: bytes) -> int:
    """The root of the page tree counts them all; without it, the pages themselves do."""
    counts = [int(count) for part in (head, tail) for count in _COUNT.findall(part)]
    if b"/Pages" in head or b"/Pages" in tail:
        found = max(counts, default=0)
        if found:
            return found
    return len(_PAGE.findall(head)) + len(_PAGE.findall(tail))


def _inflated(data: bytes) -> bytes:
    """The object streams of a piece of a PDF, as far as they may be inflated."""
    out, room, at = [], _PDF_INFLATED, 0
    left = 2 * len(data)  # streams may overlap
    for _ in range(_PDF_STREAMS):
        at = data.find(b"/ObjStm", at)
        start = data.find(b"stream", at) if at >= 0 else -1
        if start < 0 or room <= 0 or left <= 0:
            break
        start += 8 if data[start + 6 : start + 8] == b"\r\n" else 7
        inflated, taken = _inflate(data[start : start + min(_PDF_TAIL, left)], room)
        out.append(inflated)
        room -= len(inflated)
        left -= taken
        at = start
    return b"\n".join(out)


def _inflate(data: bytes, room: int) -> tuple[bytes, int]:
    """What a stream holds, and how many bytes of it were read."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, room)
    except zlib.error:
        return b"", len(data)
    return inflated, len(data) - len(stream.unused_data) - len(stream.unconsumed_tail)


def _bounded(pages: int) -> int:
    return max(1, min(pages, _MOST_PAGES))
