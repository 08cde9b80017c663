"""An answer's own words and image decide where its id is another question's: the right figure or a refusal."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.errors import UserError
from components.evaluation.offline.scoring import Report
from tests.evaluation.offline.layouts import IN, jsonl, pope, score

THINGS = [
    {
        "index": n,
        "question": f"What is thing {n} about?",
        **dict(zip("ABCD", ("red", "green", "blue", "brown"), strict=True)),
    }
    | {"answer": random.Random(n).choice("ABCD")}
    for n in range(40)
]
OTHER_ORDER = random.Random(1).sample(range(40), 40)


def whole(row: dict[str, Any]) -> str:
    return f"{row['question']}\nA. red\nB. green\nC. blue\nD. brown"


def things(folder: Path, asked: Callable[[dict[str, Any]], dict[str, Any]], order: list[int]) -> Report:
    """Right answers, each with what `asked` makes of its question; the ids number them in `order`."""
    pd.DataFrame(THINGS).to_csv(folder / "gold.tsv", sep="\t", index=False)
    given = [{"question_id": id, **asked(THINGS[n]), "prediction": THINGS[n]["answer"]} for id, n in enumerate(order)]
    return score("mmbench", jsonl(folder / "a.jsonl", given), annotations=folder / "gold.tsv")


CHAT = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n{}<|im_end|>\n"
ASKED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a request beside the question": lambda row: {"prompt": "Answer with one letter.", "question": whole(row)},
    "a chat template": lambda row: {"prompt": CHAT.format(whole(row))},
    "an example before": lambda row: {"prompt": f"{whole(THINGS[0])}\nAnswer: A\n\n{whole(row)}"},
    "a list of messages": lambda row: {"prompt": [{"role": "user", "content": whole(row)}]},
    "messages alone": lambda row: {"messages": [{"role": "system", "content": "Be short."}, {"content": whole(row)}]},
    "parts of a message": lambda row: {
        "prompt": [{"type": "image", "value": "1.jpg"}, {"type": "text", "value": whole(row)}]
    },
    "capitals": lambda row: {" Question": whole(row)},
    "options in columns": lambda row: {key: row[key] for key in ("question", *"ABCD")},
    "the question without options": lambda row: {"question": row["question"]},
}


@pytest.mark.parametrize("kind", ASKED)
def test_words_decide_wherever_they_stand(kind: str, tmp_path: Path) -> None:
    report = things(tmp_path, ASKED[kind], OTHER_ORDER)
    assert report.metrics["mmbench"]["single"] == 100
    assert any("its ids are not those of the questions" in line for line in report.findings.lines)
    report = things(tmp_path, ASKED[kind], list(range(40)))
    assert report.metrics["mmbench"]["single"] == 100
    assert report.findings.unmatched == {}
    assert not any("its ids" in line for line in report.findings.lines)


def test_a_prompt_that_all_answers_share_says_nothing(tmp_path: Path) -> None:
    report = things(tmp_path, lambda row: {"prompt": "Please answer with one letter."}, list(range(40)))
    assert report.metrics["mmbench"]["single"] == 100
    assert any("have the same prompt ('Please answer with one letter.')" in line for line in report.findings.lines)


def test_words_in_another_layout_contradict_where_another_question_is_nearer(tmp_path: Path) -> None:
    def asked(row: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": f"Question: {row['question']}\nContext: N/A\nOptions: (A) red (B) green (C) blue (D) brown"}

    assert things(tmp_path, asked, list(range(40))).metrics["mmbench"]["single"] == 100
    with pytest.raises(UserError, match="ids and words contradict"):
        things(tmp_path, asked, OTHER_ORDER)


def test_options_tell_questions_of_the_same_words_apart(tmp_path: Path) -> None:
    """Two kinds of question, ten of each with options of their own; the sheet numbers them the other way round."""
    gold = [
        {
            "index": n,
            "question": f"Which is {'it' if n < 10 else 'not'}?",
            "A": f"one {n}",
            "B": f"two {n}",
            "answer": "AB"[n % 2],
        }
        for n in range(20)
    ]
    pd.DataFrame(gold).to_csv(tmp_path / "gold.tsv", sep="\t", index=False)
    sheet = pd.DataFrame(gold[::-1]).assign(index=range(20), prediction=lambda table: table["answer"])
    sheet.to_csv(tmp_path / "a.csv", index=False)
    assert score("mmbench", tmp_path / "a.csv", annotations=tmp_path / "gold.tsv").metrics["mmbench"]["single"] == 100
    sheet[["index", "question", "prediction"]].to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="the words alone stand for several questions"):
        score("mmbench", tmp_path / "a.csv", annotations=tmp_path / "gold.tsv")


# --- images ---


def pope_of_two(folder: Path) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """30 images, a dog and a cat asked of each."""
    labels = [
        (f"{n}.jpg", IN.format(thing), "yes" if (n + k) % 2 else "no")
        for k, thing in enumerate(("dog", "cat"))
        for n in range(30)
    ]
    return pope(folder, [("random", image, text) for image, text, _ in labels], {"random": labels}), labels


def test_an_image_that_is_another_questions_contradicts_the_id(tmp_path: Path) -> None:
    files, labels = pope_of_two(tmp_path / "pope")
    order = random.Random(0).sample(range(30), 30)
    given = [labels[n] for n in [*order, *(30 + n for n in order)]]
    records = [
        {"question_id": 100 + id, "image": f"val/{image}", "prompt": text, "text": label}
        for id, (image, text, label) in enumerate(given)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", records), **files)
    assert report.metrics["pope_random"]["f1"] == 100
    assert any("joined by image and words" in line for line in report.findings.lines)


@pytest.mark.parametrize("prompt", ["What is it?", "Look. What is it? A. cat B. dog", ""])
def test_one_question_about_many_images_is_joined_by_the_image(prompt: str, tmp_path: Path) -> None:
    items = [
        {"question_id": str(n), "question": "What is it?", "choice_a": "cat", "choice_b": "dog", "answer": "AB"[n % 2]}
        | {"data_type": "image", "data_id": f"img{n}.jpg"}
        for n in range(20)
    ]
    gold = tmp_path / "gold.json"
    gold.write_text(json.dumps({"questions": items}))
    order = random.Random(0).sample(range(20), 20)
    given = [
        {"question_id": id, "image": f"img{n}.jpg", "prompt": prompt, "text": "AB"[n % 2]} for id, n in enumerate(order)
    ]
    assert (
        score("seed_bench", jsonl(tmp_path / "a.jsonl", given), annotations=gold).metrics["seed_bench"]["accuracy"]
        == 100
    )
    items = [
        {**item, "data_id": f"img{int(item['question_id']) % 10}.jpg", "question": "ab"[n // 10]}
        for n, item in enumerate(items)
    ]
    gold.write_text(json.dumps({"questions": items}))
    given = [{**one, "image": f"img{(n + 1) % 10}.jpg", "prompt": ""} for n, one in enumerate(given)]
    with pytest.raises(UserError, match=r"to img1.jpg, question 0 .* about img0.jpg, and that image is of several"):
        score("seed_bench", jsonl(tmp_path / "a.jsonl", given), annotations=gold)


def test_names_that_no_question_has_are_counted_and_contradict_nothing(tmp_path: Path) -> None:
    files, labels = pope_of_two(tmp_path / "pope")
    records = [
        {"question_id": 100 + id, "image": f"COCO_{image}", "prompt": text, "text": label}
        for id, (image, text, label) in enumerate(labels)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", records), **files)
    assert report.metrics["pope_random"]["f1"] == 100
    assert len(report.findings.unmatched["answers about an image of another name"]) == 60


def numbered(folder: Path, per_image: int, texts: int) -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """60 questions about images 000.jpg, 001.jpg and so on; `texts`: how many different questions there are."""
    labels = [(f"{n // per_image:03}.jpg", IN.format(f"thing{n % texts}"), "yes" if n % 2 else "no") for n in range(60)]
    return pope(folder, [("random", image, text) for image, text, _ in labels], {"random": labels}), labels


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize(("per_image", "texts"), [(1, 60), (1, 2), (3, 60), (3, 3)])
@pytest.mark.parametrize("numbering", ["from one", "of the question"])
def test_own_numbers_of_images_do_not_contradict_right_ids(
    numbering: str, per_image: int, texts: int, prompted: bool, tmp_path: Path
) -> None:
    files, labels = numbered(tmp_path / "pope", per_image, texts)
    records = [
        {"question_id": 100 + n, "text": label, "prompt": text if prompted else ""}
        | {"image": f"{n // per_image + 1 if numbering == 'from one' else n:03}.jpg"}
        for n, (_, text, label) in enumerate(labels)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", records), **files)
    assert (report.answered, report.metrics["pope_random"]["f1"]) == ([60], 100)


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize(("per_image", "texts"), [(1, 60), (1, 2), (3, 60), (3, 3)])
def test_numbers_of_images_decide_where_the_ids_are_wrong(
    per_image: int, texts: int, prompted: bool, tmp_path: Path
) -> None:
    files, labels = numbered(tmp_path / "pope", per_image, texts)
    order = random.Random(0).sample(range(60), 60)
    records = [
        {
            "question_id": 100 + id,
            "image": labels[n][0],
            "prompt": labels[n][1] if prompted else "",
            "text": labels[n][2],
        }
        for id, n in enumerate(order)
    ]
    answers = jsonl(tmp_path / "a.jsonl", records)
    if prompted or per_image == 1:
        assert score("pope", answers, **files).metrics["pope_random"]["f1"] == 100
    else:
        with pytest.raises(UserError, match="that image is of several questions"):
            score("pope", answers, **files)


# --- numbers that are off by one ---


def test_ids_that_are_off_by_one_inside_groups_of_one_question_are_refused(tmp_path: Path) -> None:
    gold = [
        {
            "index": 100 * k + n,
            "question": f"What is the colour of the {thing}?",
            "A": "red",
            "B": "green",
            "answer": "AB"[n % 2],
        }
        for k, thing in enumerate(("car", "dog", "cat", "bus"))
        for n in range(100)
    ]
    pd.DataFrame(gold).to_csv(tmp_path / "gold.tsv", sep="\t", index=False)
    given = [{"question_id": row["index"] + 1, "prompt": row["question"], "text": row["answer"]} for row in gold]
    for some in (given, given[:399], given[5:390]):
        with pytest.raises(
            UserError, match=r"3 answers have another question's words .* where 1 is taken from each id"
        ):
            score("mmbench", jsonl(tmp_path / "a.jsonl", some), annotations=tmp_path / "gold.tsv")
    given = [one | {"question_id": one["question_id"] - 1} for one in given]
    given[250] |= {"prompt": gold[0]["question"]}  # a single one in another group's words is no other numbering
    report = score("mmbench", jsonl(tmp_path / "a.jsonl", given), annotations=tmp_path / "gold.tsv")
    assert report.findings.unmatched["answers in other words"] == ["250"]


@pytest.mark.parametrize("form", ["LLaMA-Factory", "ms-swift"])
def test_records_without_ids_are_joined_by_what_they_repeat(form: str, tmp_path: Path) -> None:
    """In an order of their own; of messages, what the model says is no part of the question."""
    images = [(f"{n}.jpg", IN.format(thing), "yes" if n % 2 else "no") for n, thing in enumerate(("dog", "dog", "cat"))]
    files = pope(tmp_path, [("random", image, text) for image, text, _ in images], {"random": images})
    records: list[dict[str, Any]] = []
    for image, text, label in reversed(images):
        if form == "ms-swift":
            said = [{"role": "user", "content": f"<image>{text}"}, {"role": "assistant", "content": f"{label} cat"}]
            shown = [{"bytes": None, "path": f"/photos/{image}"}]
            records.append({"response": label, "labels": None, "messages": said, "images": shown})
        else:
            asked = f"user\n{text}\nassistant\n"
            records.append({"prompt": asked, "predict": label, "label": "?", "images": [f"photos/{image}"]})
    report = score("pope", jsonl(tmp_path / "a.jsonl", records), **files)
    assert (report.answered, report.metrics["pope"]["accuracy"]) == ([3], 100)
    assert any("its records have no ids" in line for line in report.findings.lines)
