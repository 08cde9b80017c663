"""Tokens become pieces of text, whatever the decoder does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.serving.replies import TextStream


class Decoder:
    """Decodes as the table says: token ids as a tuple -> text."""

    def __init__(self, texts: Mapping[tuple[int, ...], str]) -> None:
        self.texts = texts

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return self.texts[tuple(tokens)]


def pieces(*texts: str) -> list[str]:
    """What is sent where the decoder makes these texts of the first token, of the first two, and so on."""
    stream = TextStream(Decoder({tuple(range(n + 1)): text for n, text in enumerate(texts)}))
    return [*(stream.push([n]) for n in range(len(texts))), stream.finish()]


def test_half_a_letter_and_blanks_wait():
    assert pieces(" a", " a\ufffd", " aé", " aé ", " aé b ") == ["a", "", "é", "", " b", ""]


def test_text_behind_a_change_of_what_was_sent_is_not_lost():
    """A decoder that falls back to bytes makes one bad run of a letter and half of the next."""
    assert (
        pieces("a😀", "a\ufffd\ufffd\ufffd", "a\ufffd\ufffd\ufffd b", "a\ufffd\ufffd\ufffd b c")[-1]
        == "\ufffd\ufffd\ufffd b c"
    )
