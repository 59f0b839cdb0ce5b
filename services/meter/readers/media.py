"""Answers that are billed by something else than tokens: pictures, pages, spoken characters. Those that state tokens,
too, are read by the shape of their usage."""

from __future__ import annotations

from typing import ClassVar, Final

from services.meter.readers.reading import Json, Marks, Reading, Report, amounts, mapping, sequence, text
from shared.contract.usage import Usage

# Where pictures are listed, and the fields that hold one: OpenAI and those in its manner, then Imagen.
_PICTURES: Final = {"data": ("b64_json", "url"), "predictions": ("bytesBase64Encoded",)}


def fits(document: Json) -> bool:
    """Whether a document is such an answer."""
    return bool(units_of(document))


def units_of(document: Json) -> dict[str, float]:
    """What is billed of it, by the provider's name where it has one."""
    found = amounts(mapping(document.get("usage_info")), "pages_processed")  # Mistral's OCR
    found |= amounts(mapping(document.get("extra_info")), "usage_characters")  # MiniMax's speech
    for holder, fields in _PICTURES.items():
        listed = map(mapping, sequence(document.get(holder)))
        pictures = sum(any(text(one.get(field)) for field in fields) for one in listed)
        if pictures:
            found["images"] = pictures
    return found


class MediaReader:
    """Counts what was made, or read."""

    marks: ClassVar[Marks] = Marks()

    def __init__(self) -> None:
        self.reading = Reading()

    def read(self, event: bytes, document: Json, *, observe: bool) -> None:
        """`observe`: there is no text."""
        self.reading.model = text(document.get("model")) or self.reading.model
        self.reading.report(mapping(document.get("usage")), Report(Usage(), units=units_of(document)))

    def done(self) -> None:
        """They are no streams."""

    def close(self) -> None:
        """Nothing is left to tell."""
