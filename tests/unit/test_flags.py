"""What is read of a JSON body: leniently, since the provider decides, and soundly where a list of models holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.client.flags import Flags, is_sound, read_flags

USUAL = b'{"model":"a/b","stream":true,"messages":[{"role":"user","content":"hi"}]}'
# What some provider takes: vLLM, PHP, Python, JavaScript, PowerShell and others send or accept it.
LENIENT = {
    "a string for a flag": (USUAL.replace(b"true", b'"true"'), Flags("a/b", True)),
    "a number for a flag": (USUAL.replace(b"true", b"1"), Flags("a/b", True)),
    "a flag of another type": (USUAL.replace(b"true", b"[{}]"), Flags("a/b")),
    "an empty list for no options": (USUAL[:-1] + b',"stream_options":[]}', Flags("a/b", True, False)),
    "a number for options": (USUAL[:-1] + b',"stream_options":5}', Flags("a/b", True, False)),
    "half a surrogate pair": (USUAL.replace(b"hi", b"\\ud83d x"), Flags("a/b", True)),
    "a byte order mark": (b"\xef\xbb\xbf" + USUAL, Flags("a/b", True)),
    "not a number": (USUAL[:-1] + b',"temperature":NaN,"top_p":-Infinity}', Flags("a/b", True)),
    "a line break in a text": (USUAL.replace(b"hi", b"h\ni"), Flags("a/b", True)),
    "bytes that are no text": (USUAL.replace(b"hi", b"h\xff"), Flags("a/b", True)),
    "an unknown escape": (USUAL.replace(b"hi", b"\\q"), Flags("a/b", True)),
    "a comma too many": (USUAL[:-1] + b",}", Flags("a/b", True)),
    "something behind it": (USUAL + b" trailing", Flags("a/b", True)),
    "nested without end": (USUAL[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Flags("a/b", True)),
    "an end too early": (USUAL[:-2], Flags("a/b", True)),
}


@pytest.mark.parametrize(("body", "flags"), LENIENT.values(), ids=LENIENT)
def test_what_a_provider_may_take_is_read(body: bytes, flags: Flags) -> None:
    assert read_flags(body) == flags


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b"5", b'["model","x"]', b'[{"model":"x"}]', b'[NaN,{"model":"x"}]', b"\xff\xfe"),
        *(b'{"model":5}', b'{"model":{"model":"x"}}', b'{"a":NaN,"model":["x"]}', b'{"model":"\xff"}'),
        b'{"model":"\\ud83d"}',
    ],
)
def test_what_names_no_model_has_none(body: bytes) -> None:
    assert read_flags(body) == Flags()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("{}", None),
        ("null", None),
        ('{"include_usage":null}', False),
        ('{"include_usage":false}', False),
        ('{"include_usage":true}', True),
        ('{"x":{"include_usage":true}}', None),
        ("true", False),
    ],
)
@pytest.mark.parametrize("rest", ["1", "NaN"])  # the decoder reads it, and the scan
def test_options_that_the_client_has_set_are_left_alone(options: str, asked: bool | None, rest: str) -> None:
    assert read_flags(f'{{"a":{rest},"stream_options":{options}}}'.encode()).usage_asked is asked


@pytest.mark.parametrize(
    ("fields", "models"),
    [
        ('"models":["b","c"],"route":"fallback"', ("b", "c")),
        ('"route":"fallback","models":["b"]', ("b",)),
        ('"models":["b"]', ()),  # the provider's to judge
        ('"models":["b"],"route":"other"', ()),
        ('"models":["b"],"route":null', ()),
        ('"models":["b",5],"route":"fallback"', ()),
        ('"models":[""],"route":"fallback"', ()),
        ('"models":"b","route":"fallback"', ()),
        ('"models":[],"route":"fallback"', ()),
        ('"route":"fallback"', ()),
        ('"x":{"models":["b"],"route":"fallback"}', ()),
    ],
)
@pytest.mark.parametrize("rest", ["1", "NaN"])  # the decoder reads it, and the scan
def test_a_list_of_models_is_for_the_gateway_where_its_route_says_so(
    fields: str, models: tuple[str, ...], rest: str
) -> None:
    assert read_flags(f'{{"model":"a","y":{rest},{fields}}}'.encode()) == Flags("a", models=models)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["model", "stream", "stream_options", "models", "route"]) | st.text(max_size=6)


@given(st.dictionaries(NAMES, JSON, max_size=6), st.booleans())
def test_the_scan_reads_what_the_decoder_reads(document: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only, indent=1).encode()
    scanned = body[:1] + b'"not a number":NaN' + (b"," if document else b"") + body[1:]
    assert read_flags(scanned) == read_flags(body)


def test_of_a_repeated_field_the_last_counts() -> None:
    for first in (b"1", b"NaN"):
        assert read_flags(b'{"a":' + first + b',"model":"x","model":"y"}').model == "y"


@pytest.mark.parametrize("body", [b'{"a":"' + b'\\\\"' * 500_000, b"{" + b'"model":' * 200_000, b"{" * 3_000_000])
def test_the_scan_ends_soon_whatever_it_reads(body: bytes) -> None:
    """Where a byte were read again for each one before it, this would take hours."""
    assert read_flags(body).model in (None, "model")
    assert is_sound(body) in (True, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{model:"gpt-5","model":"gpt-4o"}',
        b"{'a':'\"',\"model\":\"gpt-5\",'\":'}",
        b'{/* " */"model":"gpt-5"/* " */,"model":"gpt-4o"}',
        b'{"model":"gpt-4o"} // "',
        b'{"a":"',
        '{"model":"gpt-5"}'.encode("utf-16"),
        b"{\\",
    ],
)
def test_what_parsers_disagree_on_is_not_sound(body: bytes) -> None:
    assert not is_sound(body)


@pytest.mark.parametrize("name", sorted(set(LENIENT) - {"something behind it", "nested without end"}))
def test_what_changes_no_quote_is_sound(name: str) -> None:
    assert is_sound(LENIENT[name][0])
