"""`lea serve` as its callers meet it."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import openai
import pytest

from components.errors import UserError
from components.serving import app as app_module
from components.serving.limits import Limits
from components.serving.predict import predict
from components.serving.server import serve
from pipelines import cli
from tests.serving.running import MODEL, asking, data_url, running
from tests.serving.tiny_model import make_champion

FEW = Limits(max_body_bytes=20_000, max_pixels=100_000, max_new_tokens=72, rows=8, timeout_s=30)


@pytest.fixture(scope="module")
def server(registered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(registered.root / "home"))
        patch.chdir(registered.root)
        make_champion(1)
        with running(limits=FEW) as started:
            yield started


@pytest.fixture
def client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as opened:
        yield opened


def test_the_official_client_works_unchanged(server, client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    asked = asking(image=data_url(), max_tokens=24)
    whole = client.chat.completions.create(**asked)
    choice = whole.choices[0]
    assert choice.message.role == "assistant"
    assert choice.finish_reason in ("stop", "length")
    assert whole.system_fingerprint == "lea/1"
    assert whole.usage.completion_tokens <= 24
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == choice.message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == choice.finish_reason
    assert chunks[-1].usage == whole.usage
    with client.chat.completions.stream(**asked) as events:
        assert "".join(e.delta for e in events if e.type == "content.delta") == choice.message.content


def test_the_answer_is_that_of_lea_predict(registered, server, tmp_path, monkeypatch):
    monkeypatch.setenv("LEA_HOME", str(registered.root / "home"))
    monkeypatch.chdir(registered.root)
    url = data_url(5)
    (tmp_path / "dish.png").write_bytes(base64.b64decode(url.partition(",")[2]))
    asked = asking("How to make it?", url)
    del asked["max_tokens"]
    status, answer = server.chat(asked)
    assert status == 200, answer
    expected = predict("models:/lea/1", tmp_path / "dish.png", "How to make it?")
    assert answer["choices"][0]["message"]["content"] == expected


def test_a_conversation_goes_on(server):
    messages = [
        {"role": "system", "content": "You are short."},
        {"role": "user", "content": asking(image=data_url())["messages"][0]["content"]},
        {"role": "assistant", "content": "A dish."},
        {"role": "user", "content": "Which one?"},
    ]
    status, longer = server.chat(asking() | {"messages": messages})
    assert status == 200
    _, shorter = server.chat(asking() | {"messages": messages[:2]})
    assert longer["usage"]["prompt_tokens"] > shorter["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model": "gpt-4"}, 404, "no model 'gpt-4' here; there is lea@champion"),
        ({"model": 7}, 400, "model must be"),
        ({"temperature": 0.7}, 400, "temperature must be 0"),
        ({"temperature": True}, 400, "temperature must be 0"),
        ({"top_p": 0.9}, 400, "top_p must be 1"),
        ({"n": 2}, 400, "n must be 1"),
        ({"stop": ["."]}, 400, "stop must be absent"),
        ({"tools": [{"type": "function"}]}, 400, "tools must be absent"),
        ({"frobnicate": 1}, 400, "unknown field"),
        ({"max_tokens": 73}, 400, "max_tokens must be 1 to 72"),
        ({"max_tokens": 0}, 400, "max_tokens must be 1 to 72"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, 400, "differ"),
        ({"stream": "yes"}, 400, "stream must be true or false"),
        ({"messages": []}, 400, "must be a list"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "role must be 'user'"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "has no text"),
        ({"messages": [{"role": "user", "content": "<image> x"}]}, 400, "may not hold <image>"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate"),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, 400, "the model has room for"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, 400, "role must be 'assistant'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "a part must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(server, changes, status, message):
    got, answer = server.chat(asking(image=data_url()) | changes)
    assert (got, message in answer["error"]["message"]) == (status, True), answer
    assert "\n" not in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/etc/passwd", "opens no URL and no path"),
        ("file:///etc/passwd", "opens no URL and no path"),
        ("http://127.0.0.1:1/x.png", "opens no URL and no path"),
        ("data:image/png;base64,bm8gaW1hZ2U=", "image corrupt"),
        ("data:image/png;base64,", "the image is empty"),
        ("data:image/png;base64,!!!", "must be base64"),
        (data_url(size=(400, 300)), "image too large (400 x 300 pixels)"),
    ],
)
def test_no_image_but_a_good_data_url_is_taken(server, url, message):
    status, answer = server.chat(asking(image=url))
    assert (status, message in answer["error"]["message"]) == (400, True), answer


def test_bodies_are_bounded_and_must_be_json(server):
    for body, status, message in (
        (b"x" * 20_001, 413, "more than 20,000 bytes"),
        (b"{", 400, "not JSON"),
        (b"[" * 15_000, 400, "nested too deeply"),
        (b"[]", 400, "must be a JSON object"),
        (b'{"max_tokens": 1' + b"0" * 5000 + b"}", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
    ):
        got, answer = server.chat(body)
        assert (got, message in answer["error"]["message"]) == (status, True), answer
    assert server.send("POST", "/v1/chat/completions", b"{}", content_type="text/plain")[0] == 415
    packed = gzip.compress(json.dumps(asking()).encode())
    status, answer = server.chat(packed, content_encoding="gzip")
    assert (status, "content-encoding gzip is not read here" in answer["error"]["message"]) == (415, True)
    assert server.send("GET", "/v1/chat/completions")[0] == 405
    assert server.send("GET", "/nowhere")[1]["error"]["message"] == "GET /nowhere: not found"
    assert server.send("GET", "/v1/models", host="evil.example")[0] == 421  # a name that a foreign page chose


def test_a_full_queue_says_so_and_empties_again(registered, monkeypatch):
    statuses: list[int] = []
    small = replace(FEW, max_queue=2)
    monkeypatch.setenv("LEA_HOME", str(registered.root / "home"))
    with running(limits=small) as other:
        monkeypatch.setattr(other.slots.by_id[MODEL].running.engine, "_admit", lambda: time.sleep(0.02))
        threads = [
            threading.Thread(target=lambda: statuses.append(other.chat(asking(max_tokens=60))[0])) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        assert statuses == [429] * 4
        monkeypatch.undo()
        for thread in threads:
            thread.join(30)
        assert statuses == [429] * 4 + [200] * 2


def test_a_caller_that_hangs_up_frees_its_row(server):
    for stream in (True, False):
        body = json.dumps(asking(max_tokens=64, stream=stream)).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head.encode() + body)
    engine = server.slots.by_id[MODEL].running.engine
    deadline = time.monotonic() + 20
    while (engine.rows or engine.waiting or server.slots.by_id[MODEL].running.users) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not engine.rows
    assert server.slots.by_id[MODEL].running.users == 0


def test_the_key_guards_what_answers(registered, monkeypatch):
    monkeypatch.setenv("LEA_HOME", str(registered.root / "home"))
    with running(limits=FEW, key="a secret") as guarded:
        assert guarded.send("GET", "/health")[0] == 200
        assert guarded.send("GET", "/")[0] == 200
        for path in ("/v1/models", "/metrics"):
            assert guarded.send("GET", path)[0] == 401
            assert guarded.send("GET", path, authorization="Bearer wrong")[0] == 401
            assert guarded.send("GET", path, authorization="Bearer a secret")[0] == 200
        assert guarded.chat(asking())[0] == 401
        assert guarded.chat(asking(), authorization="Bearer a secret")[0] == 200


def test_other_machines_are_let_in_with_a_key_alone():
    with pytest.raises(UserError, match="LEA_API_KEY"):
        serve(["models:/lea@champion"], FEW, "0.0.0.0", 0, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", ""], "--model '' names no model; give models:/NAME@ALIAS"),
        (["--model", " , "], "names no model"),
        (["--timeout-s", "inf"], "--timeout-s must be above 0, and finite; got inf"),
        (["--timeout-s", "nan"], "--timeout-s must be above 0"),
        (["--rows", "0"], "--rows must be above 0"),
    ],
)
def test_a_command_that_cannot_serve_is_one_line(words, message):
    with pytest.raises(UserError) as error:
        cli.VERBS["serve"].run(cli.parser().parse_args(["serve", *words]))
    assert message in str(error.value)


def test_a_port_in_use_is_one_line(server):
    with pytest.raises(UserError, match="cannot be listened on"):
        serve(["models:/lea@champion"], FEW, "127.0.0.1", server.port, None)


def test_the_metrics_count(server):
    before = server.send("GET", "/metrics")[1].decode()
    server.chat(asking(max_tokens=3))
    after = server.send("GET", "/metrics")[1].decode()

    def value(text: str, name: str) -> float:
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)

    served = 'lea_requests_total{code="200",path="/v1/chat/completions"}'
    assert value(after, served) == value(before, served) + 1
    assert value(after, f'lea_model_version{{model="{MODEL}"}}') == 1
    assert value(after, f'lea_request_seconds_count{{model="{MODEL}"}}') > 0


def test_the_heat_map_covers_the_patches(server):
    status, answer = server.send("POST", "/v1/heat-map", {"model": MODEL, "image_url": {"url": data_url()}})
    assert status == 200
    assert answer["image"] == "pad"
    assert [len(row) for row in answer["strength"]] == [3, 3, 3]
    assert max(map(max, answer["strength"])) == 1
    assert server.send("POST", "/v1/heat-map", {"model": MODEL, "image_url": {"url": "/etc/passwd"}})[0] == 400


def test_time_is_bounded_for_the_body_and_for_the_answer(champion):
    with running(limits=replace(FEW, timeout_s=0.4)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
            raw.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 408")
        engine = server.slots.by_id[MODEL].running.engine
        engine.call(lambda: time.sleep(1))
        status, answer = server.chat(asking())
        assert (status, answer["error"]["code"]) == (504, "timeout")
        assert server.chat(asking(max_tokens=1))[0] == 200


def test_a_request_without_a_number_of_tokens_stays_within_the_limit(champion):
    with running(limits=replace(FEW, max_new_tokens=5)) as server:
        asked = asking()
        del asked["max_tokens"]
        status, answer = server.chat(asked)
        assert (status, answer["usage"]["completion_tokens"] <= 5) == (200, True)


def test_a_model_that_is_not_there_is_one_line(champion):
    with pytest.raises(UserError, match="no version or alias 'chmpion'"):
        serve(["models:/lea@chmpion"], FEW, "127.0.0.1", 0, None)
    with pytest.raises(UserError, match="several with commas"):
        serve(["models:/lea"], FEW, "127.0.0.1", 0, None)


def test_the_page_is_served_with_its_policy(server):
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", "/")
        got = connection.getresponse()
        assert got.status == 200
        assert "default-src 'self'" in (got.getheader("content-security-policy") or "")
        assert b"<script" in got.read()
    assert server.send("GET", "/../pyproject.toml")[0] == 404
    assert Path(app_module.STATIC, "page.js").is_file()
