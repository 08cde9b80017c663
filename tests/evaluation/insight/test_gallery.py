from __future__ import annotations

from components.evaluation.insight.gallery import choose
from components.evaluation.question import Question


def asked(benchmark: str, groups: list[str]) -> list[Question]:
    """Two questions about each image; an image of group x is called x and a number."""
    images = [f"{group}{place}" for place, group in enumerate(groups)]
    return [
        Question(f"{image}-{n}", benchmark, "caption", "?", ("a",), image=b"", image_hash=image, group=image[0])
        for image in images
        for n in range(2)
    ]


def shown(questions: list[Question], most: int) -> list[str | None]:
    chosen = choose(questions, most)
    assert all(len({question.image_hash for question in of_image}) == 1 for of_image in chosen)
    return [of_image[0].image_hash for of_image in chosen]


def test_images_are_taken_at_even_distances() -> None:
    assert shown(asked("unifood", list("abcdef")), 3) == ["a0", "c2", "e4"]


def test_every_dish_comes_before_a_second_photo_of_one() -> None:
    photos = asked("unifood", list("aaaaaab"))
    assert shown(photos, 2) == ["a0", "b6"]
    assert shown(photos, 4) == ["a0", "b6", "a1", "a2"]
    assert len(shown(photos, 99)) == 7


def test_other_benchmarks_keep_their_places() -> None:
    found = shown([*asked("unifood", list("abcdefghijkl")), *asked("flickr30k", list("uv"))], 10)
    assert len(found) == 10
    assert found[-1] == "u0"


def test_questions_without_groups_are_reported_apart_by_their_images() -> None:
    pictures = [Question(str(n), "pope", "pope", "?", ("yes",), image=b"", image_hash=str(n)) for n in range(6)]
    assert shown(pictures, 3) == ["0", "2", "4"]
