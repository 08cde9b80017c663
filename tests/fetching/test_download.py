"""Downloads from a server on loopback that cuts, stalls, lies and redirects."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.errors import UserError
from components.fetching.download import Limits, Wanted, download
from components.fetching.replies import _check_redirect
from tests.fetching.server import FileServer, blob, head, reply, serving

DATA = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(DATA).hexdigest()


def quick(seconds: float = 20.0, **changed: Any) -> Limits:
    values: dict[str, Any] = {"silent_s": 5.0, "slowest": 0.0, "attempts": 3, "pause_s": 0.0}
    return Limits(time.monotonic() + seconds, **{**values, **changed})


def wanted(server: FileServer, folder: Path, **known: Any) -> Wanted:
    server.files.setdefault("/a.zip", DATA)
    return Wanted(folder / "data" / "a.zip", f"{server.url}/a.zip", **known)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data").iterdir())


def test_a_file_arrives_whole(server: FileServer, tmp_path: Path) -> None:
    seen: list[int] = []
    one = wanted(server, tmp_path, sha256=SHA256, num_bytes=len(DATA), blob=blob(DATA))
    assert download(one, quick(), seen.append) == SHA256
    assert one.path.read_bytes() == DATA
    assert left(tmp_path) == ["a.zip"]
    assert seen[-1] == len(DATA)
    assert server.seen[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256}])
def test_a_connection_that_is_cut_goes_on_where_it_was(server: FileServer, tmp_path: Path, known: Any) -> None:
    server.cut_after = 300_000
    assert download(wanted(server, tmp_path, **known), quick()) == SHA256
    ranges = [request.get("range") for request in server.seen]
    assert ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_server_without_ranges_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.cut_after, server.ranges = 900_000, False

    def recovers(handler: Any, number: int) -> bool:
        server.cut_after = None if number == 3 else 900_000
        return False

    server.act = recovers
    assert download(wanted(server, tmp_path), quick()) == SHA256
    assert len(server.seen) == 3


def test_a_file_that_changed_meanwhile_is_not_mixed(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 300_000
    other = DATA[::-1]

    def changes(handler: Any, number: int) -> bool:
        server.files["/a.zip"] = DATA if number < 3 else other
        return False

    server.act = changes
    assert download(wanted(server, tmp_path), quick()) == hashlib.sha256(other).hexdigest()


def test_a_connection_that_brings_nothing_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 0
    with pytest.raises(UserError, match=r"the connection .*; 0 bytes are kept; run the same command again"):
        download(wanted(server, tmp_path), quick())
    assert len(server.seen) == 3


def test_a_server_that_is_away_is_named_at_once_and_what_to_do_at_the_end(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = replace(wanted(server, tmp_path), url="http://127.0.0.1:9/a.zip")
    with pytest.raises(UserError, match=r"cannot be reached; check the network, or name a mirror: LEA_MIRROR"):
        download(away, quick())
    assert capsys.readouterr().err.count("a.zip: cannot be reached; trying again") == 1


def test_a_later_call_goes_on(server: FileServer, tmp_path: Path) -> None:
    def dies(handler: Any, number: int) -> bool:
        server.cut_after = 400_000 if number == 1 else 0
        return False

    server.act = dies
    with pytest.raises(UserError, match="400000 bytes are kept"):
        download(wanted(server, tmp_path), quick())
    assert left(tmp_path) == [".a.zip.partial", ".a.zip.state.partial"]
    server.act, server.cut_after = lambda handler, number: False, None
    assert download(wanted(server, tmp_path), quick()) == SHA256
    assert server.seen[-1]["range"] == "bytes=400000-"


def test_a_mirror_goes_on_where_the_digest_is_known(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 400_000
    with pytest.raises(UserError):
        download(wanted(server, tmp_path, sha256=SHA256), quick(attempts=0))
    with serving() as mirror:
        one = wanted(mirror, tmp_path, sha256=SHA256)
        mirror.etags = False
        assert download(one, quick()) == SHA256
        assert mirror.seen[0]["range"] == "bytes=400000-"
        assert "if-range" not in mirror.seen[0]


def test_what_is_whole_already_needs_no_request(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 400_000
    with pytest.raises(UserError):
        download(wanted(server, tmp_path), quick(attempts=0))
    (tmp_path / "data/.a.zip.partial").write_bytes(DATA)  # killed between the last byte and the move
    requests = len(server.seen)
    assert download(wanted(server, tmp_path), quick()) == SHA256
    assert len(server.seen) == requests


def test_a_size_that_is_not_the_published_one_is_refused(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the server has {len(DATA)} bytes, 77 are published"):
        download(wanted(server, tmp_path, num_bytes=77), quick())
    assert left(tmp_path) == []


def test_more_bytes_than_there_are_end_the_download(server: FileServer, tmp_path: Path) -> None:
    def pours(handler: Any, number: int) -> bool:
        handler.protocol_version = "HTTP/1.0"  # without a length, until the connection ends
        head(handler, 200, {})
        for _ in range(1000):
            handler.wfile.write(bytes(1 << 16))
        return True

    server.act = pours
    with pytest.raises(UserError, match="sends more than the 1000 bytes that it has; nothing is kept"):
        download(wanted(server, tmp_path, num_bytes=1000), quick())
    assert left(tmp_path) == []


def test_a_size_that_nobody_says_is_refused(server: FileServer, tmp_path: Path) -> None:
    def says_nothing(handler: Any, number: int) -> bool:
        head(handler, 200, {})
        return True

    server.act = says_nothing
    with pytest.raises(UserError, match="neither the server nor the table says how large it is"):
        download(wanted(server, tmp_path), quick())


def test_a_range_that_was_not_asked_for_is_not_appended(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 300_000

    def lies(handler: Any, number: int) -> bool:
        if "range" not in server.seen[-1]:
            return False
        return reply(handler, 206, DATA[:1000], {"Content-Range": f"bytes 0-999/{len(DATA)}"})

    server.act = lies
    with pytest.raises(UserError, match=r"another file now|ended"):
        download(wanted(server, tmp_path), quick())
    assert not (tmp_path / "data/a.zip").exists()


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"blob": "0" * 40}])
def test_other_bytes_are_not_kept(server: FileServer, tmp_path: Path, known: Any) -> None:
    with pytest.raises(UserError, match="is expected; nothing is kept") as caught:
        download(wanted(server, tmp_path, **known), quick())
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_another_host_needs_a_digest_and_gets_no_token(server: FileServer, tmp_path: Path) -> None:
    with serving() as other:
        other.files["/b.zip"] = DATA

        def redirects(handler: Any, number: int) -> bool:
            return reply(handler, 302, b"", {"Location": f"{other.url}/b.zip"})

        server.act = redirects
        with pytest.raises(
            UserError, match=r"redirects to another host \(http://127.0.0.1:\d+\), not followed: no digest"
        ):
            download(wanted(server, tmp_path), quick())
        assert other.seen == []
        assert download(wanted(server, tmp_path, sha256=SHA256, token="hf_secret"), quick()) == SHA256
        assert server.seen[-1]["authorization"] == "Bearer hf_secret"
        assert "authorization" not in other.seen[0]


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/a", "file:///etc/passwd", "/again"])
def test_redirects_that_lead_nowhere_end(server: FileServer, tmp_path: Path, location: str) -> None:
    server.act = lambda handler, number: reply(handler, 302, b"", {"Location": location})
    with pytest.raises(UserError, match="redirects"):
        download(wanted(server, tmp_path, sha256=SHA256), quick())
    assert len(server.seen) <= 6


@pytest.mark.parametrize(
    ("here", "there", "other_origins", "refused"),
    [
        ("https://a.org/x", "http://a.org/x", True, True),
        ("http://a.org/x", "https://a.org/x", False, False),
        ("https://a.org/x", "https://b.org/x", False, True),
        ("https://a.org/x", "https://b.org/x", True, False),
        ("https://a.org/x", "https://a.org:443/y", False, False),
    ],
)
def test_redirects_by_rule(here: str, there: str, other_origins: bool, refused: bool) -> None:
    first, second = urlsplit(here), urlsplit(there)
    if refused:
        with pytest.raises(UserError):
            _check_redirect(here, first, first, second, other_origins)
    else:
        _check_redirect(here, first, first, second, other_origins)


def test_a_silent_server_is_left(server: FileServer, tmp_path: Path) -> None:
    def is_silent(handler: Any, number: int) -> bool:
        time.sleep(1.0)
        return True

    server.act = is_silent
    began = time.monotonic()
    with pytest.raises(UserError, match="the server is silent"):
        download(wanted(server, tmp_path), quick(silent_s=0.2, attempts=2))
    assert time.monotonic() - began < 5


def test_a_head_that_drips_is_left(server: FileServer, tmp_path: Path) -> None:
    def drips(handler: Any, number: int) -> bool:
        for _ in range(30):
            handler.wfile.write(b"H")
            handler.wfile.flush()
            time.sleep(0.1)
        return True

    server.act = drips
    with pytest.raises(UserError, match=r"no reply within 0\.4 s"):
        download(wanted(server, tmp_path), quick(silent_s=0.2, attempts=1))


def test_a_body_that_drips_is_left(server: FileServer, tmp_path: Path) -> None:
    server.bytes_a_second = 200
    with pytest.raises(UserError, match="slower than 100000 bytes a second"):
        download(wanted(server, tmp_path), quick(silent_s=0.3, slowest=100_000, attempts=0))


def test_the_time_given_ends_it(server: FileServer, tmp_path: Path) -> None:
    server.bytes_a_second = 20_000
    with pytest.raises(UserError, match=r"not whole yet; the time given is over \(--hours\); \d+ bytes are kept"):
        download(wanted(server, tmp_path), quick(seconds=0.5))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "the server answers 404 Not Found; name a mirror"),
        (403, "accept its licence on its page and set HF_TOKEN"),
    ],
)
def test_what_will_not_pass_is_said_at_once(server: FileServer, tmp_path: Path, status: int, said: str) -> None:
    server.act = lambda handler, number: reply(handler, status, b"", {})
    with pytest.raises(UserError, match=said):
        download(wanted(server, tmp_path), quick())
    assert len(server.seen) == 1


def test_what_passes_is_waited_for(server: FileServer, tmp_path: Path) -> None:
    server.act = lambda handler, number: number < 3 and reply(handler, 503, b"", {"Retry-After": "0"})
    assert download(wanted(server, tmp_path), quick()) == SHA256


def test_an_encoding_that_was_not_asked_for_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.act = lambda handler, number: reply(handler, 200, b"bomb", {"Content-Encoding": "gzip"})
    with pytest.raises(UserError, match="comes encoded as gzip"):
        download(wanted(server, tmp_path), quick())


def test_a_killed_process_goes_on(server: FileServer, tmp_path: Path) -> None:
    one = wanted(server, tmp_path, sha256=SHA256)
    server.bytes_a_second = 400_000
    code = (
        "import sys, time; from pathlib import Path; from components.fetching.download import *;"
        "download(Wanted(Path(sys.argv[1]), sys.argv[2], sha256=sys.argv[3]), Limits(time.monotonic() + 60))"
    )
    command = [sys.executable, "-c", code, str(one.path), one.url, SHA256]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    aside = tmp_path / "data/.a.zip.partial"
    until = time.monotonic() + 30
    while (not aside.exists() or aside.stat().st_size < 100_000) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = aside.stat().st_size
    assert 100_000 <= kept < len(DATA)
    server.bytes_a_second = None
    assert download(one, quick()) == SHA256
    assert server.seen[-1]["range"] == f"bytes={kept}-"
    assert one.path.read_bytes() == DATA
