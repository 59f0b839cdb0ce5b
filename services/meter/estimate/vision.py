"""What images, recordings, films and documents cost each family, as data and formulas. Pure.

Formulas and multipliers are the providers' published ones where they hold on recorded requests, and what recorded
requests say where they do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from services.meter.estimate import media
from services.meter.estimate.blobs import Blob, Kind
from services.meter.estimate.families import first_match


class Rule(StrEnum):
    """How a provider turns an image into tokens."""

    TILES = "tiles"  # OpenAI until 5.1: a base, and so much for each tile of 512 px
    PATCHES = "patches"  # so much for each patch begun, scaled to at most so many
    MERGED = "merged"  # Qwen: sides rounded to patches, and two marks around
    ROWS = "rows"  # Mistral: patches, and a mark behind each row
    CROPS = "crops"  # Gemini 2: 258 for each of up to so many crops, and for the whole
    AREA = "area"  # Perplexity: width x height / 750
    FLAT = "flat"  # the same for any size


class Sight(StrEnum):
    """Whether a family's models look at images and films; those that do not mostly drop them in silence."""

    YES = "yes"
    SOME = "some"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Senses:
    """What a family's models make of media. Audio and video are per second, documents per page."""

    rule: Rule = Rule.PATCHES
    patch: int = 32
    factor: float = 1.0
    most: int = 1536  # patches, before the factor
    longest: int = 1 << 16  # pixels of the longer side
    base: int = 0
    sight: Sight = Sight.YES
    audio: float = 10.0
    audio_chunk: float = 0.0  # seconds that recordings are padded to a multiple of
    video: float = 100.0
    page: int = 300
    page_low: int = 0
    page_high: int = 3000


class Cost(NamedTuple):
    """Tokens, and where the truth lies nine times out of ten."""

    tokens: int
    low: int
    high: int


# Where a size cannot be seen: one tile of 512 px. Nothing is booked that was not seen; the interval says what may be.
_UNSEEN = (512, 512)
_UNSEEN_RANGE = ((64, 64), (4096, 2048), (4096, 2730), (4096, 3072))
_MOST_HIGH = 2500  # patches where a close look is asked for: models that take more do so of their own accord
_UNSEEN_SECONDS = (5.0, 600.0)
_MOST_UNSEEN_PAGES = 100
_TOLERANCE = 0.1
_CLOSE = 6  # tokens

_TILES = Senses(Rule.TILES, factor=170, base=85, page=220, page_low=70, page_high=2500)
_OPENAI_PATCHES = replace(_TILES, rule=Rule.PATCHES, base=0, factor=1.2, most=2500)
_CLAUDE = Senses(patch=28, most=1568, longest=1568, page=1580, page_low=1000, page_high=4500)
_GEMINI_2 = Senses(Rule.CROPS, factor=258, most=16, audio=32, video=260, page=258, page_low=200, page_high=1500)
_GEMINI_3 = Senses(Rule.FLAT, base=1090, audio=25, video=71, page=564, page_low=258, page_high=1500)
# Recordings are padded to whole chunks of half a minute.
_MISTRAL = Senses(Rule.ROWS, patch=28, most=3025, longest=1540, audio=12.5, audio_chunk=30)
_QWEN = Senses(Rule.MERGED, most=16384, audio=10, video=230)

_FAMILIES = (
    (r"claude-(?:opus|sonnet|haiku|mythos|fable)-(?:4[.-][789]|[5-9])", replace(_CLAUDE, most=4784, longest=2576)),
    (r"claude", _CLAUDE),
    (r"gemma", Senses(Rule.FLAT, base=266)),
    (r"gemini-(?:1|2)|gemini-(?:pro|flash)(?!-(?:lite-)?latest)", _GEMINI_2),
    (r"gemini", _GEMINI_3),
    (r"gpt-oss|gpt-3\.5|davinci", Senses(sight=Sight.NO)),
    (r"gpt-4o-mini", replace(_TILES, factor=5667, base=2833)),
    (r"gpt-4\.1-mini", replace(_TILES, rule=Rule.PATCHES, base=0, factor=1.62)),
    (r"gpt-4\.1-nano", replace(_TILES, rule=Rule.PATCHES, base=0, factor=2.46)),
    (r"\bo4-mini", replace(_TILES, rule=Rule.PATCHES, base=0, factor=1.72)),
    (r"\bo[13](?:-|$)", replace(_TILES, factor=150, base=75)),
    (r"gpt-5-mini", replace(_TILES, rule=Rule.PATCHES, base=0, factor=1.2)),
    (r"gpt-5-nano", replace(_TILES, rule=Rule.PATCHES, base=0, factor=1.5)),
    (r"gpt-5(?:\.1|-|$)", replace(_TILES, factor=140, base=70)),
    (r"gpt-5\.[2-4]", _OPENAI_PATCHES),
    (r"gpt-5", replace(_OPENAI_PATCHES, most=10_000)),
    (r"gpt-[6-9]", replace(_OPENAI_PATCHES, most=60_000)),
    (r"gpt", _TILES),
    (r"deepseek|kimi-k2-|mixtral|codestral|devstral", Senses(sight=Sight.NO)),
    (r"qwen-?2[._-]?5?-?vl|qwen-vl", replace(_QWEN, patch=28)),
    (r"qwen|qwq", replace(_QWEN, sight=Sight.SOME)),
    (r"mimo", _QWEN),
    (
        r"mistral|ministral|magistral|pixtral|voxtral",
        Senses(Rule.ROWS, patch=28, most=3025, longest=1540, audio=12.5, audio_chunk=30),
    ),
    (r"sonar", Senses(Rule.AREA)),
    (r"command|aya", Senses(Rule.TILES, factor=256, base=3)),
    (r"nova", Senses(Rule.AREA, base=0, video=300)),
)
_UNKNOWN = Senses(sight=Sight.SOME)

