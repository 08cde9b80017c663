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
from tests.report.conftest import MANIFEST, METRICS, REGISTRATION, SAMPLES, write

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
        self.ids += [id] if (id := named.get("id")) else []
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


def test_page_begins_with_what_a_stranger_needs(run: Path, this_run: ThisRun) -> None:
    for text in (Page(written(run, this_run)[0]).text, (run / "report/report.md").read_text("utf-8")):
        places = [text.index(said) for said in ("one training run of a model", "trained on the tiny", "uses its image")]
        assert places == sorted(places)
        assert text.index("78.1") > places[-1]
        assert "which ingredients the pictured dish has" in text


def test_scores_beside_the_main_ones_are_folded(run: Path, this_run: ThisRun) -> None:
    source, _ = written(run, this_run)
    folded = "".join(re.findall(r"<details.*?</details>", source, flags=re.S))
    assert "84.3" in folded
    assert "84.3" not in re.sub(r"<details.*?</details>", "", source, flags=re.S)
    assert "<details open" not in source


def test_every_table_scrolls_in_a_box_of_its_own(run: Path, this_run: ThisRun) -> None:
    source, _ = written(run, this_run)
    tables = source.count("<table")
    assert tables == len(
        re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="[^"]+">\s*<table', source)
    )


@pytest.mark.parametrize(
    ("task", "said"), [("nutrition", "shown the image of another dish"), ("chat", "another image")]
)
def test_wrong_images_are_dishes_only_where_all_are(run: Path, this_run: ThisRun, task: str, said: str) -> None:
    blind = {"ingredients": {"iou": 0.1}, task: {"x": 1.0}}
    metrics = METRICS | {
        "base": {},
        "mean": {},
        "finetune": {"ingredients": {"iou": 0.7}, task: {"x": 2.0}},
        "blind": blind,
    }
    write(run / "evaluation/metrics.json", metrics)
    source, _ = written(run, this_run)
    assert said in Page(source).text
    assert ("another dish" in source) == (task == "nutrition")


def test_occlusion_stands_beside_the_raw_cue_with_its_caption(run: Path, this_run: ThisRun) -> None:
    write(
        run / "evaluation/insight/samples.json", [{**SAMPLES[0], "occlusion": {"image": "o.png", "largest_drop": 2.34}}]
    )
    Image.new("RGB", (20, 20)).save(run / "evaluation/insight/o.png")
    source, markdown = written(run, this_run)
    assert [image["alt"] for image in Page(source).images][-1] == (
        "what the answer rests on (largest drop 2.34 nats) of test image 1"
    )
    for text in (source, markdown):
        assert "before the layer norm" in text
        assert "6 by 6 grid" in text


def test_page_needs_nothing_from_outside(run: Path, this_run: ThisRun) -> None:
    source, _ = written(run, this_run)
    page = Page(source)
    inside = {f"#{id}" for id in page.ids}
    assert all(link.startswith("data:image/") or link in inside for link in page.links)
    assert not re.search(r"@import|url\(|<script|<link|https?://", source)


def test_time_is_a_gpus_too_where_it_was_measured_on_one(run: Path, this_run: ThisRun) -> None:
    rows = [{"row": "decode dual_lora / lora, batch 1", "value": 1.00512, "spread": [], "unit": "times"}]
    found = {"card": "NVIDIA H200", "tiny": False, "phases": {"decode": {"state": "done", "rows": rows}}}
    write(run / "benchmarks/results/gpu.json", found)
    said = "On an NVIDIA H200, a token at 7B's size (random weights): Dual-LoRA 1.005."
    page, markdown = written(run, this_run)
    assert said in Page(page).text
    assert said in markdown


def test_page_contents_lead_to_every_section(run: Path, this_run: ThisRun) -> None:
    page = Page(written(run, this_run)[0])
    assert [link[1:] for link in page.links if link.startswith("#")] == page.ids


def test_page_images_have_words_and_stay_sharp(run: Path, this_run: ThisRun) -> None:
    images = Page(written(run, this_run)[0]).images
    assert [image["alt"] for image in images] == [
        "image of test image 1",
        "size of the raw cue of test image 1",
        "image of test image 2",
    ]
    assert {image["class"] for image in images} == {"pixelated"}


def test_page_escapes_what_a_model_says(run: Path, this_run: ThisRun) -> None:
    source, markdown = written(run, this_run)
    assert "<script>" not in source
    assert "a <script>alert(1)</script> | plate" in Page(source).text
    assert r"a &lt;script&gt;alert(1)&lt;/script&gt; \| plate" in markdown


def test_markdown_holds_no_raw_html(run: Path, this_run: ThisRun) -> None:
    """Whatever a name, reason, setting or answer holds, no tag reaches the page of whoever renders the file."""
    evil = "<img src=x onerror=alert(1)>"
    write(run / "registration.json", REGISTRATION | {"gate": {"passed": True, "reasons": [evil]}, "name": evil})
    write(run / "data/prepared/dishes/manifest.json", MANIFEST | {"kind": evil})
    write(run / "evaluation/metrics.json", METRICS | {"blind": {evil: {evil: 1.0}, **METRICS["blind"]}})
    for markdown in (written(run, this_run)[1], (run / "report/hub/README.md").read_text("utf-8")):
        assert "<" not in markdown


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
    said = "image as the model sees it, and the size of the raw cue of test image 1"
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


def test_damaged_json_is_reported_in_one_line(run: Path) -> None:
    (run / "registration.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"registration\.json is not valid JSON") as raised:
        read_inputs(run)
    assert "\n" not in str(raised.value)


def test_markdown_cell_stays_in_its_cell() -> None:
    assert markdown_cell("a|b\nc_d") == r"a\|b c\_d"
