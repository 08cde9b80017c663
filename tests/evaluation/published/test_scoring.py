"""Published layouts built in code, scored; each figure worked out by hand from the rule's source."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.data.tasks import CHOICE_PROMPT, INGREDIENTS_QUESTION, SHORT_PROMPT
from components.errors import UserError
from components.evaluation.published.questions import Files
from components.evaluation.published.scoring import Report, score_files
from components.evaluation.published.telling import as_json, lines


def jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def score(name: str, answers: Path | list[Path], rule: str | None = None, **files: Path) -> Report:
    given = answers if isinstance(answers, list) else [answers]
    report = score_files(name, Files(answers=tuple(given), **files), rule)
    json.dumps(as_json(report))
    assert list(lines(report))
    return report


# --- POPE: eval_pope.py of LLaVA ---


def pope(
    folder: Path, asked: list[tuple[str, str, str]], labels: dict[str, list[tuple[str, str, str]]]
) -> dict[str, Path]:
    """asked: (category, image, text); labels: category -> (image, text, label), in an order of their own."""
    questions = [
        {"question_id": 100 + n, "image": image, "text": f"{text}\n{SHORT_PROMPT}", "category": category}
        for n, (category, image, text) in enumerate(asked)
    ]
    for category, of_category in labels.items():
        records = [
            {"question_id": n, "image": image, "text": text, "label": label}
            for n, (image, text, label) in enumerate(of_category, start=1)
        ]
        jsonl(folder / f"coco_pope_{category}.json", records)
    return {"questions": jsonl(folder / "llava_pope_test.jsonl", questions), "annotations": folder}


IN = "Is there a {} in the image?"
LABELS = [("1.jpg", IN.format("dog"), "yes"), ("1.jpg", IN.format("cat"), "no"), ("2.jpg", IN.format("car"), "yes")]


def test_popes_own_files_and_answers_without_ids_are_read(tmp_path: Path) -> None:
    folder = pope(tmp_path / "pope", [], {"random": LABELS})["annotations"]
    labels = folder / "coco_pope_random.json"
    asked = [json.loads(line) for line in labels.read_text().splitlines()]
    lines = [{"question": one["text"], "answer": one["label"]} for one in asked]
    report = score("pope", jsonl(tmp_path / "answers.json", lines), questions=labels, annotations=folder)
    assert report.metrics["pope_random"]["f1"] == 100
    assert any("answers without ids" in line for line in report.findings.lines)


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
    assert report.metrics["pope"]["f1"] == pytest.approx(80)  # silence is yes to LLaVA's rule, which is told:
    assert any("3 answers are empty" in line for line in report.findings.lines)
    assert not any("no answer at all" in line for line in report.findings.lines)


def test_one_id_of_several_questions_is_told_apart_by_the_prompt(tmp_path: Path) -> None:
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


# --- MME: eval_tool/calculation.py ---


def mme(folder: Path) -> Path:
    folder.mkdir()
    count = [("1.jpg", "Is it one?", "Yes"), ("1.jpg", "Is it two?", "No"), ("2.jpg", "Is it one?", "No")]
    count.append(("2.jpg", "Is it  two?", "Yes"))
    for subtask, rows in {"count": count, "OCR": count[:2], "code_reasoning": count[:2]}.items():
        text = "".join(
            f"{image}\t{question} Please answer yes or no.\t{gold}\tmore\n" for image, question, gold in rows
        )
        (folder / f"{subtask}.txt").write_text(text)
    return folder


def mme_answers(path: Path, said: dict[str, str]) -> Path:
    """said: "subtask/image question" -> text."""
    records = []
    for key, text in said.items():
        id, _, question = key.partition(" ")
        records.append({"question_id": id, "prompt": f"{question}\n{SHORT_PROMPT}", "text": text})
    return jsonl(path, records)


SAID = {
    "count/1.jpg Is it one?": "Yes",
    "count/1.jpg Is it two?": "No",
    "count/2.jpg Is it two?": "yes, two",
    "count/2.jpg Is it one?": "I do not know",
    "OCR/1.jpg Is it one?": "Yes",
    "OCR/1.jpg Is it two?": "Yes",
    "code_reasoning/1.jpg Is it one?": "Yes",
    "code_reasoning/1.jpg Is it two?": "No",
}


def test_mme_adds_accuracy_and_accuracy_plus(tmp_path: Path) -> None:
    report = score("mme", mme_answers(tmp_path / "a.jsonl", SAID), annotations=mme(tmp_path / "gt"))
    assert report.metrics["mme_count"] == {"score": 75 + 50, "accuracy": 75, "accuracy_plus": 50}
    assert report.metrics["mme_OCR"]["score"] == 50 + 0
    assert report.metrics["mme"] == {"perception": 175, "cognition": 200}
    assert any("no ground truth for existence" in line for line in report.findings.lines)


def test_mme_leaves_out_both_questions_of_a_half_answered_image(tmp_path: Path) -> None:
    half = {key: text for key, text in SAID.items() if key != "count/2.jpg Is it two?"}
    report = score("mme", mme_answers(tmp_path / "a.jsonl", half), annotations=mme(tmp_path / "gt"))
    assert report.metrics["mme_count"]["score"] == 200
    assert report.other["mme_count"] == {"score": 50 + 50, "accuracy": 50, "accuracy_plus": 50}


def test_mme_own_folders_of_answers_are_read(tmp_path: Path) -> None:
    filled = mme(tmp_path / "filled")
    for file in filled.glob("*.txt"):
        file.write_text(file.read_text().replace("\tmore", "\tYes"))
    report = score("mme", filled, annotations=filled)
    assert report.metrics["mme_count"] == {"score": 50, "accuracy": 50, "accuracy_plus": 0}


# --- MMBench: a question counts when every rotation is right ---


def mmbench_rows() -> pd.DataFrame:
    rows = []
    for index, answer, options in (
        (1, "A", ["red", "blue"]),
        (1_000_001, "B", ["blue", "red"]),
        (2, "B", ["one", "two"]),
        (1_000_002, "A", ["two", "one"]),
    ):
        row = dict(zip("ABCD", [*options, None, None], strict=True))
        rows.append({"index": index, "question": "Which?", "hint": None, **row, "answer": answer, "category": "hue"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("layout", ["xlsx", "tsv", "jsonl"])
def test_mmbench_counts_whole_circles(layout: str, tmp_path: Path) -> None:
    said = ["A", "B. red", "B", "B"]  # the second question fails in one rotation
    frame = mmbench_rows()
    table = tmp_path / "mmbench_dev.tsv"
    frame.to_csv(table, sep="\t", index=False)
    answers = tmp_path / f"answers.{layout}"
    if layout == "jsonl":
        jsonl(answers, [{"question_id": i, "text": t} for i, t in zip(frame["index"].tolist(), said, strict=True)])
    elif layout == "xlsx":
        frame.assign(prediction=said).to_excel(answers, index=False)
    else:
        frame.assign(prediction=said).to_csv(answers, sep="\t", index=False)
    report = score("mmbench", answers, annotations=table)
    assert report.metrics["mmbench"] == {"circular": 50, "single": 100}
    assert report.metrics["mmbench_hue"] == {"circular": 50}
    assert score("mmbench", answers, "exact", annotations=table).metrics["mmbench"]["circular"] == 0
    if layout != "jsonl":
        assert score("mmbench", answers).metrics == report.metrics  # the answers' own table has the gold


def test_mmbench_without_answers_in_the_gold_is_refused(tmp_path: Path) -> None:
    mmbench_rows().drop(columns="answer").to_csv(tmp_path / "test.tsv", sep="\t", index=False)
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}])
    with pytest.raises(UserError, match="test split has no answers"):
        score("mmbench", answers, annotations=tmp_path / "test.tsv")
    with pytest.raises(UserError, match="needs --annotations"):
        score("mmbench", answers)


def test_mmbench_gold_is_not_taken_for_answers(tmp_path: Path) -> None:
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().to_csv(table, sep="\t", index=False)
    with pytest.raises(UserError, match="holds no answers"):
        score("mmbench", table, annotations=table)


def test_mmbench_first_rotations_alone_are_scored(tmp_path: Path) -> None:
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().to_csv(table, sep="\t", index=False)
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}, {"question_id": 2, "text": "A"}])
    report = score("mmbench", answers, annotations=table)
    assert report.metrics["mmbench"] == {"circular": 0, "single": 50}
    assert report.other == {}  # no circle is whole
    assert report.findings.unmatched["questions without an answer"] == ["1000001", "1000002"]


def test_mmbench_rotations_show_the_image_of_the_row_that_they_name(tmp_path: Path) -> None:
    from components.evaluation.benchmarks import mmbench
    from components.evaluation.published.findings import Findings

    image = base64.b64encode(bytes(range(90))).decode()
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().assign(image=[image, "1", image, "9"]).to_csv(table, sep="\t", index=False)
    asked = mmbench.read(Files(annotations=table), Findings())
    assert [question.image for question in asked] == [bytes(range(90))] * 3 + [None]


# --- SEED-Bench: convert_seed_for_submission.py of LLaVA ---


def test_seed_bench_keeps_images_and_videos_apart(tmp_path: Path) -> None:
    official = {
        "question_type": {"Scene Understanding": 1, "Action Recognition": 10},
        "questions": [
            {"question_id": id, "question": "What?", "answer": gold, "data_type": kind, "question_type_id": number}
            | {f"choice_{letter}": f"thing {letter}" for letter in "abcd"}
            for id, gold, kind, number in (("1", "A", "image", 1), ("2", "B", "image", 1), ("v3", "C", "video", 10))
        ],
    }
    gold = tmp_path / "SEED-Bench.json"
    gold.write_text(json.dumps(official))
    plain = tmp_path / "gold.json"
    plain.write_text(
        "".join(
            json.dumps({"question_id": q["question_id"], "gt_answer": q["answer"]}) + ",\n"
            for q in official["questions"]
        )
    )
    answers = jsonl(
        tmp_path / "a.jsonl",
        [{"question_id": 1, "text": "A"}, {"question_id": 2, "text": "b. thing"}, {"question_id": "v3", "text": "C"}],
    )
    report = score("seed_bench", answers, annotations=gold)
    assert {task: metrics["accuracy"] for task, metrics in report.metrics.items()} == pytest.approx(
        {
            "seed_bench": 200 / 3,
            "seed_image": 50,
            "seed_video": 100,
            "seed_Scene Understanding": 50,
            "seed_Action Recognition": 100,
        }
    )
    assert score("seed_bench", answers, annotations=plain).metrics["seed_image"]["accuracy"] == 50
    assert score("seed_bench", answers, "lmms_eval", annotations=gold).metrics["seed_image"]["accuracy"] == 100


def test_seed_bench_counts_a_missing_answer_as_wrong_and_says_so(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": str(n), "gt_answer": "A"} for n in range(4)])
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": "0", "prediction": "A"}])
    report = score("seed_bench", answers, annotations=gold)
    assert report.metrics["seed_image"]["accuracy"] == 25
    assert report.other["seed_image"]["accuracy"] == 100
    assert as_json(report)["missing"]["count"] == 3


# --- ScienceQA: eval_science_qa.py of LLaVA ---


def scienceqa(folder: Path) -> tuple[Path, Path]:
    """problems.json with its splits, and LLaVA's test file: the same two test questions."""
    problem = {"choices": ["x", "y"], "hint": "", "question": "Which?", "image": None}
    problems = {
        "1": problem | {"answer": 0},
        "2": problem | {"answer": 1, "image": "image.png"},
        "3": problem | {"answer": 0},
    }
    folder.mkdir()
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"train": ["3"], "test": ["1", "2"]}))
    test = [
        {"id": id, "conversations": [{"from": "human", "value": "Which?\nA. x\nB. y"}, {"from": "gpt", "value": gold}]}
        for id, gold in (("1", "A"), ("2", "B"))
    ]
    test[1]["image"] = "2/image.png"
    (folder / "llava_test_CQM-A.json").write_text(json.dumps(test))
    return folder / "problems.json", folder / "llava_test_CQM-A.json"


