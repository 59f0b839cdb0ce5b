import pytest

from services.gateway.client import headers


def test_what_is_between_client_and_gateway_stays_there() -> None:
    given = [
        (b"host", b"gateway"),
        (b"connection", b"keep-alive, X-Private"),
        (b"x-private", b"1"),
        (b"authorization", b"Bearer lr_live_x"),
        (b"x-api-key", b"lr_live_x"),
        (b"api-key", b"lr_live_x"),
        (b"x-goog-api-key", b"lr_live_x"),
        (b"cookie", b"a=b"),
        (b"x-amz-date", b"20261129T000000Z"),
        (b"x-amz-security-token", b"the caller's own"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"forwarded", b"for=1.2.3.4"),
        (b"content-length", b"3"),
        (b"transfer-encoding", b"chunked"),
        (b"accept-encoding", b"gzip, br"),
        (b"x-generation-id", b"forged"),
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"x-stainless-lang", b"python"),
        (b"content-type", b"application/json"),
    ]
    sent = headers.upstream_request(given)
    assert sent == [
        (b"anthropic-version", b"2023-06-01"),
        (b"anthropic-beta", b"a"),
        (b"anthropic-beta", b"b"),
        (b"x-stainless-lang", b"python"),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "ocp-apim-subscription-key",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-for",
        "x-forwarded-host",
        "true-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "x-envoy-external-address",
        "x_forwarded_for",
        "openai_project",
        "transfer_encoding",
        "content_length",
        "x_api_key",
    ],
)
def test_what_speaks_for_somebody_else_stays_here_unless_the_operator_allows_it(name: str) -> None:
    given = [(name.encode(), b"1"), (b"x-title", b"mine")]
    kept = [(b"x-title", b"mine"), (b"accept-encoding", b"identity")]
    assert headers.upstream_request(given) == kept
    allowed = headers.upstream_request(given, frozenset({name.encode()}))
    assert (given[0] in allowed) is headers.may_be_allowed(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        "http-referer",
        "x-title",
        "x_mine",
        "cf-aig-cache-ttl",
        "x-ms-client-request-id",
        "openai-beta",
        "x-goog-api-client",
    ],
)
def test_other_headers_pass(name: str) -> None:
    assert (name.encode(), b"1") in headers.upstream_request([(name.encode(), b"1")])
    assert not headers.may_be_allowed(name.encode())


@pytest.mark.parametrize("value", [b"lr_live_x", b"Token lr_mgmt_x"])
def test_a_key_of_ours_never_goes_upstream_whatever_its_header(value: bytes) -> None:
    assert headers.upstream_request([(b"x-mine", value)]) == [(b"accept-encoding", b"identity")]
    assert (b"x-mine", b"lr_other") in headers.upstream_request([(b"x-mine", b"lr_other")])


@pytest.mark.parametrize("name", ["authorization", "host", "content-length", "connection", "cookie", "x-generation-id"])
def test_what_is_ours_cannot_be_allowed(name: str) -> None:
    assert not headers.may_be_allowed(name.encode())
    assert headers.upstream_request([(name.encode(), b"1")], frozenset({name.encode()})) == [
        (b"accept-encoding", b"identity")
    ]


def test_an_answer_keeps_what_the_provider_said() -> None:
    given = [
        (b"Content-Type", b"text/event-stream"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Set-Cookie", b"__cf=1"),
        (b"OpenAI-Organization", b"org-secret"),
        (b"Cache-Control", b"max-age=5"),
        (b"X-Request-Id", b"req_1"),
        (b"x-ratelimit-remaining", b"9"),
    ]
    answered = headers.fields(given)
    plain = headers.downstream_response(given, answered, "id", status=200, stream=False)
    assert plain == [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"max-age=5"),
        (b"x-request-id", b"req_1"),
        (b"x-ratelimit-remaining", b"9"),
        (b"x-generation-id", b"id"),
    ]
    streamed = dict(headers.downstream_response(given, answered, "id", status=200, stream=True))
    assert streamed[b"cache-control"] == b"no-cache, no-transform"
    assert streamed[b"x-accel-buffering"] == b"no"
    assert headers.request_id(answered) == "req_1"


def test_streams_are_known_by_their_type() -> None:
    assert headers.is_stream("Text/Event-Stream;charset=UTF-8")
    assert headers.is_stream("application/x-ndjson")
    assert not headers.is_stream("application/json")
    assert not headers.is_stream("")
