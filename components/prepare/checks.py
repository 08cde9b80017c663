"""The checks that every record passes before it is trained on, with one reason code each.

The length in tokens is checked at loading, where the tokenizer is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from components.data.schema import IMAGE_MARKER, Row, Sample
from components.data.tasks import TASKS
from components.images.byte_ranges import ByteRange, read_byte_range
from components.images.decoding import ImageError, verify
from components.images.store import ImageStore
from components.sources.entry import Entry, Reject

REASONS = {
    "record_not_json": "a line is no JSON",
    "record_malformed": "a record does not have its source's form",
    "duplicate_id": "an id that must be unique stands twice",
    "no_annotation": "a photo that no annotation describes",
    "no_photo": "a described dish without a photo",
    "image_missing": "the image is not in the folder or archive",
    "image_outside_root": "the image's path leaves the root, or is a link to elsewhere than DVC's cache",
    "image_is_url": "the image is a URL: fetch the files and give their names",
    "image_in_record": "the record holds the image itself: write it to a file and give its name",
    "image_unreadable": "the file cannot be read",
    "image_empty": "the file has no bytes",
    "image_lfs_pointer": "a Git LFS pointer stands where the image should be",
    "image_too_large": "more pixels or bytes than allowed",
    "image_too_costly": "its shape or its coding would cost too much memory or time",
    "image_other_kind": "the file is of a kind that is not read as an image",
    "image_corrupt": "the image does not decode",
    "image_many": "more than one image in a sample",
    "medium_not_read": "the record is about a video or a sound",
    "marker_missing": "there is an image, but no <image> in the question",
    "marker_many": "more than one <image>",
    "marker_late": "<image> stands after the first turn",
    "marker_in_answer": "<image> stands in an answer",
    "marker_without_image": "<image> in a sample that has no image",
    "roles_do_not_alternate": "turns must be human, assistant, human, assistant, ..",
    "no_turns": "a conversation without turns",
    "question_empty": "a human turn without text or image",
    "answer_empty": "an answer without text",
    "answer_not_wanted": "the record marks an answer as not to be learnt",
    "text_not_unicode": "text with broken characters",
    "ingredient_deprecated": "an ingredient that its publisher withdrew",
    "nutrition_malformed": "a nutrition value is missing or no number",
    "nutrition_negative": "a nutrition value is below zero",
    "nutrition_too_large": "more than 10,000 g or kcal, which no answer may claim",
    "nutrition_zero_total": "a total is zero although there is food",
    "nutrition_over_9_kcal_per_g": "more energy than pure fat has",
    "nutrition_over_mass": "fat, protein and carbohydrate outweigh the dish",
}


@dataclass(frozen=True)
class Located:
    """An entry and where its image lies, or why it cannot be read: all that a check in another process needs."""

    entry: Entry
    image: ByteRange | None = None  # None where the entry has none
    problem: tuple[str, str] | None = None  # reason and detail
    other_ending: bool = False  # the image lies under another file ending


@dataclass(frozen=True)
class Checked:
    """What became of an entry: a row of its sound samples, if any, and a reject for each other one."""

    row: Row | None
    rejects: list[Reject]
    other_ending: bool = False


def locate(entry: Entry, store: ImageStore) -> Located:
    if entry.image is None:
        return Located(entry)
    try:
        byte_range, other_ending = store.find(entry.image)
    except ImageError as error:
        return Located(entry, problem=(error.reason, error.detail))
    return Located(entry, byte_range, other_ending=other_ending)


def check_entry(located: Located, max_pixels: int) -> Checked:
    """Check an entry's texts, then its image: read, hashed, decoded. Safe to run in many threads."""
    entry = located.entry
    sound, rejects = list[Sample](), list[Reject]()
    for sample in entry.samples:
        problem = sample_problem(sample, entry.image is not None)
        if problem:
            rejects.append(Reject(sample.id, *problem))
        else:
            sound.append(sample)
    if not sound:
        return Checked(None, rejects)
    if entry.image is None:
        return Checked(Row(entry.group, sound, split=entry.split), rejects)
    try:
        if located.image is None:
            raise ImageError(*located.problem or ("image_missing",))
        data = read_byte_range(located.image)
        verify(data, max_pixels)
    except ImageError as error:
        return Checked(None, rejects + [Reject(sample.id, error.reason, error.detail) for sample in sound])
    return Checked(Row(entry.group, sound, data, sha256(data).hexdigest(), entry.split), rejects, located.other_ending)


def sample_problem(sample: Sample, has_image: bool) -> tuple[str, str] | None:
    """(reason, detail) of the first thing that is wrong with a conversation, or None."""
    assert sample.task in TASKS, sample.task
    if not sample.turns:
        return "no_turns", ""
    for number, turn in enumerate(sample.turns):
        expected = "human" if number % 2 == 0 else "assistant"
        if turn.role != expected:
            return "roles_do_not_alternate", f"turn {number} is {turn.role}, expected {expected}"
    if len(sample.turns) % 2:
        return "roles_do_not_alternate", "the last turn is human"
    for number, turn in enumerate(sample.turns):
        if not _is_unicode(turn.text):
            return "text_not_unicode", f"turn {number}"
        if turn.role == "assistant" and not turn.text.strip():
            return "answer_empty", f"turn {number}"
        if turn.role == "assistant" and IMAGE_MARKER in turn.text:
            return "marker_in_answer", f"turn {number}"
        if turn.role == "human" and not turn.text.strip():
            return "question_empty", f"turn {number}"
    if not _is_unicode(sample.id):
        return "text_not_unicode", "id"
    return _marker_problem(sample, has_image)


def _marker_problem(sample: Sample, has_image: bool) -> tuple[str, str] | None:
    markers = [turn.text.count(IMAGE_MARKER) for turn in sample.turns]
    if not has_image:
        return ("marker_without_image", "") if any(markers) else None
    if not any(markers):
        return "marker_missing", ""
    if sum(markers) > 1:
        return "marker_many", str(sum(markers))
    return None if markers[0] else ("marker_late", f"turn {markers.index(1)}")


def _is_unicode(text: str) -> bool:
    """Half of a surrogate pair (from a JSON escape, or from bytes that are no UTF-8) cannot be written or tokenised."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
