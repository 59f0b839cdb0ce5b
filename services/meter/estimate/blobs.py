"""Media inside a request, in every form the dialects have for it. Pure; nothing is ever fetched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

Json = Mapping[str, Any]


class Kind(StrEnum):
    """What a piece of media is to a model."""

    IMAGE = "image"
    PDF = "pdf"
    AUDIO = "audio"
    VIDEO = "video"
    TEXT = "text"  # a file of text, which is read as text
    FILE = "file"  # anything else


@dataclass(frozen=True, slots=True)
class Blob:
    """One image, document, recording or film. `data` is base64, None where there is only an address or a file id."""

    kind: Kind
    data: str | None = None
    detail: str = ""  # how closely an image is looked at, in the provider's word

    def bytes(self, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`, as far as there are any: only their own base64 is decoded."""
        if self.data is None:
            return b""
        first = start // 3
        return _decoded(self.data[first * 4 : -(-(start + length) // 3) * 4])[start - first * 3 :][:length]

    def size(self) -> int:
        """Bytes in all."""
        return len(self.data or "") * 3 // 4


# Where parts keep their media, and what it is if nothing else says so. The first that is there counts.
_HOLDERS: Mapping[str, Kind] = {
    "image_url": Kind.IMAGE,
    "video_url": Kind.VIDEO,
    "audio_url": Kind.AUDIO,
    "input_audio": Kind.AUDIO,
    "document_url": Kind.PDF,
    "inlineData": Kind.FILE,
    "inline_data": Kind.FILE,
    "fileData": Kind.FILE,
    "file_data": Kind.FILE,
    "file_url": Kind.PDF,
    "file": Kind.FILE,
    "source": Kind.FILE,
    "image": Kind.IMAGE,  # Bedrock: {"image": {"format": …, "source": {"bytes": …}}}
    "video": Kind.VIDEO,
    "audio": Kind.AUDIO,
    "document": Kind.PDF,
}
# Parts whose `type` says that they are media.
_TYPES: Mapping[str, Kind] = {
    "image": Kind.IMAGE,
    "image_url": Kind.IMAGE,
    "input_image": Kind.IMAGE,
    "document": Kind.PDF,
    "document_url": Kind.PDF,
    "file": Kind.FILE,
    "input_file": Kind.FILE,
    "audio": Kind.AUDIO,
    "audio_url": Kind.AUDIO,
    "input_audio": Kind.AUDIO,
    "video": Kind.VIDEO,
    "video_url": Kind.VIDEO,
    "input_video": Kind.VIDEO,
}
# How the base64 of known files begins.
_MAGIC: Mapping[str, Kind] = {
    "iVBORw0KGgo": Kind.IMAGE,
    "/9j/": Kind.IMAGE,
    "R0lGOD": Kind.IMAGE,
    "JVBERi": Kind.PDF,
    "SUQz": Kind.AUDIO,
    "T2dnUw": Kind.AUDIO,
    "ZkxhQ": Kind.AUDIO,
}
_ENDINGS: Mapping[str, Kind] = {
    "pdf": Kind.PDF,
    "png": Kind.IMAGE,
    "jpg": Kind.IMAGE,
    "jpeg": Kind.IMAGE,
    "gif": Kind.IMAGE,
    "webp": Kind.IMAGE,
    "mp3": Kind.AUDIO,
    "wav": Kind.AUDIO,
    "ogg": Kind.AUDIO,
    "m4a": Kind.AUDIO,
    "flac": Kind.AUDIO,
    "mp4": Kind.VIDEO,
    "mov": Kind.VIDEO,
    "webm": Kind.VIDEO,
    "txt": Kind.TEXT,
    "md": Kind.TEXT,
    "csv": Kind.TEXT,
    "json": Kind.TEXT,
    "html": Kind.TEXT,
}
_DATA = ("data", "bytes", "file_data", "url", "image_url", "input_audio")
_MIMES = ("mimeType", "mime_type", "media_type", "format")
_NAMES = ("filename", "file_name", "fileUri", "file_uri", "uri", "url", "document_url", "file_url", "name")
_SHORT = 4096  # no address or name is longer


def blob_of(part: Json) -> Blob | None:
    """The media of a part of a message; None where it is none."""
    said = _TYPES.get(part["type"]) if isinstance(part.get("type"), str) else None
    name = next((name for name in _HOLDERS if part.get(name) and _holds(name, part[name], said)), None)
    if name is None and said is None:
        return None
    holder = part[name] if name else part
    details: Json = holder if isinstance(holder, dict) else {"url": holder}
    inner = details.get("source")
    places = (inner, details, part) if isinstance(inner, dict) else (details, part)
    detail = str(details.get("detail") or part.get("detail") or "")
    data = _data(places)
    return Blob(_kind(places, data, (_HOLDERS[name] if name else None, said)), data, detail)


def blob_of_text(text: str, kind: Kind = Kind.FILE) -> Blob:
    """Media that is a string: a data URL, an address, or base64 alone."""
    data = _data(({"url": text},))
    return Blob(_kind(({"url": text},), data, (kind,)), data)


def text_of(blob: Blob, most: int) -> str:
    """At most `most` bytes of a file of text."""
    return blob.bytes(0, most).decode("utf-8", "replace")


def _holds(name: str, value: Any, said: Kind | None) -> bool:
    """Whether a field of this name is media: common words are only beside a type, or as an object of their kind."""
    if name in ("source", "file", "image", "video", "audio", "document"):
        inside = isinstance(value, dict) and any(
            key in value for key in ("bytes", "data", "url", "uri", "source", "file_id", "file_data", "s3Location")
        )
        return inside or (said is not None and isinstance(value, str))
    return isinstance(value, (str, dict))


def _data(places: tuple[Json, ...]) -> str | None:
    """The base64, wherever it is."""
    for name, place in ((name, place) for place in places for name in _DATA):
        value = place.get(name)
        if not isinstance(value, str):
            continue
        if value.startswith("data:"):
            head, _, data = value.partition(",")
            return data if head.endswith(";base64") else None
        if "://" not in value[:16] and not (name == "url" and len(value) < 64):
            return value
    return None


def _kind(places: tuple[Json, ...], data: str | None, fallbacks: tuple[Kind | None, ...]) -> Kind:
    """By its MIME type, its first bytes, its name, and then by where it was."""
    found = next(filter(None, map(_by_mime, _mimes(places))), None) or (_by_bytes(data) if data else None)
    return found or next(filter(None, map(_by_name, places)), None) or _by_place(fallbacks)


def _mimes(places: tuple[Json, ...]) -> Iterator[str]:
    """What is said to be the type of something, data URLs first."""
    for name, place in ((name, place) for place in places for name in (*_DATA, *_MIMES)):
        value = place.get(name)
        if isinstance(value, str) and (name in _MIMES or value.startswith("data:")):
            yield value[:64].removeprefix("data:")


def _by_name(place: Json) -> Kind | None:
    for name in _NAMES:
        value = place.get(name)
        if isinstance(value, str) and len(value) < _SHORT:
            found = _ENDINGS.get(value.partition("?")[0].rpartition(".")[2].lower())
            if found is not None:
                return found
    return None


def _by_place(fallbacks: tuple[Kind | None, ...]) -> Kind:
    return next((kind for kind in fallbacks if kind is not None and kind is not Kind.FILE), Kind.FILE)


@lru_cache(256)
def _by_mime(mime: str) -> Kind | None:
    mime = mime.partition(";")[0].partition(",")[0].strip().lower()
    family, _, name = mime.rpartition("/")
    if name in ("pdf", "x-pdf"):
        return Kind.PDF
    if family in ("image", "audio", "video"):
        return Kind(family)
    if family == "text" or name in ("json", "xml", "javascript", "x-yaml", "yaml"):
        return Kind.TEXT
    return _ENDINGS.get(name) if not family else None


def _by_bytes(data: str) -> Kind | None:
    found = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if found is not None:
        return found
    head = _decoded(data[:16])
    if head[:4] == b"RIFF":
        return Kind.IMAGE if head[8:12] == b"WEBP" else Kind.AUDIO
    if head[4:8] == b"ftyp":
        return Kind.AUDIO if head[8:11] == b"M4A" else Kind.VIDEO
    return None


def _decoded(text: str) -> bytes:
    """Base64 of either alphabet, with or without padding; empty where it is none."""
    text = text.rstrip("=")
    text = text[: len(text) // 4 * 4] if len(text) % 4 == 1 else text + "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, b"-_" if "-" in text or "_" in text else None)
    except (binascii.Error, ValueError):
        return b""
