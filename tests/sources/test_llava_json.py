"""LLaVA's JSON as other tools write it: keys of the image, other media, spellings of turns, parts, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.params import Source
from components.prepare.checks import REASONS, sample_problem
from components.sources import SOURCES
from components.sources.entry import Entry, Reject

OTHER_KEYS = [
    "image_path",
    "image_file",
    "img",
    "img_path",
    "image_paths",
    "file_name",
    "filename",
    "image_url",
    "photo",
]
TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Soup."}]
PLAIN = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "Soup."}]
MEDIUM = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "Soup."}]
TEXT = {"type": "text", "text": "What?"}
MARKED = {"type": "text", "text": "<IMG_CONTEXT>\nWhat?"}
AGAIN = {"type": "text", "text": "And?"}
IMAGE = {"type": "image", "image": "1.png"}


def read(tmp_path: Path, record: Any) -> Entry | Reject:
    (tmp_path / "a.json").write_text(json.dumps([record]))
    [found] = SOURCES["llava_json"](Source(kind="llava_json", path=str(tmp_path), annotations="a.json", images="."))
    return found


def kept(tmp_path: Path, record: Any) -> tuple[str | None, list[str]]:
    """The image and the texts of the turns."""
    found = read(tmp_path, record)
    assert isinstance(found, Entry), found
    return found.image, [turn.text for turn in found.samples[0].turns]


def rejected(tmp_path: Path, record: Any) -> tuple[str, str]:
    found = read(tmp_path, record)
    assert isinstance(found, Reject), found
    assert found.reason in REASONS
    return found.reason, found.detail


def asked(*contents: Any) -> dict[str, Any]:
    """Questions, each answered by `A`."""
    answer = {"role": "assistant", "content": "A"}
    return {"messages": [turn for content in contents for turn in ({"role": "user", "content": content}, answer)]}


# --- the image ---


@pytest.mark.parametrize("key", [*OTHER_KEYS, "images", "Image", "Images", "Image_Path"])
@pytest.mark.parametrize("empty", [{}, {"image": None}, {"image": "", "images": []}])
def test_image_is_found_under_the_keys_of_other_tools(tmp_path, key: str, empty: dict[str, Any]):
    assert kept(tmp_path, {**empty, key: "1.png", "conversations": TALK})[0] == "1.png"


@pytest.mark.parametrize("key", [*OTHER_KEYS, "Image"])
def test_keys_of_other_tools_are_not_looked_at_where_an_image_is_named(tmp_path, key: str):
    assert kept(tmp_path, {key: "other.png", "image": "1.png", "conversations": TALK})[0] == "1.png"


def test_file_is_preferred_to_the_address_that_it_came_from(tmp_path):
    record = {"image_url": "https://x/y.png", "file_name": "1.png", "conversations": TALK}
    assert kept(tmp_path, record)[0] == "1.png"


@pytest.mark.parametrize(
    "beside",
    [
        {"file_name": "talk_1.json"},
        {"image_id": 7},
        {"image_id": "7"},
        {"photo": True},
        {"picture": {"id": 7}},
        {"img": None},
        {"picture": "portrait.png"},
        {"photo": "yes"},
        {"image_url": "https://x/thumbnail.jpg"},
        {"image": None, "file_name": "page.tiff"},
        {"image": "", "img": [1, "none"]},
        {"img": [{"bytes": "iVBOR"}]},
    ],
)
def test_what_names_no_image_leaves_a_record_of_text(tmp_path, beside: dict[str, Any]):
    assert kept(tmp_path, {**beside, "conversations": PLAIN}) == (None, ["What?", "Soup."])


@pytest.mark.parametrize(
    ("beside", "found"),
    [
        ({"image": "1.png", "images": ["1.png"]}, "1.png"),
        ({"image": "1.png", "images": ["./1.png"]}, "1.png"),
        ({"image": "1.png", "images": ["/data/imgs/1.png"]}, "1.png"),
        ({"image": "train/1.png", "images": "1.png"}, "train/1.png"),
        ({"image": "1.png", "images": 1}, "1.png"),
        ({"image": "1.png", "images": [{"path": "1.png", "bytes": "iVBOR"}]}, "1.png"),
        ({"images": '["1.png"]'}, "1.png"),
        ({"images": ["1.png", "1.png"]}, "1.png"),
        ({"image": "[1].png"}, "[1].png"),
        ({"image": '["1.png'}, '["1.png'),
    ],
)
def test_one_image_in_several_fields_is_one(tmp_path, beside: dict[str, Any], found: str):
    assert kept(tmp_path, {**beside, "conversations": TALK}) == (found, ["<image>\nWhat?", "Soup."])


@pytest.mark.parametrize("images", [["1.png", "2.png"], ["2.png"], "2.png", [{"path": "2.png"}]])
def test_image_and_images_that_disagree_are_rejected_with_their_names(tmp_path, images: Any):
    reason, detail = rejected(tmp_path, {"image": "1.png", "images": images, "conversations": TALK})
    assert (reason, "1.png, 2.png" in detail) == ("image_many", True)


@pytest.mark.parametrize(
    ("contents", "beside", "texts"),
    [
        ([[IMAGE, TEXT], [IMAGE, AGAIN]], {}, ["<image>\nWhat?", "A", "And?", "A"]),
        ([[IMAGE, TEXT], [{"type": "image", "image": "./1.png"}, AGAIN]], {}, ["<image>\nWhat?", "A", "And?", "A"]),
        ([[IMAGE, IMAGE, TEXT]], {}, ["<image>\nWhat?", "A"]),
        ([[{"type": "image", "image": "./1.png"}, TEXT]], {"images": ["1.png"]}, ["<image>\nWhat?", "A"]),
        ([[{"type": "image", "image": "a\\1.png"}, TEXT]], {"images": ["a/1.png"]}, ["<image>\nWhat?", "A"]),
        ([[{"type": "image", "image": ""}, TEXT]], {"images": ["1.png"]}, ["<image>\nWhat?", "A"]),
    ],
)
def test_image_that_is_sent_again_is_one(tmp_path, contents: Any, beside: Any, texts: list[str]):
    image, found = kept(tmp_path, {**asked(*contents), **beside})
    assert (image is not None, found) == (True, texts)


@pytest.mark.parametrize(
    ("contents", "beside", "texts"),
    [
        (["<image>\nWhat?", "And?<image>"], {"images": ["1.png", "./1.png"]}, ["<image>\nWhat?", "A", "And?", "A"]),
        (["What?\n<image>", "<image>\nAnd?"], {"image": ["1.png"] * 2}, ["What?\n<image>", "A", "And?", "A"]),
        (["<image>\n<image>\nWhat?"], {"images": ["1.png"] * 2}, ["<image>\nWhat?", "A"]),
        ([[IMAGE, MARKED], [IMAGE, MARKED]], {}, ["<image>\nWhat?", "A", "What?", "A"]),
        (["<image>\nWhat?", " And? "], {"images": ["1.png"] * 2}, ["<image>\nWhat?", "A", " And? ", "A"]),
    ],
)
def test_image_that_is_named_as_often_as_it_is_marked_is_shown_once(tmp_path, contents: Any, beside: Any, texts: Any):
    assert kept(tmp_path, {**asked(*contents), **beside}) == ("1.png", texts)


@pytest.mark.parametrize("images", ["1.png", ["1.png"] * 3])
def test_markers_without_an_image_of_their_own_are_rejected(tmp_path, images: Any):
    _, found = kept(tmp_path, {**asked("<image>\nWhat?", "<image>\nAnd?"), "images": images})
    assert found == ["<image>\nWhat?", "A", "<image>\nAnd?", "A"]  # what checks.py names marker_many


@pytest.mark.parametrize("part", [IMAGE, {"type": "image_url", "image_url": {"url": "1.png"}}])
def test_image_that_a_part_names_is_not_compared_with_the_keys_of_other_tools(tmp_path, part: Any):
    assert kept(tmp_path, {"image_url": "https://x/y.png", **asked([part, TEXT])})[0] == "1.png"


def test_image_part_without_a_name_takes_that_of_another_tools_key(tmp_path):
    assert kept(tmp_path, {"img": "1.png", **asked([{"type": "image"}, TEXT])}) == ("1.png", ["<image>\nWhat?", "A"])


@pytest.mark.parametrize("named", [{"image": "1.png"}, {"images": ["./1.png"]}, {"image_url": {"url": "1.png"}}])
@pytest.mark.parametrize("question", ["What?", "<image>\nWhat?", [TEXT], [IMAGE, TEXT]])
def test_image_under_a_key_of_its_turn_is_shown_there(tmp_path, named: dict[str, Any], question: Any):
    """As GLM-4V's records and Ollama's messages have it."""
    record = asked(question, "And?")
    record["messages"][0] |= named
    image, texts = kept(tmp_path, record)
    assert (image is not None, texts) == (True, ["<image>\nWhat?", "A", "And?", "A"])


@pytest.mark.parametrize("beside", [{"image": None, "images": []}, {"images": 1}, {"picture": "1.png"}, {"img": False}])
def test_turn_that_names_no_image_is_text(tmp_path, beside: dict[str, Any]):
    record = asked("What?")
    record["messages"][0] |= beside
    assert kept(tmp_path, record) == (None, ["What?", "A"])


def test_bytes_in_a_turn_are_rejected(tmp_path):
    record = asked("What?")
    record["messages"][0]["images"] = [{"bytes": "iVBOR", "path": None}]
    assert rejected(tmp_path, record)[0] == "image_in_record"


@pytest.mark.parametrize(
    ("contents", "beside", "texts"),
    [
        (["Picture 1: <img>a/1.png</img>\nWhat?"], {}, ["<image>\nWhat?", "A"]),
        (["<img>a/1.png</img>What?", "And?"], {"images": ["a/1.png"]}, ["<image>What?", "A", "And?", "A"]),
        (["<img>a/1.png</img>\nWhat?", "<img>./a/1.png</img>\nAnd?"], {}, ["<image>\nWhat?", "A", "And?", "A"]),
        ([[{"type": "text", "text": "<img>a/1.png</img>What?"}]], {}, ["<image>What?", "A"]),
    ],
)
def test_image_in_a_tag_of_the_question_is_read(tmp_path, contents: Any, beside: Any, texts: list[str]):
    """As Qwen-VL's records have it."""
    assert kept(tmp_path, {**asked(*contents), **beside}) == ("a/1.png", texts)


