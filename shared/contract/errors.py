"""The root of the error tree, and the error of a record. The tree is drawn in `shared/runtime/errors.py`."""

from __future__ import annotations


class ARouterError(Exception):
    """The root: catching it catches everything this project raises on purpose."""


class BadRecord(ARouterError):
    """A stream entry that cannot be read. `str()` says why, for the quarantine."""
