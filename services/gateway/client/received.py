"""A request's body as it was received, and what is read and changed in it: JSON or a form, encoded or not."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from services.gateway.client import body as json_body
from services.gateway.client import form
from services.gateway.client.flags import Flags, is_sound, most_output, read_flags
from services.gateway.client.upload import Upload

_NO_FLAGS = Flags()


class Outgoing(msgspec.Struct, frozen=True):
    """A body as it goes upstream."""

    body: bytes | Upload
    plain: bytes | None = None  # the same without its content encoding, where it has one and could be read
    decoded: bool = False  # it has no content encoding any more
    late_model: Callable[[], str] | None = None  # the model at the end of a form that passes, once it has; "" for none


class Received(msgspec.Struct, frozen=True):
    """A body: all of it, or its first part where the rest goes upstream as it arrives."""

    sent: bytes  # as it came
    plain: bytes | None  # the same without its content encoding; None where that could not be undone
    rest: Upload | None = None
    boundary: bytes | None = None  # of a form
    clear: bool = True  # whether its content type says one thing to everybody

    @property
    def encoded(self) -> bool:
        """Whether it has a content encoding."""
        return self.plain is not self.sent

    @property
    def size(self) -> int:
        """Its bytes, without its content encoding; of one whose rest goes upstream as it arrives, as it says itself."""
        if self.rest is not None:
            return self.rest.length or len(self.sent)
        return len(self.sent if self.plain is None else self.plain)

    def flags(self) -> Flags:
        """What routing needs; nothing where there is nothing to read."""
        if self.plain is None:
            return _NO_FLAGS
        if self.boundary is not None:
            streamed = form.last(self.plain, self.boundary, "stream")
            return Flags(
                _named(self.plain, self.boundary) or None,
                streamed is not None and self.plain[streamed.start : streamed.end].lower() in (b"true", b"1"),
            )
        return read_flags(self.plain)

    def most_output(self) -> int | None:
        """The most tokens that it lets its model write; None where it does not say."""
        return most_output(self.plain) if self.plain and self.boundary is None else None

    def names_one_model(self, *, listed: bool = False) -> bool:
        """Whether it is here as a whole and names one model, once, whoever parses it. `listed`: and one list of
        others."""
        if self.plain is None or self.rest is not None or not self.clear:
            return False
        if self.boundary is not None:
            return form.names_one_model(self.plain, self.boundary)
        return is_sound(self.plain) and json_body.names_one_model(self.plain, listed=listed)

    def outgoing(self, model: str | None, *, ask_usage: bool, decode: bool, unlisted: bool = False) -> Outgoing:
        """The body for a provider. `model`: a name in place of the one that `flags` has read; None leaves it.
        `unlisted`: without its list of models.

        `decode`: without its content encoding, which a body that is changed loses in any case.
        """
        changes = model is not None or ask_usage or unlisted
        if not changes and self.rest is None and not self.encoded:
            return Outgoing(self.sent)
        if not changes and (not self.encoded or not decode or self.rest is not None):
            return Outgoing(self.rest or self.sent, self.plain if self.encoded else None, late_model=self._late_model())
        if self.plain is None:
            return Outgoing(self.rest or self.sent)
        changed = json_body.without_list(self.plain) if unlisted else self.plain
        changed = changed if model is None else self._with_model(changed, model)
        if ask_usage:
            changed = json_body.with_usage_asked(changed)
        if self.rest is not None:
            self.rest.replace_first(changed)
            return Outgoing(self.rest)
        return Outgoing(changed, decoded=self.encoded)

    def _late_model(self) -> Callable[[], str] | None:
        if self.rest is None or self.boundary is None:
            return None
        rest, boundary = self.rest, self.boundary
        return lambda: _named(rest.end, boundary)

    def _with_model(self, plain: bytes, model: str) -> bytes:
        if self.boundary is None:
            return json_body.with_model(plain, model)
        named = form.last(plain, self.boundary, "model")
        return plain if named is None else plain[: named.start] + model.encode() + plain[named.end :]


def _named(plain: bytes, boundary: bytes) -> str:
    named = form.last(plain, boundary, "model")
    return "" if named is None else plain[named.start : named.end].decode("utf-8", "replace")
