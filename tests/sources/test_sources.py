"""What every reader in the table must do, and the warts of each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.data.schema import Sample
from components.data.tasks import TASKS
from components.errors import UserError
from components.params import Source
from components.prepare.checks import REASONS, sample_problem
from components.sources import SOURCES, reader
from components.sources.entry import Entry, Reject
from tests.raw import RAW, llava_record, raw_nutrition5k, raw_scienceqa, unifood_record, write_tar


def read(spec: Source) -> tuple[list[Entry], list[Reject]]:
    read = list(SOURCES[spec.kind](spec))
    return [e for e in read if isinstance(e, Entry)], [r for r in read if isinstance(r, Reject)]


def read_json(tmp_path: Path, kind: str, records: Any, name: str = "a.json") -> tuple[list[Entry], list[Reject]]:
    (tmp_path / name).write_text(json.dumps(records))
    return read(Source(kind=kind, path=str(tmp_path), annotations=name, images="."))


def read_lines(tmp_path: Path, kind: str, records: list[Any]) -> tuple[list[Entry], list[Reject]]:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    return read(Source(kind=kind, path=str(tmp_path), annotations="*.jsonl", images="."))


def test_table_holds_every_source_and_a_sample_of_each():
    assert set(SOURCES) == {"flickr30k", "llava_json", "nutrition5k", "scienceqa", "unifood", "webdataset"} == set(RAW)


def test_every_reason_code_of_the_table_is_used():
    rooms = [Path(__file__).parents[2] / "components" / room for room in ("data", "images", "prepare", "sources")]
    code = "".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    unused = [reason for reason in REASONS if code.count(f'"{reason}"') < 2]  # once is the table itself
    assert not unused


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_sound_data_is_read_whole(tmp_path, kind: str):
    entries, rejects = read(RAW[kind](tmp_path / "raw"))
    assert not rejects
    assert len(entries) == (12 if kind == "nutrition5k" else 6)
    samples = [sample for entry in entries for sample in entry.samples]
    assert {sample.task for sample in samples} <= set(TASKS)
    assert len({sample.id for sample in samples}) == len(samples)
    assert all(entry.group.startswith(f"{kind}:") for entry in entries)


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_missing_folder_and_missing_files_are_one_line(tmp_path, kind: str):
    spec = RAW[kind](tmp_path / "raw")
    with pytest.raises(UserError, match="is missing; run: dvc repro plates, or put the files there"):
        list(SOURCES[kind](spec.model_copy(update={"path": str(tmp_path / "none")})))
    with pytest.raises(UserError, match="holds no file 'none"):
        list(SOURCES[kind](spec.model_copy(update={"annotations": "none*"})))


def test_environment_variables_in_a_path_are_put_in(tmp_path, monkeypatch):
    spec = RAW["unifood"](tmp_path / "raw").model_copy(update={"path": "${LEA_TEST_FOLDER}/raw"})
    monkeypatch.setenv("LEA_TEST_FOLDER", str(tmp_path))
    assert len(read(spec)[0]) == 6
    monkeypatch.delenv("LEA_TEST_FOLDER")
    with pytest.raises(UserError, match="LEA_TEST_FOLDER is not set"):
        read(spec)


def test_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="flickr30k, llava_json"):
        reader("llava")


# --- llava_json ---


def test_llava_ids_and_text_only_records_are_taken_as_they_come(tmp_path):
    plain = {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    records = [
        llava_record(1, id=7),
        {"id": "x", "model": "", **plain},
        {**plain, "image": None},
        llava_record(2, image=["2.png"]),
    ]
    entries, rejects = read_json(tmp_path, "llava_json", records)
    assert not rejects
    assert [entry.samples[0].id for entry in entries] == ["7", "x", "a.json:2", "00002"]
    assert [entry.image for entry in entries] == ["1.png", None, None, "2.png"]
    assert entries[1].group == entries[2].group  # the same text under two ids stays together


def test_llava_captions_are_reported_from_instructions(tmp_path):
    turn = [
        {"from": "human", "value": "<image>\nRender a clear and concise summary of the photo."},
        {"from": "gpt", "value": "x"},
    ]
    more = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "y"}]
    records = [llava_record(1, conversations=turn), llava_record(2, conversations=turn + more)]
    other = [{"from": "human", "value": "How many plates?\n<image>"}, {"from": "gpt", "value": "x"}]
    records.append(llava_record(3, conversations=other))
    entries, _ = read_json(tmp_path, "llava_json", records)
    assert [entry.samples[0].task for entry in entries] == ["caption", "chat", "chat"]


TALK: list[dict[str, str]] = llava_record(1)["conversations"]


@pytest.mark.parametrize(
    "changes",
    [
        {"conversations": [{"from": "system", "value": "Be brief."}, *TALK]},
        {"system": "Be brief."},
        {"system": " Be brief.\n", "conversations": [{"from": "system", "value": "Be brief."}, *TALK]},
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": TALK[0]["value"]},
                {"role": "assistant", "content": TALK[1]["value"]},
            ]
        },
    ],
)
def test_system_text_stands_before_the_first_question_in_every_spelling(tmp_path, changes: dict[str, Any]):
    entries, rejects = read_json(tmp_path, "llava_json", [llava_record(1, **changes)])
    assert not rejects
    assert [turn.text for turn in entries[0].samples[0].turns] == ["Be brief.\n\nWhat is this?\n<image>", "plate 1"]


@pytest.mark.parametrize("changes", [{"system": ""}, {"system": None}, {"conversations": [{"from": "system"}, *TALK]}])
def test_empty_system_text_falls_out(tmp_path, changes: dict[str, Any]):
    entries, _ = read_json(tmp_path, "llava_json", [llava_record(1, **changes)])
    assert [turn.text for turn in entries[0].samples[0].turns] == ["What is this?\n<image>", "plate 1"]


def test_conversation_is_read_from_the_first_question_to_the_last_answer(tmp_path):
    hello, more = {"from": "gpt", "value": "Hello."}, {"from": "human", "value": "And?"}
    listed = [[hello, *TALK], [*TALK, more], [hello, *TALK, more], [hello], [more], [hello, hello, *TALK]]
    entries, _ = read_json(tmp_path, "llava_json", [llava_record(1, conversations=turns) for turns in listed])
    found = [[turn.role for turn in entry.samples[0].turns] for entry in entries]
    assert found == [["human", "assistant"]] * 3 + [["assistant"], ["human"], ["assistant", "human", "assistant"]]
    assert [sample_problem(entry.samples[0], True) is None for entry in entries] == [True] * 3 + [False] * 3


IMAGE: dict[str, Any] = {"type": "image"}
QUESTION = {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    ("parts", "beside"),
    [
        ([IMAGE, QUESTION], {"images": ["dog.jpg"]}),
        ([IMAGE, QUESTION], {"image": "dog.jpg"}),
        ([IMAGE, QUESTION], {"images": [{"path": "dog.jpg", "bytes": None}]}),
        ([{**QUESTION, "index": None}, {**IMAGE, "index": 0, "text": None}], {"images": ["dog.jpg"]}),
        ([{**IMAGE, "path": "dog.jpg"}, QUESTION], {}),
        ([{**IMAGE, "url": "dog.jpg"}, QUESTION], {}),
        ([{**IMAGE, "image": "dog.jpg"}, QUESTION], {"images": ["dog.jpg"]}),
        ([{**IMAGE, "image": {"path": "dog.jpg"}}, QUESTION], {"images": None}),
    ],
)
def test_image_parts_take_their_names_from_themselves_or_from_the_list(tmp_path, parts: Any, beside: dict[str, Any]):
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": "a dog"}]}]
    entries, rejects = read_json(tmp_path, "llava_json", [{"messages": turns, **beside}])
    assert not rejects
    assert (entries[0].image, entries[0].samples[0].turns[0].text) == ("dog.jpg", "<image>\nWhat?")


@pytest.mark.parametrize(
    ("parts", "beside", "reason"),
    [
        ([IMAGE, IMAGE, QUESTION], {"images": ["1.jpg", "2.jpg"]}, "image_many"),
        ([IMAGE, QUESTION], {"images": ["1.jpg", "2.jpg"]}, "image_many"),
        ([IMAGE, IMAGE, QUESTION], {"images": ["1.jpg"]}, "record_malformed"),
        ([{**IMAGE, "index": 3}, QUESTION], {"images": ["1.jpg"]}, "record_malformed"),
        ([IMAGE, QUESTION], {"images": [{"path": "1.jpg", "bytes": "iVBOR"}]}, "image_in_record"),
    ],
)
def test_image_parts_that_cannot_be_used_are_named(tmp_path, parts: Any, beside: dict[str, Any], reason: str):
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a dog"}]
    entries, rejects = read_json(tmp_path, "llava_json", [{"messages": turns, **beside}])
    assert not entries
    assert [reject.reason for reject in rejects] == [reason]


@pytest.mark.parametrize(("key", "role", "text"), [("conversations", "role", "content"), ("messages", "from", "value")])
def test_either_spelling_of_a_turn_stands_under_either_key(tmp_path, key: str, role: str, text: str):
    turns = [{role: "user", text: "<image>\nWhat?"}, {role: "assistant", text: "a dog"}]
    entries, rejects = read_json(tmp_path, "llava_json", [{"image": "dog.jpg", key: turns}])
    assert not rejects
    assert [turn.text for turn in entries[0].samples[0].turns] == ["<image>\nWhat?", "a dog"]


def test_companions_of_the_operating_system_are_no_annotations_and_no_members(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([llava_record(1)]))
    (tmp_path / "._a.json").write_bytes(b"\0\5\x16\7")
    assert len(read(Source(kind="llava_json", path=str(tmp_path), annotations="*.json", images="."))[0]) == 1
    write_tar(tmp_path / "p.tar", {"._1.jpg": b"\0\5", "1.jpg": b"x", "._1.txt": b"\0\5", "1.txt": b"one"})
    entries, rejects = read(Source(kind="webdataset", path=str(tmp_path), annotations="*.tar", images=None))
    assert ([entry.image for entry in entries], rejects) == (["p.tar/1.jpg"], [])


def test_messages_with_parts_are_read(tmp_path):
    def record(*parts: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": "a dog"}]}

    image = {"type": "image_url", "image_url": {"url": "dog.jpg", "image_wh": [1, 2]}}
    records = [
        record(image, {"type": "text", "text": "<IMG_CONTEXT>\nWhat?"}),
        record({"type": "image", "image": "dog.jpg"}, {"type": "text", "text": "What?"}),
        record(image, {"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "What?"}),
        record({"type": "video", "video": "x.mp4"}),
    ]
    entries, rejects = read_json(tmp_path, "llava_json", records)
    assert [(entry.image, entry.samples[0].turns[0].text) for entry in entries] == [("dog.jpg", "<image>\nWhat?")] * 2
    assert [reject.reason for reject in rejects] == ["image_many", "medium_not_read"]


@pytest.mark.parametrize(
    "record",
    [
        5,
        [],
        {},
        {"conversations": "x"},
        {"conversations": [1]},
        {"conversations": [{"from": "human"}]},
        {"conversations": [{"from": "system", "value": 3}]},
        {"conversations": [*llava_record(1)["conversations"], {"from": "system", "value": "x"}]},
        llava_record(1, system=["x", 3, {"text": 3}]),
        {"conversations": [{"from": 1, "value": "x"}]},
        llava_record(1, image=3),
        llava_record(1, image=[["x"]]),
        {"messages": [{"role": "user", "content": [3]}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    ],
)
def test_llava_record_of_another_form_is_rejected(tmp_path, record: Any):
    entries, rejects = read_json(tmp_path, "llava_json", [record])
    assert not entries
    assert [reject.reason for reject in rejects] == ["record_malformed"]


# --- unifood ---


def test_unifood_tasks_follow_the_fields_that_are_there(tmp_path):
    records = [
        unifood_record(1),
        unifood_record(2, nutrition=None, instructions=["Boil.", "Eat."]),
        unifood_record(3, dish="d", split="val"),
    ]
    entries, rejects = read_lines(tmp_path, "unifood", records)
    assert not rejects
    assert [[sample.task for sample in entry.samples] for entry in entries] == [
        ["ingredients", "recipe", "nutrition"],
        ["ingredients", "recipe"],
        ["ingredients", "recipe", "nutrition"],
    ]
    assert entries[1].samples[1].turns[1].text == "The instructions are as follows: Boil. Eat."
    assert (entries[2].group, entries[2].split) == ("unifood:d", "validation")


def test_unifood_dishes_are_held_together_whatever_their_number_is(tmp_path):
    """A table with an empty cell makes 12.0 of 12, and NaN of the empty one."""
    records = [unifood_record(1, dish=12.0), unifood_record(2, dish=12), unifood_record(3, dish="12")]
    records += [unifood_record(4, dish=float("nan")), unifood_record(5, id=7.0), unifood_record(6, dish=0)]
    entries, rejects = read_lines(tmp_path, "unifood", records)
    assert not rejects
    assert [entry.group.removeprefix("unifood:") for entry in entries] == ["12", "12", "12", "4", "7", "0"]


@pytest.mark.parametrize("dish", [["a"], {"id": 1}, True])
def test_unifood_dish_that_is_no_id_is_rejected(tmp_path, dish: Any):
    entries, rejects = read_lines(tmp_path, "unifood", [unifood_record(1, dish=dish)])
    assert not entries
    assert [(reject.reason, reject.detail[:27]) for reject in rejects] == [
        ("record_malformed", "dish must be text or a numb")
    ]


@pytest.mark.parametrize(
    ("changes", "id", "reason"),
    [
        ({"ingredients": "rice"}, "1/ingredients", "record_malformed"),
        ({"ingredients": [1]}, "1/ingredients", "record_malformed"),
        ({"instructions": 3}, "1/recipe", "record_malformed"),
        ({"nutrition": [1]}, "1/nutrition", "record_malformed"),
        ({"nutrition": {"mass_g": 1}}, "1/nutrition", "nutrition_malformed"),
        ({"image": None}, "1", "record_malformed"),
    ],
)
def test_unifood_names_the_part_that_is_wrong(tmp_path, changes: dict[str, Any], id: str, reason: str):
    entries, rejects = read_lines(tmp_path, "unifood", [unifood_record(1, **changes)])
    assert [(reject.id, reject.reason) for reject in rejects] == [(id, reason)]
    assert sum(len(entry.samples) for entry in entries) == (0 if id == "1" else 2)


# --- scienceqa ---


def test_scienceqa_splits_images_and_letters(tmp_path):
    entries, _ = read(raw_scienceqa(tmp_path / "raw"))
    assert [entry.split for entry in entries] == ["train", "validation", "test"] * 2
    assert [entry.image for entry in entries][:2] == [None, "val/1/image.png"]
    assert [entry.samples[0].turns[1].text for entry in entries] == ["A", "B", "C"] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": 3},
        {"answer": -1},
        {"answer": True},
        {"answer": None},
        {"choices": ["x"]},
        {"choices": "xy"},
        {"question": 1},
        {"image": 1},
        {"hint": 1},
    ],
)
def test_scienceqa_problem_of_another_form_is_rejected(tmp_path, changes: dict[str, Any]):
    problem = {"question": "q", "choices": ["x", "y", "z"], "answer": 0, "hint": "", "image": None, "split": "train"}
    problems = {"1": problem | changes, "2": problem, "3": "x"}
    entries, rejects = read_json(tmp_path, "scienceqa", problems)
    assert [entry.samples[0].id for entry in entries] == ["2"]
    assert [reject.id for reject in rejects] == ["1", "3"]


# --- flickr30k ---


def test_flickr30k_token_file_keeps_five_captions_together(tmp_path):
    entries, _ = read(RAW["flickr30k"](tmp_path / "raw"))
    assert [len(entry.samples) for entry in entries] == [5] * 6
    assert entries[0].samples[3] == Sample("0.png#3", "caption", entries[0].samples[3].turns)
    assert entries[0].samples[3].turns[1].text == "caption 3 of 0"


def test_flickr30k_line_of_another_form_is_rejected(tmp_path):
    (tmp_path / "results.token").write_text("\ufeff1.jpg#0\tA dog.\nno caption\n1.jpg#1 A cat.\n", encoding="utf-8")
    entries, rejects = read(Source(kind="flickr30k", path=str(tmp_path), annotations="*.token", images="."))
    assert [sample.turns[1].text for sample in entries[0].samples] == ["A dog.", "A cat."]
    assert [(reject.id, reject.reason) for reject in rejects] == [("results.token:1", "record_malformed")]


def test_flickr30k_karpathy_splits_are_kept(tmp_path):
    images = [
        {"filename": "1.jpg", "split": "restval", "sentences": [{"raw": "A dog. "}, {"raw": "B"}]},
        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "C"}]},
        {"filename": "3.jpg", "sentences": []},
        {"filename": "4.jpg", "sentences": [{"tokens": []}]},
    ]
    entries, rejects = read_json(tmp_path, "flickr30k", {"dataset": "flickr30k", "images": images})
    assert [(entry.image, entry.split, len(entry.samples)) for entry in entries] == [
        ("1.jpg", "train", 2),
        ("2.jpg", "test", 1),
    ]
    assert len(rejects) == 2
    with pytest.raises(UserError, match="must hold a list images"):
        read_json(tmp_path, "flickr30k", {"dataset": "flickr30k", "images": None})


# --- nutrition5k ---


def nutrition5k_with(tmp_path: Path, *rows: str) -> tuple[list[Entry], list[Reject]]:
    spec = raw_nutrition5k(tmp_path / "raw", number=2)
    (tmp_path / "raw/dish_metadata_cafe1.csv").write_text("\n".join(rows))
    return read(spec)


RICE = "ingr_1,white rice,100,130,1,28,3"


def test_nutrition5k_photos_of_a_dish_are_one_group(tmp_path):
    entries, _ = read(raw_nutrition5k(tmp_path / "raw", number=2))
    assert [(entry.image, entry.group) for entry in entries][:2] == [
        ("imagery/dish_0/camera_A_frame_001.png", "nutrition5k:dish_0"),
        ("overhead/dish_0.png", "nutrition5k:dish_0"),
    ]
    assert [sample.task for sample in entries[0].samples] == ["ingredients", "nutrition"]
    # columns: calories, mass, fat, carbohydrate, protein
    gold = json.loads(entries[0].samples[1].gold or "")
    assert gold == {"mass_g": 100, "calories_kcal": 130, "fat_g": 1, "protein_g": 3, "carbohydrate_g": 28}


@pytest.mark.parametrize(
    ("row", "task", "reason"),
    [
        (f"dish_0,0,100,0,0,0,{RICE}", "nutrition", "nutrition_zero_total"),
        (f"dish_0,9486,159,1,28,3,{RICE}", "nutrition", "nutrition_over_9_kcal_per_g"),
        ("dish_0,130,100,1,28,3,ingr_1,deprecated,100,130,1,28,3", "ingredients", "ingredient_deprecated"),
        ("dish_0,130,100,1,28", "dish_0", "record_malformed"),
        (f"dish_0,130,100,1,28,3,{RICE},ingr_2,oil,1", "dish_0", "record_malformed"),
        (f"dish_0,130,100,one,28,3,{RICE}", "dish_0", "record_malformed"),
        (f"dish_0,nan,100,1,28,3,{RICE}", "dish_0", "record_malformed"),
    ],
)
def test_nutrition5k_wart_is_rejected_for_each_photo(tmp_path, row: str, task: str, reason: str):
    entries, rejects = nutrition5k_with(tmp_path, row, f"dish_1,130,100,1,28,3,{RICE}")
    assert [(reject.id, reject.reason) for reject in rejects] == [
        (f"imagery/dish_0/camera_A_frame_001.png:{task}", reason),
        (f"overhead/dish_0.png:{task}", reason),
    ]
    assert not any(reject.expected for reject in rejects)
    left = 0 if reason == "record_malformed" else 2
    assert sum(entry.group == "nutrition5k:dish_0" for entry in entries) == left


def test_nutrition5k_padded_rows_read_like_ragged_ones(tmp_path):
    entries, rejects = nutrition5k_with(
        tmp_path, f"dish_0,130,100,1,28,3,{RICE},,,,,,,", f"dish_1,130,100,1,28,3,{RICE}"
    )
    assert not rejects
    assert len(entries) == 4


def test_nutrition5k_dish_without_photo_photo_without_dish_and_double_dish_are_named(tmp_path):
    good = f"130,100,1,28,3,{RICE}"
    entries, rejects = nutrition5k_with(tmp_path, f"dish_0,{good}", f"dish_0,{good}", f"dish_7,{good}")
    assert len(entries) == 2
    assert [(reject.id, reject.reason, reject.expected) for reject in rejects] == [
        ("dish_0", "duplicate_id", False),
        ("dish_7", "no_photo", True),
        ("imagery/dish_1/camera_A_frame_001.png", "no_annotation", False),
        ("overhead/dish_1.png", "no_annotation", False),
    ]


def test_nutrition5k_published_splits_are_kept(tmp_path):
    spec = raw_nutrition5k(tmp_path / "raw", number=2)
    (tmp_path / "raw/dish_ids/splits").mkdir(parents=True)
    (tmp_path / "raw/dish_ids/splits/rgb_test_ids.txt").write_text("dish_1\n")
    assert [entry.split for entry in read(spec)[0]] == [None, None, "test", "test"]
    (tmp_path / "raw/dish_ids/splits/depth_test_ids.txt").write_text("dish_0\n")
    (tmp_path / "raw/dish_ids/splits/rgb_train_ids.txt").write_text("dish_0\ndish_1\n")
    assert [entry.split for entry in read(spec)[0]] == ["test"] * 4


# --- webdataset ---


def test_webdataset_incomplete_samples_are_named(tmp_path):
    files = {
        "a/1.jpg": b"x",
        "a/1.txt": b" one \n",
        "a/2.jpg": b"x",
        "a/3.txt": b"three",
        "a/4.jpg": b"x",
        "a/4.json": b'{"caption": 3}',
        "a/5.x.jpg": b"x",
        "6.JPG": b"x",
        "6.json": b'{"caption": "six"}',
    }
    write_tar(tmp_path / "p.tar", files)
    entries, rejects = read(Source(kind="webdataset", path=str(tmp_path), annotations="*.tar", images=None))
    assert [(entry.image, entry.samples[0].turns[1].text) for entry in entries] == [
        ("p.tar/a/1.jpg", "one"),
        ("p.tar/6.JPG", "six"),
    ]
    assert [(reject.id, reject.reason) for reject in rejects] == [
        ("p.tar/a/2", "record_malformed"),
        ("p.tar/a/3", "image_missing"),
        ("p.tar/a/4", "record_malformed"),
        ("p.tar/a/5", "image_missing"),
    ]
