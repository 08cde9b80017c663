"""Endpoints that mean harm or break: nothing endless, no key for strangers, no secret in any output."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from components.errors import UserError
from components.evaluation.judge import endpoint
from components.evaluation.judge.endpoint import Judge, JudgeAway
from components.evaluation.judge.http import Refused, TooMuch, post
from pipelines import cli, stage

SECRET = "sk-marked-secret/1+2"
Reply = Callable[[socket.socket], None]


class Raw:
    """A server on loopback that reads a request and lets `reply` write whatever it likes."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self.listening.accept()
                threading.Thread(target=self._answer, args=(one,), daemon=True).start()

    def _answer(self, one: socket.socket) -> None:
        with suppress(OSError), one:
            request = one.recv(1 << 16)
            head, _, body = request.partition(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
            )
            while len(body) < length:  # what is left unread would reset the connection
                body += one.recv(1 << 16)
            self.requests.append(head + body)
            self.reply(one)


@pytest.fixture
def raw() -> Iterator[Callable[[Reply], Raw]]:
    made: list[Raw] = []

    def make(reply: Reply) -> Raw:
        made.append(Raw(reply))
        return made[-1]

    yield make
    for one in made:
        one.listening.close()


def answer(text: str, status: str = "200 OK", headers: str = "") -> Reply:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
    return lambda one: one.sendall(head + body)


def chat(content: str, model: str = "m") -> str:
    return json.dumps({"choices": [{"message": {"content": content}}], "model": model})


def endless(one: socket.socket) -> None:
    one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        one.sendall(b" " * (1 << 16))


def slow(start: bytes, drop: bytes) -> Reply:
    def reply(one: socket.socket) -> None:
        one.sendall(start)
        for _ in range(400):
            one.sendall(drop)
            time.sleep(0.02)

    return reply


def ask(url: str, key: str = SECRET) -> tuple[str, str]:
    judge = Judge("j", url, key, pause_s=0, sleep=lambda seconds: None)
    return judge.ask("hello", system="", temperature=0, max_tokens=16)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed(status: str, raw: Callable[[Reply], Raw]) -> None:
    stranger = raw(answer(chat("1.0")))
    server = raw(answer("", status, f"Location: {stranger.url}/chat/completions\r\n"))
    with pytest.raises(UserError, match=rf"HTTP {status[:3]} a redirect to {stranger.url}"):
        ask(server.url)
    assert stranger.requests == []
    assert len(server.requests) == 1


def test_an_endless_body_is_left(raw: Callable[[Reply], Raw]) -> None:
    with pytest.raises(TooMuch, match="more than 4 MiB"):
        post(raw(endless).url, {}, b"{}", 20)


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),  # a body, a byte at a time
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),  # headers
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 500 Away\r\n\r\n", b" "),  # the body of an error
        (b"", b""),  # nothing at all
    ],
)
def test_slow_replies_end_in_time(start: bytes, drop: bytes, raw: Callable[[Reply], Raw]) -> None:
    began = time.monotonic()
    with pytest.raises((TimeoutError, Refused)):
        post(raw(slow(start, drop)).url, {}, b"{}", 0.3)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 200_000, "nests too deep"),
        ('{"choices": ' * 200_000, "nests too deep"),
        ("nothing", "Expecting value"),
        ("[]", "without choices"),
        ('{"choices": [{"message": {"content": 5}}]}', "content is no text"),
    ],
)
def test_replies_that_are_none_are_tried_again_and_given_up(text: str, why: str, raw: Callable[[Reply], Raw]) -> None:
    server = raw(answer(text))
    with pytest.raises(JudgeAway, match=why):
        ask(server.url)
    assert len(server.requests) == endpoint.TRIES


def test_a_slow_endpoint_is_given_up(raw: Callable[[Reply], Raw], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(endpoint, "TRIES", 2)
    with pytest.raises(JudgeAway, match="no whole reply within"):
        ask(raw(slow(b"HTTP/1.1 200 OK\r\n\r\n", b" ")).url)


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """`lea score mm_vet --judge` on one answer: exit code, and everything that it printed and wrote."""
    gold, answers = tmp_path / "mm-vet.json", tmp_path / "a.jsonl"
    gold.write_text(json.dumps({"v1_0": {"question": "What is x?", "answer": "2"}}))
    answers.write_text(json.dumps({"question_id": 0, "text": "2"}) + "\n")
    words = ["score", "mm_vet", "--annotations", str(gold), "--answers", str(answers), "--judge", "j"]
    arguments = cli.parser().parse_args(words)
    code = stage.guarded(lambda: cli.VERBS["score"].run(arguments))
    out, err = capsys.readouterr()
    return code, out + err + "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        ("http://user:marked-secret@localhost/v1", "", "without user name, password"),
        ("https://marked-secret@localhost/v1", "k", "without user name, password"),
        ("http://localhost/v1?api_key=marked-secret", "", "without user name, password, query"),
        ("http://localhost/v1#marked-secret", "", "query and fragment"),
        ("http://[::1/marked-secret", "", "must begin with http://"),
        ("http://localhost:marked-secret/v1", "", "must begin with http://"),
        ("ftp://localhost/marked-secret", "", "must begin with http://"),
        ("http:///marked-secret", "", "must begin with http://"),
        ("http://local host/marked-secret", "", "must begin with http://"),
        ("http://localhost/v1", "marked-secret\nX-Other: 1", "OPENAI_API_KEY holds"),
        ("http://localhost/v1", "marked-secret and more", "OPENAI_API_KEY holds"),
        ("http://localhost/v1", "marked-secret\u00e9", "OPENAI_API_KEY holds"),
    ],
)
def test_secrets_in_settings_are_not_printed(
    url: str, key: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    code, text = run(tmp_path, capsys)
    assert code == stage.MISTAKE
    assert says in text
    assert "marked-secret" not in text


@pytest.mark.parametrize(
    "reply",
    [
        answer(json.dumps({"error": {"message": f"wrong key: {SECRET}"}}), "401 Unauthorized"),
        answer(f"<p>{SECRET}</p>", "403 Forbidden"),
        answer("", "307 Temporary", f"Location: http://127.0.0.1:9/?key={quote(SECRET, safe='')}\r\n"),
        answer(chat(f"0.5 for {SECRET}", SECRET)),
        answer(chat("1.0", "m" * 10_000)),
        answer(f"HTTP {SECRET}", f"200 {SECRET}"),
        lambda one: one.sendall(f"{SECRET}\r\n\r\n".encode()),  # no HTTP at all
    ],
)
def test_a_key_that_the_server_repeats_is_neither_printed_nor_stored(
    reply: Reply, raw: Callable[[Reply], Raw], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    server = raw(reply)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(endpoint, "LONGEST_PAUSE_S", 0.001)
    _, text = run(tmp_path, capsys)
    assert SECRET in server.requests[0].decode()
    assert SECRET not in text
    assert "sk-marked" not in text
    assert "m" * 1000 not in text


def test_a_judge_prints_itself_without_its_key() -> None:
    assert SECRET not in repr(Judge("j", "http://localhost", SECRET))