def test_scienceqa_is_the_same_from_either_gold(tmp_path: Path) -> None:
    problems, test = scienceqa(tmp_path / "sqa")
    answers = jsonl(
        tmp_path / "a.jsonl", [{"question_id": "1", "text": "A"}, {"question_id": "2", "text": "The answer is A."}]
    )
    for files in (
        {"annotations": problems},
        {"annotations": problems.parent},
        {"annotations": test},
        {"questions": test},
        {"questions": test, "annotations": problems},
    ):
        report = score("scienceqa", answers, **files)
        assert report.questions == 2
        assert report.metrics["choice"] == {"accuracy": 50, "accuracy_image": 0}
    assert report.metrics == score("scienceqa", answers, "lmms_eval", annotations=test).metrics


def test_scienceqa_prompt_is_llavas(tmp_path: Path) -> None:
    from components.evaluation.benchmarks import scienceqa as module
    from components.evaluation.published.findings import Findings

    problems, test = scienceqa(tmp_path / "sqa")
    for path in (problems, test):
        for question in module.read(Files(annotations=path), Findings()):
            assert question.text == f"Which?\nA. x\nB. y\n{CHOICE_PROMPT}"


def test_scienceqa_gold_is_the_letter_of_the_true_answer(tmp_path: Path) -> None:
    """LLaVA's other test files hold a lecture and "The answer is B." in place of the letter."""
    _, test = scienceqa(tmp_path / "sqa")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": "2", "text": "B"}])
    records = json.loads(test.read_text())[1:]
    for gold, right in (("A lecture. The answer is B.", 1), ("The answer is A.", 0)):
        records[0]["conversations"][1]["value"] = gold
        test.write_text(json.dumps(records))
        assert score("scienceqa", answers, annotations=test).metrics["choice"]["accuracy"] == 100 * right
    records[0]["conversations"][1]["value"] = "a lecture"
    test.write_text(json.dumps(records))
    with pytest.raises(UserError, match=r"question, letter.*record 1 is another"):
        score("scienceqa", answers, annotations=test)


