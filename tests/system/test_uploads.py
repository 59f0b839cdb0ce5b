"""Request bodies through real processes: compressed, as forms, and larger than memory should be."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import brotli
import openai
import pytest
import zstandard
from google import genai
from google.genai import types as genai_types

from tests.support import web
from tests.support.recorder import Recorder
from tests.support.requests import ASKS, connected
from tests.support.system import System

MIB = 1024 * 1024


class Recorded(System):
    """A system whose providers take uploads; `demo` is the demo provider."""

    recorder: Recorder

    @property
    def environment(self) -> Mapping[str, str]:
        url = self.recorder.url
        return {
            **super().environment,
            "AROUTER_PROVIDERS__OPENAI__BASE_URL": f"{url}/v1",
            "AROUTER_PROVIDERS__ANTHROPIC__BASE_URL": url,
            "AROUTER_PROVIDERS__GEMINI__BASE_URL": url,
            "AROUTER_PROVIDERS__AZURE__BASE_URL": f"{url}/az",
            "AROUTER_PROVIDERS__DEMO__BASE_URL": f"{self.provider}/v1",
            "AROUTER_PROVIDERS__PLAIN__BASE_URL": f"{url}/v1",
            "AROUTER_PROVIDERS__PLAIN__REQUEST_ENCODING": "decoded",
            "AROUTER_BODY_TIMEOUT": "3",
            "AROUTER_MAX_UPLOAD_BYTES": str(300 * MIB),
        }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with Recorder() as recorder:
        system = Recorded(tmp_path_factory.mktemp("recorded"))
        system.recorder = recorder
        with system:
            yield system


def headers(system: System, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"authorization": f"Bearer {system.key}", **named}


def peak(system: System) -> int:
    """The most memory that the gateway has had, in bytes."""
    status = Path(f"/proc/{system.gateway.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_a_large_file_passes_in_little_memory(recorded: Recorded, declared: bool) -> None:
    piece, count = bytes(range(256)) * 4096, 200  # 200 MiB
    before = peak(recorded)
    length = {"content-length": str(len(piece) * count)} if declared else {}
    answer = web.post(
        f"{recorded.url}/v1/files", headers=headers(recorded) | length, content=(piece for _ in range(count))
    )
    assert answer.json()["bytes"] == len(piece) * count
    taken = recorded.recorder.taken[-1]
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(piece)
    assert taken.sha256.hexdigest() == digest.hexdigest()
    assert ("content-length" in taken.headers, "transfer-encoding" in taken.headers) == (declared, not declared)
    assert peak(recorded) - before < 40 * MIB
    entry = recorded.settled([answer.headers["x-generation-id"]]).popitem()[1]
    assert (entry["outcome"], entry["request_bytes"]) == ("completed", len(piece) * count)


def test_an_early_answer_reaches_a_client_that_is_still_sending(recorded: Recorded) -> None:
    with web.client() as client:
        for _ in range(2):  # the client's connection serves on
            answer = client.post(
                f"{recorded.url}/v1/files",
                headers=headers(recorded, x_early="1"),
                content=(bytes(MIB) for _ in range(50)),
            )
            assert (answer.status_code, answer.json()["bytes"]) == (200, 0)
            assert client.get(f"{recorded.url}/v1/models", headers=headers(recorded)).status_code == 200
    entry = recorded.settled([answer.headers["x-generation-id"]]).popitem()[1]
    assert entry["outcome"] == "completed"
    assert entry["request_bytes"] < 50 * MIB


def upload_head(system: System, *lines: str) -> bytes:
    head = ["POST /v1/files HTTP/1.1", "host: gateway", f"authorization: Bearer {system.key}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def test_bytes_arrive_while_the_rest_is_still_to_come(recorded: Recorded) -> None:
    count = len(recorded.recorder.taken)
    with connected(recorded.url) as client:
        client.sendall(upload_head(recorded, f"content-length: {10 * MIB}") + b"x" * 100_000)
        taken = recorded.until(lambda: recorded.recorder.taken[count:])[0]
        recorded.until(lambda: taken.size)
        client.sendall(b"x" * (10 * MIB - 100_000))
        assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_an_upload_that_stops_is_given_up(recorded: Recorded) -> None:
    """By the limit of every body; the answer may still be read."""
    with connected(recorded.url) as client:
        client.sendall(upload_head(recorded, f"content-length: {10 * MIB}") + b"x" * 100_000)
        answer = client.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")
    id = answer.partition(b"x-generation-id: ")[2].split(b"\r\n")[0].decode()
    entry = recorded.settled([id])[id]
    assert (entry["outcome"], entry["cause"], len(entry["attempts"])) == ("timed_out", "body_timeout", 1)


def test_a_client_that_leaves_in_an_upload_is_an_outcome(recorded: Recorded) -> None:
    count = len(recorded.recorder.taken)
    with connected(recorded.url) as client:
        client.sendall(upload_head(recorded, "transfer-encoding: chunked") + b"186a0\r\n" + b"x" * 100_000)
        recorded.until(lambda: recorded.recorder.taken[count:])
    taken = recorded.recorder.taken[count]
    id = taken.headers["x-generation-id"]
    assert recorded.settled([id])[id]["outcome"] == "client_gone"
    assert not taken.whole


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_uploads_have_a_limit_of_their_own(recorded: Recorded, declared: bool) -> None:
    piece, count = bytes(MIB), 301
    length = {"content-length": str(count * MIB)} if declared else {}
    answer = web.post(
        f"{recorded.url}/v1/files", headers=headers(recorded) | length, content=(piece for _ in range(count))
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", partial(gzip.compress, mtime=0)),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstandard.compress),
    ],
)
def test_a_compressed_body_is_routed_counted_and_passed_on(
    recorded: Recorded, encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    given = headers(recorded, content_type="application/json", content_encoding=encoding)
    text = " ".join(f"word{n}" for n in range(2000))
    plain = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).encode()
    sent = web.post(f"{recorded.url}/v1/chat/completions", headers=given, content=encode(plain))
    taken = recorded.recorder.taken[-1]
    assert (sent.status_code, taken.headers["content-encoding"]) == (200, encoding)
    assert taken.sha256.hexdigest() == hashlib.sha256(encode(plain)).hexdigest()
    prefixed = plain.replace(b"gpt-4o", b"plain/gpt-4o")  # it loses the prefix, and is sent decoded
    changed = web.post(f"{recorded.url}/v1/chat/completions", headers=given, content=encode(prefixed))
    as_set = web.post(f"{recorded.url}/plain/v1/chat/completions", headers=given, content=encode(plain))
    for taken in recorded.recorder.taken[-2:]:
        assert "content-encoding" not in taken.headers
        assert taken.sha256.hexdigest() == hashlib.sha256(plain).hexdigest()
    ids = [answer.headers["x-generation-id"] for answer in (sent, changed, as_set)]
    entries = recorded.settled(ids)
    assert {entries[id]["model"] for id in ids} == {"gpt-4o"}
    # This provider reports nothing: the input is estimated from what was said, and not from its compressed form.
    estimates = {entries[id]["input_tokens"] for id in ids}
    assert len(estimates) == 1
    assert estimates.pop() > 2000
    assert {entries[id]["request_bytes"] for id in ids} == {len(plain)}


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [(b"{}", "compress", 415), (b"{}", "gzip", 400), (gzip.compress(bytes(40 * MIB)), "gzip", 413)],
)
def test_what_cannot_be_decoded_is_refused_where_its_model_is_needed(
    recorded: Recorded, content: bytes, encoding: str, status: int
) -> None:
    given = headers(recorded, content_encoding=encoding, anthropic_version="2023-06-01")
    answer = web.post(f"{recorded.url}/v1/messages", headers=given, content=content)
    assert (answer.status_code, answer.json()["type"]) == (status, "error")
    passed = web.post(f"{recorded.url}/anthropic/v1/messages", headers=given, content=content)
    assert (passed.status_code, recorded.recorder.taken[-1].size) == (200, len(content))


@pytest.fixture(scope="module")
def whisper(recorded: Recorded) -> str:
    """A key that may call one model."""
    record = json.loads(recorded.command("keys", "create", "--name", "w", "--json"))
    recorded.command("keys", "update", record["hash"], "--allow-models", "whisper-1")
    return str(record["key"])


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize(
    ("model", "size", "status"),
    [("whisper-1", 1000, 200), ("whisper-1", 5 * MIB, 200), ("other", 1000, 403), ("whisper-1", 33 * MIB, 413)],
)
def test_a_form_names_its_model(
    recorded: Recorded, whisper: str, place: str, model: str, size: int, status: int
) -> None:
    named, file = ("model", (None, model)), ("file", ("a.wav", b"R" * size))
    files: Any = [named, file] if place == "before" else [file, named]
    answer = web.post(
        f"{recorded.url}/v1/audio/transcriptions", headers={"authorization": f"Bearer {whisper}"}, files=files
    )
    assert answer.status_code == status, answer.text
    if status == 200:
        assert recorded.settled([answer.headers["x-generation-id"]]).popitem()[1]["model"] == model


def test_a_model_behind_a_large_file_is_booked(recorded: Recorded) -> None:
    """It passes before it is known."""
    files: Any = [("file", ("a.wav", b"R" * 5 * MIB)), ("model", (None, "whisper-1"))]
    answer = web.post(f"{recorded.url}/v1/audio/transcriptions", headers=headers(recorded), files=files)
    assert recorded.settled([answer.headers["x-generation-id"]]).popitem()[1]["model"] == "whisper-1"


def test_a_prefix_in_a_form_picks_the_provider(recorded: Recorded) -> None:
    for size in (1000, 5 * MIB):
        files: Any = [("model", (None, "plain/whisper-1")), ("file", ("a.wav", b"R" * size))]
        answer = web.post(f"{recorded.url}/v1/audio/transcriptions", headers=headers(recorded), files=files)
        entry = recorded.settled([answer.headers["x-generation-id"]]).popitem()[1]
        assert (entry["provider"], entry["model"]) == ("plain", "whisper-1")
        taken = recorded.recorder.taken[-1]
        assert b"\r\n\r\nwhisper-1\r\n" in taken.first
        assert taken.whole


def test_openais_sdk_finds_its_paths(recorded: Recorded) -> None:
    with openai.OpenAI(base_url=f"{recorded.url}/v1", api_key=recorded.key, max_retries=0) as client:
        recorder = recorded.recorder
        asked: list[tuple[Callable[[], Any], str]] = [
            (partial(client.files.create, file=("b.jsonl", b"{}" * 2_000_000), purpose="batch"), "POST /v1/files"),
            (
                partial(client.batches.create, input_file_id="f", endpoint="/v1/responses", completion_window="24h"),
                "POST /v1/batches",
            ),
            (partial(client.images.generate, prompt="a cat", model="gpt-image-1"), "POST /v1/images/generations"),
            (
                partial(client.images.edit, image=("a.png", b"x" * 3_000_000), prompt="a", model="gpt-image-1"),
                "POST /v1/images/edits",
            ),
            (partial(client.audio.speech.create, input="hi", model="tts-1", voice="alloy"), "POST /v1/audio/speech"),
            (
                partial(client.audio.transcriptions.create, file=("a.wav", b"R" * 2_000_000), model="whisper-1"),
                "POST /v1/audio/transcriptions",
            ),
            (partial(client.moderations.create, input="hi"), "POST /v1/moderations"),
            (partial(client.chat.completions.retrieve, "c"), "GET /v1/chat/completions/c"),
            (partial(client.chat.completions.delete, "c"), "DELETE /v1/chat/completions/c"),
            (partial(client.models.delete, "ft:gpt-4o:me"), "DELETE /v1/models/ft:gpt-4o:me"),
            (partial(client.conversations.retrieve, "c"), "GET /v1/conversations/c"),
            (partial(client.vector_stores.retrieve, "v"), "GET /v1/vector_stores/v"),
            (partial(client.fine_tuning.jobs.retrieve, "j"), "GET /v1/fine_tuning/jobs/j"),
            (partial(client.uploads.cancel, "u"), "POST /v1/uploads/u/cancel"),
        ]
        for call, expected in asked:
            call()
            assert f"{recorder.taken[-1].method} {recorder.taken[-1].target}" == expected
            assert recorder.taken[-1].headers["authorization"] == "Bearer sk-openai-credential"


def test_azures_sdk_finds_its_responses(recorded: Recorded) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=recorded.url, api_key=recorded.key, api_version="2025-04-01-preview", max_retries=0
    ) as client:
        client.responses.create(model="deployment", input="hi")
    taken = recorded.recorder.taken[-1]
    assert taken.target == "/az/openai/responses?api-version=2025-04-01-preview"
    assert taken.headers["api-key"] == "sk-azure-credential"


def test_anthropics_sdk_finds_its_batches_and_files(recorded: Recorded) -> None:
    with anthropic.Anthropic(base_url=recorded.url, api_key=recorded.key, max_retries=0) as client:
        request: Any = {"custom_id": "1", "params": {"model": "claude", "max_tokens": 9, "messages": []}}
        client.messages.batches.create(requests=[request])
        assert recorded.recorder.taken[-1].target == "/v1/messages/batches"
        client.beta.files.upload(file=("a.txt", b"x" * 2_000_000, "text/plain"))
        taken = recorded.recorder.taken[-1]
    assert taken.target.partition("?")[0] == "/v1/files"
    assert taken.headers["x-api-key"] == "sk-anthropic-credential"


def test_googles_sdk_uploads_through_the_gateway(recorded: Recorded) -> None:
    """Its second request has no key: the URL that it was given is enough."""
    client = genai.Client(api_key=recorded.key, http_options=genai_types.HttpOptions(base_url=recorded.url))
    count = len(recorded.recorder.taken)
    content = b"x" * (9 * MIB)  # two pieces
    file = client.files.upload(file=io.BytesIO(content), config={"mime_type": "text/plain"})
    assert file.name == "files/f"
    start, *pieces = recorded.recorder.taken[count:]
    assert start.target.endswith("/files")  # which version depends on that of the SDK
    assert start.target.startswith("/upload/v1")
    assert sum(piece.size for piece in pieces) == len(content)
    for taken in (start, *pieces):
        assert taken.headers["x-goog-api-key"] == "sk-gemini-credential"
        assert recorded.key not in str(taken.headers) + taken.target
        assert "arouter_upload" not in taken.target
        assert "x-generation-id" in taken.headers  # it came through the gateway


def test_an_odd_body_reaches_its_provider_as_it_is(recorded: Recorded) -> None:
    usual = json.dumps(ASKS["chat"].body).encode()
    for body in (
        b"\xef\xbb\xbf" + usual,
        usual[:-1] + b',"stream":"true","stream_options":[],"temperature":NaN}',
        usual.replace(b"Tell", b"\\ud83d"),
    ):
        answer = web.post(
            f"{recorded.url}/v1/chat/completions", headers=headers(recorded, content_encoding="Identity"), content=body
        )
        assert answer.status_code == 200
        assert recorded.recorder.taken[-1].sha256.hexdigest() == hashlib.sha256(body).hexdigest()
