"""An image in the forms that tools write; nothing is opened for a caller."""

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from components.serving.request_image import check_cost, decode_for_caller, image_bytes, read_file, size_of

DATA = bytes(range(256)) * 3


@pytest.mark.parametrize(
    "form",
    [
        DATA,
        bytearray(DATA),
        base64.b64encode(DATA).decode(),
        base64.b64encode(DATA).decode() + "\n",
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA + b"x").decode().rstrip("="),
        "data:image/png;base64," + base64.b64encode(DATA).decode(),
        "data:image/png;base64,\n" + base64.encodebytes(DATA).decode(),
        memoryview(DATA),
        base64.encodebytes(DATA).decode().replace("\n", " "),
        base64.b64encode(DATA).decode().replace("+", " "),
        "DATA:image/png;BASE64," + base64.b64encode(DATA).decode(),
        "data:image/png;base64," + quote(base64.b64encode(DATA).decode(), safe=""),
    ],
    ids=[
        *("bytes", "bytearray", "plain", "newline", "lines", "crlf", "urlsafe", "unpadded", "data", "data lines"),
        *("memoryview", "lines joined by blanks", "plus decoded as blank", "capitals", "percent"),
    ],
)
def test_base64_is_read_as_tools_write_it(form):
    assert (image_bytes(form) or b"")[: len(DATA)] == DATA


def test_nothing_is_no_image():
    assert image_bytes(None) is None
    assert image_bytes(float("nan")) is None


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("/etc/passwd.d/none", "paths are not read"),
        ("dish.png", "paths are not read"),
        ("http://127.0.0.1/dish.png", "none is fetched here"),
        ("file:///etc/passwd", "none is fetched here"),
        ("data:image/png,abc", "data URL without base64"),
        ("ä" * 8, "must be base64"),
        ("abcde", "must be base64"),
        (17, "must be base64 text, got int"),
    ],
)
def test_what_is_no_base64_is_refused_in_one_line(form, message):
    with pytest.raises(ValueError, match=message) as error:
        image_bytes(form)
    assert "\n" not in str(error.value)


def test_a_path_is_read_by_the_explicit_setting_alone(tmp_path):
    path = tmp_path / "dish.png"
    path.write_bytes(DATA)
    assert image_bytes(str(path), allow_paths=True) == DATA
    with pytest.raises(ValueError, match="paths are not read"):
        image_bytes(str(path))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_file(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read_file(Path("/dev/zero"))


def test_the_images_of_a_request_have_a_price(tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert size_of(data) == (100, 50)
    assert size_of(b"no image") == (0, 0)
    check_cost([data, data], max_bytes=2 * len(data), max_pixels=10_000)
    with pytest.raises(ValueError, match="have 10,000 pixels; at most 9,999"):
        check_cost([data, data], max_bytes=2 * len(data), max_pixels=9_999)
    with pytest.raises(ValueError, match="bytes; at most"):
        check_cost([data, data], max_bytes=2 * len(data) - 1, max_pixels=10_000)
    with pytest.raises(ValueError, match=r"image too large \(100 x 50 pixels\)"):
        decode_for_caller(data, 4_999)
    with pytest.raises(ValueError, match="image corrupt"):
        decode_for_caller(data[:60], 5_000)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (101, 1), (3000, 100)])
def test_a_strip_is_refused_before_it_is_decoded(size, tmp_path):
    """Padded to a square the first would have 400 million pixels, from 157 bytes."""
    Image.new("L", size).save(tmp_path / "strip.png")
    with pytest.raises(ValueError, match="too long for its width"):
        decode_for_caller((tmp_path / "strip.png").read_bytes(), 2_000_000)
