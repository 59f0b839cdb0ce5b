"""Routes: from a path to a dialect, and from a model name to an upstream. Pure.

The path gives the dialect; the upstream is chosen once the body's model is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import dropwhile
from urllib.parse import unquote

import msgspec

from services.gateway.routing.native import gemini_call, looks_like_bedrock, looks_like_gemini, native_call
from services.gateway.routing.roots import root_of
from services.gateway.routing.upstreams import FAMILIES, Upstream, Upstreams
from shared.contract.dialects import Dialect, Family
from shared.contract.paths import VERSION as _VERSION
from shared.contract.providers import DEFAULTS, FOLDERS, PROVIDERS
from shared.runtime.errors import Refused

REMEMBERED = 4096  # readings of paths: clients use few paths, again and again
LONGEST_REMEMBERED = 512  # characters of a path that is remembered

# Needless escapes (RFC 3986, 2.3), and that of the colon before a Gemini method.
_UNRESERVED = re.compile(r"%(?:4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe]|3[0-9Aa]|2[DdEe])")

# Calls of models: paths behind the version segment. Everything else below `/{provider}/` is passed through.
_CALLS: Mapping[str, Dialect] = {
    "chat/completions": Dialect.OPENAI_CHAT,
    "completions": Dialect.OPENAI_COMPLETIONS,
    "responses": Dialect.OPENAI_RESPONSES,
    "embeddings": Dialect.OPENAI_EMBEDDINGS,
    "messages": Dialect.ANTHROPIC_MESSAGES,
    "interactions": Dialect.GEMINI_INTERACTIONS,
}
_OPENAI, _ANTHROPIC = FOLDERS[Family.OPENAI], FOLDERS[Family.ANTHROPIC]
_FOLDERS = frozenset(FOLDERS.values())


@dataclass(frozen=True, slots=True)
class Match:
    """A path's dialect and destination, as far as the path alone tells."""

    dialect: Dialect
    family: Family
    rest: str  # the path behind the version segment
    version: str = "v1"  # as the client wrote it; Gemini has two
    upstream: Upstream | None = None  # chosen by the path itself: /{provider}/… and Azure deployments
    url: str | None = None  # the whole upstream URL, where `rest` is not enough
    path_model: str | None = None  # the model, where the path names it and not the body
    streamed: bool = False  # the path asks for a stream (Gemini); elsewhere the body does
    lists: bool = False  # reads what is stored, on the path of a call: with a body it could pass for one

    @property
    def model_in_body(self) -> bool:
        """Whether the request body has to name a model."""
        return self.path_model is None and self.dialect in FAMILIES


class Route(msgspec.Struct, frozen=True):
    """The destination of an exchange."""

    upstream: Upstream
    url: str  # without the query
    model: str  # as the provider knows it; "" where the request names none
    renamed: bool  # the body has another name for the model, which must not go upstream
    asked: str = ""  # the name for it in the request, where that is a named route's or one of several
    unlisted: bool = False  # the body lists several models for the gateway to try: the list does not go upstream


def family_of(path: str, headers: Mapping[bytes, bytes], query: bytes) -> Family:
    """The family whose error envelope a caller expects, guessed before the path is matched."""
    if b"anthropic-version" in headers:
        return Family.ANTHROPIC
    google_key = b"x-goog-api-key" in headers or (
        b"key=" in query and b"key=" in [part[:4] for part in query.split(b"&")]
    )
    guessed = _guessed if len(path) <= LONGEST_REMEMBERED else _guessed.__wrapped__
    return guessed(path, google_key)


@lru_cache(REMEMBERED)
def _guessed(path: str, google_key: bool) -> Family:
    if "/messages" in path:
        return Family.ANTHROPIC
    call = looks_like_gemini(path) and "/models/ft:" not in path  # OpenAI's own models have colons, too
    if google_key or "/v1beta/" in path or call:  # uploads come without a key, and without a call in the path
        return Family.GEMINI
    return Family.BEDROCK if looks_like_bedrock(path) else Family.OPENAI