senses_of = first_match(_FAMILIES, _UNKNOWN)


def cost_of(blob: Blob, senses: Senses) -> Cost:
    """What a piece of media is likely to cost."""
    match blob.kind:
        case Kind.IMAGE:
            return _seen(_image(blob, senses), senses.sight)
        case Kind.PDF:
            return _document(blob, senses)
        case Kind.AUDIO:
            return _audio(blob, senses)
        case Kind.VIDEO:
            cost = _seconds(media.video_seconds(blob) if blob.data else None, senses.video)
            return _seen(cost, senses.sight)
        case Kind.TEXT | Kind.FILE:
            return Cost(0, 0, max(2000, blob.size() // 3))  # text by an address, or nobody knows what


def image_tokens(senses: Senses, size: tuple[int, int], detail: str = "") -> int:
    """Tokens of an image of this width and height."""
    low = detail == "low"
    width, height = _scaled(size, 512 if low and senses.rule is Rule.PATCHES else senses.longest)
    unit, most = senses.patch, min(senses.most, _MOST_HIGH if detail == "high" else senses.most)
    match senses.rule:
        case Rule.TILES:
            return round(senses.base + (0 if low else senses.factor * _tiles(width, height)))
        case Rule.PATCHES:
            return math.ceil(round(senses.factor * _patches(width, height, unit, most), 6))
        case Rule.MERGED:
            return 2 + min(senses.most, max(1, round(width / unit)) * max(1, round(height / unit)))
        case Rule.ROWS:
            rows = math.ceil(height / unit)
            return min(senses.most, math.ceil(width / unit) * rows) + rows
        case Rule.CROPS:
            return round(senses.factor * _crops(width, height, senses.most))
        case Rule.AREA:
            return math.ceil(width * height / 750)
        case Rule.FLAT:
            return senses.base


def _image(blob: Blob, senses: Senses) -> Cost:
    size = media.image_size(blob)
    if size is not None:
        tokens = image_tokens(senses, size, blob.detail)
        slack = round(tokens * _TOLERANCE) + _CLOSE
        return Cost(tokens, max(0, tokens - slack), tokens + slack)
    return _unseen(senses, blob.detail if blob.detail in ("low", "high") else "")


@lru_cache(256)
def _unseen(senses: Senses, detail: str) -> Cost:
    """An image of any size."""
    tokens = image_tokens(senses, _UNSEEN, detail)
    others = [image_tokens(senses, size, detail) for size in _UNSEEN_RANGE]
    return Cost(tokens, min(tokens, *others), max(tokens, *others) + _CLOSE)


def _seen(cost: Cost, sight: Sight) -> Cost:
    """The cost of an image or a film, or none where it is not looked at."""
    return Cost(0 if sight is Sight.NO else cost.tokens, cost.low if sight is Sight.YES else 0, cost.high)


def _audio(blob: Blob, senses: Senses) -> Cost:
    seconds = media.audio_seconds(blob) if blob.data else None
    if seconds and senses.audio_chunk:
        seconds = math.ceil(seconds / senses.audio_chunk) * senses.audio_chunk
    return _seconds(seconds, senses.audio)


def _document(blob: Blob, senses: Senses) -> Cost:
    """Without the file one page is booked, and up to a hundred are thought possible."""
    if blob.data is None:
        return Cost(senses.page, senses.page_low, senses.page_high * _MOST_UNSEEN_PAGES)
    pages = media.pdf_pages(blob)
    return Cost(senses.page * pages, senses.page_low * pages, senses.page_high * pages)


def _seconds(seconds: float | None, each: float) -> Cost:
    if seconds is None:
        typical, most = _UNSEEN_SECONDS
        return Cost(round(typical * each), 0, round(most * each * 2))
    tokens = math.ceil(seconds * each)
    return Cost(tokens, round(tokens * 0.4) - _CLOSE, round(tokens * 2.5) + _CLOSE)


def _scaled(size: tuple[int, int], longest: int) -> tuple[float, float]:
    scale = min(1.0, longest / max(size))
    return size[0] * scale, size[1] * scale


def _tiles(width: float, height: float) -> int:
    width, height = _scaled((int(width), int(height)), 2048)
    scale = min(1.0, 768 / max(1.0, min(width, height)))
    return math.ceil(int(width * scale) / 512) * math.ceil(int(height * scale) / 512)


def _patches(width: float, height: float, unit: int, most: int) -> int:
    """Patches begun; a picture of too many is scaled down until one side is whole patches and all of them fit."""
    across, down = width / unit, height / unit
    if math.ceil(across) * math.ceil(down) <= most:
        return math.ceil(across) * math.ceil(down)
    scale = math.sqrt(most / (across * down))
    across, down = across * scale, down * scale
    scale = min(max(1, int(across)) / across, max(1, int(down)) / down)
    return min(most, math.ceil(round(across * scale, 6)) * math.ceil(round(down * scale, 6)))


def _crops(width: float, height: float, most: int) -> int:
    if width <= 384 and height <= 384:
        return 1
    unit = max(256, min(768, int(min(width, height) / 1.5)))
    return min(most, math.ceil(width / unit) * math.ceil(height / unit)) + 1
