from dataclasses import replace

import pytest

from components.evaluation.blind import with_wrong_images
from components.evaluation.question import Question


def asked(groups: list[int]) -> list[Question]:
    """Two questions for each image; one without an image at the end."""
    pictured = [
        Question(f"{n}{part}", "b", "chat", "what?", ("x",), image=b"%d" % n, image_hash=f"h{n}", group=f"g{group}")
        for n, group in enumerate(groups)
        for part in "ab"
    ]
    return [*pictured, Question("text", "b", "chat", "what?", ("x",), group="text")]


@pytest.mark.parametrize("groups", [[0, 1], [0, 0, 1, 1], [0, 0, 0, 1, 2, 3, 4], list(range(25)), [0, 1, 0, 2, 2, 0]])
def test_every_question_gets_an_image_of_another_group(groups: list[int]) -> None:
    before = {question.id: question for question in asked(groups)}
    group_of = {question.image_hash: question.group for question in before.values()}
    exchanged = with_wrong_images(list(before.values()))
    assert [question.id for question in exchanged] == [name for name in before if name != "text"]
    for question in exchanged:
        assert group_of[question.image_hash] != before[question.id].group
        assert question.image == question.image_hash[1:].encode()  # type: ignore[index]
        assert question.name == before[question.id].name
    shown = {question.image_hash for question in exchanged}
    assert len(shown) == len(groups), "each image is used for exactly one other"


def test_exchange_does_not_depend_on_the_order_of_questions() -> None:
    questions = asked([0, 1, 1, 2, 3, 4])
    forth = {q.id: q.image_hash for q in with_wrong_images(questions)}
    back = {q.id: q.image_hash for q in with_wrong_images(questions[::-1])}
    assert forth == back


def test_exchange_stays_within_a_benchmark() -> None:
    one, other = (
        asked([0, 1, 2]),
        [replace(q, benchmark="c", image_hash=f"c{q.image_hash}") for q in asked([0, 1])[:-1]],
    )
    of_benchmark = {q.image_hash: q.benchmark for q in [*one, *other]}
    exchanged = with_wrong_images([*one, *other])
    assert len(exchanged) == 10
    assert all(of_benchmark[q.image_hash] == q.benchmark for q in exchanged if q.image_hash)


def test_no_exchange_within_one_group() -> None:
    assert with_wrong_images(asked([0, 0, 0, 1])) == []
    assert with_wrong_images(asked([0])) == []
    assert with_wrong_images([]) == []