def match(method: str, path: str, family: Family, upstreams: Upstreams, *, dated: bool = False) -> Match:
    """The match of a path, percent-encoded as it came. Refused with 404 where there is none.

    `family`: as `family_of` returns it; it decides whose model list `/v1/models` is. `dated`: the query has an
    `api-version`, as Azure's SDK sends it.
    """
    segments = _segments(path)
    if not segments:
        raise Refused(404, f"no such route: {method} {path}")
    at_root = upstreams.deployments
    if at_root is not None and _is_deployment(segments, at_root):
        return _deployment(method, segments, at_root)
    if at_root is not None and segments[0] == at_root.paths.deployments and (dated or not upstreams.get(segments[0])):
        return _beside_deployments(method, segments, at_root)
    if segments[:2] == ["api", "v1"]:
        segments = segments[1:]  # as OpenRouter's base URL ends
    if _VERSION.fullmatch(segments[0]):
        found = _match_root(method, segments, family, upstreams)
        if found is None:
            raise Refused(404, f"no such route: {method} {path} (any path of a provider is at /{{provider}}/…)")
        return found
    upstream = upstreams.get(segments[0])
    if upstream is None:
        usual = "v1beta" if family is Family.GEMINI else "v1"
        uploads = segments[0] == "upload" and len(segments) > 1
        found = _match_upload(method, segments, upstreams) if uploads else None
        found = found or _match_root(method, [usual, *segments], family, upstreams)
        if found is not None:
            return found
        raise Refused(404, f"no such route, and no provider {segments[0]!r} is configured: {method} {path}")
    if _is_deployment(segments[1:], upstream):
        return _deployment(method, segments[1:], upstream)
    if dated and segments[1:2] == [upstream.paths.deployments]:
        return _beside_deployments(method, segments[1:], upstream)
    return _match_provider(method, segments[1:], upstream, slash=path.endswith("/"))


def choose(matched: Match, model: str | None, upstreams: Upstreams) -> Route:
    """The route of a request, by its model: a prefix names the provider, else the family's own is the default
    (decision 4). Refused with 400 without a model, 404 without a provider (decision 54)."""
    if matched.upstream is not None:
        url = matched.url or url_at(matched, matched.upstream, matched.rest)
        return Route(matched.upstream, url, matched.path_model or model or "", renamed=False)
    name = matched.path_model or model or ""
    if not name and matched.model_in_body:
        raise Refused(400, "the request names no model")
    prefix, slash, bare = name.partition("/")
    upstream = upstreams.get(prefix) if slash and bare else None
    if upstream is not None:
        if not upstream.serves(matched.dialect, matched.family):
            raise Refused(404, f"provider {prefix!r} does not serve {matched.dialect}")
        rest = matched.rest.replace(name, bare, 1) if matched.path_model else matched.rest
        return Route(upstream, url_at(matched, upstream, rest), bare, renamed=matched.path_model is None)
    upstream = upstreams.default(matched.dialect, matched.family)
    own = upstream is not None and upstream.provider == DEFAULTS[matched.family]
    if own and slash and bare and prefix in PROVIDERS:
        # It is meant for another one; where a gateway or a host of many models is the default, it is a model's name.
        raise Refused(404, f"provider {prefix!r} is not configured", code="provider_not_configured")
    if upstream is None or not upstream.serves(matched.dialect, matched.family):
        raise Refused(404, f"no provider is configured for {matched.family} requests")
    return Route(upstream, url_at(matched, upstream, matched.rest), name, renamed=False)


def _match_call(method: str, rest: str, version: str) -> Match | None:
    if method != "POST":
        return None
    dialect = _CALLS.get(rest)
    if dialect is not None:
        return Match(dialect, FAMILIES[dialect], rest, version)
    if rest == "messages/count_tokens":
        return Match(Dialect.COUNT_TOKENS, Family.ANTHROPIC, rest, version)
    if rest == "responses/input_tokens":
        return Match(Dialect.COUNT_TOKENS, Family.OPENAI, rest, version)
    call = gemini_call(rest)
    if call is not None:
        return Match(call.dialect, Family.GEMINI, rest, version, path_model=call.model, streamed=call.streamed)
    return None


