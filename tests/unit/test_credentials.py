import pytest

from shared.access import key_format
from shared.access.credentials import caller_key, without_key

KEY = key_format.new_key()
SIGNED = "AWS4-HMAC-SHA256"


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({b"authorization": f"Bearer {KEY}".encode()}, b""),
        ({b"authorization": f"bearer  {KEY} ".encode()}, b""),
        ({b"authorization": KEY.encode()}, b""),
        ({b"x-api-key": KEY.encode()}, b""),
        ({b"api-key": KEY.encode()}, b""),
        ({b"x-goog-api-key": KEY.encode()}, b""),
        ({}, f"alt=sse&key={KEY}".encode()),
        ({b"authorization": b"Bearer something-else", b"x-api-key": KEY.encode()}, b""),
        ({b"authorization": f"{SIGNED} Credential={KEY}/20261129/eu/bedrock/aws4_request, Signature=0".encode()}, b""),
        ({b"authorization": f"{SIGNED} Credential=AKIA/x".encode(), b"x-amz-security-token": KEY.encode()}, b""),
    ],
    ids=range(10),  # the key is another each time, and the workers must agree on the names of the tests
)
def test_the_key_is_found_wherever_it_stands(headers: dict[bytes, bytes], query: bytes) -> None:
    assert caller_key(headers, query) == KEY


def test_another_key_is_told_from_none() -> None:
    assert caller_key({b"authorization": b"Bearer sk-other"}, b"") == "sk-other"
    assert caller_key({b"authorization": b"AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=0"}, b"") == "AKIA"
    assert caller_key({b"authorization": b"AWS4-HMAC-SHA256 Signature=0"}, b"") is None
    assert caller_key({}, b"alt=sse&monkey=1") is None
    assert caller_key({b"authorization": b"Bearer "}, b"key=") is None


def test_the_query_goes_on_as_it_came_less_the_key() -> None:
    assert without_key(b"%24alt=json%3Benum-encoding%3Dint") == b"%24alt=json%3Benum-encoding%3Dint"
    assert without_key(b"a=1&key=lr_live_x&b=%2F&monkey=2") == b"a=1&b=%2F&monkey=2"
    assert without_key(b"key=x") == b""


@pytest.mark.parametrize(
    "part",
    [
        "k%65y=x",
        "KEY=x",
        "%6Bey=x",
        "k%2565y=x",
        "key",
        "key[]=x",
        "+key=x",
        "$key=x",
        "%24key=x",
        "api-key=x",
        "API_KEY=x",
        "access_token=x",
        "a=1;key=x",
        "userProject=other",
        "$httpMethod=POST",
        "%24httpHeaders=X-HTTP-Method-Override%3APOST",
        "_method=DELETE",
        f"anything={KEY}",
        f"anything=%6cr_live_{KEY[8:]}",
        f"{KEY}",
    ],
    ids=lambda part: part.replace(KEY, "KEY").replace(KEY[8:], "KEY"),
)
def test_a_credential_or_an_override_does_not_go_on_however_it_is_spelt(part: str) -> None:
    assert without_key(f"a=%2F&{part}&b=2".encode()) == b"a=%2F&b=2"


@pytest.mark.parametrize(
    "query",
    ["api-version=2024-10-21", "alt=sse", "beta=true", "limit=2&after=key", "filter=a;b", "monkey=1", "%zz", "&&="],
)
def test_other_parameters_stay_as_they_are(query: str) -> None:
    assert without_key(query.encode()) == query.encode()


def test_keys_have_a_shape_and_a_public_name() -> None:
    assert key_format.well_formed(KEY)
    assert len(KEY) == len("lr_live_") + 48
    for other in (KEY.upper(), KEY[:-1], KEY + "0", "sk-" + KEY, KEY.replace("lr_live_", "lr_sub_")):
        assert not key_format.well_formed(other)
    assert key_format.hash_key(b"a", KEY) != key_format.hash_key(b"b", KEY)
    assert key_format.label(KEY).startswith(KEY[:12])
    assert len(key_format.label(KEY)) == 17
