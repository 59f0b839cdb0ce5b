"""`arouter limits`: what is used and reserved of every limit, and limits from a file; flags of limits for keys and
teams."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.cli.output import print_table
from services.cli.redis import with_redis
from shared.access import keys, limit_form, teams
from shared.access.limit_form import BadLimits
from shared.books import limit_records, limit_scopes, limit_status, streams
from shared.books.books import Books
from shared.books.limit_status import Status
from shared.contract import limits
from shared.contract.limits import Limits

_NONE = "none"
_NUMBERS = {
    "limit_tokens": ("limit_tokens", "N", "most tokens in a period"),
    "rpm": ("requests_per_minute", "N", "most requests per minute"),
    "tpm": ("tokens_per_minute", "N", "most tokens per minute"),
    "rpd": ("requests_per_day", "N", "most requests per day"),
    "concurrent": ("concurrent_requests", "N", "most requests that run at once"),
}
_EVERYTHING = "everything"


def add_commands(commands: Any) -> None:
    found = commands.add_parser("limits", help="what is used of every limit; limits from a file").add_subparsers(
        required=True
    )
    one = found.add_parser("status", help="used, reserved and limit of every scope, and when it begins anew")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=status)
    one = found.add_parser("apply", help="set the limits that a file has, and show the difference first")
    one.add_argument("file", type=Path, metavar="FILE", help="TOML: docs/limits.md#a-file")
    one.add_argument("--check", action="store_true", help="show the difference alone")
    one.set_defaults(run=apply)
    one = found.add_parser(_EVERYTHING, help="change the limits over everything")
    add_flags(one)
    one.set_defaults(run=change_everything)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of limits, for keys and teams alike."""
    parser.add_argument("--limit-usd", metavar="USD", help=f"most US dollars in a period; '{_NONE}' takes it away")
    for flag, (_, metavar, meaning) in _NUMBERS.items():
        parser.add_argument(f"--{flag.replace('_', '-')}", metavar=metavar, help=f"{meaning}; '{_NONE}' takes it away")
    parser.add_argument(
        "--limit-reset", choices=[reset.value for reset in limits.Reset], help="when periods begin, UTC"
    )
    parser.add_argument(
        "--soft", dest="soft", action="store_const", const=True, help="tell what exceeds; refuse nothing"
    )
    parser.add_argument("--hard", dest="soft", action="store_const", const=False, help="refuse what exceeds")


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The limits that flags name, as `limit_form` takes them."""
    found: dict[str, Any] = {}
    if arguments.limit_usd is not None:
        found["limit"] = None if arguments.limit_usd == _NONE else arguments.limit_usd
    rates: dict[str, int | None] = {}
    for flag, (name, _, _) in _NUMBERS.items():
        text = getattr(arguments, flag)
        if text is not None:
            (found if name == "limit_tokens" else rates)[name] = _number(text, flag)
    if rates:
        found["rate_limit"] = rates
    for name in ("limit_reset", "soft"):
        if getattr(arguments, name) is not None:
            found[name] = getattr(arguments, name)
    return found


def _number(text: str, flag: str) -> int | None:
    if text == _NONE:
        return None
    if not text.isdecimal() or len(text) > 20:
        raise BadLimits(f"--{flag.replace('_', '-')}: must be a whole number, or '{_NONE}'")
    return int(text)


async def counted(books: Books, scope: str, found: Limits | None) -> None:
    """Have what these limits need counted from now on, and nothing else of the scope."""
    patterns = [pattern for pattern, _ in found.parts()] if found is not None else []
    await limit_scopes.follow(books, scope, patterns, await streams.now_ms(books.store))


async def set_team(books: Books, scope: str, changes: Mapping[str, Any]) -> None:
    """Change the limits of a team or of everything."""
    before = (await limit_records.read(books.store)).of.get(scope)
    found = limit_form.changed(changes, before)
    await limit_records.write(books.store, scope, found)
    await counted(books, scope, found)


def change_everything(arguments: argparse.Namespace) -> int:
    """`limits everything`."""

    async def change(books: Books) -> None:
        await set_team(books, limits.EVERYTHING, given(arguments))
        print(json.dumps(limit_form.shown((await limit_records.read(books.store)).of.get(limits.EVERYTHING, Limits()))))

    return with_redis(change)


def status(arguments: argparse.Namespace) -> int:
    """`limits status`."""

    async def show(books: Books) -> None:
        names = {limits.key_scope(record.hash): record for record in await keys.find_all(books.store)}
        own = {scope: record.limits for scope, record in names.items() if record.limits is not None}
        found = await limit_status.read(books.store, own, await streams.now_ms(books.store))
        if arguments.json:
            print(json.dumps([one.as_dict() | {"name": _name(one, names)} for one in found]))
            return
        rows = [
            (
                one.scope[:24],
                _name(one, names),
                _dollars(one.nanousd, one.reserved_nanousd, one.limits.limit_nanousd),
                _tokens(one.tokens, one.reserved_tokens, one.limits.limit_tokens),
                "" if one.resets_at is None else _time(one.resets_at),
            )
            for one in found
        ]
        print_table(("scope", "name", "usd used + reserved / limit", "tokens", "begins anew"), rows)

    return with_redis(show)


def _name(one: Status, names: Mapping[str, keys.KeyRecord]) -> str:
    record = names.get(one.owner)
    name = record.name if record is not None else one.owner.partition(":")[2] or _EVERYTHING
    return f"{name} {one.pattern}" if one.pattern else name


def _dollars(used: int, reserved: int, limit: int | None) -> str:
    amounts = [f"{Decimal(amount) / 10**9:.6f}" for amount in (used, reserved)]
    return f"{amounts[0]} + {amounts[1]}" + ("" if limit is None else f" / {Decimal(limit) / 10**9:.6f}")


def _tokens(used: int, reserved: int, limit: int | None) -> str:
    return f"{used} + {reserved}" + ("" if limit is None else f" / {limit}")


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def apply(arguments: argparse.Namespace) -> int:
    """`limits apply FILE`: a line for each limit that changes, then the change."""
    wanted = _read(arguments.file)

    async def change(books: Books) -> None:
        before = await _now(books, wanted)
        found = {scope: limit_form.changed(block) for scope, block in wanted.items()}
        lines = [line for scope in found for line in _difference(scope, before[scope], found[scope])]
        print("\n".join(lines) if lines else "nothing changes")
        if arguments.check:
            return
        for scope, some in found.items():
            if some != (before[scope] or Limits()):
                await _write(books, scope, some)

    return with_redis(change)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The blocks of a file, by `everything`, `teams NAME` or `keys NAME`."""
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, ValueError) as exc:
        raise BadLimits(f"{file}: {exc}") from None
    for name in found:
        if name not in (_EVERYTHING, "teams", "keys"):
            raise BadLimits(f"{file}: {name}: there are {_EVERYTHING}, teams and keys")
    blocks = {_EVERYTHING: found[_EVERYTHING]} if _EVERYTHING in found else {}
    for kind in ("teams", "keys"):
        for name, block in dict(found.get(kind, {})).items():
            blocks[f"{kind} {name}"] = block
    return blocks