def _match_root(method: str, segments: list[str], family: Family, upstreams: Upstreams) -> Match | None:
    """A path behind a version segment, and no provider."""
    version, rest = segments[0], "/".join(_without_versions(segments))
    if version != "v1" and rest.startswith(f"{_OPENAI}/"):
        return _match_compatible(method, rest.removeprefix(f"{_OPENAI}/"), upstreams)
    found = _match_call(method, rest, version)
    if found is None and (root := root_of(method, rest, version, family)) is not None:
        found = Match(_beside_calls(method, rest), root.family, rest, version)
    return found


def _match_compatible(method: str, rest: str, upstreams: Upstreams) -> Match | None:
    """Gemini's own endpoint of OpenAI's dialects, which is not at `/v1`."""
    gemini = upstreams.default(Dialect.PASSTHROUGH, Family.GEMINI)
    if gemini is None or Family.OPENAI not in gemini.endpoints:
        return None
    dialect = (_CALLS.get(rest) if method == "POST" else None) or _beside_calls(method, rest)
    return Match(dialect, Family.OPENAI, rest, upstream=gemini, url=f"{gemini.endpoints[Family.OPENAI]}/{rest}")


def _match_upload(method: str, segments: list[str], upstreams: Upstreams) -> Match | None:
    """Gemini's uploads: `/upload/`, a version, and a path of the table."""
    gemini = upstreams.default(Dialect.PASSTHROUGH, Family.GEMINI)
    rest = "/".join(segments[2:])
    root = root_of(method, rest, segments[1], Family.GEMINI) if _VERSION.fullmatch(segments[1]) else None
    known = root is not None and root.family is Family.GEMINI
    return _match_provider(method, segments, gemini, slash=False) if gemini is not None and known else None


def _beside_calls(method: str, rest: str) -> Dialect:
    """The dialect of a path that is no call. Reading, deleting and cancelling buy nothing, nor does a stored chat that
    is changed, though its answer states the usage of long ago."""
    name = rest.lower()
    free = method != "POST" or name.endswith(("/cancel", ":cancel")) or name.startswith("chat/completions/")
    return Dialect.METADATA if free else Dialect.PASSTHROUGH


def _match_provider(method: str, segments: list[str], upstream: Upstream, *, slash: bool) -> Match:
    """Any path of one provider. Known calls go to the endpoint of their family, with one version segment."""
    version = next((segment for segment in segments[:3] if _VERSION.fullmatch(segment)), None)
    bare = dropwhile(lambda segment: _VERSION.fullmatch(segment) or segment in _FOLDERS, segments)
    rest = "/".join(bare)
    gemini = Family.GEMINI in upstream.endpoints
    found = _match_call(method, rest, version or ("v1beta" if gemini else "v1"))
    other_version = version is not None and not gemini and version not in _versions_of(upstream)
    if found is not None and upstream.serves(found.dialect, found.family) and not other_version:
        return replace(found, upstream=upstream)
    if upstream.paths.scope:
        segments = _scoped(segments, upstream.paths.scope)
    family, url = _raw_url(segments, upstream)
    url += "/" if slash else ""
    dialect, model, streamed = _beside_calls(method, "/".join(bare)), None, False
    rest = "/".join(segments)
    if dialect is Dialect.PASSTHROUGH:
        dialect, model, streamed = native_call(rest)
    return Match(dialect, family, rest, upstream=upstream, url=url, path_model=model, streamed=streamed)


