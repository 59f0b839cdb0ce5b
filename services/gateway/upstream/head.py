"""The head of a provider's answer before httptools gets it: whole, bounded, and tidied where it has to be. Pure.

httptools joins the parts of a header value anew for every read, and takes any number of them. Here each byte is looked
at once, and httptools gets whole heads alone.
"""

from __future__ import annotations

import re

MAX_BYTES = 64 * 1024  # of all heads of one answer, interim ones (1xx) among them
MAX_FIELDS = 256  # of one head
_LEAST = 256  # what an interim head counts at least: there may be as many, and each has its own work
TOO_LARGE = "the head of the answer is too large"

_CODINGS = {b"gzip": b"gzip", b"x-gzip": b"gzip", b"deflate": b"deflate", b"compress": b"compress"}
_LENGTH, _TRANSFER, _CONTENT = b"content-length", b"transfer-encoding", b"content-encoding"
_FINAL = frozenset(b"HTTP/1.%d %d" % (minor, kind) for minor in (0, 1) for kind in (2, 3, 4, 5))
_fold = re.compile(rb"\r?\n[ \t]+")
# CR, LF, NUL and other controls within a value become a space (RFC 9110, 5.5); a tab stays.
_PRINTABLE = bytes(32 if (code < 32 and code != 9) or code == 127 else code for code in range(256))


class BadHead(Exception):
    """A head that cannot be passed on; `str()` says why."""


class HeadBuffer:
    """Collects the heads of one answer, however they are split over reads."""

    __slots__ = ("_held", "before")

    def __init__(self, held: bytearray | None = None) -> None:
        """`held`: what keeps the bytes of a head that is not whole."""
        self.before = 0  # what the answer's whole heads count; to be set to 0 when another answer begins
        self._held = bytearray() if held is None else held

    @property
    def size(self) -> int:
        """What the answer's heads count so far."""
        return self.before + len(self._held)

    def whole(self, data: bytes) -> int:
        """Where the head ends, if a read is the usual one: the whole of a final head, in the usual form. Else 0, and
        the read has to go through `feed`."""
        if self._held or self.before or data[:10] not in _FINAL:
            return 0
        end = data.find(b"\n\r\n") + 3
        if end < 3 or end > MAX_BYTES or data.find(b"\n\n", 0, end) >= 0 or data.count(b"\n", 0, end) > MAX_FIELDS + 2:
            return 0
        self.before = end
        return end

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The next whole head and the bytes behind it; nothing of both while it is not whole. BadHead where it is no
        head, or too large."""
        held, start = self._held, 0
        if held:
            start = max(0, len(held) - 2)
            held += data
        end = _end(held or data, start)
        if end < 0:
            if not held:
                held += data
            if self.size > MAX_BYTES:
                raise BadHead(TOO_LARGE)
            if not b"HTTP/".startswith(held[:64].lstrip(b"\r\n")[:5]):
                raise BadHead("Expected HTTP/")  # an empty line may never come
            return b"", b""
        head, rest = (bytes(held[:end]), bytes(held[end:])) if held else (data[:end], data[end:])
        held.clear()
        self.before += max(end, _LEAST)
        if self.before > MAX_BYTES or head.count(b"\n") > MAX_FIELDS + 2:
            raise BadHead(TOO_LARGE)
        return head, rest


def tidy(head: bytes) -> bytes:
    """A head as clients read it, in the form that httptools takes (decision 56). BadHead where its framing is unclear.

    Bare LFs end lines; folded lines are joined; spaces before a colon go; controls in values become spaces; a
    Content-Length that is repeated stays once. A compressing transfer coding becomes a content coding: the gateway asks
    for none, and passes its bytes as they are.
    """
    status, *lines = _fold.sub(b" ", head.strip(b"\r\n")).split(b"\n")
    fields = []
    for line in lines:
        name, colon, value = line.rstrip(b"\r").partition(b":")
        fields.append((name.rstrip(b" \t"), colon, value.translate(_PRINTABLE).strip()))
    fields = _one_length(fields)
    fields = _plain_coding(fields)
    return b"\r\n".join([status.translate(_PRINTABLE).rstrip(), *(b"%b%b %b" % field for field in fields), b"", b""])


Fields = list[tuple[bytes, bytes, bytes]]  # name, colon, value


def _one_length(fields: Fields) -> Fields:
    lengths = _members(fields, _LENGTH)
    if len(lengths) < 2:
        return fields
    if len(set(lengths)) > 1:
        raise BadHead("the answer has several lengths")
    return [*_without(fields, _LENGTH), (_LENGTH, b":", lengths[0])]


def _plain_coding(fields: Fields) -> Fields:
    """The same framing without a transfer coding that compresses."""
    given = [coding.partition(b";")[0].strip().lower() for coding in _members(fields, _TRANSFER)]
    codings = [coding for coding in given if coding != b"identity"]
    chunked = bool(codings) and codings[-1] == b"chunked"
    compressed = [coding for coding in codings if coding != b"chunked"]
    if any(coding not in _CODINGS for coding in compressed) or (b"chunked" in codings and not chunked):
        raise BadHead("the answer has a transfer coding that is not known")
    named = _members(fields, _CONTENT) + [_CODINGS[coding] for coding in compressed]
    plain = _without(fields, _TRANSFER)
    if compressed:
        plain = [*_without(plain, _CONTENT, _LENGTH), (_CONTENT, b":", b", ".join(named))]
    if chunked:
        plain.append((_TRANSFER, b":", b"chunked"))
    return plain


def _members(fields: Fields, name: bytes) -> list[bytes]:
    """The members of a list, which may stand in several fields."""
    values = b",".join(value for key, _, value in fields if key.lower() == name)
    return [member.strip() for member in values.split(b",") if member.strip()]


def _without(fields: Fields, *names: bytes) -> Fields:
    return [field for field in fields if field[0].lower() not in names]


def _end(data: bytes | bytearray, start: int) -> int:
    """Where the first empty line ends; -1 where there is none. Clients take a bare LF as the end of a line."""
    usual = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, usual + 1 if usual >= 0 else len(data))
    if bare >= 0:
        return bare + 2
    return usual + 3 if usual >= 0 else -1