@pytest.mark.parametrize(
    "marker",
    [
        "<IMG_CONTEXT>",
        "<img><IMG_CONTEXT><IMG_CONTEXT></img>",
        "<IMG>",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|image_pad|>",
        "<|image|>",
        "<|image_1|>",
        "<image_placeholder>",
        "<Img><ImageHere></Img>",
        "<start_of_image>",
        "<image 1>",
        "<image_00>",
    ],
)
def test_markers_of_other_models_mark_the_image(tmp_path, marker: str):
    record = asked(f"{marker}\nWhat?")
    assert kept(tmp_path, {"images": ["1.png"], **record}) == ("1.png", ["<image>\nWhat?", "A"])
    assert kept(tmp_path, {"image": {"<image_00>": "1.png"}, **record})[0] == "1.png"
    found = read(tmp_path, record)  # whose image is lacking: no record of text alone
    assert isinstance(found, Entry)
    assert sample_problem(found.samples[0], has_image=False) == ("marker_without_image", "")


@pytest.mark.parametrize("text", ['<IMG SRC="a.png">', "[IMG]x[/IMG]", "<image>s</image>"[1:], "<|image", "<images1>"])
def test_what_only_resembles_a_marker_is_text(tmp_path, text: str):
    assert kept(tmp_path, asked(text)) == (None, [text, "A"])