def _scoped(segments: list[str], scope: str) -> list[str]:
    """A path in the operator's project and location, whatever the caller has written there: they say on whose account
    a request is booked (decision 76)."""
    at = segments[:1] == ["upload"]
    before, rest = segments[: at + 1], segments[at + 1 :]
    if not rest or not _VERSION.fullmatch(before[-1]):
        raise Refused(404, "no such route: a path of this provider begins with its version")
    names = scope.split("/")[::2]
    if rest[: 2 * len(names) : 2] == names:
        rest = rest[2 * len(names) :]
    return [*before, *scope.split("/"), *rest]


def _raw_url(segments: list[str], upstream: Upstream) -> tuple[Family, str]:
    """Family and URL of a path that is not a known call: below the base URL, whose own path the caller may have
    repeated."""
    own = next(iter(upstream.endpoints))
    if (
        segments
        and segments[0] == _ANTHROPIC
        and own is not Family.ANTHROPIC
        and Family.ANTHROPIC in upstream.endpoints
    ):
        root = upstream.endpoints[Family.ANTHROPIC].removesuffix(f"/{_ANTHROPIC}")
        return Family.ANTHROPIC, "/".join([root, *segments])
    scheme, _, place = upstream.paths.other.partition("://")
    host, *folders = place.split("/")
    begin = 0
    while folders and segments[begin : begin + len(folders)] == folders:
        begin += len(folders)
    segments = segments[begin:]
    versioned = bool(segments) and _VERSION.fullmatch(segments[0])
    if folders and _VERSION.fullmatch(folders[-1]) and (versioned or segments[:1] == ["api"]):
        repeated = segments[0] == folders[-1]
        folders, segments = (folders, segments[1:]) if repeated else (folders[:-1], segments)
    return own, f"{scheme}://{'/'.join([host, *folders, *segments])}"


def _versions_of(upstream: Upstream) -> set[str]:
    """Version segments that stand for the provider's own: that of its base URL, and v1, which every SDK adds."""
    return {"v1", upstream.base_url.rpartition("/")[2]}


def _segments(path: str) -> list[str]:
    """The segments of a path, with needless escapes undone: we must match the path that the provider will see
    (decision 13).

    Empty ones are left out, because some SDKs double a slash. Refused with 400 where a segment is . or ..
    """
    segments = [part for part in path.split("/") if part]
    if "%" in path:
        segments = [_UNRESERVED.sub(lambda match: unquote(match[0]), part) for part in segments]
    if any(segment in (".", "..") for segment in segments):
        raise Refused(400, "a path must not contain . or .. segments")
    return segments


def _is_deployment(segments: list[str], upstream: Upstream) -> bool:
    return segments[:2] == [upstream.paths.deployments, "deployments"] and len(segments) > 3


def _deployment(method: str, segments: list[str], upstream: Upstream) -> Match:
    rest = "/".join(segments[3:])
    dialect = _CALLS.get(rest, Dialect.PASSTHROUGH) if method == "POST" else Dialect.METADATA
    url = f"{upstream.base_url}/{'/'.join(segments)}"
    return Match(dialect, Family.OPENAI, rest, upstream=upstream, url=url, path_model=segments[2])


def _beside_deployments(method: str, segments: list[str], upstream: Upstream) -> Match:
    """Any other path of the SDK that knows deployments, as it came: with or without `v1`."""
    rest = "/".join(_without_versions(segments[1:]))
    dialect = (_CALLS.get(rest) if method == "POST" else None) or _beside_calls(method, rest)
    return Match(dialect, Family.OPENAI, rest, upstream=upstream, url=f"{upstream.base_url}/{'/'.join(segments)}")


def _without_versions(segments: list[str]) -> list[str]:
    """The segments behind the version; an SDK whose base URL ends in `/v1` sends it twice."""
    return list(dropwhile(_VERSION.fullmatch, segments))


def url_at(matched: Match, upstream: Upstream, rest: str) -> str:
    """The URL of a call at an upstream. `rest`: the path behind the version segment."""
    endpoint = upstream.endpoints[matched.family]
    if matched.family is Family.OPENAI or upstream.paths.scope:
        return f"{endpoint}/{rest}"
    return f"{endpoint}/{matched.version}/{rest}"
