"""Sizes of images and lengths of audio, from the first bytes of inline data. Pure; nothing is ever fetched."""

from __future__ import annotations

import base64
import binascii
import math
import struct

from services.meter.estimate.tokenizers import ImageRule

# Enough of a file to hold its dimensions, JPEG's embedded thumbnails included.
_HEAD_BYTES = 96 * 1024
# An image that is only a URL, or of an unknown kind, is taken to be this large.
_TYPICAL = (1024, 1024)


def image_tokens(rule: ImageRule, data: str | None, *, low: bool = False) -> int:
    """Tokens of an image, by its base64 data (None where there is only a URL)."""
    width, height = (_size(_head(data)) if data else None) or _TYPICAL
    match rule:
        case ImageRule.TILES_512:
            return 85 if low else 85 + 170 * _tiles_512(width, height)
        case ImageRule.PATCHES_32:
            return min(1536, math.ceil(width / 32) * math.ceil(height / 32))
        case ImageRule.AREA_750:
            scale = min(1.0, 1568 / max(width, height))
            return min(1600, math.ceil(width * scale * height * scale / 750))
        case ImageRule.TILES_768:
            small = width <= 384 and height <= 384
            return 258 if small else 258 * math.ceil(width / 768) * math.ceil(height / 768)


def audio_seconds(data: str) -> float:
    """Length of inline audio: exact for WAV, by a typical bit rate for everything else."""
    size = len(data) * 3 // 4
    head = _head(data[:128])
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and len(head) >= 32:
        rate = struct.unpack_from("<I", head, 28)[0]
        return size / rate if rate else 0.0
    return size / 16_000  # 128 kbit/s


def _tiles_512(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    width, height = int(width * scale), int(height * scale)
    scale = min(1.0, 768 / max(1, min(width, height)))
    return math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


def _head(data: str) -> bytes:
    text = data[: _HEAD_BYTES * 4 // 3 // 4 * 4]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


def _size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, WebP or JPEG."""
    size: tuple[int, int] | None = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        size = struct.unpack_from(">II", head, 16)
    elif head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        size = struct.unpack_from("<HH", head, 6)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        size = _webp(head)
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg(head)
    return size if size and size[0] and size[1] else None


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
