"""The model of a multipart form: wherever it stands, and not where parsers may see another one."""

import pytest

from services.gateway.client import form

FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--x\r\n'
)
MODEL = b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1'


def body(*parts: bytes, mark: bytes = b"--b") -> bytes:
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ('Multipart/Form-Data;charset=utf-8;Boundary="b c"', b"b c"),
        ("multipart/form-data; boundary=b; boundary=c", None),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=b", None),
        ("application/json; boundary=b", None),
        ('multipart/form-data; boundary="b', None),
    ],
)
def test_a_boundary_is_read_or_unclear(content_type: str, boundary: bytes | None) -> None:
    assert form.boundary(content_type) == boundary


@pytest.mark.parametrize(
    "parts",
    [
        (MODEL,),
        (MODEL, FILE),
        (FILE, MODEL),
        (FILE, MODEL.replace(b'"model"', b"model")),
        (MODEL.replace(b"Content-Disposition", b"content-disposition").replace(b"; name", b";name"),),
        (b"X-Other: 1\r\n" + MODEL,),
    ],
)
def test_a_model_is_found_before_and_behind_a_file(parts: tuple[bytes, ...]) -> None:
    whole = b"preamble\r\n" + body(*parts)
    found = form.last(whole, b"b", "model")
    assert found is not None
    assert whole[found.start : found.end] == b"whisper-1"
    assert form.names_one_model(whole, b"b")


def test_a_form_that_is_not_here_as_a_whole_has_the_fields_that_are() -> None:
    whole = body(MODEL, FILE)
    found = [form.last(whole[:end], b"b", "model") for end in range(len(whole))]
    assert [one is not None for one in found] == sorted(one is not None for one in found)  # first none, then the model
    assert {whole[one.start : one.end] for one in found if one is not None} == {b"whisper-1"}


@pytest.mark.parametrize(
    "whole",
    [
        body(FILE),
        body(MODEL, MODEL),
        body(MODEL, MODEL.replace(b"model", b"Model")),
        body(MODEL, MODEL.replace(b"model", b"models")),
        body(MODEL, MODEL.replace(b"model", b"model[]")),
        body(MODEL.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n")),
        body(MODEL, b"Content-Disposition: form-data; name*=utf-8''model; name=\"x\"\r\n\r\ngpt-5"),
        body(MODEL, b'Content-Disposition: form-data; name="x"; name="model"\r\n\r\ngpt-5'),
        body(MODEL, b'Content-Disposition: form-data; name="x";\r\n name="model"\r\n\r\ngpt-5'),
        body(MODEL, b'Content-Disposition: form-data; name="x\\"; name="model"\r\n\r\ngpt-5'),
        body(MODEL, b'X: y\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-5'),
        body(MODEL, b"no head at all"),
        body(MODEL, FILE + b"\n--b\r\n" + MODEL),  # a line end that some parsers take for one
        body(MODEL) + body(MODEL.replace(b"whisper-1", b"gpt-5")),  # behind the end
        body(MODEL).replace(b"--b--", b"--bc"),
        body(*[FILE] * 1100, MODEL),
        b"--b--",
        b"",
    ],
)
def test_what_parsers_may_see_differently_names_no_one_model(whole: bytes) -> None:
    assert not form.names_one_model(whole, b"b")


def test_many_parts_are_read_in_bounded_time() -> None:
    """A part costs more than a byte; there are at most a thousand."""
    whole = b"--b\r\n" * 1_000_000
    assert form.last(whole, b"b", "model") is None
    assert not form.names_one_model(whole, b"b")
