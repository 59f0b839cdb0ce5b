"""Images, recordings, films and documents by a few of their bytes, and what they cost."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.meter.estimate import media
from services.meter.estimate.blobs import Blob, Kind
from services.meter.estimate.vision import Cost, cost_of, image_tokens, senses_of
from tests.support import files


def blob(kind: Kind, data: bytes, detail: str = "") -> Blob:
    return Blob(kind, base64.b64encode(data).decode(), detail)


@pytest.mark.parametrize("kind", [files.png, files.gif, files.jpeg, files.webp])
def test_sizes_of_images(kind: Callable[[int, int], bytes]) -> None:
    assert media.image_size(blob(Kind.IMAGE, kind(640, 481))) == (640, 481)
    assert media.image_size(Blob(Kind.IMAGE, base64.urlsafe_b64encode(kind(63, 63)).decode())) == (63, 63)


@pytest.mark.parametrize("data", ["!!! no base64 !!!", "iVBORw0KGgo=", "/9j/", "R0lGODlh", "UklGRg==", "A", ""])
def test_images_without_a_size(data: str) -> None:
    assert media.image_size(Blob(Kind.IMAGE, data)) is None


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (512, 512), 85 + 170),
        ("gpt-4.1-2025-04-14", (1024, 1024), 85 + 4 * 170),
        ("gpt-4o", (4096, 8192), 85 + 6 * 170),
        ("openai/gpt-4o-mini", (640, 480), 2833 + 2 * 5667),
        ("gpt-5", (50, 50), 70 + 140),
        ("gpt-5.1", (512, 512), 70 + 140),
        ("o3", (512, 512), 75 + 150),
        ("gpt-4.1-mini", (64, 33), 7),  # 4 patches x 1.62
        ("gpt-4.1-nano", (64, 33), 10),
        ("o4-mini", (64, 33), 7),
        ("gpt-5-mini", (64, 33), 5),
        ("gpt-5-nano", (64, 33), 6),
        ("gpt-5.6-luna", (330, 291), 132),
        ("gpt-4.1-mini", (2400, 1800), 2353),  # scaled to 44 x 33 patches
        ("gpt-5.2", (4032, 3024), 2942),
        ("gpt-5.6", (1920, 1080), 2448),
        ("gpt-5.6", (4032, 3024), 11868),
        ("claude-sonnet-4-5", (256, 256), 100),
        ("claude-sonnet-4-5", (1024, 1024), 1369),
        ("claude-sonnet-4-5", (9000, 9000), 1521),
        ("claude-opus-4-8", (1920, 1080), 2691),
        ("gemini-2.5-flash", (384, 384), 258),
        ("gemini-2.5-flash", (640, 480), 5 * 258),
        ("gemini-2.0-flash", (1024, 1024), 5 * 258),
        ("gemini-3-pro-preview", (330, 291), 1090),
        ("gemini-flash-latest", (3000, 2000), 1090),
        ("mistral-large-latest", (330, 291), 12 * 11 + 11),
        ("qwen3-vl-flash", (330, 291), 10 * 9 + 2),
        ("qwen2.5-vl-72b", (280, 280), 100 + 2),
        ("sonar", (330, 291), 129),
        ("gemma3:4b", (1000, 1000), 266),
    ],
)
def test_images_cost_by_family_and_size(model: str, size: tuple[int, int], tokens: int) -> None:
    assert image_tokens(senses_of(model), size) == tokens
    cost = cost_of(blob(Kind.IMAGE, files.png(*size)), senses_of(model))
    assert cost.tokens == tokens
    assert cost.low <= tokens <= cost.high <= tokens * 1.1 + 7


def test_detail_is_heeded() -> None:
    assert cost_of(blob(Kind.IMAGE, files.png(2000, 2000), "low"), senses_of("gpt-4o")).tokens == 85
    assert cost_of(blob(Kind.IMAGE, files.png(2000, 2000), "low"), senses_of("gpt-5-mini")).tokens == 308
    assert cost_of(Blob(Kind.IMAGE, None, "low"), senses_of("gpt-4o")).tokens == 85
    assert cost_of(blob(Kind.IMAGE, files.png(2560, 1440), "high"), senses_of("gpt-5.6")).tokens == 2931


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "gpt-5.6", "claude-opus-4-8", "gemini-2.5-pro", "sonar"])
def test_an_image_nobody_can_see_has_an_interval_for_any_size(model: str) -> None:
    cost = cost_of(Blob(Kind.IMAGE), senses_of(model))
    for size in [(100, 100), (512, 512), (1024, 768), (3000, 2000)]:
        assert cost.low <= image_tokens(senses_of(model), size) <= cost.high
    assert cost_of(Blob(Kind.IMAGE, "no base64"), senses_of(model)) == cost


def test_models_without_eyes_drop_images() -> None:
    image = blob(Kind.IMAGE, files.png(500, 500))
    assert cost_of(image, senses_of("openai/gpt-oss-120b")) == Cost(0, 0, 288)
    assert cost_of(blob(Kind.VIDEO, files.mp4(4)), senses_of("deepseek-v4-pro")) == Cost(0, 0, 1006)
    assert cost_of(image, senses_of("somebody/new")) == Cost(256, 0, 288)


def test_mistral_pads_recordings() -> None:
    for seconds, tokens in [(2.0, 375), (29.0, 375), (31.0, 750)]:
        assert cost_of(blob(Kind.AUDIO, files.wav(seconds)), senses_of("voxtral-small-latest")).tokens == tokens


@pytest.mark.parametrize("kind", [files.wav, files.flac, files.ogg, files.mp3, files.mp4])
@pytest.mark.parametrize("seconds", [0.75, 60.0])
def test_recordings_say_how_long_they_are(kind: Callable[[float], bytes], seconds: float) -> None:
    assert media.audio_seconds(blob(Kind.AUDIO, kind(seconds))) == pytest.approx(seconds, rel=0.01)


def test_other_recordings_go_by_their_length() -> None:
    assert media.audio_seconds(blob(Kind.AUDIO, b"?" * 32000)) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("version", [0, 1])
def test_films_say_how_long_they_are(version: int) -> None:
    film = blob(Kind.VIDEO, files.mp4(4.0, version))
    assert media.video_seconds(film) == pytest.approx(4.0)
    assert cost_of(film, senses_of("gemini-flash-latest")).tokens == 284
    assert media.video_seconds(blob(Kind.VIDEO, b"?" * 500_000)) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("kind", [files.pdf, files.pdf_without_tree, files.pdf_packed, files.pdf_linearized])
@pytest.mark.parametrize("pages", [1, 100])
def test_documents_are_counted_by_page(kind: Callable[[int], bytes], pages: int) -> None:
    assert media.pdf_pages(blob(Kind.PDF, kind(pages))) == pages


def test_documents_cost_by_family_and_page() -> None:
    document = blob(Kind.PDF, files.pdf(3))
    assert cost_of(document, senses_of("claude-sonnet-4-5")) == Cost(4740, 3000, 13500)
    assert cost_of(document, senses_of("gemini-2.5-flash")).tokens == 3 * 258
    assert cost_of(document, senses_of("gemini-3-flash")).tokens == 3 * 564
    one, many = cost_of(Blob(Kind.PDF), senses_of("claude-opus-5")), cost_of(document, senses_of("claude-opus-5"))
    assert (one.tokens, one.high) == (1580, 450_000)
    assert one.low <= many.low <= many.high <= one.high


def test_a_document_that_cannot_be_read_goes_by_its_length() -> None:
    assert media.pdf_pages(blob(Kind.PDF, b"%PDF-1.7" + b"?" * 600_000)) == 10
    broken = b"%PDF-1.7 /ObjStm stream\n" * 1000 + b"/ObjStm"
    assert media.pdf_pages(blob(Kind.PDF, broken)) == 1


def test_large_files_are_looked_at_in_places() -> None:
    """50 MB each: a few of their bytes are decoded, and no search runs away."""
    began = time.process_time()
    rest = "A" * 50_000_000
    for head, kind in [(files.png(99, 99), Kind.IMAGE), (files.pdf(9), Kind.PDF), (files.mp3(1), Kind.AUDIO)]:
        cost_of(Blob(kind, base64.b64encode(head).decode().rstrip("=")[:-1] + rest), senses_of("gemini-3-pro"))
    cost_of(blob(Kind.PDF, b"%PDF /Linearized" + b"/Type /Count " * 1_000_000), senses_of("claude-opus-5"))
    assert time.process_time() - began < 2


HEADS = [
    b"\xff\xd8",
    b"RIFF1234WAVE",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"\0\0\0\x08ftyp",
    b"%PDF",
    b"RIFF1234WEBP",
    b"",
    b"GIF8",
]


@given(st.sampled_from(Kind), st.text(max_size=200), st.binary(max_size=300), st.integers(0, 9))
def test_no_data_raises(kind: Kind, text: str, data: bytes, which: int) -> None:
    heads = [
        b"\xff\xd8",
        b"RIFF1234WAVE",
        b"fLaC",
        b"OggS",
        b"ID3",
        b"\0\0\0\x08ftyp",
        b"%PDF",
        b"RIFF1234WEBP",
        b"",
        b"GIF89a",
    ]
    for one in (Blob(kind, text), blob(kind, heads[which] + data)):
        for model in ("gpt-4o", "gemini-2.5-pro", "mistral-large", "qwen3-vl", "other"):
            cost = cost_of(one, senses_of(model))
            assert cost.tokens >= 0
            assert cost.low <= cost.tokens <= cost.high
