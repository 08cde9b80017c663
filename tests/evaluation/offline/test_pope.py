"""POPE: eval_pope.py of LLaVA; figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.data.tasks import SHORT_PROMPT
from components.errors import UserError
from components.evaluation.offline.printing import lines
from tests.evaluation.offline.layouts import IN, LABELS, jsonl, pope, score


def test_popes_own_files_and_answers_without_ids_are_read(tmp_path: Path) -> None:
    folder = pope(tmp_path / "pope", [], {"random": LABELS})["annotations"]
    labels = folder / "coco_pope_random.json"
    asked = [json.loads(line) for line in labels.read_text().splitlines()]
    lines = [{"question": one["text"], "answer": one["label"]} for one in asked]
    report = score("pope", jsonl(tmp_path / "answers.json", lines), questions=labels, annotations=folder)
    assert report.metrics["pope_random"]["f1"] == 100
    assert any("answers without ids" in line for line in report.findings.lines)


def test_answers_without_ids_must_stand_in_the_questions_order(tmp_path: Path) -> None:
    asked = [(f"{n}.jpg", IN.format(f"thing{n}"), "yes") for n in range(20)]
    folder = pope(tmp_path / "pope", [], {"random": asked})["annotations"]
    files: dict[str, Any] = {"questions": folder / "coco_pope_random.json", "annotations": folder}
    said = [{"question": f"<image>\n{text} Say yes or no.", "answer": "yes"} for _, text, _ in asked]
    with pytest.raises(UserError, match=r"stand in another order .* add question_id"):
        score("pope", jsonl(tmp_path / "a.json", said[1:] + said[:1]), **files)
    said[7]["question"] = IN.format("thimg7")  # a spelling, not an order
    report = score("pope", jsonl(tmp_path / "a.json", said), **files)
    assert report.answered == [20]
    assert report.findings.unmatched["answers in other words"] == ["8"]


def test_pope_joins_by_category_image_and_text(tmp_path: Path) -> None:
    asked = [(c, image, text) for c in ("random", "popular") for image, text, _ in LABELS]
    files = pope(tmp_path / "pope", asked, {"random": LABELS[::-1], "popular": LABELS, "adversarial": LABELS})
    said = ["Yes", "No", "No.", "Yes", "Yes", "yes"]  # random: tp, tn, fn; popular: tp, fp, tp
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": text} for n, text in enumerate(said)])
    report = score("pope", answers, **files)
    assert report.metrics["pope_random"]["f1"] == pytest.approx(100 * 2 / 3)
    assert report.metrics["pope_popular"]["f1"] == pytest.approx(100 * 4 / 5)
    assert report.metrics["pope"]["f1"] == pytest.approx(100 * (2 / 3 + 4 / 5) / 2)
    assert report.metrics["pope_popular"]["yes_ratio"] == 100
    assert report.findings.unmatched == {}


@pytest.mark.parametrize(
    ("spelt", "label", "same"),
    [
        ("Is there a dog in the imange?", IN.format("dog"), True),
        ("Is there an dog in the image", IN.format("dog"), True),
        ("Is there a bakcpack in the image?", IN.format("backpack"), True),
        (IN.format("car"), IN.format("cat"), False),  # both are objects that are asked
        (IN.format("dog"), IN.format("elephant"), False),
    ],
)
def test_pope_matches_what_is_plainly_the_same_question(spelt: str, label: str, same: bool, tmp_path: Path) -> None:
    other = [("9.jpg", IN.format(thing), "no") for thing in ("car", "cat", "dog")]
    asked = [("random", "1.jpg", spelt), *(("random", image, text) for image, text, _ in other)]
    files = pope(tmp_path / "pope", asked, {"random": [("1.jpg", label, "yes"), *other]})
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": "Yes"} for n in range(4)])
    report = score("pope", answers, **files)
    assert report.questions == 3 + same
    unmatched = {"questions without a label": ["random 100"]} if not same else {}
    assert report.findings.unmatched.get("questions without a label") == unmatched.get("questions without a label")
    assert ("labels without a question" in report.findings.unmatched) == (not same)


def test_pope_says_what_it_does_with_missing_answers(tmp_path: Path) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100, "text": "Yes"}, {"question_id": 7, "text": "No"}])
    report = score("pope", answers, **files)
    assert report.metrics["pope"]["f1"] == 100
    assert report.other["pope"]["f1"] == pytest.approx(100 * 2 / (2 + 1 + 1))  # one wrong yes, one missed
    assert report.findings.unmatched["questions without an answer"] == ["101", "102"]
    assert report.findings.unmatched["answers without a question"] == ["7"]
    assert "2 missing: left out" in next(lines(report))


def test_pope_says_which_categories_its_mean_leaves_out(tmp_path: Path) -> None:
    asked = [(c, image, text) for c in ("random", "popular") for image, text, _ in LABELS]
    files = pope(tmp_path / "pope", asked, {"random": LABELS, "popular": LABELS})
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": "Yes"} for n in range(3)])
    report = score("pope", answers, **files)
    assert list(report.metrics) == ["pope", "pope_random"]
    assert any("no answer at all for pope_popular" in line for line in report.findings.lines)


def test_pope_empty_answers_are_answers(tmp_path: Path) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    report = score(
        "pope", jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": ""} for n in range(3)]), **files
    )
    assert report.metrics["pope"]["f1"] == pytest.approx(80)  # silence is yes to LLaVA's rule, which is reported:
    assert any("3 answers are empty" in line for line in report.findings.lines)
    assert not any("no answer at all" in line for line in report.findings.lines)


def test_one_id_of_several_questions_is_distinguished_by_the_prompt(tmp_path: Path) -> None:
    """The official label files number each category from 1."""
    asked = [(c, f"{c}.jpg", IN.format(c)) for c in ("random", "popular")]
    labels = {
        "random": [("random.jpg", IN.format("random"), "yes")],
        "popular": [("popular.jpg", IN.format("popular"), "no")],
    }
    files = pope(tmp_path / "pope", asked, labels)
    records = [json.loads(line) | {"question_id": 1} for line in files["questions"].read_text().splitlines()]
    jsonl(files["questions"], records)
    said = [
        {"question_id": 1, "text": text, "prompt": r["text"]} for r, text in zip(records, ("Yes", "No"), strict=True)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", said), **files)
    assert report.metrics["pope"]["accuracy"] == 100
    assert report.findings.lines == [f"{tmp_path / 'pope'} has no label file for adversarial"]
    bare = [{"question_id": 1, "text": "Yes"}]
    with pytest.raises(UserError, match="1 ids stand for different questions"):
        score("pope", jsonl(tmp_path / "b.jsonl", bare), **files)


@pytest.mark.parametrize(("rule", "f1"), [("llava", 80.0), ("lmms_eval", 100.0), ("vlmevalkit", 100 * 2 / 3)])
def test_pope_rules_differ_on_other_answers(rule: str, f1: float, tmp_path: Path) -> None:
    """Labels yes, no, yes; answers "yes", "I see none", "it is": LLaVA reads yes, yes, yes."""
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    said = ["yes", "I see none", "it is"]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": text} for n, text in enumerate(said)])
    assert score("pope", answers, rule, **files).metrics["pope"]["f1"] == pytest.approx(f1)


@pytest.mark.parametrize(("rule", "f1"), [("llava", (100 + 200 / 3) / 2), ("lmms_eval", 80.0), ("vlmevalkit", 80.0)])
def test_other_toolkits_pool_all_questions(rule: str, f1: float, tmp_path: Path) -> None:
    """Random: one yes, right. Popular: a right yes and a wrong one. Together TP 2, FP 1."""
    asked = [("random", "1.jpg", "Is it a dog?"), ("popular", "1.jpg", "Is it a dog?"), ("popular", "2.jpg", "Is it?")]
    labels = {"random": [("1.jpg", "Is it a dog?", "yes")]}
    labels["popular"] = [("1.jpg", "Is it a dog?", "yes"), ("2.jpg", "Is it?", "no")]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": "yes"} for n in range(3)])
    metrics = score("pope", answers, rule, **pope(tmp_path / "pope", asked, labels)).metrics
    assert metrics["pope"]["f1"] == pytest.approx(f1)
    assert metrics["pope_popular"]["f1"] == pytest.approx(200 / 3)


def test_answers_that_say_neither_yes_nor_no_are_counted(tmp_path: Path) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    said = ["Yes, a dog", "There is not", "A car"]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": text} for n, text in enumerate(said)])
    assert score("pope", answers, **files).findings.unmatched["answers that could not be read"] == ["102"]
    unread = score("pope", answers, "lmms_eval", **files).findings.unmatched["answers that could not be read"]
    assert unread == ["100", "101", "102"]


UNREAD_NO = ("**No**", "NO", "No!", '"No"', "(No)", "No\n", "No</s>", "Not sure", "No\nBecause it is.")


@pytest.mark.parametrize("said", UNREAD_NO)
def test_what_llavas_rule_takes_for_yes_without_a_yes_is_counted(said: str, tmp_path: Path) -> None:
    """Its rule stays as published: the figure is that of the rule."""
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    given = ["Yes", said, "yes!"]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": text} for n, text in enumerate(given)])
    report = score("pope", answers, **files)
    assert report.metrics["pope_random"]["precision"] == pytest.approx(200 / 3)  # labels yes, no, yes
    assert report.findings.unmatched["answers that could not be read"] == ["101"]
    lines = score("pope", answers, "lmms_eval", **files).findings.lines
    assert not any("llava reads 2" in line for line in lines)


@pytest.mark.realdata
def test_pope_official_labels_agree_with_plain_counting(realdata: Path, tmp_path: Path) -> None:
    folder = realdata / "pope"
    labels = {
        category: [json.loads(line) for line in (folder / f"coco_pope_{category}.json").read_text().splitlines()]
        for category in ("adversarial", "popular", "random")
    }
    questions, answers, f1 = [], [], {}
    for category, records in labels.items():
        tp = fp = fn = 0
        for n, record in enumerate(records):
            yes = (n * n + n // 7) % 3 != 0
            tp += yes and record["label"] == "yes"
            fp += yes and record["label"] == "no"
            fn += not yes and record["label"] == "yes"
            id = f"{category}-{n}"
            text = f"{record['text']}\n{SHORT_PROMPT}"
            questions.append({"question_id": id, "image": record["image"], "text": text, "category": category})
            answers.append({"question_id": id, "prompt": text, "text": "Yes" if yes else "No"})
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        f1[category] = 100 * 2 * precision * recall / (precision + recall)
    asked, given = jsonl(tmp_path / "q.jsonl", questions[::-1]), jsonl(tmp_path / "a.jsonl", answers)
    report = score("pope", given, questions=asked, annotations=folder)
    assert report.questions == sum(map(len, labels.values())) == 9000
    assert {name: report.metrics[f"pope_{name}"]["f1"] for name in f1} == pytest.approx(f1)
    assert report.metrics["pope"]["f1"] == pytest.approx(sum(f1.values()) / 3)


def test_a_category_that_is_answered_in_part_is_named(tmp_path: Path) -> None:
    """Answers to one category are joined by image and words to the yes questions of the others, which share them."""
    asked = [(category, image, text) for category in ("random", "popular") for image, text, _ in LABELS]
    asked[4] = ("popular", "1.jpg", "Is there a bus in the image?")
    labels = {"random": LABELS, "popular": [LABELS[0], ("1.jpg", "Is there a bus in the image?", "no"), LABELS[2]]}
    files = pope(tmp_path, asked, labels)
    said = [
        {"id": f"x{n}", "image": image, "question": text, "text": "yes"} for n, (image, text, _) in enumerate(LABELS)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", said), **files)
    assert report.metrics["pope_popular"]["f1"] == 100
    assert any("answered in part: pope_popular 2 of 3; their figures are of" in line for line in report.findings.lines)
