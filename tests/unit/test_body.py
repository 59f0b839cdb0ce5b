import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.client.body import with_model, with_usage_asked, without_list

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"p/m"}',
        b'  {"a": [1, {"model": "p/m"}], "model" \n : "p/m" , "z": "\\"model\\":"}',
        b'{"tools":[{"model":"p/m"}],"x":{"model":"p/m"},"model":"p/m"}',
        b'{"messages":"the \\\\\\"model\\": is","model":"p/m","model":"p/m"}',
        b'{"m\\u006fdel":"p/m"}',
        b'{"k":"model","model":"p/m"}',
    ],
)
def test_only_the_model_changes(body: bytes) -> None:
    changed = with_model(body, "m")
    before, after = json.loads(body), json.loads(changed)
    assert after["model"] == "m"
    assert {k: v for k, v in after.items() if k != "model"} == {k: v for k, v in before.items() if k != "model"}
    assert len(changed) == len(body) - 2 * (body.count(b'"model":"p/m","model"') + 1)


NAMES = st.text(max_size=6)


@given(
    st.dictionaries(NAMES, JSON, max_size=5),
    st.dictionaries(NAMES, JSON, max_size=3),
    st.booleans(),
)
def test_any_body_keeps_everything_else(before: dict[str, object], after: dict[str, object], ascii_only: bool) -> None:
    document = {**before, "model": "provider/model", **{k: v for k, v in after.items() if k != "model"}}
    body = json.dumps(document, ensure_ascii=ascii_only, indent=1).encode()
    assert json.loads(with_model(body, "other")) == document | {"model": "other"}
    plain = {k: v for k, v in document.items() if k != "stream_options"}
    asked = with_usage_asked(json.dumps(plain, ensure_ascii=ascii_only).encode())
    assert json.loads(asked) == plain | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a","models":["b"],"route":"fallback"}', b'{"model":"a"}'),
        (b'{"models":["b"],"route":"fallback","model":"a"}', b'{"model":"a"}'),
        (b'{"route":"fallback", "model":"a" ,\n "models" : ["b", {"x": ["models"]}] }', b'{"model":"a"  }'),
        (b'{"models":["b"],"model":"a","route":"fallback","z":1}', b'{"model":"a","z":1}'),
        (b'{"models":["b"],"route":"fallback"}', b"{}"),
        (b'{"m\\u006fdels":["b"],"model":"a","models":["c"]}', b'{"model":"a"}'),
        (b'{"model":"a","tools":[{"models":1,"route":2}],"x":"models"}', None),
        (b'{"model":"a","models":["b"],"x":NaN,}', b'{"model":"a","x":NaN,}'),
    ],
)
def test_a_list_of_models_is_taken_out(body: bytes, expected: bytes | None) -> None:
    assert without_list(body) == (body if expected is None else expected)


@given(st.dictionaries(st.sampled_from(["models", "route", "model"]) | NAMES, JSON, max_size=6), st.booleans())
def test_everything_but_the_list_stays(document: dict[str, object], ascii_only: bool) -> None:
    for indent in (None, 1):
        changed = without_list(json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode())
        assert json.loads(changed) == {k: v for k, v in document.items() if k not in ("models", "route")}


def test_many_lists_are_taken_out_in_one_pass() -> None:
    body = b"{" + b'"models":[],' * 6_000 + b'"model":"a"}'
    assert without_list(body) == b'{"model":"a"}'


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (b'{"stream_options":{}}', {"include_usage": True}),
        (b'{"stream_options": {"other": 1}}', {"include_usage": True, "other": 1}),
        (b'{"stream_options":null}', {"include_usage": True}),
        (b"{}", {"include_usage": True}),
        (b'{ "a":1}', {"include_usage": True}),
    ],
)
def test_usage_is_asked_for_beside_what_is_there(body: bytes, options: dict[str, object]) -> None:
    changed = json.loads(with_usage_asked(body))
    assert changed == json.loads(body) | {"stream_options": options}


def test_a_name_that_is_no_text_changes_nothing_and_fails_nothing() -> None:
    body = b'{"a\xff\\n":1,"model":"a","stream":true}'  # the decoder of the flags skips it unread
    assert with_usage_asked(body) == b'{"stream_options":{"include_usage":true},' + body[1:]
    twice = b'{"a\xff\\n":1,"model":"p/a","model":"p/a"}'
    assert with_model(twice, "a") == twice.replace(b"p/a", b"a")
