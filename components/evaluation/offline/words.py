"""What an answer itself says about the question it belongs to: the question's words and the image's name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from components.evaluation.offline.answers import Given
from components.evaluation.offline.questions import plain_words, stem
from components.evaluation.question import Question

_LONG = 12  # words; a longer prompt (with context and options) may differ in some of them
_SAME_WORDS = 0.8  # .. but has this share
_DISTINGUISHING = 200  # a word that more questions have distinguishes none of them


def _whole(part: str, text: str) -> bool:
    """The words of `part` stand in `text` one after another."""
    return f" {part} " in f" {text} "


@dataclass(frozen=True)
class Index:
    """Questions by their words and by their images. `words`: the words of each; `by_words`: words -> places.

    `stems`: the name of each one's image without folder and ending, empty where it has none.
    """

    questions: Sequence[Question]
    words: list[str]
    stems: list[str]
    by_words: dict[str, list[int]]

    @classmethod
    def of(cls, questions: Sequence[Question]) -> Index:
        words = [plain_words(question.text) for question in questions]
        by_words: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(words):
            by_words[text].append(place)
        stems = [stem(question.image_name or "") for question in questions]
        return cls(questions, words, stems, dict(by_words))

    @cached_property
    def images(self) -> set[str]:
        """The different stems."""
        return set(self.stems) - {""}

    @cached_property
    def _texts_with(self) -> dict[str, list[str]]:
        """Word -> the different questions' words that hold it."""
        texts: dict[str, list[str]] = defaultdict(list)
        for text in self.by_words:
            for word in set(text.split()):
                texts[word].append(text)
        return dict(texts)

    @cached_property
    def _by_rarest(self) -> dict[str, list[str]]:
        """The word of a question that fewest others have -> questions' words: few to look at for a prompt."""
        texts: dict[str, list[str]] = defaultdict(list)
        for text in filter(None, self.by_words):
            texts[self._rarest(text)].append(text)
        return dict(texts)

    def _rarest(self, text: str) -> str:
        return min(text.split(), key=lambda word: len(self._texts_with.get(word, ())))

    def speaks(self, answer: Given) -> bool:
        """It repeats a question's words or an image's name, and these distinguish questions here."""
        words = len(self.by_words) > 1 and bool(plain_words(answer.prompt))
        return words or (len(self.images) > 1 and self.names_an_image(answer))

    def names_an_image(self, answer: Given) -> bool:
        """It names an image of the questions; a name that none of them has may be another way to name the same one."""
        return bool(answer.image) and stem(answer.image) in self.images

    def fits(self, answer: Given, place: int) -> bool:
        """Neither its image nor its words are another question's."""
        return self._same_image(answer, place) and self._same_words(plain_words(answer.prompt), place)

    def of_its_image(self, answer: Given, places: list[int]) -> list[int]:
        """Those places whose image the answer names; all where it names none of theirs."""
        return [place for place in places if self._same_image(answer, place)] or places

    def _same_image(self, answer: Given, place: int) -> bool:
        return not self.stems[place] or not self.names_an_image(answer) or self.stems[place] == stem(answer.image)

    def _same_words(self, prompt: str, place: int) -> bool:
        """One holds the other's words whole, or in another layout; of long prompts nearly all of them.

        Where the words are in no order, no other question may be as near to them.
        """
        text = self.words[place]
        if not prompt or not text or len(self.by_words) < 2 or _whole(text, prompt) or _whole(prompt, text):
            return True
        said, own = set(prompt.split()), set(text.split())
        fewer = min(len(said), len(own))
        both = len(said & own)
        if both < (_SAME_WORDS if fewer >= _LONG else 1.0) * fewer:
            return False
        if any(len(said & set(other.split())) >= both for other in self.texts_of(prompt)):
            return False
        return not any(_nearer(set(other.split()), said, both, both / fewer) for other in self._others(said - own))

    def _others(self, words: Iterable[str]) -> set[str]:
        """Different questions' words that hold one of these, which few have."""
        lists = (self._texts_with.get(word, []) for word in words)
        return {text for texts in lists if len(texts) <= _DISTINGUISHING for text in texts}

    def texts_of(self, prompt: str) -> list[str]:
        """Questions' words that are the prompt's, or that it holds whole, or that hold it whole: the first such kind.

        Of several that it holds, those inside another are not meant, and the last is asked (examples stand before).
        """
        if prompt in self.by_words:
            return [prompt]
        padded = f" {prompt} "
        near = {text for word in set(prompt.split()) for text in self._by_rarest.get(word, ())}
        spans = [(at, at + len(text), text) for text in near if (at := padded.rfind(f" {text} ")) >= 0]
        if spans:
            outer = [one for one in spans if not any(_inside(one, other) for other in spans)]
            return [max(outer, key=lambda span: span[1])[2]]
        return [text for text in self._texts_with.get(self._rarest(prompt), ()) if _whole(prompt, text)]

    def candidates(self, answer: Given) -> list[int]:
        """Places of all questions that have the answer's words and image."""
        prompt = plain_words(answer.prompt)
        if len(self.by_words) < 2 or not prompt:
            texts = list(self.by_words) if answer.image else []
        else:
            with_options = plain_words(f"{answer.prompt} {answer.options}") if answer.options else prompt
            texts = self.texts_of(with_options) or self.texts_of(prompt)
        places = [place for text in texts for place in self.by_words[text]]
        if answer.image:
            name = stem(answer.image)
            places = [place for place in places if self.stems[place] == name]
        return places

    def find(self, answer: Given) -> list[int] | None:
        """Places of the one question (perhaps of several categories) that has the answer's words and image.

        Empty where there is none, None where there are several.
        """
        places = self.candidates(answer)
        categories = [part.strip() for part in answer.category.split(",")]
        named = [p for p in places if self.questions[p].task.partition("_")[2] in categories]
        places = named or places
        same = {(self.questions[p].image_name, self.questions[p].group, self.words[p]) for p in places}
        return places if len(same) < 2 else None


def _inside(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    return one is not other and other[0] <= one[0] and one[1] <= other[1]


def _nearer(other: set[str], said: set[str], both: int, share: float) -> bool:
    """Another question has at least as many of the words that were said, and a larger share of them."""
    common = len(said & other)
    return common >= both and common / min(len(said), len(other)) > share