def test_two_images_of_one_record_are_too_many(tmp_path):
    images = {"<image_00>": "1.png", "<image_01>": "2.png"}
    assert rejected(tmp_path, {"image": images, **asked("<image_00> or <image_01>?")})[0] == "image_many"


def test_two_images_in_tags_are_too_many(tmp_path):
    reason, _ = rejected(tmp_path, asked("Picture 1: <img>1.png</img>\nPicture 2: <img>2.png</img>\nWhich?"))
    assert reason == "image_many"


@pytest.mark.parametrize("text", ["Why <img></img>?", "Is <img>logo</img> HTML?", '<img src="1.png"> and </img>?'])
def test_tag_without_a_path_is_text(tmp_path, text: str):
    assert kept(tmp_path, asked(text)) == (None, [text, "A"])


@pytest.mark.parametrize("key", ["image_path", "image_file", "img_path", "image_paths", "Image", "img"])
def test_image_that_no_question_marks_is_not_trained_as_text(tmp_path, key: str):
    found = read(tmp_path, {key: "1.png", "conversations": PLAIN})
    assert isinstance(found, Entry)
    assert found.image == "1.png"
    assert sample_problem(found.samples[0], has_image=True) == ("marker_missing", "")


# --- answers and splits that a record declares ---


@pytest.mark.parametrize("flag", [{"label": False}, {"kto_tag": False}])
def test_bad_example_is_not_trained_on(tmp_path, flag: dict[str, Any]):
    assert rejected(tmp_path, {**asked("What?"), **flag})[0] == "answer_not_wanted"