async def _now(books: Books, wanted: Mapping[str, Any]) -> dict[str, Limits | None]:
    """The limits that are set now. BadLimits where a key or team does not exist."""
    shared = (await limit_records.read(books.store)).of
    found: dict[str, Limits | None] = {}
    for block in wanted:
        kind, _, name = block.partition(" ")
        if kind == "keys":
            found[block] = (await _key(books, name)).limits
        else:
            if kind == "teams":
                await teams.find(books.store, name)
            found[block] = shared.get(limits.team_scope(name) if kind == "teams" else limits.EVERYTHING)
    return found


async def _key(books: Books, name: str) -> keys.KeyRecord:
    """A key by its hash, the beginning of it, or its name."""
    records = [record for record in await keys.find_all(books.store) if record.revoked_at is None]
    found = [r for r in records if r.name == name] or [r for r in records if name and r.hash.startswith(name)]
    if len(found) != 1:
        raise BadLimits(f"keys.{name[:80]}: {len(found)} keys have this name, or a hash that starts so")
    return found[0]


async def _write(books: Books, block: str, found: Limits) -> None:
    kind, _, name = block.partition(" ")
    if kind == "keys":
        record = await _key(books, name)
        await keys.update(books.store, record.hash, {"limits": found if found.any else None})
        await counted(books, limits.key_scope(record.hash), found)
        return
    scope = limits.team_scope(name) if kind == "teams" else limits.EVERYTHING
    await limit_records.write(books.store, scope, found)
    await counted(books, scope, found)


def _difference(block: str, before: Limits | None, after: Limits) -> list[str]:
    was, will = (_flat(limit_form.shown(one or Limits())) for one in (before, after))
    return [
        f"{block}: {name}: {_said(was.get(name))} -> {_said(will.get(name))}"
        for name in sorted(was.keys() | will.keys())
        if was.get(name) != will.get(name)
    ]


def _said(value: Any) -> str:
    return _NONE if value is None else str(value)


def _flat(block: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in block.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found