# --- of our own data ---


def test_unifood_tells_tasks_by_id_or_by_prompt(tmp_path: Path) -> None:
    record = {"id": "d1", "image": "a.jpg", "ingredients": ["rice", "egg"], "instructions": "Boil the rice."}
    gold = jsonl(tmp_path / "unifood.jsonl", [record])
    by_prompt = [{"question_id": "d1", "prompt": INGREDIENTS_QUESTION, "text": "The ingredients include rice."}]
    by_id = [{"question_id": "d1/ingredients", "text": "The ingredients include rice."}]
    for given in (by_prompt, by_id):
        report = score("unifood", jsonl(tmp_path / "a.jsonl", given), annotations=gold)
        assert report.metrics["ingredients"] == pytest.approx({"iou": 50, "f1": 200 / 3})
        assert report.metrics["recipe"]["rouge_l"] == 0  # not answered, and told:
        assert report.findings.unmatched["questions without an answer"] == ["d1/recipe"]
        assert list(report.other) == ["ingredients"]


@pytest.mark.parametrize("id", ["12.jpg", "12", "12.jpg#0"])
def test_flickr30k_knows_an_image_by_its_name(id: str, tmp_path: Path) -> None:
    (tmp_path / "results.token").write_text("12.jpg#0\ta man cooks rice\n12.jpg#1\tsomeone fries an egg\n")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": "someone fries an egg"}])
    report = score("flickr30k", answers, annotations=tmp_path / "results.token")
    assert report.metrics["caption"]["rouge_l"] == 100


