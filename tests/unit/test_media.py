"""Images and audio by their first bytes."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.estimate import media, prompt
from services.meter.estimate.tokenizers import ImageRule, tokenizer_of


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


@pytest.mark.parametrize("kind", [png, gif, jpeg, webp])
@pytest.mark.parametrize(
    ("rule", "size", "tokens"),
    [
        (ImageRule.TILES_512, (512, 512), 85 + 170),
        (ImageRule.TILES_512, (1024, 1024), 85 + 4 * 170),
        (ImageRule.TILES_512, (4096, 8192), 85 + 6 * 170),
        (ImageRule.PATCHES_32, (64, 33), 4),
        (ImageRule.PATCHES_32, (4000, 4000), 1536),
        (ImageRule.AREA_750, (750, 100), 100),
        (ImageRule.AREA_750, (9000, 9000), 1600),
        (ImageRule.TILES_768, (384, 384), 258),
        (ImageRule.TILES_768, (1536, 769), 258 * 4),
    ],
)
def test_images(kind: Callable[[int, int], bytes], rule: ImageRule, size: tuple[int, int], tokens: int) -> None:
    data = base64.b64encode(kind(*size)).decode()
    assert media.image_tokens(rule, data) == tokens


def test_an_image_that_cannot_be_seen_is_a_typical_one() -> None:
    typical = media.image_tokens(ImageRule.TILES_512, None)
    assert typical == media.image_tokens(ImageRule.TILES_512, base64.b64encode(png(1024, 1024)).decode())
    assert media.image_tokens(ImageRule.TILES_512, "!!! no base64 !!!") == typical
    assert media.image_tokens(ImageRule.TILES_512, None, low=True) == 85


def test_audio() -> None:
    wav = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + b"\0" * 64000
    assert media.audio_seconds(base64.b64encode(wav).decode()) == pytest.approx(2.0, rel=0.01)
    assert media.audio_seconds(base64.b64encode(b"\xff\xfb" + b"\0" * 32000).decode()) == pytest.approx(2.0, rel=0.01)


@given(st.text(max_size=200), st.binary(max_size=200))
def test_no_data_raises(text: str, data: bytes) -> None:
    encoded = base64.b64encode(b"\xff\xd8" + data).decode()
    for rule in ImageRule:
        assert media.image_tokens(rule, text) > 0
        assert media.image_tokens(rule, encoded) > 0
    assert media.audio_seconds(text) >= 0


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,%s"}},
        {"type": "input_image", "image_url": "data:image/png;base64,%s"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%s"}},
        {"inlineData": {"mimeType": "image/png", "data": "%s"}},
        {"inline_data": {"mime_type": "image/png", "data": "%s"}},
    ],
)
def test_images_stand_in_prompts_in_many_ways(part: dict[str, object]) -> None:
    data = base64.b64encode(png(512, 512)).decode()
    body = json.dumps({"messages": [{"role": "user", "content": [part]}]}).replace("%s", data).encode()
    plain = prompt.input_tokens(b'{"messages": [{}]}', tokenizer_of("gpt-4o"), len)
    assert prompt.input_tokens(body, tokenizer_of("gpt-4o"), len) - plain == 85 + 170
