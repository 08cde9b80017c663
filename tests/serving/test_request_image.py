"""An image in the forms that tools write; nothing is opened for a caller."""

import base64
import os
import tracemalloc
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


LINES = base64.encodebytes(DATA).decode().splitlines()


@pytest.mark.parametrize("indent", [" ", "    ", "\t", "\t  "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "  \n"])
@pytest.mark.parametrize("data", [DATA, DATA[:100], DATA[:60]], ids=["many lines", "two lines", "two, the last short"])
def test_indented_lines_are_the_same_picture(data, indent, end):
    text = "".join(f"{indent}{line}{end}" for line in base64.encodebytes(data).decode().splitlines())
    assert image_bytes(text) == data
    assert image_bytes(f"data:image/png;base64,{end}{text}") == data


def test_lines_that_were_joined_with_their_indent_are_the_same_picture():
    assert image_bytes("     ".join(LINES)) == DATA


@pytest.mark.parametrize("data", [bytes(48) + b"\xf8" + bytes(30), b"abc" + b"\xfb\xef\xbeabc" * 50, DATA])
def test_every_plus_may_be_a_blank(data):
    """One at the place where a line could end; many, some at the ends of lines."""
    for text in (base64.b64encode(data).decode(), base64.encodebytes(data).decode()):
        assert image_bytes(text.replace("+", " ")) == data


def test_blanks_that_may_be_anything_are_refused():
    with pytest.raises(ValueError, match="must be base64 text"):
        image_bytes("\n".join(f"  {line[:20]} {line[20:]}" for line in LINES))


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
    for data in (bytes(200), bytes(3000), DATA):  # longer than the name of a file may be
        assert image_bytes(base64.b64encode(data).decode(), allow_paths=True) == data
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


def test_percent_signs_cost_no_more_than_they_are():
    """20 MB of them took 22 seconds and 2 GB."""
    white = bytes([255]) * 3_000_000  # base64 of it is all slashes
    held = base64.b64encode(white).decode()
    for escape in ("%2F", "%2f"):
        assert image_bytes("data:image/bmp;base64," + held.replace("/", escape)) == white
    assert image_bytes("data:image/png;base64,%41%42%43%44%0a") == b"\x00\x10\x83"
    for text in ("%" * 3_000_000, "%41" * 1_000_000):
        with pytest.raises(ValueError, match="must be base64"):
            peak_of(text)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(text)
        tracemalloc.stop()


def peak_of(text: str) -> int:
    """The most memory that reading the text of an image takes."""
    tracemalloc.start()
    image_bytes("data:image/png;base64," + text)
    return tracemalloc.get_traced_memory()[1]


@pytest.mark.parametrize("line", ["AA\n", "A\r\n", "AA \n"])
def test_crumbs_of_base64_are_refused(line):
    """As an object each they took 25 times the memory of the text."""
    with pytest.raises(ValueError, match="lines of fewer than 16 characters"):
        image_bytes(line * 600_000)
    assert image_bytes(line * 40) == image_bytes("A" * line.count("A") * 40)


def test_a_long_text_costs_a_few_times_its_length():
    for text in ("A" * 2_000_000, ("A" * 64 + "\n") * 30_000, "AA " * 600_000, "A " * 900_000):
        assert peak_of(text) < 8 * len(text)
        tracemalloc.stop()
    assert image_bytes("AA " * 600_000 + "AAAA") == base64.b64decode("AA+" * 600_000 + "AAAA")


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (101, 1), (3000, 100)])
def test_a_strip_is_refused_before_it_is_decoded(size, tmp_path):
    """Padded to a square the first would have 400 million pixels, from 157 bytes."""
    Image.new("L", size).save(tmp_path / "strip.png")
    with pytest.raises(ValueError, match="too long for its width"):
        decode_for_caller((tmp_path / "strip.png").read_bytes(), 2_000_000)