# --- graded by a judge ---


def test_mm_vet_is_the_mean_over_runs(tmp_path: Path) -> None:
    grades = {
        "v1_0": {"model": ["gpt-4", "gpt-4"], "content": ["1.0", "0.5"], "score": [1.0, 0.5]},
        "v1_1": {"model": ["gpt-4", "gpt-4"], "content": ["0.0", "0.1"], "score": [0.0, 0.1]},
    }
    path = tmp_path / "grade-2runs.json"
    path.write_text(json.dumps(grades, indent=4))
    gold = tmp_path / "mm-vet.json"
    skills = {"v1_0": ["ocr", "math"], "v1_1": ["ocr"]}
    gold.write_text(
        json.dumps({id: {"question": "What?", "answer": "1", "capability": of} for id, of in skills.items()})
    )
    assert score("mm_vet", path).metrics["mm_vet"] == pytest.approx({"score": 40, "std": 10})
    metrics = score("mm_vet", path, annotations=gold).metrics
    assert metrics["mm_vet_ocr"]["score"] == pytest.approx(40)
    assert metrics["mm_vet_math"]["score"] == pytest.approx(75)


def test_mm_vet_counts_the_grades_of_its_questions(tmp_path: Path) -> None:
    gold = tmp_path / "mm-vet.json"
    gold.write_text(json.dumps({"v1_0": {"question": "What?", "answer": "1", "capability": None}}))
    grades = jsonl(tmp_path / "g.jsonl", [{"question_id": f"v1_{n}", "score": n} for n in (0, 1)])
    report = score("mm_vet", grades, annotations=gold)
    assert (report.questions, report.answered, as_json(report)["missing"]["count"]) == (1, [1], 0)
    assert report.findings.unmatched == {"grades without a question": ["v1_1"]}
    assert any("not known" in line for line in score("mm_vet", grades).findings.lines)