@pytest.mark.parametrize("flag", [{"loss": False}, {"train": False}, {"weight": 0}, {"loss_scale": 0.0}])
def test_answer_that_is_left_out_of_the_loss_is_not_trained_on(tmp_path, flag: dict[str, Any]):
    record = asked("What?", "And?")
    record["messages"][1] |= flag
    [key] = flag
    assert rejected(tmp_path, record) == ("answer_not_wanted", f"messages[1].{key} is {flag[key]}")


@pytest.mark.parametrize("text", ["<bbox>", "<ref-object> at <bbox>"])
def test_placeholders_of_objects_are_not_trained_on(tmp_path, text: str):
    """ms-swift fills them in while it trains."""
    record = asked("Where?")
    record["messages"][1] = {"role": "assistant", "content": text}
    assert kept(tmp_path, record)[1] == ["Where?", text]  # talk about a tag
    reason, detail = rejected(tmp_path, {**record, "objects": {"bbox": [[1, 2, 3, 4]]}})
    assert (reason, "stands for a value of objects" in detail) == ("record_malformed", True)


@pytest.mark.parametrize("contents", [["What?"], ["What?", "And?"]])
def test_pair_of_answers_to_compare_is_named(tmp_path, contents: list[str]):
    """Its history alone is not what the record is about."""
    record = {**asked(*contents), "chosen": {"content": "A"}, "rejected": {"content": "B"}}
    assert kept(tmp_path, record)[1][-1] == "A"  # a whole conversation beside the pair
    record["messages"].pop()
    assert rejected(tmp_path, record) == (
        "record_malformed",
        "a pair of answers to compare, chosen and rejected, and none to learn",
    )


def test_flags_that_ask_for_training_and_those_of_questions_change_nothing(tmp_path):
    record = {**asked("What?"), "label": 0, "kto_tag": True}
    question, answer = record["messages"]
    record["messages"] = [{**question, "loss": False, "weight": 0}, {**answer, "loss": True, "weight": None}]
    assert kept(tmp_path, record) == (None, ["What?", "A"])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test", "test"),
        ("Test", "test"),
        ("test-dev2015", "test"),
        ("eval", "test"),
        ("valid", "validation"),
        ("val2014", "validation"),
        ("dev", "validation"),
        ("TRAIN", "train"),
        ("minitest", None),
        ("pretrain", None),
        (0, None),
        (None, None),
    ],
)
def test_declared_split_of_a_record_is_kept(tmp_path, name: Any, split: str | None):
    found = read(tmp_path, {"split": name, "image": "1.png", "conversations": TALK})
    assert isinstance(found, Entry)
    assert found.split == split


# --- other media ---


@pytest.mark.parametrize(
    "record",
    [
        {"video": "x.mp4", "conversations": PLAIN},
        {"videos": ["x.mp4"], "conversations": MEDIUM},
        {"image": "1.png", "video": "x.mp4", "conversations": MEDIUM},
        {"media": "x.mp4", "conversations": MEDIUM},
        {"audio": {"path": None, "bytes": "UklGR"}, "conversations": PLAIN},
        {"audio": {"array": [0.1], "sampling_rate": 16000}, "conversations": PLAIN},
        {"video": {"url": "https://x/y"}, "conversations": TALK},
        asked("What?\n<video>"),
        asked("<video><video>\nWhat?"),
        {"audios": ["x.wav"], **asked("<audio>What?")},
        asked([{"type": "video", "video": "x.mp4"}, TEXT]),
        asked([{"type": "input_audio", "input_audio": {"data": "AAAA"}}, TEXT]),
        asked([{"type": "audio_url", "audio_url": {"url": "x.wav"}}, TEXT]),
    ],
)
def test_record_about_a_video_or_a_sound_is_rejected(tmp_path, record: Any):
    assert rejected(tmp_path, record)[0] == "medium_not_read"


@pytest.mark.parametrize(
    ("record", "image"),
    [
        ({"image": "1.png", "video": "x.mp4", "conversations": TALK}, "1.png"),
        ({"video": None, "audios": [], "conversations": PLAIN}, None),
        ({"audio": "none", "conversations": PLAIN}, None),
        ({"video": "no", "videos": ["clip", 7], "audio": {"path": None}, "conversations": PLAIN}, None),
        ({"image": "1.png", "video": "x.mp4", **asked("<image>\nWhat is <video> in HTML?")}, "1.png"),
        (asked("How is <video> closed in HTML?"), None),
        (asked("<video> in HTML: how is it closed?"), None),
        (asked('What does this show?\n<video>\n<source src="x.mp4">\n</video>'), None),
    ],
)
def test_frame_of_a_video_and_talk_about_the_tag_are_kept(tmp_path, record: Any, image: str | None):
    assert kept(tmp_path, record)[0] == image


