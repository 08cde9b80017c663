from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from components.errors import UserError
from components.report.inputs import read_inputs
from components.report.ledger import ThisRun
from components.report.page import markdown_cell, write_report
from components.report.pictures import picture, write_enlarged

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page refers to and the text it shows."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]
        self.ids += [named["id"]] if named.get("id") else []
        if tag == "img":
            self.images.append(named)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # <line ... /> inside SVG

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += f"{data} "


def written(run: Path, this_run: ThisRun) -> tuple[str, str]:
    folder = run / "report"
    folder.mkdir()
    write_report(read_inputs(run), this_run, folder)
    return (folder / "report.html").read_text("utf-8"), (folder / "report.md").read_text("utf-8")


def test_page_holds_the_values(run: Path, this_run: ThisRun) -> None:
    text = Page(written(run, this_run)[0]).text
    for value in ("78.1", "84.3", "21.4", "15.0", "48.2", "+63.2", "+60.2 to +65.9", "5.22 ×", "−26.9", "1\u202f234"):
        assert value in text, value
    assert "3 image missing, 1 empty answer" in text
    assert "1\u202f007" in text, "samples of a split: its tasks together, rows not counted"
    assert "version 7 of lea" in text
    assert "1 min 16 s in steps" in text
    assert "mean 1.25 against 1.75 nats, lower in 1 of 2 layers" in text


def test_page_needs_nothing_from_outside(run: Path, this_run: ThisRun) -> None:
    source, _ = written(run, this_run)
    page = Page(source)
    inside = {f"#{id}" for id in page.ids}
    assert all(link.startswith("data:image/") or link in inside for link in page.links)
    assert not re.search(r"@import|url\(|<script|<link|https?://", source)


def test_page_contents_lead_to_every_section(run: Path, this_run: ThisRun) -> None:
    page = Page(written(run, this_run)[0])
    assert [link[1:] for link in page.links if link.startswith("#")] == page.ids


def test_page_images_have_words_and_stay_sharp(run: Path, this_run: ThisRun) -> None:
    images = Page(written(run, this_run)[0]).images
    assert [image["alt"] for image in images] == [
        "image of test image 1",
        "visual cue of test image 1",
        "image of test image 2",
    ]
    assert {image["class"] for image in images} == {"pixelated"}


def test_page_escapes_what_a_model_says(run: Path, this_run: ThisRun) -> None:
    source, markdown = written(run, this_run)
    assert "<script>" not in source
    assert "a <script>alert(1)</script> | plate" in Page(source).text
    assert r"a \<script\>alert(1)\</script\> \| plate" in markdown


def test_markdown_prints_the_page_s_numbers(run: Path, this_run: ThisRun) -> None:
    source, markdown = written(run, this_run)
    shown = Page(re.sub(r"<svg.*?</svg>", "", source, flags=re.S)).text
    pattern = r"[+−]?\d+\.\d+"
    assert set(re.findall(pattern, shown)) == set(re.findall(pattern, markdown.replace("\\_", "_")))


def test_markdown_names_pictures_that_are_there(run: Path, this_run: ThisRun) -> None:
    _, markdown = written(run, this_run)
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", markdown)
    assert "images/differences.svg" in named
    assert "images/heat_0.png" in named
    assert all((run / "report" / name).is_file() for name in named)


@pytest.mark.parametrize(
    ("lost", "section"),
    [
        ("models", "training"),
        ("evaluation/insight", "samples"),
        ("evaluation/insight/entropy.csv", "skill-space"),
        ("data", "data"),
        ("registration.json", "registry"),
    ],
)
def test_missing_input_leaves_its_section_out(run: Path, this_run: ThisRun, lost: str, section: str) -> None:
    shutil.rmtree(run / lost) if (run / lost).is_dir() else (run / lost).unlink()
    source, markdown = written(run, this_run)
    page = Page(source)
    assert section not in page.ids
    assert f"#{section}" not in page.links
    assert "78.1" in page.text
    assert "78.1" in markdown


def test_missing_picture_leaves_the_answers(run: Path, this_run: ThisRun) -> None:
    (run / "evaluation/insight/image_0.png").unlink()
    page = Page(written(run, this_run)[0])
    assert len(page.images) == 2
    assert "soy sauce" in page.text


def test_heat_map_beside_its_image_needs_no_second_image(run: Path, this_run: ThisRun) -> None:
    Image.new("RGB", (300, 150)).save(run / "evaluation/insight/heat_0.png")
    images = Page(written(run, this_run)[0]).images
    said = "image as the model sees it, and its visual cue of test image 1"
    assert [image["alt"] for image in images] == [said, "image of test image 2"]


def test_large_picture_is_reduced(tmp_path: Path) -> None:
    Image.effect_noise((2000, 1000), 50).save(tmp_path / "large.png")
    shown = picture(tmp_path / "large.png")
    assert (shown.width, shown.height, shown.pixelated) == (448, 224, False)
    assert shown.uri.startswith("data:image/jpeg;base64,")


def test_small_picture_is_enlarged_for_markdown_without_new_colours(tmp_path: Path) -> None:
    small = Image.new("RGB", (2, 1))
    small.putpixel((1, 0), (255, 0, 0))
    small.save(tmp_path / "small.png")
    write_enlarged(tmp_path / "small.png", tmp_path / "shown.png")
    with Image.open(tmp_path / "shown.png") as shown:
        assert shown.size == (192, 96)
        assert {colour for _, colour in shown.getcolors() or []} == {(0, 0, 0), (255, 0, 0)}


def test_missing_metrics_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.json is missing; run: dvc repro evaluate"):
        read_inputs(tmp_path)


def test_damaged_json_is_told_in_one_line(run: Path) -> None:
    (run / "registration.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"registration\.json is not valid JSON") as told:
        read_inputs(run)
    assert "\n" not in str(told.value)


def test_markdown_cell_stays_in_its_cell() -> None:
    assert markdown_cell("a|b\nc_d") == r"a\|b c\_d"