@pytest.mark.parametrize(
    ("name", "key", "grade"), [("mm_vet", "score", [0.0, 1.0]), ("llava_bench", "tuple", [[8, 4], [8, 8]])]
)
def test_grades_that_stand_twice_are_told(name: str, key: str, grade: list[Any], tmp_path: Path) -> None:
    path = jsonl(tmp_path / "g.jsonl", [{"question_id": "v1_0", key: one} for one in grade])
    report = score(name, path)
    assert report.findings.unmatched["repeated ids"] == ["v1_0"]
    assert report.metrics[name]["score"] == {"mm_vet": 100, "llava_bench": 75}[name]


def reviews(path: Path, pairs: list[list[float] | None]) -> Path:
    names = ["conv", "detail", "complex"]
    return jsonl(
        path,
        [
            {"question_id": n, "category": f"llava_bench_{names[n % 3]}", "content": "..", "tuple": pair or [-1, -1]}
            for n, pair in enumerate(pairs)
        ],
    )


def test_llava_bench_is_a_ratio_of_means_averaged_over_files(tmp_path: Path) -> None:
    first = reviews(tmp_path / "eval1.jsonl", [[10, 5], [8, 8], [6, 3]])
    second = reviews(tmp_path / "eval2.jsonl", [[10, 10], [10, 10], [10, 10]])
    report = score("llava_bench", [first, second])
    assert report.metrics["llava_bench"]["score"] == pytest.approx((100 * 16 / 24 + 100) / 2)
    assert report.metrics["llava_bench_conv"]["score"] == pytest.approx(75)
    assert [m["llava_bench"]["score"] for m in report.each] == pytest.approx([100 * 16 / 24, 100])


def test_llava_bench_leaves_out_failed_reviews_and_says_so(tmp_path: Path) -> None:
    path = reviews(tmp_path / "eval.jsonl", [[10, 5], None])
    report = score("llava_bench", path)
    assert report.metrics["llava_bench"]["score"] == 50
    assert report.findings.unmatched["replies without two grades"] == ["1"]
    as_summarised = score("llava_bench", path, "summarize").metrics["llava_bench"]["score"]
    assert as_summarised == pytest.approx(100 * (5 - 1) / (10 - 1))


# --- bad input ---


def test_repeated_ids_count_once_and_are_told(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": str(n), "gt_answer": "A"} for n in range(2)])
    given = [("0", "A"), ("0", "A"), ("1", "A"), ("1", "B")]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": text} for id, text in given])
    report = score("seed_bench", answers, annotations=gold)
    assert report.metrics["seed_image"]["accuracy"] == 50
    assert report.findings.unmatched["repeated ids"] == ["1"]
    assert any("1 answers stand there twice, alike" in line for line in report.findings.lines)


def test_repeated_questions_are_told(tmp_path: Path) -> None:
    _, test = scienceqa(tmp_path / "sqa")
    test.write_text(json.dumps(json.loads(test.read_text()) * 2))
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": "A"} for id in ("1", "2")])
    report = score("scienceqa", answers, annotations=test)
    assert report.questions == 4
    assert any("2 questions repeat another's id" in line for line in report.findings.lines)


def test_files_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    other = mme_answers(tmp_path / "mme.jsonl", SAID)
    with pytest.raises(UserError, match="are these files of one benchmark"):
        score("pope", other, **files)
    with pytest.raises(UserError, match="holds no label file of POPE"):
        score("pope", other, questions=files["questions"], annotations=mme(tmp_path / "gt"))
    with pytest.raises(UserError, match="holds no ground truth of MME"):
        score("mme", other, annotations=files["annotations"])
    with pytest.raises(UserError, match="holds no gold of SEED-Bench"):
        score("seed_bench", other, annotations=files["questions"])
    with pytest.raises(UserError, match="give --judge"):
        score("mm_vet", other)
    with pytest.raises(UserError, match="give --judge"):
        score("llava_bench", other)


def test_what_a_benchmark_needs_is_named(tmp_path: Path) -> None:
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}])
    for name in ("unifood", "scienceqa", "flickr30k", "pope", "mme", "mmbench", "seed_bench"):
        with pytest.raises(UserError, match=f"{name} needs --(questions|annotations)"):
            score(name, answers)
    with pytest.raises(UserError, match="--rule nonsense: seed_bench knows llava, lmms_eval"):
        score("seed_bench", answers, "nonsense", annotations=answers)