# --- turns ---


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": None, "conversations": TALK},
        {"messages": [], "conversations": TALK},
        {"conversation": TALK},
        {"conversations": json.dumps(TALK)},
        {"conversations": [{**turn, "role": None, "content": None} for turn in TALK]},
        {"conversations": [TALK[0], {"role": "assistant", "content": "Soup."}]},
        {"conversations": [{"from": turn["from"], "content": turn["value"]} for turn in TALK]},
        {"messages": [{"role": turn["from"], "value": turn["value"]} for turn in TALK]},
        *(
            {"conversations": [{**TALK[0], "from": human}, {**TALK[1], "from": model}]}
            for human, model in (("Human", "GPT"), ("USER", "ASSISTANT"), ("user", "model"), ("human", "chatgpt"))
        ),
    ],
)
def test_turns_are_found_in_every_spelling(tmp_path, fields: dict[str, Any]):
    assert kept(tmp_path, {"image": "1.png", **fields}) == ("1.png", ["<image>\nWhat?", "Soup."])


def test_table_with_an_empty_column_of_the_other_spelling_is_read(tmp_path):
    messages = pa.array([None], pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))
    table = pa.table({"messages": messages, "image": ["1.png"], "conversations": [TALK]})
    pq.write_table(table, tmp_path / "a.parquet")
    spec = Source(kind="llava_json", path=str(tmp_path), annotations="a.parquet", images=".")
    assert [type(found) for found in SOURCES["llava_json"](spec)] == [Entry]


@pytest.mark.parametrize(
    ("turns", "detail"),
    [
        ([*TALK, {"from": "system", "value": "x"}], "before the first turn"),
        ([TALK[0], {"from": "tool", "value": "x"}], "found 'tool'"),
        ([TALK[0], {"from": "gpt", "value": None}], "value must be text"),
        ("no list", "must be a list of turns; the record has image, conversations"),
    ],
)
def test_turns_that_cannot_be_read_are_named(tmp_path, turns: Any, detail: str):
    reason, found = rejected(tmp_path, {"image": "1.png", "conversations": turns})
    assert (reason, detail in found) == ("record_malformed", True), found


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ([{"role": "developer", "content": "Be brief."}], "Be brief."),
        (
            [{"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}],
            "Be brief.\n\nBe kind.",
        ),
        ([{"role": "system", "content": ["Be brief.", {"type": "text", "text": "Be kind."}]}], "Be brief. Be kind."),
    ],
)
def test_system_turns_before_the_first_stand_before_the_question(tmp_path, system: Any, text: str):
    assert kept(tmp_path, {"messages": system + asked("What?")["messages"]})[1] == [f"{text}\n\nWhat?", "A"]


@pytest.mark.parametrize(
    "parts",
    [
        [{"image": "1.png"}, {"text": "What?"}],
        [{"type": None, "image": "1.png", "text": None}, {"type": None, "image": None, "text": "What?"}],
        [{"image_url": {"url": "1.png"}}, "What?"],
    ],
)
def test_parts_without_a_type_are_what_their_key_says(tmp_path, parts: list[Any]):
    assert kept(tmp_path, asked(parts)) == ("1.png", ["<image>\nWhat?", "A"])


@pytest.mark.parametrize(
    ("part", "reason"),
    [({"video": "1.mp4"}, "medium_not_read"), ({"tool": "x"}, "record_malformed"), (1, "record_malformed")],
)
def test_parts_of_other_keys_are_rejected(tmp_path, part: Any, reason: str):
    assert rejected(tmp_path, asked([part, TEXT]))[0] == reason


def test_text_parts_are_joined_by_a_blank(tmp_path):
    """As the chat template of llava-hf/llava-1.5-7b-hf: `{{ content['text'] + ' ' }}`."""
    record = {"messages": asked([TEXT, IMAGE, AGAIN])["messages"][:1]}
    record["messages"].append({"role": "assistant", "content": [{"type": "text", "text": "So."}, AGAIN]})
    assert kept(tmp_path, record) == ("1.png", ["<image>\nWhat? And?", "So. And?"])
