from __future__ import annotations

from components.report.answers import asked, ingredient_items


def item(task: str, reference: list[str], **answers: str) -> dict:
    return {"task": task, "question": "?", "reference": reference, "answers": answers}


def test_ingredients_are_right_wrong_or_missing() -> None:
    items = ingredient_items("The ingredients include egg and lemon.", "The ingredients include egg and soy_sauce.")
    assert [(item.text, item.mark) for item in items] == [
        ("egg", "right"),
        ("lemon", "wrong"),
        ("soy sauce", "missing"),
    ]


def test_choice_is_marked_by_its_letter() -> None:
    shown = asked(item("choice", ["B"], finetune="B", blind="A"))
    assert shown.first is not None
    assert shown.first.marked[0].mark == "right"
    assert shown.others[0].marked[0].mark == "wrong"


def test_our_model_answers_first_and_the_others_after_it() -> None:
    shown = asked(item("caption", ["a", "b"], base="x", blind="y", finetune="z"))
    assert [answer.row for answer in shown.all] == ["stage 2", "blind", "base"]
    assert shown.reference == "a / b (2 answers, each of them right)"


def test_answers_without_our_model_are_still_shown() -> None:
    shown = asked(item("caption", ["a"], base="x"))
    assert shown.first is None
    assert [answer.text for answer in shown.all] == ["x"]


def test_empty_answer_is_said_to_be_empty() -> None:
    shown = asked(item("caption", ["a"], finetune=" "))
    assert shown.all[0].text == "(nothing)"
